"""Do one training step: forward, backward, update; skip or stop when a loss is not finite."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn

from label_tools.text.errors import InputError
from toolkit.config import Config
from toolkit.processes import Processes
from toolkit.training import distributed, forward_pass, optim
from toolkit.training.distributed import Agreed, agree_on_batch
from toolkit.training.progress import Progress
from toolkit.training.run_state import State
from toolkit.training.task_interface import Task

MOST_SKIPPED = 3  # batches that on_nan: skip may leave out
MOST_NAMED = 8  # images of a batch in a message


@dataclass
class Stepper:
    """Runs batches and updates of a task, in step with the other processes."""

    task: Task
    config: Config
    state: State
    folder: Path
    processes: Processes
    progress: Progress

    def __post_init__(self) -> None:
        self.learner, self.accumulate = self.task.learner, self.config.optimizer.accumulate
        self.total = -(-len(self.task) // self.accumulate) * self.config.schedule.epochs  # steps of the whole run

    def batch(self, batch: Any, full: bool, signal: int, time_is_up: bool) -> Agreed:
        """Forward and backward of the next batch. full: it is the last one before an update. -> its agreed state."""
        task, state = self.task, self.state
        in_step = min(self.accumulate, len(task) - state.batch // self.accumulate * self.accumulate)
        found, problem = None, None
        # the forward of a bad batch has moved the running statistics of BatchNorm already, to NaN at worst
        skips = self.config.run.on_nan == "skip"
        before = [b.clone() for b in self.learner.model.buffers()] if skips else []
        # gradients of the processes are added up only with the last batch of a step
        wrapped = self.learner.wrapped
        waits: contextlib.AbstractContextManager[None] = contextlib.nullcontext()
        if isinstance(wrapped, nn.parallel.DistributedDataParallel) and not full:
            waits = wrapped.no_sync()
        with waits:
            try:
                found = task.losses(batch)
            except forward_pass.NonFiniteLoss as error:
                problem = error
            weight = task.weight(state.batch)
            losses = {name: value * weight for name, value in found[1].items()} if found else {}
            mine = Agreed(losses, found is None, signal, time_is_up)
            agreed = agree_on_batch(mine, self.processes, task.loss_names, task.device)
            if found is not None and not agreed.bad:
                (found[0] * (weight / in_step)).backward()
        state.unreadable = task.unreadable
        if agreed.bad:
            self.learner.optimizer.zero_grad(set_to_none=True)  # of the whole step, which was not shared yet
            for buffer, value in zip(self.learner.model.buffers(), before):
                buffer.copy_(value)
            self._not_finite(problem, batch)
        else:
            state.add(agreed.losses)
        state.batch += 1
        return agreed

    def update(self, batch: Any) -> float:
        """One optimiser step with the gradients of its batches, `batch` the last of them; -> its learning rate."""
        state, options = self.state, self.config.optimizer
        heads_only = state.epoch < options.head_epochs
        lr = optim.prepare_step(
            self.learner.optimizer, self.config.schedule, options.lr, state.step, self.total, heads_only
        )
        try:
            optim.update(self.learner.optimizer, options.clip_norm)
        except forward_pass.NonFiniteLoss as error:
            self._not_finite(error, batch)
        if self.learner.averaged is not None:
            self.learner.averaged.update_parameters(self.learner.model)
        state.step += 1
        return lr

    def _not_finite(self, problem: forward_pass.NonFiniteLoss | None, batch: Any) -> None:
        """A loss or gradient is not finite: stop before any weight moved, or skip at most three batches."""
        mine = f"{problem} on images {_some(self.task.names(batch))}" if problem else ""
        found = [text for text in distributed.gather_objects(mine, self.processes) if text]
        if not found:
            return  # no image of the batch could be read; --skip-bad counts those
        self.state.skipped += 1
        lr = self.learner.optimizer.param_groups[-1]["lr"]
        where = f"step {self.state.step + 1}, epoch {self.state.epoch + 1}, lr {lr:.3g}: {'; '.join(found)}"
        if self.config.run.on_nan == "skip" and self.state.skipped <= MOST_SKIPPED:
            self.progress.line(f"skipped: {where}")
            return
        raise InputError(
            f"{where}: loss is not finite; nothing of this batch was learned or saved; "
            f"try a lower --lr, --precision fp32, or look at these images, then {self.task.command} --resume "
            f"{self.folder}"
        )


def _some(names: list[str]) -> str:
    more = len(names) - MOST_NAMED
    return ", ".join(names[:MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
