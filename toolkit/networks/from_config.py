"""The network that a config asks for: sizes, multi-scale, its classification loss."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit.config import Config
from toolkit.networks import builder, class_loss


def build_model(
    config: Config, classes: Sequence[str], architecture: dict[str, Any] | None = None, load: bool = True
) -> tuple[nn.Module, dict[str, Any], str]:
    """The network that `config` asks for, or the one of a checkpoint -> (model, architecture, about its weights).

    load=False: without fetching the weights that it would start from.
    """
    m = config.model
    if architecture is not None:
        return _spread_sizes(builder.rebuild(architecture), config), architecture, "weights: of the checkpoint"
    sizes = {
        "min_size": m.image_size,
        "max_size": m.max_size,
        "box_score_thresh": m.score_floor,
        "box_detections_per_img": m.max_detections,
        "box_batch_size_per_image": m.roi_batch,
    }
    model, architecture, about = builder.build(
        m.model,
        len(classes) + 1,
        weights=m.weights,
        trainable_layers=m.trainable_layers,
        norm=m.norm,
        batch_size=config.data.batch_size,
        sizes=sizes,
        anchor_scale=m.anchor_scale,
        classes=classes,
        load=load,
    )
    return _spread_sizes(model, config), architecture, about


def _spread_sizes(model: nn.Module, config: Config) -> nn.Module:
    """Multi-scale training: torchvision picks one of min_size per image; evaluation takes the last."""
    m = config.model
    if m.multi_scale:
        if not hasattr(model, "transform"):
            raise InputError(f"--multi-scale: {m.model} has no resize that could vary")
        low, high = m.image_size * (1 - m.multi_scale), m.image_size * (1 + m.multi_scale)
        transform: Any = model.transform
        transform.min_size = (*np.linspace(low, high, 7).round().astype(int).tolist(), m.image_size)
    return model


def set_class_loss(model: nn.Module, config: Config, class_counts: np.ndarray) -> None:
    """Class weights and label smoothing, where the config wants them. For a copy (EMA) call it again."""
    o = config.optimizer
    if o.class_weights == "none" and not o.label_smoothing:
        return
    if not hasattr(model, "roi_heads"):
        raise InputError(f"--label-smoothing and --class-weights: not for --model {config.model.model}")
    weight = class_loss.balanced_weights(torch.from_numpy(class_counts)) if o.class_weights == "balanced" else None
    class_loss.install(model, weight, o.label_smoothing)
