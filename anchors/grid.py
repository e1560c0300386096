"""Anchors: the same few boxes at every cell of the feature map.

    size = sqrt(area) in pixels        ratio = height / width

    w = size / sqrt(ratio)        h = size * sqrt(ratio)        so w * h = size^2 and h / w = ratio

    centre of cell (i, j):        x = (j + offset) * stride        y = (i + offset) * stride
                                  i counts rows from the top, j columns from the left

Worked example: 800 x 800 pixels at stride 16 are 50 x 50 cells. Sizes 128, 256, 512 and ratios 1/2, 1, 2 are 9 anchors
a cell: 50 * 50 * 9 = 22,500 anchors, of which 8,940 lie inside the image. (Not 16 * 16 * 9 = 2,304: 16 is the stride.)

Limits: ratio 1 is a square; a ratio and its inverse swap width and height. offset 0.5 is the middle of the cell, 0 its
corner.

Order: rows of the output run over (y, x, anchor): x faster than y, the anchor fastest; within a cell the ratio is slow
and the size fast. A network's output permuted to (H, W, A) has this order. A loop over x outside and y inside
transposes targets against predictions, and a square image does not show it.

Place: Faster R-CNN 3.1.1 and 3.3.

Where others differ: torchvision puts the centres at the cells' corners (offset 0) and rounds half the sides to whole
pixels: 9,321 inside. The paper's code counts pixels (+1) from a 16 x 16 base box and needs x2 < W: 9,132 inside. All
three are right for their own boxes; the count tells which boxes they are.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_number, check_pair


def _positive(values: Sequence[float], name: str) -> list[float]:
    values = list(values) if isinstance(values, Sequence) else [values]
    for value in values:
        check_number(value, name)
        if value == 0:
            raise ValueError(f"{name}: found {values!r}, needed positive numbers")
    return values


def generate_cell_anchors(
    sizes: Sequence[float],
    aspect_ratios: Sequence[float],
    *,
    rounded: bool = False,
    dtype=torch.float32,
) -> Tensor:
    """Anchors [A,4] XYXY centred on (0, 0), A = ratios x sizes, ratio slow and size fast. Sizes in pixels.

    rounded: half sides rounded to whole pixels, as torchvision does. (Faster R-CNN 3.1.1)
    """
    sides = torch.tensor(_positive(sizes, "sizes"), dtype=dtype)
    root = torch.tensor(_positive(aspect_ratios, "aspect_ratios"), dtype=dtype).sqrt()
    w = ((1 / root)[:, None] * sides).flatten()
    h = (root[:, None] * sides).flatten()
    cell_anchors = torch.stack((-w, -h, w, h), dim=1) / 2
    return cell_anchors.round() if rounded else cell_anchors


def legacy_cell_anchors(
    scales: Sequence[float],
    aspect_ratios: Sequence[float],
    *,
    base_size: int,
) -> Tensor:
    """The paper's own anchors [A,4], in pixel indices (width = x2 - x1 + 1) around the first base_size cell.

    Sides are rounded before they are scaled, so a 1:2 anchor of 128 is 184 x 96. For grid_anchors with
    offset 0.
    """
    check_count(base_size, "base_size", low=1)
    factors = torch.tensor(_positive(scales, "scales"), dtype=torch.float32)
    ratios = torch.tensor(_positive(aspect_ratios, "aspect_ratios"), dtype=torch.float32)
    base_w = (base_size**2 / ratios).sqrt().round()
    base_h = (base_w * ratios).round()
    w, h = ((side[:, None] * factors).flatten() for side in (base_w, base_h))
    centre = (base_size - 1) / 2
    return torch.stack((-(w - 1), -(h - 1), w - 1, h - 1), dim=1) / 2 + centre


def grid_anchors(
    cell_anchors: Tensor,
    grid_size: tuple[int, int],
    stride: float | tuple[float, float],
    *,
    offset: float = 0.5,
) -> Tensor:
    """Cell anchors [A,4] at every cell of a grid of (height, width) cells -> [H*W*A,4], order (y, x, anchor).

    stride in pixels, one number or (down, right). offset: 0.5 the cell's middle, 0 its corner (torchvision).
    """
    check_boxes(cell_anchors, "cell_anchors", order="strict")
    height, width = check_pair(grid_size, "grid_size", low=0)
    down, right = check_pair(stride, "stride", low=1e-9)
    check_number(offset, "offset", 0, 1)
    y = (torch.arange(height, device=cell_anchors.device, dtype=cell_anchors.dtype) + offset) * down
    x = (torch.arange(width, device=cell_anchors.device, dtype=cell_anchors.dtype) + offset) * right
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack((x, y, x, y), dim=-1)
    return (centres[:, :, None, :] + cell_anchors).reshape(-1, 4)


def inside_image(
    boxes: Tensor, image_size: tuple[int, int], *, border: float = 0.0, last_pixel: bool = False
) -> Tensor:
    """True [N] for boxes [N,4] that cross the edge of a (height, width) image by at most `border` pixels.

    Only such anchors train the RPN (Faster R-CNN 3.3); torchvision trains on all of them.
    last_pixel: x2 and y2 are pixel indices and must stay below W and H, as in the paper's code.
    """
    check_boxes(boxes, "boxes")
    height, width = check_pair(image_size, "image_size")
    check_number(border, "border")
    x1, y1, x2, y2 = boxes.unbind(1)
    inside = (x1 >= -border) & (y1 >= -border)
    if last_pixel:
        return inside & (x2 < width + border) & (y2 < height + border)
    return inside & (x2 <= width + border) & (y2 <= height + border)


__test__ = {
    "tiny numbers": """
    >>> generate_cell_anchors([128], [0.5, 1, 2])
    tensor([[-90.5097, -45.2548,  90.5097,  45.2548],
            [-64.0000, -64.0000,  64.0000,  64.0000],
            [-45.2548, -90.5097,  45.2548,  90.5097]])

    One 4 x 4 anchor on a grid of 1 row and 2 columns, stride 8: centres (4, 4) and (12, 4).

    >>> grid_anchors(generate_cell_anchors([4], [1]), (1, 2), 8)
    tensor([[ 2.,  2.,  6.,  6.],
            [10.,  2., 14.,  6.]])
    >>> anchors = grid_anchors(generate_cell_anchors([128, 256, 512], [0.5, 1, 2]), (50, 50), 16)
    >>> len(anchors), int(inside_image(anchors, (800, 800)).sum())
    (22500, 8940)
    """
}
