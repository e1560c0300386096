"""HW5Net (Sahin, ECE 60146 Homework 5, March 2023): one dominant object in 256 x 256 pixels.

    reflection pad 3, conv7 3->8, BN, ReLU -> 4 times (conv3 stride 2, BN; no ReLU): 16, 32, 64, 128 channels
    -> 5 residual blocks of 128 -> 16x16x128 = 32768 -+-> class 1024, 64, K
                                                      +-> box 5196, 1024, 256, 64, 4    (x1, y1, x2, y2 in 0..1)

211,083,307 parameters with three classes, of which the box head's first layer alone holds 170 million.
`HW5NetLight` keeps the trunk and pools before the heads.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

WIDTH, BLOCKS = 8, 5
CHANNELS = 16 * WIDTH  # after the trunk, on a map of a sixteenth of the side


class Block(nn.Module):
    """relu(conv BN relu conv BN (x) + x); with `learnable_residual` + BN conv (x). [B,C,H,W] -> the same."""

    def __init__(self, channels: int, learnable_residual: bool = False) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(inplace=True),
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
        )
        self.residual = (
            nn.Sequential(nn.Conv2d(channels, channels, 3, padding=1), nn.BatchNorm2d(channels))
            if learnable_residual
            else nn.Identity()
        )

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + self.residual(x))


def trunk(learnable_residual: bool) -> nn.Sequential:
    """[B,3,S,S] -> [B,128,S/16,S/16]."""
    layers: list[nn.Module] = [nn.ReflectionPad2d(3), nn.Conv2d(3, WIDTH, 7), nn.BatchNorm2d(WIDTH), nn.ReLU(True)]
    for level in range(4):
        channels = WIDTH * 2**level
        layers += [nn.Conv2d(channels, channels * 2, 3, stride=2, padding=1), nn.BatchNorm2d(channels * 2)]
    return nn.Sequential(*layers, *(Block(CHANNELS, learnable_residual) for _ in range(BLOCKS)))


def head(sizes: Sequence[int]) -> nn.Sequential:
    """Linear layers of these sizes, BatchNorm and ReLU between them."""
    layers: list[nn.Module] = []
    for before, after in pairwise(sizes[:-1]):
        layers += [nn.Linear(before, after), nn.BatchNorm1d(after), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Linear(sizes[-2], sizes[-1]))


class HW5Net(nn.Module):
    """images [B,3,256,256] in 0..1 -> (class logits [B,num_classes], box [B,4] as shares of width and height)."""

    def __init__(self, num_classes: int = 3, learnable_residual: bool = False) -> None:
        super().__init__()
        features = CHANNELS * 16 * 16
        self.trunk = trunk(learnable_residual)
        self.class_head = head([features, 1024, 64, num_classes])
        self.box_head = head([features, 5196, 1024, 256, 64, 4])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images).flatten(1)
        return self.class_head(features), self.box_head(features)


class HW5NetLight(nn.Module):
    """The same trunk; the class from the mean over the whole map, the box from the means of 4 x 4 parts of it,
    because one mean over everything no longer knows where something was. 2.1 million parameters, any image size
    divisible by 64."""

    def __init__(self, num_classes: int = 3, learnable_residual: bool = False) -> None:
        super().__init__()
        self.trunk = trunk(learnable_residual)
        self.class_head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), *head([CHANNELS, 64, num_classes]))
        self.box_head = nn.Sequential(nn.AdaptiveAvgPool2d(4), nn.Flatten(), *head([CHANNELS * 16, 256, 64, 4]))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.trunk(images)
        return self.class_head(features), self.box_head(features)
