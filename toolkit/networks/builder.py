"""Build a registered detector for training: first weights, a new head for the user's classes, norms, frozen layers.

A checkpoint stores `architecture` (plain values), from which `rebuild` makes the same network without any weights.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.ops.poolers import MultiScaleRoIAlign, initLevelMapper

from label_tools.text.errors import InputError
from toolkit.checkpoint import Checkpoint
from toolkit.config import Config
from toolkit.networks import first_weights, load_weights, resize_and_anchors
from toolkit.networks.cpu_operators import FewCellsConv2d, TableRoIAlign
from toolkit.networks.mask_branch import MaskTransform
from toolkit.networks.registry import find
from toolkit.networks.registry_entry import Detector


def build(
    name: str,
    num_classes: int,
    *,
    weights: str,
    trainable_layers: int,
    norm: str,
    batch_size: int,
    sizes: dict[str, Any],
    anchor_scale: float = 1.0,
    classes: Sequence[str] = (),
    load: bool = True,
) -> tuple[nn.Module, dict[str, Any], str]:
    """-> (network, its architecture, a line about its weights).

    `num_classes` counts the background. `sizes` are torchvision's keyword arguments (min_size, max_size,
    box_score_thresh, box_detections_per_img, box_batch_size_per_image). The box predictor is a new FastRCNNPredictor,
    but for the rows of those `classes` that the weights know by name. From a run of ours its norm is taken, too.
    load=False: the network that these weights of torchvision would make, with random ones in their place.
    """
    detector = find(name)
    given = first_weights.chosen(name, weights)
    found = first_weights.source(name, detector, given) if load else None
    random = load and found is None
    before = (found.architecture if found else None) or {}
    if before.get("name") != name:
        before = {}
    if norm == "auto":
        norm = before.get("norm") or (detector.norm if not random else "batch" if batch_size >= 8 else "group")
    whole = found.of == "detector" if found else given == "coco"
    architecture = {
        "name": name,
        "num_classes": num_classes,
        "norm": norm,
        "eps": before.get("eps", detector.eps if whole and norm == "frozen" else detector.body_eps),
        # frozen random layers would never be any good: from nothing all learn
        "trainable_layers": detector.num_layers if random else trainable_layers,
        "anchor_scale": anchor_scale,
        "sizes": dict(sizes),
        "first_weights": found.origin if found else first_weights.origin(detector, given),
    }
    if trainable_layers > detector.num_layers:
        raise InputError(f"--trainable-layers: found {trainable_layers}, {name} has {detector.num_layers} stages")
    model = rebuild(architecture)
    about = "random weights, every layer learns"
    if not load:
        about = f"weights: {given}, not here yet"
    elif found is not None:
        about = f"weights: {given}; {load_weights.load_into(model, found, given, classes)}"
    return model, architecture, about


def build_model(
    config: Config, classes: Sequence[str], architecture: dict[str, Any] | None = None, load: bool = True
) -> tuple[nn.Module, dict[str, Any], str]:
    """The network that `config` asks for, or the one of a checkpoint -> (model, architecture, about its weights).

    load=False: without fetching the weights that it would start from.
    """
    m = config.model
    if architecture is not None:
        model, about = rebuild(architecture), "weights: of the checkpoint"
    else:
        model, architecture, about = build(
            m.model,
            len(classes) + 1,
            weights=m.weights,
            trainable_layers=m.trainable_layers,
            norm=m.norm,
            batch_size=config.data.batch_size,
            sizes={
                "min_size": m.image_size,
                "max_size": m.max_size,
                "box_score_thresh": m.score_floor,
                "box_detections_per_img": m.max_detections,
                "box_batch_size_per_image": m.roi_batch,
            },
            anchor_scale=m.anchor_scale,
            classes=classes,
            load=load,
        )
    if m.multi_scale:  # torchvision picks one of min_size per image; evaluation takes the last
        if not hasattr(model, "transform"):
            raise InputError(f"--multi-scale: {m.model} has no resize that could vary")
        low, high = m.image_size * (1 - m.multi_scale), m.image_size * (1 + m.multi_scale)
        transform: Any = model.transform
        transform.min_size = (*np.linspace(low, high, 7).round().astype(int).tolist(), m.image_size)
    return model, architecture, about


def rebuild(architecture: dict[str, Any]) -> nn.Module:
    """The network that `architecture` describes, with random weights, its lower stages frozen as it says."""
    detector = find(architecture["name"])
    model: Any = detector.build(num_classes=architecture["num_classes"], **architecture["sizes"])
    for parameter in model.parameters():  # torchvision freezes by default; `freeze` is ours
        parameter.requires_grad_(True)
    set_norm(model.backbone, architecture["norm"], architecture["eps"])
    scale = architecture.get("anchor_scale", 1.0)
    if scale != 1.0:
        if detector.fixed_anchors:
            raise InputError(f"--anchor-scale: {architecture['name']} has fixed anchors")
        old = model.rpn.anchor_generator
        sizes = tuple(tuple(size * scale for size in level) for level in old.sizes)
        model.rpn.anchor_generator = AnchorGenerator(sizes, old.aspect_ratios)
    freeze(model, detector, architecture["trainable_layers"])
    _pin_roi_scales(model)
    _lighten(model)
    return model.to(memory_format=torch.channels_last) if detector.channels_last else model


def restored(found: Checkpoint) -> nn.Module:
    """The checkpoint's network with its weights, in eval mode."""
    try:
        if not all(isinstance(size, (int, float)) for size in found.meta["architecture"]["sizes"].values()):
            raise TypeError("sizes that are not numbers")
        model = rebuild(found.meta["architecture"])
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError, AttributeError, AssertionError) as error:
        what = f"{type(error).__name__} {error}"
        raise InputError(f"{found.folder}: names a network that cannot be built: {what}") from error
    try:
        model.load_state_dict(found.weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"{found.folder}: weights do not fit the architecture it names: {reason}") from None
    return model.eval()


def _roi_pools(model: Any) -> list[Any]:
    """torchvision's RoIAligns, of the boxes and of the masks where there are any."""
    heads = getattr(model, "roi_heads", None)
    pools = [getattr(heads, name, None) for name in ("box_roi_pool", "mask_roi_pool")]
    return [pool for pool in pools if hasattr(pool, "map_levels")]


def _pin_roi_scales(model: Any) -> None:
    """Set the strides that RoIAlign divides by. torchvision guesses them from the first batch and keeps them; where
    padding adds much to a small image (45 px to 64) it guesses half the stride, for every batch that follows."""
    pools = _roi_pools(model)
    levels = resize_and_anchors.strides(model.backbone) if pools else {}
    for pool in pools:
        strides = [levels[name] for name in pool.featmap_names if name in levels]
        pool.scales = [1 / stride for stride in strides]
        low, high = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
        pool.map_levels = initLevelMapper(low, high, pool.canonical_scale, pool.canonical_level)


def _lighten(model: Any) -> None:
    """Use our CPU versions of RoIAlign and of the backward of the RPN's convolutions, and our way of masks through the
    resize: same numbers, same state."""
    for pool in _roi_pools(model):
        if type(pool) is MultiScaleRoIAlign:
            pool.__class__ = TableRoIAlign
            for module in model.rpn.head.modules():
                if isinstance(module, nn.Conv2d) and FewCellsConv2d.suits(module):
                    module.__class__ = FewCellsConv2d
    if getattr(getattr(model, "roi_heads", None), "mask_roi_pool", None) is not None:
        model.transform.__class__ = MaskTransform


def set_norm(module: nn.Module, kind: str, eps: float) -> None:
    """Replace every BatchNorm2d under `module` by `kind`: frozen, batch or group. Statistics are kept where both
    have them. From nothing torchvision builds a BatchNorm that learns, with weights a frozen one."""
    for name, child in module.named_children():
        if not isinstance(child, (nn.BatchNorm2d, FrozenBatchNorm2d)):
            set_norm(child, kind, eps)
            continue
        channels = child.weight.shape[0]
        if kind == "frozen":
            new = FrozenBatchNorm2d(channels, eps=eps)
        elif kind == "batch":
            new = nn.BatchNorm2d(channels, eps=eps or 1e-5)
        else:
            new = nn.GroupNorm(math.gcd(32, channels), channels)
        if kind != "group":
            new.load_state_dict(child.state_dict(), strict=False)
        setattr(module, name, new)


def freeze(model: nn.Module, detector: Detector, trainable_layers: int) -> None:
    """Only the last `trainable_layers` stages of the backbone learn, and everything after it (torchvision's rule)."""
    if trainable_layers >= detector.num_layers:
        return
    body = body_of(model)
    named = getattr(model.backbone, "stages", None)
    if named is not None:
        frozen = set().union(*named[: len(named) - trainable_layers])
        for name, parameter in body.named_parameters():
            parameter.requires_grad_(name not in frozen)
        return
    if hasattr(body, "layer4"):
        stages: list[list[Any]] = [[body.conv1, body.bn1], *([body.get_submodule(f"layer{k}")] for k in (1, 2, 3, 4))]
    else:
        children = list(body.children())
        # mobilenet: a stage begins where the image is halved (torchvision's `_is_cn`), and with the last layer
        starts = [i for i, c in enumerate(children) if getattr(c, "_is_cn", False)]
        starts = [0, *starts, len(children) - 1] if starts else list(range(len(children)))
        stages = [children[a:b] for a, b in zip(starts, [*starts[1:], len(children)], strict=True)]
    for stage in stages[: len(stages) - trainable_layers]:
        for part in stage:
            part.requires_grad_(False)


def body_of(model: nn.Module) -> nn.Module:
    """The part of the backbone that pretrained weights fill: without the FPN."""
    backbone: Any = model.backbone
    return getattr(backbone, "body", backbone)


def freeze_norms(model: nn.Module) -> None:
    """Keep BatchNorms that should not adapt to small batches in eval mode; call after `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()
