"""Distributed runs: shared decisions and shared failure."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from label_tools.text.errors import InputError, MachineError
from toolkit import runtime
from toolkit.stopping import SIGNALS


@contextlib.contextmanager
def joined(device: str) -> Iterator[runtime.Processes]:
    """Join torchrun's process group and leave it at the end. MachineError when a process is lost."""
    processes = runtime.join_processes(device)
    try:
        yield processes
    except RuntimeError as error:
        if not runtime.group_lost(error):
            raise
        raise MachineError(f"another training process was lost ({str(error).splitlines()[0][:120]})") from None
    finally:
        runtime.leave_processes()


def agree(processes: runtime.Processes, labels: Any, options: Any) -> None:
    """Refuse processes whose labels or options differ: they would train different things or deadlock."""
    for what, mine in (("labels", labels), ("options", options)):
        found = runtime.gather_objects(mine, processes)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise InputError(
                    f"process {rank} of {len(found)} has other {what} than process 0; "
                    f"needs the same DATA and options on every machine"
                )


def once(make: Callable[[], Any], processes: runtime.Processes) -> Any:
    """Run `make` in the first process and share its result; its InputError is raised in all."""
    made = None
    if processes.first:
        try:
            made = make()
        except InputError as error:
            made = error
    made = runtime.gather_objects(made, processes)[0]
    if isinstance(made, InputError):
        raise made
    return made


@dataclass(frozen=True)
class Agreed:
    """State of a batch, agreed on by all processes: mean losses, unusable or not, a signal, time over."""

    losses: dict[str, float]
    bad: bool
    signal: int
    time_is_up: bool


def agree_on_batch(mine: Agreed, processes: runtime.Processes, names: Sequence[str], device: torch.device) -> Agreed:
    """Exchange the state of a batch, so that all processes step, stop or skip together. names: of the losses."""
    if processes.world_size == 1:
        return mine
    values = [mine.losses.get(name, 0.0) for name in names]
    flags = [mine.bad, *(mine.signal == signum for signum in SIGNALS), mine.time_is_up]
    shared = torch.tensor([*values, *map(float, flags)], dtype=torch.float64, device=device)
    torch.distributed.all_reduce(shared)
    means = (shared[: len(values)] / processes.world_size).tolist()
    bad, interrupt, terminate, late = (value > 0 for value in shared[len(values) :].tolist())
    signum = SIGNALS[0] if interrupt else SIGNALS[1] if terminate else 0
    return Agreed(dict(zip(names, means, strict=True)), bad, int(signum), late)
