"""A torchvision backbone with a head for one object: the ResNet-34 of the VOC post, and LoadHead.

`CustomHead` (the post, whose head is fast.ai's): flatten, ReLU, dropout, 25088 -> 256, ReLU, BN, dropout,
256 -> 4 + K; the box is sigmoid * image size, in pixels. ResNet-34 at 224 with 20 classes: 27,714,136 parameters.

`LoadHead` (ours, what a user would pick today): class logits from the mean over the map, the box from a
convolution that keeps places, written as centre and size, so that a box can never be inverted; and a presence
logit where the data has images without an object.

Both stand on any convolutional classifier of torchvision, or on the stages of our compact detector with the weights
that it starts from (`fasterrcnn_tiny_fpn`, `starter`): then `compare` puts the heads side by side, not the bodies.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torchvision import models as zoo

from label_tools.text.errors import InputError
from toolkit.networks import first_weights
from toolkit.networks.compact import CompactFPN
from toolkit.networks.load_weights import read

DETECTOR_BODY = "fasterrcnn_tiny_fpn"


def feature_extractor(name: str, weights: str = "none") -> nn.Module:
    """torchvision's classifier `name` without its pooling and last layers, or the body of our compact detector:
    [B,3,S,S] -> [B,C,S/32,S/32].

    weights: "none", "imagenet" (from torchvision's cache or the internet, its hash checked), for the compact body
    "starter". Raises InputError as `check_backbone` does, and where there is no map of features at the end
    (transformers).
    """
    check_backbone(name, weights)
    if name == DETECTOR_BODY:
        return compact_body(weights)
    network = zoo.get_model(name, weights=None)
    if weights == "imagenet":
        enum = zoo.get_model_weights(name).DEFAULT
        network.load_state_dict(first_weights.fetch(enum, weights))
    if isinstance(network, zoo.ResNet):
        return nn.Sequential(*list(network.children())[:-2])
    if isinstance(getattr(network, "features", None), nn.Module):
        return network.features
    raise InputError(f"backbone {name}: ends in no map of features; needs a convolutional network such as resnet34")


def check_backbone(name: str, weights: str) -> None:
    """Refuse an unknown backbone, or weights that it cannot have."""
    if name == DETECTOR_BODY:
        if weights not in ("none", "starter"):
            raise InputError(f"--weights {weights}: backbone {name} takes none or starter")
    elif name not in zoo.list_models(module=zoo):
        raise InputError(
            f"backbone {name}: unknown to torchvision; needs one like resnet18 or mobilenet_v3_small, or "
            f"{DETECTOR_BODY}"
        )
    elif weights not in ("none", "imagenet"):
        raise InputError(
            f"--weights {weights}: backbone {name} takes none or imagenet; starter weights are for "
            f"--backbone {DETECTOR_BODY}"
        )


def ensure_weights(name: str, weights: str) -> None:
    """Fetch what is not in torchvision's cache yet, or raise InputError: before a run folder is made."""
    if weights == "imagenet":
        first_weights.fetch(zoo.get_model_weights(name).DEFAULT, weights)


def compact_body(weights: str = "none") -> nn.Module:
    """The five stages of `fasterrcnn_tiny_fpn` without its FPN, [B,3,S,S] -> [B,128,S/32,S/32]: what a baseline
    must stand on to be compared with that detector. weights: "none" or "starter", those that the detector starts from.
    """
    body = nn.Sequential(*CompactFPN().body)
    if weights == "starter":
        prefix = "backbone.body."
        state = {k.removeprefix(prefix): v for k, v in read(first_weights.STARTER).items() if k.startswith(prefix)}
        found = body.load_state_dict(state, strict=False)
        lost = [k for k in found.missing_keys if not k.endswith("num_batches_tracked")] + found.unexpected_keys
        assert not lost, f"{first_weights.STARTER}: {lost[0]} does not fit"
    return body


def map_size(features: nn.Module, image_size: int) -> tuple[int, int]:
    """(channels, side) of the map that `features` makes of a square picture."""
    was_training = features.training
    features.eval()
    with torch.inference_mode():
        shape = features(torch.zeros(1, 3, image_size, image_size)).shape
    features.train(was_training)
    if len(shape) != 4 or shape[2] != shape[3]:  # torchvision's swin gives [B,H,W,C]
        raise InputError(f"backbone: gives {list(shape)}, no [B,C,S,S]; needs a convolutional network such as resnet34")
    return int(shape[1]), int(shape[2])


class _Normalised(nn.Module):
    """Pictures in 0..1, moved to the mean and spread that torchvision's ImageNet weights were trained with."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225]).view(3, 1, 1), persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        return (images - self.mean) / self.std


class CustomHead(nn.Module):
    """images [B,3,S,S] in 0..1 -> [B,4+K]: box x1, y1, x2, y2 in pixels of S, then class logits."""

    def __init__(
        self, num_classes: int = 20, backbone: str = "resnet34", image_size: int = 224, weights: str = "none"
    ) -> None:
        super().__init__()
        self.image_size = image_size
        features = feature_extractor(backbone, weights)
        channels, side = map_size(features, image_size)
        self.features = nn.Sequential(_Normalised(), features)
        self.head = nn.Sequential(
            nn.Flatten(),
            nn.ReLU(),
            nn.Dropout(0.5),
            nn.Linear(channels * side * side, 256),
            nn.ReLU(),
            nn.BatchNorm1d(256),
            nn.Dropout(0.5),
            nn.Linear(256, 4 + num_classes),
        )

    def forward(self, images: Tensor) -> Tensor:
        out = self.head(self.features(images))
        return torch.cat((out[:, :4].sigmoid() * self.image_size, out[:, 4:]), 1)


class LoadHead(nn.Module):
    """images [B,3,S,S] in 0..1 -> (class logits [B,K], box [B,4] x1, y1, x2, y2 in 0..1, presence logit [B] or None).

    The box head starts at a centred box of half the width and height.
    """

    def __init__(
        self,
        num_classes: int,
        backbone: str = "resnet18",
        image_size: int = 224,
        presence: bool = False,
        weights: str = "none",
    ) -> None:
        super().__init__()
        features = feature_extractor(backbone, weights)
        channels, side = map_size(features, image_size)
        self.features = nn.Sequential(_Normalised(), features)
        self.class_head = nn.Sequential(
            nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2), nn.Linear(channels, num_classes + presence)
        )
        self.box_head = nn.Sequential(
            nn.Conv2d(channels, 64, 1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Flatten(),
            nn.Linear(64 * side * side, 256),
            nn.ReLU(inplace=True),
            nn.Linear(256, 4),
        )
        last: Any = self.box_head[-1]
        nn.init.normal_(last.weight, std=0.01)
        nn.init.zeros_(last.bias)
        self.presence = presence

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor | None]:
        features = self.features(images)
        logits = self.class_head(features)
        shares = self.box_head(features).sigmoid()
        centre, half = shares[:, :2], shares[:, 2:] / 2
        box = torch.cat((centre - half, centre + half), 1)
        return (logits[:, 1:], box, logits[:, 0]) if self.presence else (logits, box, None)
