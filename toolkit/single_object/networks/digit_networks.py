"""The networks of the digit assignment (Vega and Alonso, Deep Learning - Assignment 2): three that localise one digit,
three grid detectors, a small YOLO each.

images [B,1,48,60] in 0..1 -> [B,15]: presence logit, box (cx, cy, w, h as shares of the image), 10 class logits.

    CNNModel1      697,935   conv16 pool conv32 pool, 5760 -> 120 -> 15
    CNNModel2    5,883,791   conv 64, 128, 256 with BN and pool, 10752 -> 512 -> dropout -> 15
    CNNModel3   12,233,711   conv32 BN, three residual blocks of stride 2, mean over 6 x 7, 10752 -> 1024 -> 15

The grid detectors -> [B,2,3,7], a row of seven for each of 2 x 3 cells: presence logit, x and y of the centre within
the cell (0..1), w and h as shares of the image, and two numbers for the digits 0 and 1, of which only the first is ever
trained (see `grid_cells`).

    Grid1      73,479     Grid2     522,183     Grid3   1,579,271
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CELL_OUTPUTS = 7


def outputs(num_classes: int) -> int:
    return 1 + 4 + num_classes


class CNNModel1(nn.Sequential):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            *_conv(1, 16, 3, pool=True),
            *_conv(16, 32, 3, pool=True),
            nn.Flatten(),
            nn.Linear(32 * 12 * 15, 120),
            nn.ReLU(inplace=True),
            nn.Linear(120, outputs(num_classes)),
        )


class CNNModel2(nn.Sequential):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            *_conv(1, 64, 3, norm=True, pool=True),
            *_conv(64, 128, 3, norm=True, pool=True),
            *_conv(128, 256, 3, norm=True, pool=True),  # 48 x 60 -> 6 x 7: the last column of 15 is dropped
            nn.Flatten(),
            nn.Linear(256 * 6 * 7, 512),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(512, outputs(num_classes)),
        )


class CNNModel3(nn.Sequential):
    def __init__(self, num_classes: int = 10) -> None:
        super().__init__(
            nn.Conv2d(1, 32, 3, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(inplace=True),
            ResidualBlock(32, 64, 2),
            ResidualBlock(64, 128, 2),
            ResidualBlock(128, 256, 2),
            nn.AdaptiveAvgPool2d((6, 7)),
            nn.Flatten(),
            nn.Linear(256 * 6 * 7, 1024),
            nn.ReLU(inplace=True),
            nn.Dropout(0.5),
            nn.Linear(1024, outputs(num_classes)),
        )


class ResidualBlock(nn.Module):
    """relu(conv BN relu conv BN (x) + x), x through a 1x1 convolution where the shape changes. (He 2015)"""

    def __init__(self, channels: int, out: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Sequential(
            nn.Conv2d(channels, out, 3, stride=stride, padding=1, bias=False),
            nn.BatchNorm2d(out),
            nn.ReLU(inplace=True),
            nn.Conv2d(out, out, 3, padding=1, bias=False),
            nn.BatchNorm2d(out),
        )
        self.shortcut: nn.Module = nn.Identity()
        if stride != 1 or channels != out:
            self.shortcut = nn.Sequential(nn.Conv2d(channels, out, 1, stride=stride, bias=False), nn.BatchNorm2d(out))

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.conv(x) + self.shortcut(x))


class _CellsLast(nn.Sequential):
    """[B,7,2,3] of the last convolution -> [B,2,3,7]."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images).permute(0, 2, 3, 1)


class Grid1(_CellsLast):
    def __init__(self) -> None:
        super().__init__(
            *_conv(1, 16, 3, pool=True),
            *_conv(16, 32, 3, pool=True),
            *_conv(32, 64, 3, pool=True),
            nn.Conv2d(64, 128, (3, 2), stride=3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(128, CELL_OUTPUTS, 1),
        )


class Grid2(_CellsLast):
    def __init__(self) -> None:
        super().__init__(
            *_conv(1, 32, 5, norm=True, pool=True),
            *_conv(32, 64, 5, norm=True, pool=True),
            *_conv(64, 128, 3, norm=True, pool=True),
            nn.Conv2d(128, 256, (4, 3), stride=3, padding=1),
            nn.BatchNorm2d(256),
            nn.ReLU(inplace=True),
            nn.Conv2d(256, CELL_OUTPUTS, 1),
        )


class Grid3(_CellsLast):
    def __init__(self) -> None:
        super().__init__(
            *_conv(1, 16, 7, stride=2, norm=True),
            *_conv(16, 64, 5, pool=True),
            *_conv(64, 128, 3, pool=True),
            *_conv(128, 256, 3, pool=True),
            nn.Conv2d(256, 512, 3, stride=(2, 1), padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(512, CELL_OUTPUTS, 1),
        )


def _conv(channels: int, out: int, size: int, stride: int = 1, norm: bool = False, pool: bool = False) -> list:
    layers: list[nn.Module] = [nn.Conv2d(channels, out, size, stride=stride, padding=size // 2)]
    layers += [nn.BatchNorm2d(out)] if norm else []
    return [*layers, nn.ReLU(inplace=True), *([nn.MaxPool2d(2)] if pool else [])]
