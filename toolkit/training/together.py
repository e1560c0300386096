"""Several processes that are one run: what ends one of them ends all, with a line each."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

from label_tools.errors import InputError
from toolkit import runtime
from toolkit.loader import MachineError


@contextlib.contextmanager
def joined(device: str) -> Iterator[runtime.Processes]:
    """The processes that torchrun started, left at the end. A lost one is one line, before and after training, too."""
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
    """Refuse machines whose labels or options differ: they would train something else, or wait for each other."""
    for what, mine in (("labels", labels), ("options", options)):
        found = runtime.gather_objects(mine, processes)
        for rank, other in enumerate(found):
            if other != found[0]:
                raise InputError(f"process {rank} of {len(found)} has other {what} than process 0; "
                                 f"needs the same DATA and options on every machine")  # fmt: skip


def once(make: Callable[[], Any], processes: runtime.Processes) -> Any:
    """What the first process makes, for all; an InputError of it ends all."""
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
