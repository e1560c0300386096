"""Exercises on anchors: nine at a cell, all over the grid, and which of them lie inside."""

from __future__ import annotations

import torch

from anchors import grid
from anchors.exercises.task import Mistake, Task, boxes_of, draw_boxes


def cell_variant(
    sizes, aspect_ratios, *, inverted=False, root=True, size_slow=False, rounded=False, plus=0.0, corner=False
):
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(aspect_ratios, dtype=torch.float32)[:, None]
    factor = ratio.sqrt() if root else ratio
    if inverted:
        factor = 1 / factor
    w, h = size / (factor if root else torch.ones_like(ratio)), size * factor
    if size_slow:
        w, h = w.T, h.T
    w, h = w.flatten() - plus, h.flatten() - plus
    if corner:
        return torch.stack((0 * w, 0 * h, w, h), dim=1)
    cell = torch.stack((-w, -h, w, h), dim=1) / 2
    return cell.round() if rounded else cell


CELL = Task(
    name="cell_anchors",
    function="generate_cell_anchors",
    lesson="anchors/grid.py",
    oracle=grid.generate_cell_anchors,
    variant=cell_variant,
    edges={
        "one square": ([16], [1]),
        "one tall anchor": ([10], [4]),
        "two sizes, two ratios": ([8, 16], [0.25, 4]),
        "three sizes, three ratios": ([128, 256, 512], [0.5, 1, 2]),
    },
    draw=lambda rng, size: (
        sorted(rng.sample(range(1, 65), 1 + size // 3)),
        sorted(rng.sample([0.25, 0.5, 1, 2, 3, 4], 1 + size // 4)),
    ),
    mistakes={
        "swapped ratio": Mistake(
            "the ratio is taken as width / height. Here, in torchvision and in the paper's code it is height / width.",
            inverted=True,
        ),
        "size-major order": Mistake(
            "the size is the slow index. Ratio slow, size fast: row r * len(sizes) + s.", size_slow=True
        ),
        "ratio and size-order both swapped": Mistake(
            "the ratio is width / height and the size is the slow index.", size_slow=True, inverted=True
        ),
        "no square root": Mistake(
            "w = size, h = size * ratio changes the area: w = size / sqrt(ratio), h = size * sqrt(ratio).", root=False
        ),
        "rounded half sides": Mistake(
            "that is torchvision's choice (and why 9,321 of its anchors are inside); needed are real numbers.",
            rounded=True,
        ),
        "hidden +1": Mistake(
            "x2 - x1 is one less than the width: corners of pixel indices, as in the paper's code.", plus=1.0
        ),
        "not centred": Mistake("the box starts at (0, 0): it is centred there.", corner=True),
    },
)


def grid_variant(cell_anchors, grid_size, stride, *, x_outer=False, offset=0.5, swapped=False, anchor_slow=False):
    height, width = grid_size[::-1] if swapped else grid_size
    y = (torch.arange(height) + offset) * stride
    x = (torch.arange(width) + offset) * stride
    y, x = torch.meshgrid(y, x, indexing="ij")
    centres = torch.stack((x, y, x, y), dim=2)
    boxes = (centres.transpose(0, 1) if x_outer else centres).reshape(-1, 1, 4) + cell_anchors
    return (boxes.transpose(0, 1) if anchor_slow else boxes).reshape(-1, 4)


ONE, TWO = boxes_of([-2, -2, 2, 2]), boxes_of([-2, -1, 2, 1], [-1, -2, 1, 2])
GRID = Task(
    name="grid",
    function="grid_anchors",
    lesson="anchors/grid.py",
    oracle=grid.grid_anchors,
    variant=grid_variant,
    edges={
        "one cell": (ONE, (1, 1), 16),
        "one row of two cells": (ONE, (1, 2), 8),
        "two rows of one cell": (ONE, (2, 1), 8),
        "two by two, two anchors": (TWO, (2, 2), 4),
        "no cell": (ONE, (0, 3), 8),
    },
    draw=lambda rng, size: (
        draw_boxes(rng, 1 + size // 3) - 8,
        (rng.randint(1, 1 + size // 2), rng.randint(1, 1 + size // 2)),
        rng.choice([4, 8, 16]),
    ),
    mistakes={
        "x-outer order": Mistake(
            "x is the outer loop, so the anchors run down the columns. The network's output, permuted to (H, W, A), "
            "runs along the rows: targets and predictions are transposed, and no square image shows it.",
            x_outer=True,
        ),
        "centres at the cells' corners": Mistake(
            "the offset is 0, as in torchvision; here a centre is (index + 1/2) * stride.", offset=0.0
        ),
        "x-outer order, centres at the corners": Mistake(
            "x is the outer loop and the offset is 0.", x_outer=True, offset=0.0
        ),
        "height and width swapped": Mistake("grid_size is (height, width).", swapped=True),
        "anchor slowest": Mistake(
            "all cells of the first anchor come first: the order is (y, x, anchor), the anchor fastest.",
            anchor_slow=True,
        ),
    },
)


def inside_variant(boxes, image_size, *, strict=False, swapped=False, far_only=False, near_only=False, last=0):
    height, width = image_size[::-1] if swapped else image_size
    width, height = width - last, height - last
    x1, y1, x2, y2 = boxes.unbind(1)
    if strict:
        return (x1 > 0) & (y1 > 0) & (x2 < width) & (y2 < height)
    near, far = (x1 >= 0) & (y1 >= 0), (x2 <= width) & (y2 <= height)
    return far if far_only else near if near_only else near & far


INSIDE = Task(
    name="inside",
    function="inside_image",
    lesson="anchors/grid.py",
    oracle=grid.inside_image,
    variant=inside_variant,
    edges={
        "the whole image": (boxes_of([0, 0, 10, 6]), (6, 10)),
        "over the left edge": (boxes_of([-1, 0, 5, 5]), (6, 10)),
        "over the lower edge": (boxes_of([0, 0, 5, 7]), (6, 10)),
        "no box": (boxes_of(), (6, 10)),
    },
    draw=lambda rng, size: (draw_boxes(rng, size) - 3, (rng.randint(6, 14), rng.randint(6, 14))),
    mistakes={
        "edges left out": Mistake("a box that ends at the edge is inside: >= 0 and <= W.", strict=True),
        "height and width swapped": Mistake("image_size is (height, width): x goes with the width.", swapped=True),
        "only x2 and y2 looked at": Mistake("boxes also leave the image at the left and the top.", far_only=True),
        "only x1 and y1 looked at": Mistake("boxes also leave the image at the right and the bottom.", near_only=True),
        "hidden +1": Mistake("x2 <= W - 1 belongs to inclusive pixel indices; boxes here end at W.", last=1),
    },
)
