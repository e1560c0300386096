"""Faults that tests inject into a training process; each function is called in the child before the command."""

from __future__ import annotations

import contextlib
import errno
import os
import signal


def _at_call(owner: object, name: str, number: int, act, after: bool = False) -> None:
    """Call `act(result or None)` at call `number` (from 1) of `owner.name`; what it returns, if anything, counts."""
    real = getattr(owner, name)
    calls = [0]

    def counted(*args, **kwargs):
        calls[0] += 1
        if calls[0] != number:
            return real(*args, **kwargs)
        if after:
            result = real(*args, **kwargs)
            changed = act(result)
            return result if changed is None else changed
        act(None)
        return real(*args, **kwargs)

    setattr(owner, name, counted)


def signal_at(points: list[str], number: int, signum: int = signal.SIGTERM, twice: bool = False) -> None:
    """A signal to the whole group at call `number` of one of these functions: step, loading, losses, predict, save,
    evaluate."""
    from toolkit import checkpoint, fine_tune
    from toolkit.data import dataset
    from toolkit.training import forward_pass, optimizer_step

    def send(result):
        os.killpg(0, signum)
        if twice:
            os.killpg(0, signum)

    places = {
        "step": (optimizer_step, "update"),
        "save": (checkpoint, "_swap_in"),
        "evaluate": (fine_tune, "coco_metrics"),
        "loading": (dataset.DetectionDataset, "__getitem__"),
        "batch": (forward_pass, "training_losses"),
        "forward": (forward_pass, "autocast"),
    }
    for point in points:
        _at_call(*places[point], number, send)


def signal_in_evaluation(part: str, number: int = 1, signum: int = signal.SIGTERM) -> None:
    """A signal while the validation loss or the detections are computed, at batch `number`."""
    from toolkit.training import forward_pass

    real = getattr(forward_pass, part)

    def with_signal(model, loader, *rest):
        def batches():
            for i, batch in enumerate(loader, 1):
                if i == number:
                    os.killpg(0, signum)
                yield batch

        return real(model, batches(), *rest)

    setattr(forward_pass, part, with_signal)


def kill_at_event(number: int, only: str = "last") -> None:
    """kill -9 at call `number` of those that write a checkpoint: mkdir, open, write, sync, rename, remove."""
    from toolkit import checkpoint

    events = [0]

    def step():
        events[0] += 1
        if events[0] == number:
            os.kill(os.getpid(), signal.SIGKILL)

    faulty_calls(checkpoint, step)


def faulty_calls(checkpoint, step) -> None:
    """Let every call to the disk inside `checkpoint` pass through `step()`, which may raise or kill."""
    import builtins
    import types

    from label_tools.files import marked_folders

    class File:
        def __init__(self, file):
            self.file = file

        def __enter__(self):
            return self

        def __exit__(self, *error):
            self.file.close()

        def write(self, content):
            half = len(content) // 2
            self.file.write(content[:half])
            self.file.flush()
            step()  # half of it is on the disk
            return half + self.file.write(content[half:])

        def flush(self):
            step()
            self.file.flush()

        def fileno(self):
            return self.file.fileno()

    def opened(path, mode="r", *rest, **more):
        step()
        file = builtins.open(path, mode, *rest, **more)  # noqa: SIM115
        return File(file) if "w" in mode else file

    def wrapped(function):
        def call(*args, **kwargs):
            step()
            return function(*args, **kwargs)

        return call

    checkpoint.open = opened
    shim = types.SimpleNamespace(**{name: getattr(os, name) for name in ("open", "close", "name", "O_RDONLY")})
    shim.fsync = wrapped(os.fsync)
    checkpoint.os = shim
    ours = types.SimpleNamespace(**vars(marked_folders))
    ours.move, ours.remove_folder = wrapped(marked_folders.move), wrapped(marked_folders.remove_folder)
    checkpoint.marked_folders = ours


def bad_loss(number: int, value: float = float("nan"), times: int = 1, validation: bool = False) -> None:
    """The losses of forward passes `number` to `number + times - 1` are not finite, in training or in validation."""
    import torch
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    real, calls = GeneralizedRCNN.forward, [0]

    def forward(self, images, targets=None):
        result = real(self, images, targets)
        if targets is not None and torch.is_grad_enabled() != validation:
            calls[0] += 1
            if number <= calls[0] < number + times:
                result = {**result, "loss_box_reg": result["loss_box_reg"] * value}
        return result

    GeneralizedRCNN.forward = forward


def bad_picture(number: int) -> None:
    """NaN pixels in batch `number`: they pass through every BatchNorm before a loss tells."""
    from toolkit.training import forward_pass

    def spoil(result):
        result[0][0].fill_(float("nan"))

    _at_call(forward_pass, "to_device", number, spoil, after=True)


def out_of_memory(number: int, text: str = "") -> None:
    """Forward pass `number` finds no memory: on a GPU, or with `text` what a CPU's allocator says."""
    import torch
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    def fail(result):
        raise RuntimeError(text) if text else torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    _at_call(GeneralizedRCNN, "forward", number, fail)


def full_disk(first: int, last: int = 10**9) -> None:
    """Saves number `first` to `last` find no space, in the middle of the weights."""
    from toolkit import checkpoint

    real_save, real_write, saves = checkpoint.save, checkpoint._write, [0]

    def save(*args, **kwargs):
        saves[0] += 1
        return real_save(*args, **kwargs)

    def write(path, content):
        if first <= saves[0] <= last:
            with contextlib.suppress(FileNotFoundError), open(path, "wb") as file:
                file.write(content[: len(content) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real_write(path, content)

    checkpoint.save, checkpoint._write = save, write


def kill_worker(after_step: int) -> None:
    """kill -9 to a loader process after an optimiser step."""
    import multiprocessing

    from toolkit.training import optimizer_step

    def kill(result):
        os.kill(multiprocessing.active_children()[0].pid, signal.SIGKILL)

    _at_call(optimizer_step, "update", after_step, kill, after=True)


def spawn_start() -> None:
    """Loader processes start as on macOS and Windows."""
    import multiprocessing

    multiprocessing.set_start_method("spawn", force=True)


def clock_of_steps(seconds: float) -> None:
    """The clock of training stands still but for `seconds` a step: how fast the machine is makes no difference."""
    from types import SimpleNamespace

    from toolkit.training import epoch_loop, optimizer_step

    clock = {"now": 1.0}
    epoch_loop.time = SimpleNamespace(monotonic=lambda: clock["now"])
    real = optimizer_step.update

    def update(*args):
        clock["now"] += seconds
        return real(*args)

    optimizer_step.update = update


def no_compiler() -> None:
    """torch.compile finds no C++ compiler."""
    from torch._inductor import config

    config.cpp.cxx = (None, "/nonexistent/g++")


def clock_set_back(hours: float) -> None:
    """The clock of the machine is set back after every step."""
    import time

    from toolkit.training import optimizer_step

    real, update, back = time.time, optimizer_step.update, [0.0]
    time.time = lambda: real() - back[0]

    def updated(*args):
        back[0] += hours * 3600
        return update(*args)

    optimizer_step.update = updated


def slow_disk(seconds: float) -> None:
    """Every call that writes a checkpoint takes a moment longer."""
    import time

    from toolkit import checkpoint

    faulty_calls(checkpoint, lambda: time.sleep(seconds))


def sigterm_in_report() -> None:
    """SIGTERM while the best checkpoint is judged, after training."""
    from toolkit.evaluation import evaluate_run

    _at_call(evaluate_run, "compute_metrics", 1, lambda result: os.kill(os.getpid(), signal.SIGTERM))


def same_samples(dies_at: int = 0, bad_loss_at: int = 0) -> None:
    """Anchors and RoIs are not drawn: the first ones are taken, equally many of every image, so that the mean over
    two processes and the mean over their images together are the same number. `dies_at`: kill -9 in this step."""
    import torch

    from toolkit.networks import builder
    from toolkit.training import optimizer_step

    torch.randperm = lambda count, **options: torch.arange(count, device=options.get("device"))
    real = builder.build_model

    def build_model(*args):
        model, *rest = real(*args)
        model.rpn.fg_bg_sampler.batch_size_per_image = 32  # all 252 anchors would be: some images ignore a few
        return model, *rest

    from toolkit.training import detection_task

    detection_task.build_model = build_model
    if dies_at:
        _at_call(optimizer_step, "update", dies_at, lambda result: os.kill(os.getpid(), signal.SIGKILL))
    if bad_loss_at:
        bad_loss(bad_loss_at)


def little_room(free: int) -> None:
    """The disk has `free` bytes left."""
    import shutil
    import types

    from toolkit.training import save_and_resume

    save_and_resume.shutil = types.SimpleNamespace(
        disk_usage=lambda path: shutil._ntuple_diskusage(10**12, 10**12 - free, free)
    )


def watch_memory(every: int) -> None:
    """Print the resident memory (kB) of the training process in steps of `every`."""
    import gc

    from toolkit.training import optimizer_step

    real, calls = optimizer_step.update, [0]

    def update(*args):
        calls[0] += 1
        if calls[0] % every == 0:
            gc.collect()
            print("rss", _proportional_kb(os.getpid(), "Rss"), flush=True)
        return real(*args)

    optimizer_step.update = update


def _proportional_kb(pid: int, field: str = "Pss") -> int:
    from pathlib import Path

    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
        if line.startswith(field + ":"):
            return int(line.split()[1])
    raise AssertionError(field)


def measure_index(images: int, workers: int) -> None:
    """Print what an index of so many images adds to the memory of a process and its loader workers, and end."""
    import gc
    import multiprocessing
    import sys

    import numpy as np
    import torch

    from toolkit.data.coco_index import index_of
    from toolkit.data.dataset import DetectionDataset, Unreadable
    from toolkit.data.loader import Batches

    class Pixels(DetectionDataset):
        def pixels(self, row):
            return np.zeros((64, 64, 3), np.uint8)

    def document(count):
        return {
            "images": [
                {"id": i, "file_name": f"folder/with/a/name/{i:012d}.jpg", "width": 64, "height": 64}
                for i in range(1, count + 1)
            ],
            "annotations": [
                {"id": i, "image_id": 1 + i % count, "category_id": 1, "bbox": [1, 2, 30, 40]}
                for i in range(1, 10 * count + 1)
            ],
            "categories": [{"id": 1, "name": "thing"}],
        }

    def memory(count):
        from pathlib import Path

        index = index_of(document(count), Path("/nowhere"), "made", check_files=False)
        gc.collect()
        rows = np.random.default_rng(0).integers(0, count, (500, 8)).tolist()  # from everywhere in the index
        plan = [[(row, 0) for row in some] for some in rows]
        batches = Batches(Pixels(index), plan, workers, torch.device("cpu"))
        for _ in batches:
            pass
        pids = [os.getpid(), *(p.pid for p in multiprocessing.active_children())]
        assert len(pids) == workers + 1 and Unreadable
        used = sum(map(_proportional_kb, pids)) / 1024
        batches.close()
        return used

    small = memory(10)
    large = memory(images)
    print("index MB", large - small, flush=True)
    sys.exit(0)
