"""The optimiser with its parameter groups, and the averaged weights (EMA)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit import config
from toolkit.networks import builder
from toolkit.training import schedule


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
    now = lr * schedule.factor(plan.schedule, step, total, plan.warmup)
    for group in optimizer.param_groups:
        group["lr"] = now * group.get("share", 1.0)
        if heads_only and group.get("body"):
            for parameter in group["params"]:
                parameter.grad = None
    return now


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
