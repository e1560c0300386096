"""Tasks on anchors: nine at one cell, at every cell of the grid, only those inside the image, and their number."""

from __future__ import annotations

import math

import torch

from anchors import grid
from anchors.exercises.task import Task, boxes_of, draw_boxes


def cell_variant(sizes, aspect_ratios, *, mistake=""):
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(aspect_ratios, dtype=torch.float32)[:, None]
    root = ratio.sqrt()
    if mistake in ("swapped ratio", "ratio and size-order both swapped"):
        root = 1 / root
    w, h = size / root, size * root
    if mistake == "no square root":
        w, h = size.expand_as(h), size * ratio
    if mistake in ("size-major order", "ratio and size-order both swapped"):
        w, h = w.T, h.T
    w, h = w.flatten(), h.flatten()
    if mistake == "hidden +1":
        w, h = w - 1, h - 1
    if mistake == "not centred":
        return torch.stack((0 * w, 0 * h, w, h), dim=1)
    cell = torch.stack((-w, -h, w, h), dim=1) / 2
    return cell.round() if mistake == "rounded half sides" else cell


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
        "swapped ratio": (
            "The ratio is taken as width / height. Here, in torchvision and in the paper's code it is height / width."
        ),
        "size-major order": "The size is the slow index. Ratio slow, size fast: row r * len(sizes) + s.",
        "ratio and size-order both swapped": "The ratio is width / height and the size is the slow index.",
        "no square root": (
            "w = size, h = size * ratio changes the area: w = size / sqrt(ratio), h = size * sqrt(ratio)."
        ),
        "rounded half sides": (
            "That is torchvision's choice (and why 9,321 of its anchors are inside); needed are real numbers."
        ),
        "hidden +1": "x2 - x1 is one less than the width: corners of pixel indices, as in the paper's code.",
        "not centred": "The box starts at (0, 0): it is centred there.",
    },
)


def grid_variant(cell_anchors, grid_size, stride, *, mistake=""):
    height, width = grid_size[::-1] if mistake == "height and width swapped" else grid_size
    offset = 0 if mistake in ("centres at the cells' corners", "x-outer order, centres at the corners") else 0.5
    y, x = torch.meshgrid(torch.arange(height) + offset, torch.arange(width) + offset, indexing="ij")
    centres = torch.stack((x, y, x, y), dim=2) * stride
    if mistake in ("x-outer order", "x-outer order, centres at the corners"):
        centres = centres.transpose(0, 1)
    boxes = centres.reshape(-1, 1, 4) + cell_anchors
    return (boxes.transpose(0, 1) if mistake == "anchor slowest" else boxes).reshape(-1, 4)


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
        "x-outer order": (
            "With x as the outer loop the anchors run down the columns. The network's output, permuted to (H, W, A), "
            "runs along the rows: targets and predictions are transposed, and no square image shows it."
        ),
        "centres at the cells' corners": (
            "The offset is 0, as in torchvision; here a centre is (index + 1/2) * stride."
        ),
        "x-outer order, centres at the corners": "The outer loop is x, and the offset is 0.",
        "height and width swapped": "grid_size is (height, width).",
        "anchor slowest": (
            "All cells of the first anchor come first: the order is (y, x, anchor), the anchor fastest."
        ),
    },
)


def inside_variant(boxes, image_size, *, mistake=""):
    height, width = image_size[::-1] if mistake == "height and width swapped" else image_size
    if mistake == "hidden +1":
        height, width = height - 1, width - 1
    x1, y1, x2, y2 = boxes.unbind(1)
    if mistake == "edges left out":
        return (x1 > 0) & (y1 > 0) & (x2 < width) & (y2 < height)
    near, far = (x1 >= 0) & (y1 >= 0), (x2 <= width) & (y2 <= height)
    return {"only x2 and y2 looked at": far, "only x1 and y1 looked at": near}.get(mistake, near & far)


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
        "edges left out": "A box that ends at the edge is inside: >= 0 and <= W.",
        "height and width swapped": "image_size is (height, width): x goes with the width.",
        "only x2 and y2 looked at": "Boxes also leave the image at the left and the top.",
        "only x1 and y1 looked at": "Boxes also leave the image at the right and the bottom.",
        "hidden +1": "x2 <= W - 1 belongs to inclusive pixel indices; boxes here end at W.",
    },
)


def anchor_count_variant(image_size, stride, num_cell_anchors, *, mistake=""):
    height, width = image_size
    if mistake == "a square assumed":
        height = width
    if mistake == "the stride for the number of cells":
        return stride * stride * num_cell_anchors
    if mistake == "the last cells left out":
        return (height // stride) * (width // stride) * num_cell_anchors
    return math.ceil(height / stride) * math.ceil(width / stride) * num_cell_anchors


ANCHOR_COUNT = Task(
    name="anchor_count",
    function="anchor_count",
    lesson="anchors/grid.py",
    oracle=anchor_count_variant,
    variant=anchor_count_variant,
    edges={
        "800 x 800 pixels": ((800, 800), 16, 9),
        "a rectangle": ((600, 1000), 16, 9),
        "one cell": ((16, 16), 16, 1),
    },
    draw=lambda rng, size: (
        (rng.randint(1, 30 * size), rng.randint(1, 30 * size)),
        rng.choice([4, 8, 16, 32]),
        rng.randint(1, 9),
    ),
    mistakes={
        "the stride for the number of cells": (
            "16 * 16 * 9 is 2,304, not 22,500: 16 is the stride. 800 / 16 = 50 cells a side, and 50 * 50 * 9 = 22,500."
        ),
        "the last cells left out": "The map has ceil(side / stride) cells: a part of a cell is one too.",
        "a square assumed": "The height has its own number of cells.",
    },
)
