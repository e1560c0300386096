"""LOADnet2 of the lecture on object detection and localisation (Kak and Bouman, Purdue, March 2021).

    32x32 -> conv 64, pool -> 16x16 -+-> class: skip blocks of 64, half, 128, half -> 4x4x128 = 2048 -> 1000 -> 5
                                     +-> box:   conv 64, BN, conv 64 -> 16x16x64 = 16384 -> 1024 -> 512 -> 4

Two things differ from a ResNet: a skip block applies ONE convolution and ONE norm twice, and where it halves
the map the same 1x1 convolution shrinks block and identity. Depth 8: 20,454,521 parameters.

One norm twice has a price that the document does not mention. Its running mean and variance become an average over
two very different inputs and fit neither, so that in eval mode the class is a guess; with the batch's own
statistics it is not. Here each of the two uses keeps statistics of its own. Weights and parameters stay shared.

The network is fed with grey values 0..255 as they are, and gives the box in pixels, [x_min, y_min, x_max, y_max]
of the pixels that it covers.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from label_tools.text.errors import InputError

DEPTHS = (8, 10, 12, 14, 16)


class SkipBlock(nn.Module):
    """conv, BN, ReLU, and the same three once more when the width stays; then + x, which a wider block adds to
    both halves of its channels. [B,C,H,W] -> [B,out,H,W], or half of H and W with `downsample`."""

    def __init__(self, channels: int, out: int, downsample: bool = False, skip_connections: bool = True) -> None:
        super().__init__()
        self.widens, self.skip_connections = out != channels, skip_connections
        self.conv = nn.Conv2d(channels, out, 3, padding=1)
        self.norm = nn.BatchNorm2d(out)
        self.second = None if self.widens else nn.BatchNorm2d(out, affine=False)  # statistics of the second use
        self.shrink = nn.Conv2d(channels, out, 1, stride=2) if downsample else None

    def forward(self, x: Tensor) -> Tensor:
        out = functional.relu(self.norm(self.conv(x)))
        if self.second is not None:
            weight, bias = self.norm.weight, self.norm.bias
            out = self.second(self.conv(out)) * weight[:, None, None] + bias[:, None, None]
            out = functional.relu(out)
        if self.shrink is not None:
            out, x = self.shrink(out), self.shrink(x)
        if not self.skip_connections:
            return out
        return out + (torch.cat((x, x), 1) if self.widens else x)


class LOADnet2(nn.Module):
    """images [B,3,32,32] in 0..255 -> (class logits [B,num_classes], box [B,4] in pixels)."""

    def __init__(self, num_classes: int = 5, depth: int = 8, skip_connections: bool = True) -> None:
        super().__init__()
        if depth not in DEPTHS:
            raise InputError(f"loadnet2: depth {depth}, needs one of {', '.join(map(str, DEPTHS))}")
        blocks = depth // 2  # as the document counts: 8 makes 4 blocks of each width
        before = blocks // 4  # so many stand before the map is halved, the others after

        def row(channels: int, number: int) -> list[nn.Module]:
            return [SkipBlock(channels, channels, skip_connections=skip_connections) for _ in range(number)]

        def half(channels: int) -> nn.Module:
            return SkipBlock(channels, channels, downsample=True, skip_connections=skip_connections)

        self.stem = nn.Sequential(nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(inplace=True), nn.MaxPool2d(2))
        self.class_trunk = nn.Sequential(
            *row(64, before),
            half(64),
            *row(64, blocks - before),
            nn.BatchNorm2d(64),
            SkipBlock(64, 128, skip_connections=skip_connections),
            *row(128, before),
            nn.BatchNorm2d(128),
            half(128),
            *row(128, blocks - before),
        )
        self.class_head = nn.Sequential(
            nn.Flatten(), nn.Linear(2048, 1000), nn.ReLU(inplace=True), nn.Linear(1000, num_classes)
        )
        self.box_trunk = nn.Sequential(
            nn.Conv2d(64, 64, 3, padding=1),
            nn.BatchNorm2d(64),
            nn.ReLU(inplace=True),
            nn.Conv2d(64, 64, 3, padding=1),
            nn.ReLU(inplace=True),
        )
        self.box_head = nn.Sequential(
            nn.Flatten(),
            nn.Linear(16384, 1024),
            nn.ReLU(inplace=True),
            nn.Linear(1024, 512),
            nn.ReLU(inplace=True),
            nn.Linear(512, 4),
        )

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        x = self.stem(images)
        return self.class_head(self.class_trunk(x)), self.box_head(self.box_trunk(x))
