"""Rank of this process under torchrun, and the CPU cores it may use. Without torch."""

from __future__ import annotations

import os
from dataclasses import dataclass

from label_tools.text.errors import InputError


@dataclass(frozen=True)
class Processes:
    """This process among those that torchrun started. One process: rank 0 of 1."""

    rank: int = 0
    world_size: int = 1
    local_rank: int = 0

    @property
    def first(self) -> bool:
        return self.rank == 0


def this_process(*needed: str) -> Processes:
    """Read rank and world size from torchrun's environment; rank 0 of 1 without it. needed: more variables that must
    be set. Raises InputError where some are missing."""
    world_size = int(os.environ.get("WORLD_SIZE", "1"))
    if world_size == 1:
        return Processes()
    missing = [name for name in ("RANK", "LOCAL_RANK", *needed) if name not in os.environ]
    if missing:
        raise InputError(
            f"WORLD_SIZE is {world_size} but {', '.join(missing)} not set; start with torchrun "
            f"--nproc-per-node N -m toolkit train ..., or unset WORLD_SIZE"
        )
    return Processes(int(os.environ["RANK"]), world_size, int(os.environ["LOCAL_RANK"]))


def is_first() -> bool:
    """Whether this is the first of the processes that torchrun started, or the only one; before and after they join."""
    return int(os.environ.get("RANK", "0")) == 0


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def worker_count(wanted: int) -> int:
    """Loader processes. -1: half the cores, at most 8; on one or two cores none, the network needs them. Under
    torchrun the cores are shared by the processes of the machine."""
    if wanted >= 0:
        return wanted
    cores = core_count() // max(1, int(os.environ.get("LOCAL_WORLD_SIZE", "1")))
    return 0 if cores <= 2 else min(8, cores // 2)
