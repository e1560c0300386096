"""Boxes: area, overlap, clipping, formats.

A box is XYXY: (x1, y1) is its top left corner, (x2, y2) its bottom right one, in pixels of the image. It is half-open:

    width = x2 - x1        height = y2 - y1        area = width * height

    IoU(a, b) = inter / union

    inter  = width * height of the overlap, where
             overlap width  = max(0, min(a.x2, b.x2) - max(a.x1, b.x1))
             overlap height = max(0, min(a.y2, b.y2) - max(a.y1, b.y1))
    union  = area(a) + area(b) - inter

Limits: IoU is 1 only for equal boxes and 0 for boxes that merely touch. Moving or scaling both boxes together does not
change it. Two boxes without area give 0/0: here 0, in torchvision NaN (argument `empty`).

Place: IoU decides which anchor is an object (Faster R-CNN 3.1.2), which box suppresses which (3.3), which proposal
trains which class (Fast R-CNN 2.3) and which detections are correct.

Where others differ: the code of the papers counts pixels, width = x2 - x1 + 1. If a box comes from a mask's pixel
indices, add 1 to x2 and y2 once; then nothing else needs a +1. Coordinates in 0..1 with a +1 make boxes overlap that do
not touch: an IoU of 0.07 between disjoint boxes.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_number, check_pair, check_tensor

FORMATS = ("xyxy", "xywh", "cxcywh")


def upcast(boxes: Tensor) -> Tensor:
    """Half precision -> float32, integers -> int64: smaller types overflow in a product of sides."""
    if boxes.is_floating_point():
        return boxes if boxes.dtype in (torch.float32, torch.float64) else boxes.float()
    return boxes.long()


def box_area(boxes: Tensor, name: str = "boxes") -> Tensor:
    """Areas [N] of boxes [N,4] XYXY. Inverted boxes: ValueError that names the argument `name`."""
    boxes = upcast(check_boxes(boxes, name, order="weak", integers=True))
    return (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])


def pairwise_iou(a: Tensor, b: Tensor, area_a: Tensor, area_b: Tensor) -> Tensor:
    """The formula alone, unchecked: [N,4], [M,4] and their areas -> [N,M]; 0/0 is NaN."""
    inter = torch.minimum(a[:, None, 2], b[:, 2]).sub_(torch.maximum(a[:, None, 0], b[:, 0])).clamp_(min=0)
    inter *= torch.minimum(a[:, None, 3], b[:, 3]).sub_(torch.maximum(a[:, None, 1], b[:, 1])).clamp_(min=0)
    return inter / (area_a[:, None] + area_b - inter)


def box_iou(a: Tensor, b: Tensor, *, empty: float = 0.0) -> Tensor:
    """IoU of a [N,4] with b [M,4] -> [N,M]. XYXY, same unit. `empty` is the answer to 0/0 (torchvision: NaN).

    Integer boxes are allowed; inverted boxes, NaN or another shape raise ValueError. (Faster R-CNN 3.1.2)
    """
    area_a, area_b = box_area(a, "a"), box_area(b, "b")
    a, b = upcast(a), upcast(b)
    if a.dtype != b.dtype:
        both = torch.promote_types(a.dtype, b.dtype)
        a, b, area_a, area_b = a.to(both), b.to(both), area_a.to(both), area_b.to(both)
    return pairwise_iou(a, b, area_a, area_b).nan_to_num(nan=empty)


def clip_boxes(boxes: Tensor, image_size: tuple[int, int], *, last_pixel: bool = False) -> Tensor:
    """Boxes [N,4] moved into an image of (height, width): x into [0, W], y into [0, H].

    last_pixel: [0, W-1] and [0, H-1], as the papers' code does, whose coordinates are pixel indices.
    """
    boxes = check_boxes(boxes, "boxes", integers=True)
    height, width = check_pair(image_size, "image_size")
    bounds = boxes.new_tensor([width, height, width, height]) - int(last_pixel)
    return boxes.clamp(min=0).minimum(bounds)


def remove_small_boxes(boxes: Tensor, min_size: float) -> Tensor:
    """Indices [K] int64 of the boxes [N,4] whose width and height are both at least min_size pixels.

    Inverted boxes are removed, too. (Faster R-CNN's code: 16 pixels; torchvision: 0.001)
    """
    boxes = check_boxes(boxes, "boxes", integers=True)
    check_number(min_size, "min_size")
    sides = boxes[:, 2:] - boxes[:, :2]
    return (sides >= min_size).all(1).nonzero().squeeze(1)


def box_convert(boxes: Tensor, in_format: str, out_format: str) -> Tensor:
    """Boxes [N,4] from one of "xyxy", "xywh" (top left, size), "cxcywh" (centre, size) to another."""
    boxes = check_tensor(boxes, "boxes", ("N", 4))
    for name, value in (("in_format", in_format), ("out_format", out_format)):
        if value not in FORMATS:
            raise ValueError(f"{name}: found {value!r}, needed one of {', '.join(FORMATS)}")
    if in_format == out_format:
        return boxes.clone()
    first, second, third, fourth = boxes.unbind(1)
    if in_format == "xywh":
        corners = (first, second, first + third, second + fourth)
    elif in_format == "cxcywh":
        corners = (first - 0.5 * third, second - 0.5 * fourth, first + 0.5 * third, second + 0.5 * fourth)
    else:
        corners = (first, second, third, fourth)
    x1, y1, x2, y2 = corners
    if out_format == "xywh":
        corners = (x1, y1, x2 - x1, y2 - y1)
    elif out_format == "cxcywh":
        corners = ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1)
    return torch.stack(corners, dim=1)


__test__ = {
    "tiny numbers": """
    >>> a = torch.tensor([[0.0, 0.0, 2.0, 2.0]])
    >>> b = torch.tensor([[1.0, 1.0, 3.0, 3.0], [0.0, 0.0, 2.0, 2.0], [2.0, 0.0, 4.0, 2.0]])
    >>> box_area(b)
    tensor([4., 4., 4.])

    Areas 4 and 4 share one pixel: 1 / (4 + 4 - 1) = 1/7. Equal: 1. Touching along an edge: 0.

    >>> box_iou(a, b)
    tensor([[0.1429, 1.0000, 0.0000]])
    >>> clip_boxes(torch.tensor([[-3.0, 5.0, 120.0, 90.0]]), (80, 100))
    tensor([[  0.,   5., 100.,  80.]])
    >>> box_convert(torch.tensor([[10.0, 20.0, 30.0, 60.0]]), "xyxy", "cxcywh")
    tensor([[20., 40., 20., 40.]])
    """
}
