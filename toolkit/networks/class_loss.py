"""Classification loss with class weights and label smoothing, for torchvision's RoI heads.

torchvision computes plain cross-entropy inside `RoIHeads.forward`. Three hooks see what it sees, the sampled labels
and the logits, and put our value of `loss_classifier` in the place of its own.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from label_tools.text.errors import InputError
from toolkit.config import Config, shown


def set_class_loss(model: nn.Module, config: Config, class_counts: np.ndarray) -> None:
    """Class weights and label smoothing, where the config wants them. For a copy (EMA) call it again."""
    o = config.optimizer
    if o.class_weights == "none" and not o.label_smoothing:
        return
    if not hasattr(model, "roi_heads"):
        option = shown("label_smoothing" if o.label_smoothing else "class_weights")
        raise InputError(f"{option}: not for --model {config.model.model}; needs a network of torchvision's kind")
    weight = balanced_weights(torch.from_numpy(class_counts)) if o.class_weights == "balanced" else None
    install(model, weight, o.label_smoothing)


def install(model: nn.Module, weight: torch.Tensor | None, label_smoothing: float) -> None:
    """Let `model.roi_heads` report CE(logits, labels; weight [num_classes], label_smoothing) as its loss_classifier."""
    roi_heads: Any = model.roi_heads
    seen: dict[str, torch.Tensor] = {}
    select = roi_heads.select_training_samples

    def select_and_keep(*args, **kwargs):
        proposals, matched, labels, targets = select(*args, **kwargs)
        seen["labels"] = torch.cat(labels)
        return proposals, matched, labels, targets

    def keep_logits(module, args, output):
        seen["logits"] = output[0]

    def replace_loss(module, args, output):
        detections, losses = output
        if "loss_classifier" in losses:
            logits = seen.pop("logits")
            table = None if weight is None else weight.to(logits)
            losses["loss_classifier"] = F.cross_entropy(
                logits, seen.pop("labels"), table, label_smoothing=label_smoothing
            )
        return detections, losses

    roi_heads.select_training_samples = select_and_keep
    roi_heads.box_predictor.register_forward_hook(keep_logits)
    roi_heads.register_forward_hook(replace_loss)


def balanced_weights(counts: torch.Tensor) -> torch.Tensor:
    """[K+1] weights from object counts [K]: 1/sqrt(count), mean 1 over the classes that occur; others and background
    1. A class without objects would have the largest weight of all and take it from those that are taught."""
    weights, occurs = counts.clamp(min=1).float().rsqrt(), counts > 0
    return torch.cat([torch.ones(1), torch.where(occurs, weights / weights[occurs].mean(), 1.0)])
