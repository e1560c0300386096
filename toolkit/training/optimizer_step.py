"""The optimiser and its steps: parameter groups, learning rate, averaged weights (EMA); forward, backward, update; a
loss that is not finite is skipped or ends the run."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit.config import Config, Optimizer, Schedule
from toolkit.networks import builder
from toolkit.rank_and_cores import Processes
from toolkit.training import distributed, forward_pass
from toolkit.training.distributed import Agreed, agree_on_batch
from toolkit.training.progress import Progress
from toolkit.training.save_and_resume import State
from toolkit.training.task_interface import Task

MOST_SKIPPED = 3  # batches that on_nan: skip may leave out
MOST_NAMED = 8  # images of a batch in a message


def make_optimizer(model: nn.Module, options: Optimizer) -> torch.optim.Optimizer:
    """SGD or AdamW over up to four groups: body or not (backbone_lr), decayed or not (norms and biases are not)."""
    body = {id(p) for p in builder.body_of(model).parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in model.parameters():
        if parameter.requires_grad:
            key = (id(parameter) in body, parameter.ndim > 1)
            groups.setdefault(key, []).append(parameter)
    if not groups:
        raise InputError("no parameter is left to learn; give --trainable-layers a higher value")
    parameters = [
        {
            "params": members,
            "body": in_body,
            "share": options.backbone_lr if in_body else 1.0,
            "lr": options.lr,
            "weight_decay": options.weight_decay if decays else 0.0,
        }
        for (in_body, decays), members in sorted(groups.items(), key=lambda item: item[0], reverse=True)
    ]
    if options.optimizer == "sgd":
        return torch.optim.SGD(parameters, momentum=options.momentum)
    return torch.optim.AdamW(parameters, betas=(options.momentum, 0.999))


def prepare_step(
    optimizer: torch.optim.Optimizer, plan: Schedule, lr: float, step: int, total: int, heads_only: bool
) -> float:
    """Set every group's rate for `step` (0-based) of `total`; in the epochs of the heads the body has no gradient and
    so neither moves nor decays. -> the rate of the heads."""
    now = lr * lr_factor(plan.schedule, step, total, plan.warmup)
    for group in optimizer.param_groups:
        group["lr"] = now * group.get("share", 1.0)
        if heads_only and group.get("body"):
            for parameter in group["params"]:
                parameter.grad = None
    return now


def warmup_steps(wanted: int, total: int) -> int:
    """At most a tenth of all steps: ten steps in all warm up for one, one step not at all."""
    return min(wanted, total // 10)


def lr_factor(kind: str, step: int, total: int, warmup: int) -> float:
    """Share of the highest learning rate at `step` (0-based) of `total`; always over 0.

    cosine: linear warm-up, then half a cosine to 0.01. step: warm-up, then x 0.1 at 2/3 and 8/9 of the steps
    (the usual 16 and 22 of 24 epochs). onecycle: cosine up from 0.04 over the first quarter, cosine down to 0.001
    (Smith 2018), read at the middle of each step, so that two steps in all have 1 and 0.25 and none a thousandth.
    constant: warm-up only.
    """
    if kind == "onecycle":
        progress = (step + 0.5) / total
        if progress < 0.25:
            return 0.04 + 0.96 * _rise(progress / 0.25)
        return 0.001 + 0.999 * (1 - _rise((progress - 0.25) / 0.75))
    warmup = warmup_steps(warmup, total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "cosine":
        return 0.01 + 0.99 * (1 - _rise(progress))
    if kind == "step":
        return 1.0 if progress < 2 / 3 else 0.1 if progress < 8 / 9 else 0.01
    return 1.0


def _rise(x: float) -> float:
    """Half a cosine from 0 to 1 for x in 0..1."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, x)))


def update(optimizer: torch.optim.Optimizer, clip_norm: float) -> None:
    """Clip, step, clear. A gradient that is not finite leaves the weights alone."""
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    if clip_norm > 0:
        norm = torch.nn.utils.clip_grad_norm_(parameters, clip_norm)
    else:
        norm = torch.nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
    if not torch.isfinite(norm):
        optimizer.zero_grad(set_to_none=True)
        raise forward_pass.NonFiniteLoss({"gradient norm": float(norm)})
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)


def averaged(model: nn.Module, decay: float) -> torch.optim.swa_utils.AveragedModel:
    """Exponential moving average of weights and buffers; its decay grows from 2/11 so that short runs count too."""

    def average(means: Sequence[torch.Tensor], current: Sequence[torch.Tensor], count: int | torch.Tensor) -> None:
        n = float(count)
        now = min(decay, (1 + n) / (10 + n))
        for mean, value in zip(means, current, strict=True):
            if mean.is_floating_point():
                mean.lerp_(value.to(mean.dtype), 1 - now)
            else:
                mean.copy_(value)

    return torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average, use_buffers=True)


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
        lr = prepare_step(self.learner.optimizer, self.config.schedule, options.lr, state.step, self.total, heads_only)
        try:
            update(self.learner.optimizer, options.clip_norm)
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
