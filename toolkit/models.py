"""The detectors: their registry, their weights, the new head for the user's classes, and what is frozen.

A checkpoint stores `architecture` (plain values), from which `rebuild` makes the same network without any weights.
"""

from __future__ import annotations

import difflib
import hashlib
import math
import pickle
import re
import sys
import urllib.error
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torchvision.models import detection as zoo
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops.misc import FrozenBatchNorm2d
from torchvision.ops.poolers import MultiScaleRoIAlign, initLevelMapper

from label_tools.errors import InputError
from toolkit.compact import fasterrcnn_tiny_fpn
from toolkit.few_cells import FewCellsConv2d
from toolkit.pooling import TableRoIAlign

STARTER = Path(__file__).with_name("starter") / "fasterrcnn_tiny_fpn.safetensors"
_PREDICTOR = "roi_heads.box_predictor."


@dataclass(frozen=True)
class Detector:
    """A registered network. `build(num_classes=, **sizes)` makes it with random weights."""

    build: Callable[..., nn.Module]
    about: str
    coco: Any = None  # torchvision's weights enum of the whole detector
    imagenet: Any = None  # of the backbone alone
    norm: str = "frozen"  # what torchvision uses with weights
    eps: float = 1e-5  # of the norm with torchvision's COCO weights
    compact: bool = False
    num_layers: int = 5


def _torchvision(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, **sizes: Any) -> nn.Module:
        return getattr(zoo, name)(weights=None, weights_backbone=None, num_classes=num_classes, **sizes)

    return build


def _anchors_tiny(num_classes: int, **sizes: Any) -> nn.Module:
    from anchors.detector import TinyFasterRCNN

    names = {"max_size": "max_side", "box_score_thresh": "score_thresh", "box_detections_per_img": "max_detections",
             "box_batch_size_per_image": "roi_samples"}  # fmt: skip
    return TinyFasterRCNN(num_classes, **{names[k]: v for k, v in sizes.items() if k in names})


def _registry() -> dict[str, Detector]:
    from torchvision.models import MobileNet_V3_Large_Weights as mobilenet
    from torchvision.models import ResNet50_Weights as resnet

    resnet, mobilenet = resnet.IMAGENET1K_V1, mobilenet.IMAGENET1K_V1
    names = {
        "fasterrcnn_resnet50_fpn": Detector(
            _torchvision("fasterrcnn_resnet50_fpn"), "41 M parameters, the standard",
            zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1, resnet, "frozen", eps=0.0),
        "fasterrcnn_resnet50_fpn_v2": Detector(
            _torchvision("fasterrcnn_resnet50_fpn_v2"), "43 M, better and slower",
            zoo.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1, resnet, "batch"),
        "fasterrcnn_mobilenet_v3_large_fpn": Detector(
            _torchvision("fasterrcnn_mobilenet_v3_large_fpn"), "19 M, several times as fast",
            zoo.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1, mobilenet, "frozen", num_layers=6),
        "fasterrcnn_mobilenet_v3_large_320_fpn": Detector(
            _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn"), "19 M, for small images and slow machines",
            zoo.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1, mobilenet, "frozen", num_layers=6),
        "fasterrcnn_tiny_fpn": Detector(
            fasterrcnn_tiny_fpn, "1.6 M, trains on two CPU cores in minutes", norm="batch", compact=True),
        "anchors_tiny": Detector(
            _anchors_tiny, "the teaching network of `anchors`, every operator from scratch", norm="batch",
            compact=True),
    }  # fmt: skip
    return names


REGISTRY = _registry()


def find(name: str) -> Detector:
    """The registered detector, or an InputError with the nearest name."""
    if name not in REGISTRY:
        near = difflib.get_close_matches(name, REGISTRY, n=1, cutoff=0.4)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"--model {name}: unknown{hint} Known: {', '.join(REGISTRY)}")
    return REGISTRY[name]


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
    load: bool = True,
) -> tuple[nn.Module, dict[str, Any], str]:
    """-> (network, its architecture, a line about its weights).

    load=False: the network that these weights of torchvision would make, with random ones in their place.

    `num_classes` counts the background. `sizes` are torchvision's keyword arguments (min_size, max_size,
    box_score_thresh, box_detections_per_img, box_batch_size_per_image). The box predictor is always a new
    FastRCNNPredictor.
    """
    detector = find(name)
    weights = chosen_weights(name, weights)
    state, origin = _source(name, detector, weights) if load else ({}, "detector" if weights == "coco" else "backbone")
    if norm == "auto":
        norm = detector.norm if state is not None else "batch" if batch_size >= 8 else "group"
    architecture = {
        "name": name,
        "num_classes": num_classes,
        "norm": norm,
        "eps": detector.eps if origin == "detector" and norm == "frozen" else 1e-5,
        # frozen random layers would never be any good: from nothing all learn
        "trainable_layers": detector.num_layers if state is None else min(trainable_layers, detector.num_layers),
        "anchor_scale": anchor_scale,
        "sizes": dict(sizes),
    }
    model = rebuild(architecture)
    about = "random weights, every layer learns"
    if not load:
        about = f"weights: {weights}, not here yet"
    elif state is not None:
        about = f"weights: {weights}; {_load(model, state, origin, weights)}"
    return model, architecture, about


def chosen_weights(name: str, weights: str) -> str:
    """What `auto` means for a network: coco where torchvision has them, the starter for the compact one, or none."""
    if weights != "auto":
        return weights
    if find(name).coco:
        return "coco"
    return "starter" if name == "fasterrcnn_tiny_fpn" and STARTER.exists() else "none"


def ensure(name: str, weights: str) -> None:
    """Refuse an unknown network or weights that cannot be had, before a run folder is made for them."""
    weights = chosen_weights(name, weights)
    if _torchvisions(name, weights) is None or to_download(name, weights):
        _source(name, find(name), weights)


def _torchvisions(name: str, weights: str) -> Any:
    """The enum of torchvision's weights; None where they are others, or none exist."""
    return getattr(find(name), weights) if weights in ("coco", "imagenet") else None


def to_download(name: str, weights: str) -> Path | None:
    """The file in torchvision's cache that training would have to fetch first; None when nothing is missing."""
    enum = _torchvisions(name, chosen_weights(name, weights))
    if enum is None:
        return None
    path = cached_file(enum)
    return path if not path.exists() or damage(path) else None


def rebuild(architecture: dict[str, Any]) -> nn.Module:
    """The network that `architecture` describes, with random weights, its lower stages frozen as it says."""
    detector = find(architecture["name"])
    model = detector.build(num_classes=architecture["num_classes"], **architecture["sizes"])
    for parameter in model.parameters():  # torchvision freezes by default; `freeze` is ours
        parameter.requires_grad_(True)
    set_norm(model.backbone, architecture["norm"], architecture["eps"])
    scale = architecture.get("anchor_scale", 1.0)
    if scale != 1.0:
        if not hasattr(model, "rpn"):
            raise InputError(f"--anchor-scale: {architecture['name']} has fixed anchors")
        old = model.rpn.anchor_generator
        sizes = tuple(tuple(size * scale for size in level) for level in old.sizes)
        model.rpn.anchor_generator = AnchorGenerator(sizes, old.aspect_ratios)
    freeze(model, detector, architecture["trainable_layers"])
    _pin_roi_scales(model)
    _lighten(model)
    return model


def _pin_roi_scales(model: nn.Module) -> None:
    """Set the strides that RoIAlign divides by. torchvision guesses them from the first batch and keeps them; where
    padding adds much to a small image (45 px to 64) it guesses half the stride, for every batch that follows."""
    pool = getattr(getattr(model, "roi_heads", None), "box_roi_pool", None)
    if not hasattr(pool, "map_levels"):
        return
    side = 256  # a multiple of every stride
    was_training = model.training
    model.eval()
    with torch.inference_mode():
        levels = model.backbone(torch.zeros(1, 3, side, side))
    model.train(was_training)
    strides = [side // levels[name].shape[-1] for name in pool.featmap_names if name in levels]
    pool.scales = [1 / stride for stride in strides]
    low, high = (int(math.log2(stride)) for stride in (strides[0], strides[-1]))
    pool.map_levels = initLevelMapper(low, high, pool.canonical_scale, pool.canonical_level)


def _lighten(model: nn.Module) -> None:
    """Let a CPU compute RoIAlign and the backward of the RPN's convolutions in our way: same numbers, same state."""
    pool = getattr(getattr(model, "roi_heads", None), "box_roi_pool", None)
    if type(pool) is MultiScaleRoIAlign:
        pool.__class__ = TableRoIAlign
        for module in model.rpn.head.modules():
            if isinstance(module, nn.Conv2d) and FewCellsConv2d.suits(module):
                module.__class__ = FewCellsConv2d


def set_norm(module: nn.Module, kind: str, eps: float) -> None:
    """Turn every BatchNorm2d under `module` into `kind`: frozen, batch or group. Statistics are kept where both
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
    if hasattr(body, "layer4"):
        stages = [[body.conv1, body.bn1], [body.layer1], [body.layer2], [body.layer3], [body.layer4]]
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
    return getattr(model.backbone, "body", model.backbone)


def freeze_norms(model: nn.Module) -> None:
    """Put every BatchNorm that should not follow small batches into eval mode; call after `model.train()`."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.eval()


def _source(name: str, detector: Detector, weights: str) -> tuple[dict[str, torch.Tensor] | None, str]:
    """-> (state dict or None, what it is of: detector, backbone, nothing)."""
    if weights == "none":
        return None, "nothing"
    if weights in ("coco", "imagenet"):
        enum = getattr(detector, weights)
        if enum is None:
            raise InputError(f"--weights {weights}: none exist for {name}; use --weights none, starter or a FILE")
        return fetch(enum, weights), "detector" if weights == "coco" else "backbone"
    path = STARTER if weights == "starter" else Path(weights)
    if weights == "starter" and (name != "fasterrcnn_tiny_fpn" or not path.exists()):
        raise InputError(f"--weights starter: exist only for fasterrcnn_tiny_fpn, found --model {name}")
    state = read_weights(path)
    return state, "detector" if any(k.startswith(("rpn.", "roi_heads.")) for k in state) else "backbone"


def cached_file(enum: Any) -> Path:
    """Where torchvision keeps the file of these weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / enum.url.rsplit("/", 1)[-1]


def damage(path: Path) -> str:
    """What is wrong with a file of torchvision's cache, or nothing: its name holds the first digits of its SHA-256,
    which torch compares only while it downloads."""
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if not named:
        return ""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[: len(named[1])]
    return "" if found == named[1] else f"its SHA-256 begins with {found}, its name says {named[1]}"


def _set_aside(path: Path) -> str:
    """Rename a damaged file of the cache, so that nothing loads it; -> a clause about it, empty for a sound file."""
    try:
        if not path.exists() or not (wrong := damage(path)):
            return ""
        aside = path.replace(path.with_name(path.name + ".damaged"))
    except FileNotFoundError:  # another process has just done it
        return ""
    except OSError as error:
        raise InputError(f"{path}: is damaged or cannot be read ({error.strerror or error}) and could not be set "
                         f"aside; remove it, or give other weights with --weights FILE") from None  # fmt: skip
    return f"the file there was cut off or damaged ({wrong}) and is now {aside.name}; "


def fetch(enum: Any, weights: str) -> dict[str, torch.Tensor]:
    """torchvision's weights from its cache or the network. The hash in the file's name is checked both times; a
    damaged file of the cache is set aside and fetched again."""
    path = cached_file(enum)
    aside = _set_aside(path)
    if aside:
        print(f"warning: --weights {weights}: {path}: {aside}fetching it again", file=sys.stderr)
    try:
        return enum.get_state_dict(progress=False, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(getattr(error, "reason", error)).splitlines()[0][:120]
        raise InputError(
            f"--weights {weights}: {path.name} is neither in {path.parent} nor could it be fetched ({reason}); {aside}"
            f"either put the file there (on a machine with internet: `frcnn doctor --fetch`), "
            f"or give one with --weights FILE, or use --weights none (best with --model fasterrcnn_tiny_fpn)"
        ) from None


def read_weights(path: Path) -> dict[str, torch.Tensor]:
    """State dict of one of our checkpoints or runs (folder), a safetensors file, or a torch file (weights only)."""
    if path.is_dir():
        from toolkit import checkpoint

        return checkpoint.load(checkpoint.find(path)).weights
    if not path.exists():
        raise InputError(f"--weights {path}: not found; needs coco, imagenet, starter, none, or a file or run folder")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a broken file
        raise InputError(f"--weights {path}: cannot be read as weights: {str(error).splitlines()[0][:160]}") from None
    if isinstance(state, dict) and isinstance(state.get("model"), dict):
        state = state["model"]  # the reference scripts' form
    if not isinstance(state, dict) or not all(isinstance(v, torch.Tensor) for v in state.values()) or not state:
        raise InputError(f"--weights {path}: found no state dict (names to tensors)")
    return {k.removeprefix("module."): v.float() if v.is_floating_point() else v for k, v in state.items()}


def _load(model: nn.Module, state: dict[str, torch.Tensor], origin: str, weights: str) -> str:
    """Copy what fits in name and shape; the box predictor stays new. Refuse when it is another network's file."""
    target = model.state_dict()
    if origin == "backbone":
        prefix = "backbone.body."
        state = {prefix + k: v for k, v in state.items() if not k.startswith(("fc.", "classifier."))}
        state = {k.replace(prefix + "features.", prefix): v for k, v in state.items()}
    wanted = {k for k in target if not k.startswith(_PREDICTOR) and not k.endswith("num_batches_tracked")}
    if origin == "backbone":
        wanted = {k for k in wanted if k.startswith("backbone.body.")}
    fits = {k: v for k, v in state.items() if k in wanted and v.shape == target[k].shape}
    if len(fits) < 0.9 * len(wanted):
        missing = sorted(wanted - fits.keys())[0]
        raise InputError(
            f"--weights {weights}: {len(fits)} of {len(wanted)} tensors fit this --model, first that does not: "
            f"{missing}; needs weights of the same network"
        )
    model.load_state_dict(fits, strict=False)
    return f"{len(fits)} of {len(wanted)} tensors of the {origin}, new box predictor"
