"""Several processes: what they train, judge and write is what one process with their batches together does."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import ROOT, TINY, Command, draw_data, frcnn, recipe, records
from toolkit import config
from toolkit.checkpoint import load
from toolkit.data.coco_index import read_index
from toolkit.data.epoch_batches import EpochBatches, in_order
from toolkit.fine_tune import must_be_one
from toolkit.rank_and_cores import Processes, worker_count
from toolkit.training import distributed
from toolkit.training.train_val_test import Split


def free_port() -> int:
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def ranks(words, tmp_path, processes=2, words_of_last=None, **fault_of_last):
    """The processes that torchrun would start, forked from one that has loaded torch."""
    port, started = free_port(), []
    for rank in range(processes):
        environ = {
            "RANK": rank,
            "LOCAL_RANK": rank,
            "WORLD_SIZE": processes,
            "LOCAL_WORLD_SIZE": processes,
            "MASTER_ADDR": "127.0.0.1",
            "MASTER_PORT": port,
        }
        environ = {name: str(value) for name, value in environ.items()}
        fault = fault_of_last if rank == processes - 1 else {}
        output = tmp_path / f"rank{rank}-{port}.txt"
        here = words_of_last if words_of_last and rank == processes - 1 else words
        started.append(Command(here, output, "same_samples", environ, **fault))
    return started


def run_to_end(started):
    codes = [process.wait() for process in started]
    assert codes == [0] * len(started), "\n".join(process.text() for process in started)


@pytest.fixture(scope="module")
def index(tmp_path_factory):
    return read_index(draw_data(tmp_path_factory.mktemp("plan"), train=11, val=5) / "train.json")


@pytest.mark.parametrize("world", [2, 3, 4])
def test_processes_share_the_samples_of_one(index, world):
    """Each global batch is dealt out; a process that gets none takes one that counts nothing."""
    one = EpochBatches(index, 2 * world, 7)
    parts = [EpochBatches(index, 2, 7, rank=rank, world_size=world) for rank in range(world)]
    for epoch in range(3):
        one.epoch = epoch
        for part in parts:
            part.epoch = epoch
        assert {len(part) for part in parts} == {len(one)}
        for number, (whole, *dealt) in enumerate(zip(one, *parts, strict=True)):
            weights = [part.weight(number) for part in parts]
            real = [batch for batch, weight in zip(dealt, weights) if weight]
            assert sorted(key for batch in real for key in batch) == sorted(whole)
            assert all(dealt)  # nobody is left without a batch
            # the mean over processes of weight * own mean is the mean over all: sum_r n_r/n * mean_r
            means = [np.mean([row for row, _ in batch]) for batch in dealt]
            together = np.mean([weight * mean for weight, mean in zip(weights, means)])
            assert together == pytest.approx(np.mean([row for row, _ in whole]))


@pytest.mark.parametrize("world", [1, 2, 3, 8])
def test_evaluation_deals_every_image_once(index, world):
    rows = [row for rank in range(world) for batch in in_order(index, 2, rank, world) for row, _ in batch]
    assert sorted(rows) == list(range(len(index)))


def test_without_torchrun_there_is_one_process(monkeypatch):
    monkeypatch.delenv("WORLD_SIZE", raising=False)
    assert distributed.join_processes("auto") == Processes()
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("RANK", raising=False)
    with pytest.raises(InputError, match=r"RANK.*torchrun"):
        distributed.join_processes("cpu")


def test_loader_processes_are_shared_by_the_ranks(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(16)), raising=False)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert worker_count(-1) == 8
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "4")
    assert worker_count(-1) == 2  # 4 cores each, half of them
    assert worker_count(3) == 3


def step_losses(run):
    names = ("loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg")
    return np.array([[r[n] for n in names] for r in records(run) if r["kind"] == "step"])


def two_and_one(tmp_path, train, more_two=(), more_one=("--batch-size", "4")):
    """The same training by two processes and by one with twice the batch -> (run of two, run of one)."""
    data = draw_data(tmp_path / "data", train=train, val=5)
    # group norm (TINY): BatchNorm would see half the batch
    words = ["train", data, "--runs", tmp_path / "runs", *TINY, "--optimizer", "sgd", "--lr", "0.01"]
    run_to_end(ranks([*words, *more_two, "--name", "two"], tmp_path))
    code, text = frcnn([*words, *more_one, "--name", "one"], tmp_path / "one.txt", "same_samples")
    assert code == 0, text
    return tmp_path / "runs" / "two", tmp_path / "runs" / "one"


def compare(two, one):
    a, b = step_losses(two), step_losses(one)
    assert a.shape == b.shape and len(a) > 0
    assert np.abs(a - b).max() < 1e-4, np.abs(a - b).max(axis=1)
    ends = [[r for r in records(run) if r["kind"] == "epoch"] for run in (two, one)]
    for x, y in zip(*ends, strict=True):
        assert x["AP"] == pytest.approx(y["AP"], abs=1e-6) and x["AP50"] == pytest.approx(y["AP50"], abs=1e-6)
        for name, value in x["val_loss"].items():
            assert value == pytest.approx(y["val_loss"][name], abs=1e-4)
    assert not list(two.glob(".*")) and (two / "best" / "weights.safetensors").exists()


def test_two_processes_train_as_one_with_twice_the_batch(tmp_path):
    """8 images: even batches; 5 validation images: one process judges 3, the other 2."""
    compare(*two_and_one(tmp_path, 8))


@pytest.mark.parametrize("train", [pytest.param(7, marks=pytest.mark.slow), 5])
def test_uneven_batches(tmp_path, train):
    """7: the last batch gives 2 and 1 images; 5: 1 and none."""
    compare(*two_and_one(tmp_path, train))


@pytest.mark.slow
def test_accumulated_batches(tmp_path):
    more = ["--accumulate", "2", "--batch-size", "1"]
    compare(*two_and_one(tmp_path, 8, more, ["--accumulate", "2", "--batch-size", "2"]))


def test_a_dead_process_ends_the_others(tmp_path):
    """Without torchrun's help: the closed connection says it."""
    data = draw_data(tmp_path / "data", train=8)
    words = ["train", data, "--runs", tmp_path / "runs", *TINY, "--epochs", "50"]
    first, second = ranks(words, tmp_path, dies_at=3)
    assert second.wait() == -signal.SIGKILL  # a busy machine takes its time to get there
    begun = time.monotonic()
    assert first.wait(60) == 4 and time.monotonic() - begun < 60
    assert "another training process was lost" in first.text() and "Traceback" not in first.text(), first.text()
    run = tmp_path / "runs" / "train"
    assert json.loads((run / "run.json").read_text())["status"] == "failed"
    run_to_end(ranks(["train", "--resume", run, "--no-report", "--max-time", "0.001"], tmp_path))


def test_a_signal_to_one_stops_all_and_the_run_goes_on(tmp_path):
    data = draw_data(tmp_path / "data", train=8)
    words = ["train", data, "--runs", tmp_path / "runs", *TINY, "--epochs", "6"]
    run = tmp_path / "runs" / "train"
    started = ranks(words, tmp_path)
    started[0].wait_for(lambda: (run / "metrics.jsonl").exists() and (run / "metrics.jsonl").stat().st_size > 0)
    os.kill(started[1].pid, signal.SIGTERM)
    assert [process.wait() for process in started] == [143, 143], started[0].text()
    assert json.loads((run / "run.json").read_text())["status"] == "stopped"
    run_to_end(ranks(["train", "--resume", run, "--no-report"], tmp_path))
    assert [r["step"] for r in records(run) if r["kind"] == "step"] == list(range(1, 13))


@pytest.mark.parametrize("how", [pytest.param("stop", marks=pytest.mark.slow), "skip"])
def test_a_loss_that_one_process_cannot_use_is_used_by_none(tmp_path, how):
    data = draw_data(tmp_path / "data", train=8)
    words = ["train", data, "--runs", tmp_path / "runs", *TINY, "--epochs", "1", *recipe(tmp_path, on_nan=how)]
    started = ranks(words, tmp_path, bad_loss_at=2)
    codes = [process.wait() for process in started]
    text = started[0].text()
    assert codes == ([0, 0] if how == "skip" else [2, 2]), text
    assert "loss_box_reg nan" in text and "on images train" in text
    if how == "skip":
        assert "skipped: step 2" in text


@pytest.mark.parametrize("what", [pytest.param("labels", marks=pytest.mark.slow), "options", "name"])
def test_what_one_process_cannot_do_ends_all(tmp_path, what):
    """Other labels or options on another machine would train something else or hang; a run that cannot be made."""
    data = draw_data(tmp_path / "0", train=8)
    words = ["train", data, "--runs", tmp_path / "runs", *TINY, *(["--name", "a/b"] if what == "name" else [])]
    other = list(words)
    if what == "labels":
        other[1] = draw_data(tmp_path / "1", train=8, seed=1)
    elif what == "options":
        other += ["--lr", "0.1"]
    started = ranks(words, tmp_path, words_of_last=other)
    text = [process.text() for process in started if process.wait() == 2]
    assert len(text) == 2, "\n".join(process.text() for process in started)
    for part in text:
        assert ("'a/b'" if what == "name" else f"other {what} than process 0") in part and "Traceback" not in part
    assert not (tmp_path / "runs").exists()


def test_what_must_be_one_in_every_process(index, tmp_path):
    """All labels, those of val too, and every option, but for what a resume may change as well."""
    other = read_index(draw_data(tmp_path, train=11, seed=1) / "train.json")

    def one(train=index, val=other, **options):
        files = {"train": train, "val": val}
        labels = {name: Split(name, tmp_path, index, None) for name, index in files.items() if index is not None}
        return must_be_one(labels, config.resolve(len(index), options))

    assert one() == one()
    assert one(device="cpu", workers=3, max_time=5.0, cache_mb=9) == one()
    for name, value in {"lr": 0.5, "batch_size": 3, "seed": 7, "model": "anchors_tiny", "epochs": 99}.items():
        (labels, options), (labels_here, options_here) = one(), one(**{name: value})
        assert labels == labels_here and options != options_here, name
    for changed in (one(train=other), one(val=index), one(val=None)):
        assert changed[0] != one()[0] and changed[1] == one()[1]


@pytest.mark.parametrize("what, mine", [("labels", ("a", "c")), ("options", {"lr": 0.2})])
def test_processes_that_do_not_agree_are_named(monkeypatch, what, mine):
    """Of three processes the third differs; all of them say so."""
    same = {"labels": ("a", "b"), "options": {"lr": 0.1}}
    third = {**same, what: mine}
    gathered = lambda item, _: [item, item, third["labels" if isinstance(item, tuple) else "options"]]  # noqa: E731
    monkeypatch.setattr(distributed, "gather_objects", gathered)
    with pytest.raises(InputError, match=f"process 2 of 3 has other {what} than process 0; needs the same DATA and"):
        distributed.agree(Processes(), **same)
    third = same
    distributed.agree(Processes(), **same)


def test_labels_that_one_machine_does_not_have_end_both(tmp_path):
    words = ["train", draw_data(tmp_path / "0"), "--runs", tmp_path / "runs", *TINY]
    first, second = ranks(words, tmp_path, words_of_last=["train", tmp_path / "1", *words[2:]])
    assert (second.wait(), first.wait(60)) == (2, 4), first.text() + second.text()
    assert "another training process was lost" in first.text() and "Traceback" not in first.text()
    assert not (tmp_path / "runs").exists()


@pytest.mark.slow
def test_two_machines(tmp_path):
    """The README's command as two agents with a folder each: the first one writes; a killed agent ends all."""
    folders = [tmp_path / "host0", tmp_path / "host1"]
    options = {
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)},
    }
    for folder in folders:
        draw_data(folder / "photos", train=8)

    def start(epochs):
        port = free_port()
        return [
            subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "torch.distributed.run",
                    "--nnodes",
                    "2",
                    "--node-rank",
                    str(rank),
                    "--master-addr",
                    "127.0.0.1",
                    "--master-port",
                    str(port),
                    "--nproc-per-node",
                    "1",
                    "-m",
                    "toolkit",
                    "train",
                    "photos",
                    *TINY,
                    "--epochs",
                    str(epochs),
                ],
                cwd=folder,
                **options,
            )
            for rank, folder in enumerate(folders)
        ]

    agents = start(1)
    texts = [agent.communicate(timeout=600)[0] for agent in agents]
    assert [agent.returncode for agent in agents] == [0, 0], texts
    assert (folders[0] / "runs/train/best/weights.safetensors").exists() and not (folders[1] / "runs").exists()

    run, agents = folders[0] / "runs/train-2", start(500)
    while agents[0].poll() is None and not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text()):
        time.sleep(0.1)
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", ",".join(str(agent.pid) for agent in agents)], capture_output=True, text=True
    ).stdout
    agents[1].kill()
    text = agents[0].communicate(timeout=60)[0]
    assert agents[0].returncode != 0 and "go on with: frcnn train --resume runs/train-2" in text, text
    deadline, pids = time.monotonic() + 60, listed.split()
    while (left := [pid for pid in pids if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(pids) == 2 and not left
    agents[1].communicate(timeout=60)
    load(run / "last")


@pytest.mark.slow
def test_torchrun(tmp_path):
    """The command of the README, a process killed on the way, and again."""
    data = draw_data(tmp_path / "data", train=8)
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc-per-node",
        "2",
        "--master-port",
        str(free_port()),
        "-m",
        "toolkit",
        "train",
    ]
    run = tmp_path / "runs" / "train"
    words = [data, "--runs", tmp_path / "runs", *TINY, "--epochs", "60"]
    options = {
        "cwd": ROOT,
        "text": True,
        "stdout": subprocess.PIPE,
        "stderr": subprocess.STDOUT,
        "env": {**os.environ, "OMP_NUM_THREADS": "1"},
    }
    started = subprocess.Popen([*command, *map(str, words)], **options)
    while started.poll() is None and not ((run / "metrics.jsonl").exists() and (run / "metrics.jsonl").read_text()):
        time.sleep(0.1)
    listed = subprocess.run(["ps", "-o", "pid=", "--ppid", str(started.pid)], capture_output=True, text=True).stdout
    pids = [int(word) for word in listed.split()]
    os.kill(pids[-1], signal.SIGKILL)
    begun = time.monotonic()
    text = started.communicate(timeout=60)[0]
    assert started.returncode != 0 and time.monotonic() - begun < 60, text
    assert not [pid for pid in pids if Path(f"/proc/{pid}").exists()]
    again = subprocess.run([*command, "--resume", str(run), "--no-report", "--max-time", "0.001"], **options)
    assert again.returncode == 0, again.stdout
