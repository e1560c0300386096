"""The optimiser: parameter groups, learning rate, update; averaged weights (EMA); and the `Learner`, which holds
these and the network: what a checkpoint saves and resume restores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit import checkpoint, config, device_and_seed
from toolkit.networks import builder
from toolkit.training import forward_pass


def make_optimizer(model: nn.Module, options: config.Optimizer) -> torch.optim.Optimizer:
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
    optimizer: torch.optim.Optimizer, plan: config.Schedule, lr: float, step: int, total: int, heads_only: bool
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
