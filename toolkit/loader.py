"""Batches from a dataset: worker processes, memory pinning, and what happens to files that cannot be read."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from label_tools.errors import InputError
from toolkit.data import DetectionDataset, EpochBatches, Index, Key, Unreadable


class MachineError(InputError):
    """The machine gave out: memory, disk, a worker process. Nothing saved before is lost."""

    exit_code = 4


def collate(batch: list) -> tuple[list, list, list[str]]:
    """[(image, target) or Unreadable, ...] -> (images, targets, reasons): images keep their own sizes."""
    good = [item for item in batch if not isinstance(item, Unreadable)]
    bad = [item.reason for item in batch if isinstance(item, Unreadable)]
    return [image for image, _ in good], [target for _, target in good], bad


def _one_thread(worker: int) -> None:
    torch.set_num_threads(1)


class Batches:
    """Iterate (images, targets). Unreadable files stop it with an InputError, or are counted up to `max_bad`."""

    def __init__(
        self, dataset: DetectionDataset, sampler: object, workers: int, device: torch.device, max_bad: int = 0
    ) -> None:
        self.max_bad = max_bad
        self.bad: list[str] = []
        self.loader = torch.utils.data.DataLoader(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=collate,
            pin_memory=device.type == "cuda",
            persistent_workers=workers > 0,
            prefetch_factor=4 if workers else None,
            worker_init_fn=_one_thread if workers else None,
            generator=torch.Generator(),  # its own: starting an epoch must not move the global one (exact resume)
        )

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[tuple[list, list]]:
        try:
            for images, targets, bad in self.loader:
                for reason in bad:
                    self.bad.append(reason)
                    if len(self.bad) > self.max_bad:
                        raise InputError(reason)
                if images:
                    yield images, targets
        except RuntimeError as error:
            if "DataLoader worker" not in str(error):
                raise
            raise MachineError(
                "a loader process was ended from outside (memory or /dev/shm too small?); checkpoints are intact; "
                "try --workers 0 or a smaller --cache-mb, then --resume"
            ) from None


def in_order(index: Index, batch_size: int, rank: int = 0, world_size: int = 1) -> list[list[Key]]:
    """Every row once, in order, dealt to the processes without padding: batches for evaluation."""
    rows = list(range(rank, len(index), world_size))
    return [[(row, 0) for row in rows[i : i + batch_size]] for i in range(0, len(rows), batch_size)]


def cache_share(cache_mb: int, workers: int) -> int:
    """Bytes of decoded images that one process may keep."""
    return cache_mb * 2**20 // max(1, workers)


__all__ = ["Batches", "EpochBatches", "MachineError", "cache_share", "collate", "in_order"]
