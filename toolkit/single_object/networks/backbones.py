"""A torchvision backbone with a head for one object: the ResNet-34 of the VOC post, and LoadHead.

`CustomHead` (the post, whose head is fast.ai's): flatten, ReLU, dropout, 25088 -> 256, ReLU, BN, dropout,
256 -> 4 + K; the box is sigmoid * image size, in pixels. ResNet-34 at 224 with 20 classes: 27,714,136 parameters.

`LoadHead` (ours, what a user would pick today): class logits from the mean over the map, the box from a
convolution that keeps places, written as centre and size, so that a box can never be inverted; and a presence
logit where the data has images without an object.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from label_tools.errors import InputError


def feature_extractor(name: str, weights: str = "none") -> nn.Module:
    """torchvision's classifier `name` without its pooling and last layers: [B,3,S,S] -> [B,C,S/32,S/32].

    weights: "none" or "imagenet" (from torchvision's cache or the network, its hash checked).
    Raises InputError for a network that is unknown, or that has no map of features at its end (transformers).
    """
    from torchvision import models as zoo

    from toolkit.networks.first_weights import fetch

    known = zoo.list_models(module=zoo)
    if name not in known:
        raise InputError(f"backbone {name}: unknown to torchvision; needs one like resnet18 or mobilenet_v3_small")
    if weights not in ("none", "imagenet"):
        raise InputError(f"--weights {weights}: a baseline's backbone takes none or imagenet")
    network = zoo.get_model(name, weights=None)
    if weights == "imagenet":
        enum = zoo.get_model_weights(name).DEFAULT
        network.load_state_dict(fetch(enum, weights))
    if isinstance(network, zoo.ResNet):
        return nn.Sequential(*list(network.children())[:-2])
    if isinstance(getattr(network, "features", None), nn.Module):
        return network.features
    raise InputError(f"backbone {name}: ends in no map of features; needs a convolutional network such as resnet34")


def map_size(features: nn.Module, image_size: int) -> tuple[int, int]:
    """(channels, side) of the map that `features` makes of a square picture."""
    was_training = features.training
    features.eval()
    with torch.inference_mode():
        shape = features(torch.zeros(1, 3, image_size, image_size)).shape
    features.train(was_training)
    return int(shape[1]), int(shape[2])


class _Normalised(nn.Module):
    """Pictures in 0..1, moved to the mean and spread that torchvision's ImageNet weights were taught with."""

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
