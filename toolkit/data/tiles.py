"""Cutting a picture into tiles: the same for prediction, evaluation and training.

Tiles are squares of one size with an overlap; where a picture does not divide evenly they overlap more, so that every
tile is full. A picture that is no larger than a tile in a direction is not cut in it. With an overlap of the largest
object, every object lies whole in some tile.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from label_tools.text.errors import InputError

SMALLEST, LARGEST_OVERLAP = 32, 0.5  # pixels; of a tile's side: more would double the work for rare giants
Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the picture


@dataclass(frozen=True)
class Tiles:
    """size, overlap: of square tiles, pixels of the picture."""

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < SMALLEST or not 0 <= self.overlap < self.size:
            raise InputError(
                f"--tiles: found {self.size} px with an overlap of {self.overlap}, needs {SMALLEST} px or more and "
                f"an overlap under the size"
            )

    def __str__(self) -> str:
        return f"tiles of {self.size} px, overlap {self.overlap}"

    def windows(self, width: int, height: int) -> list[Window]:
        """The tiles of a picture, row by row."""
        return [
            (x, y, min(x + self.size, width), min(y + self.size, height))
            for y in self.starts(height)
            for x in self.starts(width)
        ]

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along one side, as few as cover it, evenly apart."""
        if length <= self.size:
            return [0]
        number = math.ceil((length - self.overlap) / (self.size - self.overlap))
        return [round(place) for place in np.linspace(0, length - self.size, number)]


@dataclass(frozen=True)
class Cut:
    """The tiles that the N rows of an `Index` are. windows [N,4] int32 XYXY pixels of their pictures; picture_ids [N]
    and sizes [N,2] int32 (height, width) of these."""

    tiles: Tiles
    windows: np.ndarray
    picture_ids: np.ndarray
    sizes: np.ndarray


def overlap_for(largest: float, size: int) -> int:
    """The overlap of tiles of this size for objects up to `largest` pixels, at most half of the tile."""
    return min(math.ceil(largest), int(LARGEST_OVERLAP * size))


def largest_side(boxes: np.ndarray) -> float:
    """The longer side that all but one of a hundred boxes [N,4] XYXY stay under; 0 without boxes."""
    return float(np.quantile((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 0.99)) if len(boxes) else 0.0
