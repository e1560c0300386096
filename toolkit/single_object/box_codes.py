"""Boxes in pixels <-> the four numbers that a network predicts. Each document chose its own.

pixels      x1, y1, x2, y2 in pixels, half-open                                     (ResNet-34 post)
inclusive   the same with x2 - 1 and y2 - 1: the last pixel that is covered         (LOADnet2)
corners     x1, y1, x2, y2 as shares of width and height                            (HW5Net, LoadHead)
centre      centre x, centre y, width, height as shares                             (digit networks)
"""

from __future__ import annotations

import torch
from torch import Tensor

CODES = ("pixels", "inclusive", "corners", "centre")


def encode(boxes: Tensor, code: str, size: tuple[int, int]) -> Tensor:
    """[N,4] XYXY half-open pixels of an image of `size` (height, width) -> [N,4] in `code`."""
    if code == "pixels":
        return boxes
    if code == "inclusive":
        return boxes - boxes.new_tensor([0, 0, 1, 1])
    shares = boxes / _edges(boxes, size)
    if code == "corners":
        return shares
    if code == "centre":
        return torch.cat(((shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]), 1)
    raise ValueError(f"code {code!r}, needs one of {', '.join(CODES)}")


def decode(values: Tensor, code: str, size: tuple[int, int]) -> Tensor:
    """Inverse of `encode`. What a network says may be inverted or lie outside: nothing is corrected here."""
    if code == "pixels":
        return values
    if code == "inclusive":
        return values + values.new_tensor([0, 0, 1, 1])
    if code == "centre":
        half = values[:, 2:] / 2
        values = torch.cat((values[:, :2] - half, values[:, :2] + half), 1)
    elif code != "corners":
        raise ValueError(f"code {code!r}, needs one of {', '.join(CODES)}")
    return values * _edges(values, size)


def usable(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [N,4] clipped into the image; an inverted or non-finite one loses its area (IoU 0 with everything)."""
    corners = boxes.nan_to_num(nan=0.0).clamp(min=0).minimum(_edges(boxes, size))
    return torch.cat((corners[:, :2], torch.maximum(corners[:, :2], corners[:, 2:])), 1)


def inverted(boxes: Tensor) -> Tensor:
    """[N] bool: width or height is zero, negative, or no number."""
    return ~(boxes[:, 2:] > boxes[:, :2]).all(1)


def _edges(like: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return like.new_tensor([width, height, width, height])
