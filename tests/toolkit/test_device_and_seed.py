"""The machine that a run meets: device, precision, seeds, versions; and what signals do to a process."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import untrained_run
from toolkit import device_and_seed
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.stopping import SIGNALS, Stopped, StopSignal, be_deaf, deaf_children, stop_at_once
from toolkit.training import distributed

CPU = torch.device("cpu")


def test_auto_is_cuda_or_cpu():
    assert device_and_seed.choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert device_and_seed.choose_device("cpu") == CPU


@pytest.mark.parametrize("wanted", ["gpu", "cpu:x", "", "meta", "cuda:99"])
def test_devices_that_are_not_there(wanted):
    with pytest.raises(InputError, match="--device"):
        device_and_seed.choose_device(wanted)


def test_a_gpu_is_the_one_of_the_process(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert device_and_seed.choose_device("cuda", 3) == torch.device("cuda:3")
    assert device_and_seed.choose_device("auto", 2) == torch.device("cuda:2")
    assert device_and_seed.choose_device("cuda:1") == torch.device("cuda:1")


def test_processes_that_predict_share_the_gpus(monkeypatch, tmp_path):
    """Of four processes the last is on the second of two GPUs."""
    for name, value in {"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "3"}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    asked = []
    monkeypatch.setattr(device_and_seed, "choose_device", lambda *given: asked.append(given) or CPU)
    TorchDetector(untrained_run(tmp_path, {}))
    assert asked == [("auto", 1)]


def test_one_named_device_for_two_processes_is_refused(monkeypatch):
    for name in ("WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_ADDR", "MASTER_PORT"):
        monkeypatch.setenv(name, "2")
    with pytest.raises(InputError, match="--device cuda:1"):
        distributed.join_processes("cuda:1")


def test_precision(monkeypatch):
    monkeypatch.setattr(device_and_seed, "cpu_has_bf16", lambda: True)
    assert device_and_seed.choose_precision("auto", CPU, compact=False) == torch.bfloat16
    assert device_and_seed.choose_precision("auto", CPU, compact=True) == torch.float32
    assert device_and_seed.choose_precision("fp32", CPU, compact=False) == torch.float32
    monkeypatch.setattr(device_and_seed, "cpu_has_bf16", lambda: False)
    assert device_and_seed.choose_precision("auto", CPU, compact=False) == torch.float32
    assert device_and_seed.choose_precision("bf16", CPU, compact=True) == torch.bfloat16
    gpu = torch.device("cuda")
    for fast, compact, dtype in ((True, False, "bfloat16"), (True, True, "float32"), (False, False, "float32")):
        monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda fast=fast, **_: fast)
        assert device_and_seed.choose_precision("auto", gpu, compact=compact) == getattr(torch, dtype)
    assert device_and_seed.choose_precision("bf16", gpu, compact=True) == torch.bfloat16


def test_bf16_asked_for_where_the_cpu_only_imitates_it(monkeypatch):
    monkeypatch.setattr(device_and_seed, "cpu_has_bf16", lambda: False)
    assert device_and_seed.precision_note("bf16", CPU).startswith("warning: --precision bf16")
    assert device_and_seed.precision_note("auto", CPU) == device_and_seed.precision_note("fp32", CPU) == ""
    assert device_and_seed.precision_note("bf16", torch.device("cuda", 0)) == ""
    monkeypatch.setattr(device_and_seed, "cpu_has_bf16", lambda: True)
    assert device_and_seed.precision_note("bf16", CPU) == ""


def test_one_seed_seeds_everything():
    def draw():
        return random.random(), np.random.rand(), torch.rand(1).item()

    device_and_seed.seed_everything(3)
    first = draw()
    device_and_seed.seed_everything(3)
    assert draw() == first
    device_and_seed.seed_everything(4)
    assert all(a != b for a, b in zip(draw(), first, strict=True))
    state, after = device_and_seed.rng_state(), draw()
    draw()
    device_and_seed.set_rng_state(state)
    assert draw() == after


# --- signals ------------------------------------------------------------------------------------------------------


def test_the_first_signal_counts_and_handlers_come_back():
    before = [signal.getsignal(signum) for signum in SIGNALS]
    with StopSignal(quiet=True) as stop:
        assert not stop
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop and stop.requested == signal.SIGTERM
        assert Stopped(stop.requested).exit_code == 143
    assert [signal.getsignal(signum) for signum in SIGNALS] == before


def test_a_sigterm_with_nothing_to_save_is_an_exception():
    with pytest.raises(Stopped), stop_at_once():
        os.kill(os.getpid(), signal.SIGTERM)
    with pytest.raises(KeyboardInterrupt), stop_at_once():
        os.kill(os.getpid(), signal.SIGINT)


@pytest.mark.skipif(not hasattr(signal, "pthread_sigmask"), reason="needs signal masks")
def test_children_are_deaf_and_the_parent_is_not():
    with deaf_children():
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert not signal.pthread_sigmask(signal.SIG_BLOCK, []) & set(SIGNALS)
    child.terminate()
    child.send_signal(signal.SIGINT)
    with pytest.raises(subprocess.TimeoutExpired):
        child.wait(0.5)
    child.kill()
    assert child.wait() == -signal.SIGKILL
    assert be_deaf  # the same, from inside: tests/toolkit/test_signals.py


# --- torchrun -----------------------------------------------------------------------------------------------------


def test_only_a_lost_group_is_a_lost_group(monkeypatch):
    error = RuntimeError("[gloo/transport/tcp/pair.cc:547] Connection closed by peer [127.0.0.1]:4711")
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    assert distributed.group_lost(error)
    assert not distributed.group_lost(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: False)
    assert not distributed.group_lost(error)
