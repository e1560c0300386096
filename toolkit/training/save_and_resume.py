"""Save a run and resume it: its state, what learns, its checkpoints `last` and `best`, the options that may change."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError, MachineError
from label_tools.text.messages import counted
from toolkit import checkpoint, device_and_seed
from toolkit.config import Schedule
from toolkit.training.progress import Progress, epochs_text

# what a reason to end (`Trained.ended`, in run.json) begins with, and the option that takes up such a run again
_TAKES_UP = {"finished": "epochs", "early stop": "patience", "--max-time": "max_time"}


@dataclass
class State:
    """Progress of a run: what resume needs besides weights, optimiser and random generators."""

    step: int = 0  # optimiser steps done
    epoch: int = 0  # epochs done: trained and evaluated
    batch: int = 0  # batches done in the epoch under way; all of them: it waits for its evaluation
    best_score: float = -1.0
    best_epoch: float = -1
    since_best: int = 0  # evaluations
    seconds: float = 0.0
    skipped: int = 0  # batches left out because their loss was not finite
    sums: dict[str, float] = field(default_factory=dict)  # losses of the epoch under way
    counted: int = 0  # batches in `sums`
    recent: dict[str, float] = field(default_factory=dict)  # losses since the last record
    recent_counted: int = 0
    unreadable: list[str] = field(default_factory=list)  # files left out, with the reason
    log_bytes: int = 0

    @classmethod
    def of(cls, found: checkpoint.Checkpoint) -> State:
        """The state in a checkpoint."""
        try:
            return cls(**found.needed_state()["progress"])
        except (KeyError, TypeError):
            raise InputError(
                f"{found.folder}: was saved by another version of this toolkit, which alone can go on with it; "
                f"start a new run, for a detector with --weights {found.folder}"
            ) from None

    def add(self, losses: dict[str, float]) -> None:
        """Count the losses of a batch."""
        for name, value in losses.items():
            self.sums[name] = self.sums.get(name, 0.0) + value
            self.recent[name] = self.recent.get(name, 0.0) + value
        self.counted += 1
        self.recent_counted += 1


class Learner:
    """`model` learns, through `wrapped` where several processes share the work; `evaluated` is validated and saved."""

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        averaged: torch.optim.swa_utils.AveragedModel | None = None,
        wrapped: nn.Module | None = None,
    ) -> None:
        self.model, self.optimizer, self.averaged = model, optimizer, averaged
        self.wrapped = model if wrapped is None else wrapped

    @property
    def evaluated(self) -> nn.Module:
        return self.model if self.averaged is None else self.averaged.module

    def resume_state(self) -> dict[str, Any]:
        """The state that resume needs besides the saved weights."""
        state: dict[str, Any] = {"optimizer": self.optimizer.state_dict(), "rng": device_and_seed.rng_state()}
        if self.averaged is not None:  # then weights.safetensors holds the average
            state |= {"model": self.model.state_dict(), "averaged": int(self.averaged.n_averaged)}
        return state

    def restore(self, found: checkpoint.Checkpoint) -> None:
        """Restore the exact state in which `found` was saved."""
        state = found.needed_state()
        try:
            self.model.load_state_dict(state.get("model", found.weights))
            if self.averaged is not None:
                self.averaged.module.load_state_dict(found.weights)
                self.averaged.n_averaged.fill_(state["averaged"])
            self.optimizer.load_state_dict(state["optimizer"])
            device_and_seed.set_rng_state(state["rng"])
        except torch.OutOfMemoryError:
            raise
        except (AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
            what = " ".join(str(error).split())[:160]
            raise InputError(f"{found.folder}: does not fit this training ({type(error).__name__} {what})") from error


@dataclass
class Keeper:
    """Writes checkpoints into a run. A full disk never ends a run: the old checkpoint stays, `failed` remembers."""

    folder: Path
    meta: dict[str, Any]
    sync_log: Callable[[], int]  # flushes metrics.jsonl to the disk; -> its bytes
    progress: Progress
    failed: list[str] = field(default_factory=list)
    saved: float = field(default_factory=time.monotonic)

    def save(
        self,
        name: str,
        state: State,
        seconds: float,
        about: dict[str, Any],
        weights: dict[str, torch.Tensor],
        learner: dict[str, Any] | None,
    ) -> bool:
        """Save; False when the disk refused it. InputError for weights that are not finite.

        seconds: spent on the run. learner: `Learner.resume_state`, None in a checkpoint that is not for resume.
        """
        try:
            state.log_bytes = self.sync_log()
            resume = None if learner is None else {"progress": {**vars(state), "seconds": seconds}, **learner}
            meta = {**self.meta, "step": state.step, **about}
            checkpoint.save(self.folder / name, meta, weights, resume)
        except OSError as error:
            self.failed.append(f"{name} after step {state.step}: {error.strerror or error}")
            self.progress.line(
                f"warning: {self.folder / name} could not be written ({error.strerror or error}); "
                f"the checkpoint before it stays"
            )
            return False
        except checkpoint.NotFinite as error:
            raise InputError(
                f"step {state.step}: {error}; the checkpoints in {self.folder} are older and intact; try a lower --lr"
            ) from None
        if name == "last":
            self.saved = time.monotonic()
        return True

    def check_room(self) -> None:
        """After the first checkpoint: raise now if the disk has no room for the next ones."""
        if self.failed:
            raise MachineError(f"{self.folder}: no checkpoint can be written: {self.failed[-1]}")
        size = checkpoint.size(self.folder / "last")
        free = shutil.disk_usage(self.folder).free
        if free < 3 * size:  # previous, best, and the one being written
            raise MachineError(
                f"{self.folder}: {free / 2**20:.0f} MB are free, needs {3 * size / 2**20:.0f} MB for "
                f"three more checkpoints of {size / 2**20:.0f} MB"
            )


def why_over(folder: Path, record: Mapping[str, Any], changed: Collection[str]) -> str:
    """Why a run is finished, by its run.json; "" when training can go on.

    changed: names of the options that the caller gives another value. InputError when one of them would take up a run
    again that ended for another reason.
    """
    if record.get("status") != "finished":
        return ""
    ended = str(record.get("ended", "finished"))
    needed = next((option for why, option in _TAKES_UP.items() if ended.startswith(why)), "epochs")
    if needed in changed:
        return ""
    if others := sorted(set(changed) & set(_TAKES_UP.values())):
        given, flag = (f"--{name.replace('_', '-')}" for name in (others[0], needed))
        raise InputError(f"{folder}: {given} alone does not take it up again ({ended}); needs a higher {flag}")
    return ended


def check_epochs(folder: Path, plan: Schedule, epochs: int, done: float) -> None:
    """Refuse another number of epochs where the run has passed it, or where its learning rate does not allow it.

    A learning rate that falls depends on the share of all steps: with other epochs it would jump.
    """
    if epochs == plan.epochs:
        return
    if epochs < done:
        raise InputError(f"{folder}: --epochs {epochs}: {epochs_text(done)} trained already; needs more")
    if plan.schedule != "constant":
        raise InputError(
            f"{folder}: --epochs {epochs} cannot change here: the learning rate was planned for "
            f"{counted(plan.epochs, 'epoch')} ({plan.schedule}) and would jump; needs a run with --schedule constant, "
            f"or a new run that starts from it: --weights {folder}"
        )


def check_same_data(found: checkpoint.Checkpoint, folder: Path, train: str, val: str) -> None:
    """Refuse fingerprints of other pictures or labels than a run began with."""
    for part, now, key in (("training", train, "data_fingerprint"), ("validation", val, "val_fingerprint")):
        if found.meta.get(key, now) != now:
            raise InputError(f"{folder}: the {part} pictures or labels are not those that it began with")


def open_run(folder: Path) -> checkpoint.Checkpoint:
    """Tidy up after a kill and load the newest intact checkpoint. Call with the run's lock held.

    A damaged `last` goes: the next save would make it `previous`.
    """
    checkpoint.sweep(folder)
    checkpoint.drop_damaged_last(folder)
    return checkpoint.load_last(folder)[0]
