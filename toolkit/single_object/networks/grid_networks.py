"""The three grid detectors of the digit assignment (Vega and Alonso), a small YOLO each.

images [B,1,48,60] in 0..1 -> [B,2,3,7], a row of seven for each of 2 x 3 cells: presence logit, x and y of the
centre within the cell (0..1), w and h as shares of the image, and two numbers for the digits 0 and 1, of which
only the first is ever trained (see `grid`).

    Grid1      73,479     Grid2     522,183     Grid3   1,579,271
"""

from __future__ import annotations

from torch import Tensor, nn

CELL_OUTPUTS = 7


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
