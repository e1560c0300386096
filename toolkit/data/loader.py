"""Batches from a dataset: worker processes, memory pinning, and what happens to files that cannot be read."""

from __future__ import annotations

import contextlib
import ctypes
import gc
import multiprocessing
import signal
import threading
from collections.abc import Iterable, Iterator
from types import FrameType
from typing import Any

import numpy as np
import torch

from label_tools.text.errors import InputError, MachineError
from toolkit.data.dataset import DetectionDataset, Unreadable
from toolkit.stopping import be_deaf, deaf_children


def collate(batch: list) -> tuple[list, list, list[str]]:
    """[(image, target) or Unreadable, ...] -> (images, targets, reasons): images keep their own sizes."""
    good = [item for item in batch if not isinstance(item, Unreadable)]
    bad = [item.reason for item in batch if isinstance(item, Unreadable)]
    targets = [target for _, target in good]
    if torch.utils.data.get_worker_info() is not None:
        # a tensor goes to the main process as a file descriptor, at a cost of its own; few numbers are cheaper as bytes
        targets = [{k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in t.items()} for t in targets]
    return [image for image, _ in good], targets, bad


def _as_tensors(target: dict) -> dict:
    return {k: torch.from_numpy(v) if isinstance(v, np.ndarray) else v for k, v in target.items()}


def _start_worker(worker: int) -> None:
    torch.set_num_threads(1)
    be_deaf()


class _LostProcesses:
    """torch's SIGCHLD handler raises when a loader process died, wherever the program is: in a callback, where Python
    prints the traceback and goes on, or in the middle of a line of the log. Here it waits until a batch is waited for.
    """

    def __init__(self) -> None:
        self.theirs: Any = None
        self.waiting = self.late = False

    def install(self) -> None:
        if hasattr(signal, "SIGCHLD") and threading.current_thread() is threading.main_thread():
            found = signal.getsignal(signal.SIGCHLD)
            if callable(found) and found != self._handle:
                self.theirs = found
                signal.signal(signal.SIGCHLD, self._handle)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.waiting:
            self.theirs(signum, frame)
        else:
            self.late = True

    @contextlib.contextmanager
    def told(self) -> Iterator[None]:
        """Raise RuntimeError in the block when a loader process is lost; at once if one was lost before."""
        self.waiting = True
        try:
            if self.late:
                self.late = False
                self.theirs(signal.SIGCHLD, None)
            yield
        finally:
            self.waiting = False


_LOST = _LostProcesses()


def _before_fork() -> None:
    """Keep memory shared with the processes that are forked: what reading left free goes back to the system, and the
    cycle collector, which writes to every object that it looks at, leaves alone what is there, until `close`."""
    gc.freeze()
    with contextlib.suppress(OSError, AttributeError):  # of the C library of Linux
        ctypes.CDLL(None).malloc_trim(0)


class Batches:
    """Iterate (images, targets). Unreadable files stop it with an InputError, or up to `max_bad` of them are left out
    and named in `bad`; a batch of which none is left is empty, so that positions stay what they were. max_bad None:
    none may be left out, and no option allows it."""

    def __init__(
        self,
        dataset: DetectionDataset,
        sampler: Iterable[list[Any]],
        workers: int,
        device: torch.device,
        max_bad: int | None = None,
        bad: Iterable[str] = (),
    ) -> None:
        self.dataset, self.max_bad = dataset, max_bad
        self.bad: list[str] = list(bad)
        if workers:  # where processes are forked from a server (Python 3.14), it imports torch once for all of them
            multiprocessing.set_forkserver_preload(["toolkit.data.loader", "albumentations"])
        self.loader = torch.utils.data.DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_start_worker if workers else None,
            generator=torch.Generator(),  # its own: starting an epoch must not move the global one (exact resume)
        )
        self._processes: list = []

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[list, list]]:
        try:
            if self.loader.num_workers and not self._processes:
                _before_fork()
            with deaf_children():
                batches = iter(self.loader)
            self._processes = getattr(batches, "_workers", [])
            if self._processes:
                _LOST.install()
            while True:
                with _LOST.told():
                    batch = next(batches, None)
                if batch is None:
                    return
                images, targets, bad = batch
                self.leave_out(bad)
                yield images, [_as_tensors(target) for target in targets]
        except RuntimeError as error:
            raise worker_lost(error) or error from None
        except (OSError, EOFError) as error:  # the pipe or the shared tensor of a process that is gone
            if not self._processes:
                raise
            raise _lost(f"{type(error).__name__}: {error}") from None

    def leave_out(self, reasons: list[str]) -> None:
        """Note files that could not be read; InputError when there are more than may be left out."""
        for reason in reasons:
            if reason not in self.bad:  # the same file comes again in every epoch
                self.bad.append(reason)
            if len(self.bad) > (self.max_bad or 0):
                raise InputError(_too_many(self.bad, self.max_bad))

    def close(self) -> None:
        """End the loader processes; they are deaf to the SIGTERM that ends a stuck one."""
        iterator = getattr(self.loader, "_iterator", None)
        if iterator is not None and hasattr(iterator, "_shutdown_workers"):
            with contextlib.suppress(RuntimeError):  # torch tells here, too, of a process that was killed
                iterator._shutdown_workers()
        for process in self._processes:
            if process.is_alive():
                process.kill()
        gc.unfreeze()


def _too_many(bad: list[str], allowed: int | None) -> str:
    if allowed is None:
        return f"{bad[-1]}; fix it, or remove it from the labels"
    if not allowed:
        return f"{bad[-1]}; fix or remove it, or let --skip-bad leave out a larger share of the images (now 0 images)"
    return f"{bad[-1]}; that makes {len(bad)} images that cannot be read, --skip-bad allows {allowed}"


def worker_lost(error: RuntimeError) -> MachineError | None:
    """Turn torch's errors about lost loader processes or shared memory into our message; None for other errors."""
    text = str(error)
    signs = ("DataLoader worker (pid", "shared memory", "/dev/shm", "ancdata", "unable to mmap", "Too many open files")
    if not any(sign in text for sign in signs):
        return None
    return _lost(text.splitlines()[0])


def _lost(reason: str) -> MachineError:
    return MachineError(
        f"a loader process was lost ({reason[:120]}): ended from outside, or too little memory or "
        f"/dev/shm; checkpoints are intact; go on with --resume, with --workers 0 or a smaller --cache-mb"
    )


def cache_share(cache_mb: int, workers: int) -> int:
    """Bytes of decoded images that one process may keep."""
    return cache_mb * 2**20 // max(1, workers)
