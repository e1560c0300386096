"""What torch raises while a run goes on, as one line that says what happened and what to try."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import torch

from label_tools.text.errors import InputError
from toolkit import runtime
from toolkit.config import Config
from toolkit.data.dataset import Index
from toolkit.data.loader import MachineError, worker_lost
from toolkit.training.checkpoints import State
from toolkit.training.out_of_memory import advice


class Running(Protocol):
    """What the line is made from: the run, and the images and targets of the batch under way."""

    config: Config
    folder: Path
    train: Index
    state: State
    seen: tuple[list, list]


def explain(error: RuntimeError | MemoryError | ValueError, run: Running) -> InputError | None:
    """Lost memory, loader or training process, a compiler that fails, in one line; None for anything else."""
    if isinstance(error, ValueError):
        return _one_value(error, run)
    if type(error).__module__.startswith(("torch._inductor", "torch._dynamo")):
        return MachineError(
            f"--compile: torch cannot compile the backbone here ({str(error).splitlines()[0][:160]}); "
            f"start again without it"
        )
    memory = ("can't allocate memory", "not enough memory", "out of memory")
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)) or any(m in str(error) for m in memory):
        return MachineError(advice(run.config, run.train, run.state.step + 1, *run.seen, run.folder))
    if runtime.group_lost(error):
        why = str(error).splitlines()[0][:120]
        return MachineError(
            f"step {run.state.step + 1}: another training process was lost ({why}); "
            f"go on with: frcnn train --resume {run.folder}"
        )
    return worker_lost(error)


def _one_value(error: ValueError, run: Running) -> InputError | None:
    """What torch's BatchNorm says to a batch of one image that ends as a single cell, in our words; else None."""
    if not str(error).startswith("Expected more than 1 value per channel"):
        return None
    sizes = ", ".join(f"{image.shape[2]}x{image.shape[1]}" for image in run.seen[0])
    return InputError(
        f"step {run.state.step + 1}: a batch of {len(run.seen[0])} image ({sizes} px) at --image-size "
        f"{run.config.model.image_size} leaves BatchNorm one value a channel, needs two; take --norm group, a larger "
        f"--image-size, or another --batch-size"
    )
