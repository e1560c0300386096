"""Turn torch's runtime errors into one-line messages with advice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from label_tools.text.errors import InputError, MachineError
from toolkit.data.loader import worker_lost
from toolkit.training import distributed
from toolkit.training.task import Task


def explain(
    error: RuntimeError | MemoryError | ValueError, task: Task, step: int, batch: Any, folder: Path
) -> InputError | None:
    """Out of memory, a lost loader or training process, a compiler that fails; None for anything else.

    step: the one under way (1-based), with its batch.
    """
    if isinstance(error, ValueError):
        if str(error).startswith("Expected more than 1 value per channel"):
            return InputError(f"step {step}: {task.norm_advice(batch)}")
        return None
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return MachineError(
            f"--compile: torch cannot compile the backbone here ({str(error).splitlines()[0][:160]}); "
            f"start again without it"
        )
    memory = ("can't allocate memory", "not enough memory", "out of memory")
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(m in str(error) for m in memory):
        return MachineError(
            f"out of memory at step {step}: {task.memory_advice(batch)}; checkpoints in {folder} are intact"
        )
    if distributed.group_lost(error):
        why = str(error).splitlines()[0][:120]
        return MachineError(
            f"step {step}: another training process was lost ({why}); go on with: {task.command} --resume {folder}"
        )
    return worker_lost(error)
