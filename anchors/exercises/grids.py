"""Exercises on anchors: nine at a cell, all over the grid, and which of them lie inside."""

from __future__ import annotations

from functools import partial

import torch

from anchors import grid
from anchors.exercises.task import Case, Mistake, Task, boxes_of, draw_boxes


def cell_variant(
    sizes, aspect_ratios, *, inverted=False, root=True, size_slow=False, rounded=False, plus=0.0, corner=False
):
    size = torch.tensor(sizes, dtype=torch.float32)
    ratio = torch.tensor(aspect_ratios, dtype=torch.float32)
    factor = ratio.sqrt() if root else ratio
    if inverted:
        factor = 1 / factor
    w, h = size / factor[:, None], size * factor[:, None]
    if not root:
        w = size + 0 * ratio[:, None]
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
    edges=[
        Case("one square", {"sizes": [16], "aspect_ratios": [1]}),
        Case("one tall anchor", {"sizes": [10], "aspect_ratios": [4]}),
        Case("two sizes, two ratios", {"sizes": [8, 16], "aspect_ratios": [0.25, 4]}),
        Case("three sizes, three ratios", {"sizes": [128, 256, 512], "aspect_ratios": [0.5, 1, 2]}),
    ],
    draw=lambda rng, size: {
        "sizes": sorted(rng.sample(range(1, 65), 1 + size // 3)),
        "aspect_ratios": sorted(rng.sample([0.25, 0.5, 1, 2, 3, 4], 1 + size // 4)),
    },
    mistakes=[
        Mistake(
            "swapped ratio",
            "the ratio is taken as width / height. Here, in torchvision and in the paper's code it is height / width.",
            partial(cell_variant, inverted=True),
        ),
        Mistake(
            "size-major order",
            "the size is the slow index. Ratio slow, size fast: row r * len(sizes) + s.",
            partial(cell_variant, size_slow=True),
        ),
        Mistake(
            "ratio and size-order both swapped",
            "the ratio is width / height and the size is the slow index.",
            partial(cell_variant, size_slow=True, inverted=True),
        ),
        Mistake(
            "no square root",
            "w = size, h = size * ratio changes the area: w = size / sqrt(ratio), h = size * sqrt(ratio).",
            partial(cell_variant, root=False),
        ),
        Mistake(
            "rounded half sides",
            "that is torchvision's choice (and why 9,321 of its anchors are inside); needed are real numbers.",
            partial(cell_variant, rounded=True),
        ),
        Mistake(
            "hidden +1",
            "x2 - x1 is one less than the width: corners of pixel indices, as in the paper's code.",
            partial(cell_variant, plus=1.0),
        ),
        Mistake("not centred", "the box starts at (0, 0): it is centred there.", partial(cell_variant, corner=True)),
    ],
)


def grid_variant(cell_anchors, grid_size, stride, *, x_outer=False, offset=0.5, swapped=False, anchor_slow=False):
    height, width = grid_size[::-1] if swapped else grid_size
    y = (torch.arange(height) + offset) * stride
    x = (torch.arange(width) + offset) * stride
    if x_outer:
        centres = torch.stack([torch.stack([u, v, u, v]) for u in x for v in y]) if width * height else None
    else:
        centres = torch.stack([torch.stack([u, v, u, v]) for v in y for u in x]) if width * height else None
    if centres is None:
        return cell_anchors.new_zeros(0, 4)
    boxes = centres[:, None] + cell_anchors
    return (boxes.transpose(0, 1) if anchor_slow else boxes).reshape(-1, 4)


ONE, TWO = boxes_of([-2, -2, 2, 2]), boxes_of([-2, -1, 2, 1], [-1, -2, 1, 2])
GRID = Task(
    name="grid",
    function="grid_anchors",
    lesson="anchors/grid.py",
    oracle=grid.grid_anchors,
    edges=[
        Case("one cell", {"cell_anchors": ONE, "grid_size": (1, 1), "stride": 16}),
        Case("one row of two cells", {"cell_anchors": ONE, "grid_size": (1, 2), "stride": 8}),
        Case("two rows of one cell", {"cell_anchors": ONE, "grid_size": (2, 1), "stride": 8}),
        Case("two by two, two anchors", {"cell_anchors": TWO, "grid_size": (2, 2), "stride": 4}),
        Case("no cell", {"cell_anchors": ONE, "grid_size": (0, 3), "stride": 8}),
    ],
    draw=lambda rng, size: {
        "cell_anchors": draw_boxes(rng, 1 + size // 3) - 8,
        "grid_size": (rng.randint(1, 1 + size // 2), rng.randint(1, 1 + size // 2)),
        "stride": rng.choice([4, 8, 16]),
    },
    mistakes=[
        Mistake(
            "x-outer order",
            "x is the outer loop, so the anchors run down the columns. The network's output, permuted to (H, W, A), "
            "runs along the rows: targets and predictions are transposed, and no square image shows it.",
            partial(grid_variant, x_outer=True),
        ),
        Mistake(
            "centres at the cells' corners",
            "the offset is 0, as in torchvision; here a centre is (index + 1/2) * stride.",
            partial(grid_variant, offset=0.0),
        ),
        Mistake(
            "x-outer order, centres at the corners",
            "x is the outer loop and the offset is 0.",
            partial(grid_variant, x_outer=True, offset=0.0),
        ),
        Mistake("height and width swapped", "grid_size is (height, width).", partial(grid_variant, swapped=True)),
        Mistake(
            "anchor slowest",
            "all cells of the first anchor come first: the order is (y, x, anchor), the anchor fastest.",
            partial(grid_variant, anchor_slow=True),
        ),
    ],
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
    edges=[
        Case("the whole image", {"boxes": boxes_of([0, 0, 10, 6]), "image_size": (6, 10)}),
        Case("over the left edge", {"boxes": boxes_of([-1, 0, 5, 5]), "image_size": (6, 10)}),
        Case("over the lower edge", {"boxes": boxes_of([0, 0, 5, 7]), "image_size": (6, 10)}),
        Case("no box", {"boxes": boxes_of(), "image_size": (6, 10)}),
    ],
    draw=lambda rng, size: {
        "boxes": draw_boxes(rng, size) - 3,
        "image_size": (rng.randint(6, 14), rng.randint(6, 14)),
    },
    mistakes=[
        Mistake(
            "edges left out",
            "a box that ends at the edge is inside: >= 0 and <= W.",
            partial(inside_variant, strict=True),
        ),
        Mistake(
            "height and width swapped",
            "image_size is (height, width): x goes with the width.",
            partial(inside_variant, swapped=True),
        ),
        Mistake(
            "only x2 and y2 looked at",
            "boxes also leave the image at the left and the top.",
            partial(inside_variant, far_only=True),
        ),
        Mistake(
            "only x1 and y1 looked at",
            "boxes also leave the image at the right and the bottom.",
            partial(inside_variant, near_only=True),
        ),
        Mistake(
            "hidden +1",
            "x2 <= W - 1 belongs to inclusive pixel indices; boxes here end at W.",
            partial(inside_variant, last=1),
        ),
    ],
)
