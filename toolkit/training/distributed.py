"""Distributed runs under torchrun: join the processes, exchange values, share decisions and failures."""

from __future__ import annotations

import contextlib
import ctypes
import datetime
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch

from label_tools.text.errors import InputError, MachineError
from toolkit.rank_and_cores import Processes, this_process
from toolkit.stopping import SIGNALS


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """Join torchrun's process group and leave it at the end. MachineError when a process is lost."""
    processes = join_processes(device)
    try:
        yield processes
    except RuntimeError as error:
        if not group_lost(error):
            raise
        raise MachineError(f"another training process was lost ({str(error).splitlines()[0][:120]})") from None
    finally:
        if torch.distributed.is_available() and torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()


def join_processes(device: str) -> Processes:
    """Read torchrun's environment and join the group (nccl for GPUs, gloo for CPUs); alone without it."""
    processes = this_process("MASTER_ADDR", "MASTER_PORT")
    if processes.world_size == 1:
        return processes
    _stop_with_parent()
    if ":" in device:
        raise InputError(f"--device {device}: names one device for {processes.world_size} processes; use --device cuda")
    cuda = device == "cuda" or (device == "auto" and torch.cuda.is_available())
    if cuda:
        torch.cuda.set_device(processes.local_rank)
    # A dead process is noticed at once by its closed connection; this limit is for one that hangs. It must be longer
    # than the longest work that the first process does alone: evaluating an epoch, writing a checkpoint.
    wait = datetime.timedelta(minutes=10)
    torch.distributed.init_process_group("nccl" if cuda else "gloo", timeout=wait)
    return processes


def _stop_with_parent() -> None:
    """Linux: SIGTERM for this process when torchrun's own is killed. It would go on training with nobody to end it."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, int(signal.SIGTERM))  # PR_SET_PDEATHSIG


def agree(processes: Processes, labels: Any, options: Any) -> None:
    """Refuse processes whose labels or options differ: they would train different things or deadlock."""
    for what, mine in (("labels", labels), ("options", options)):
        found = gather_objects(mine, processes)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise InputError(
                    f"process {rank} of {len(found)} has other {what} than process 0; "
                    f"needs the same DATA and options on every machine"
                )


def once(make: Callable[[], Any], processes: Processes) -> Any:
    """Run `make` in the first process and share its result; its InputError is raised in all."""
    made = None
    if processes.first:
        try:
            made = make()
        except InputError as error:
            made = error
    made = gather_objects(made, processes)[0]
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


def agree_on_batch(mine: Agreed, processes: Processes, names: Sequence[str], device: torch.device) -> Agreed:
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


def gather_objects(item: object, processes: Processes) -> list:
    """[item of rank 0, item of rank 1, ...] on every rank."""
    if processes.world_size == 1:
        return [item]
    items: list = [None] * processes.world_size
    torch.distributed.all_gather_object(items, item)
    return items


def group_lost(error: RuntimeError) -> bool:
    """True for what torch raises when another process of the group died or hung."""
    signs = (
        "Connection closed by peer",
        "Connection reset by peer",
        "Broken pipe",
        "Timed out waiting",
        "NCCL",
        "Connection refused",
        "gloo",
        "Socket Timeout",
        "ProcessGroup",
    )
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        return False
    known = isinstance(error, getattr(torch.distributed, "DistError", ()))
    return known or any(sign in str(error) for sign in signs)


def agree_buffers(model: torch.nn.Module, processes: Processes) -> None:
    """Give every process the running statistics of the first one, which are those that are saved."""
    if processes.world_size > 1:
        for buffer in model.buffers():
            torch.distributed.broadcast(buffer, 0)
