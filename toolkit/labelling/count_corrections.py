"""Count a person's corrections of a draft: shapes kept, moved, renamed, added, deleted, and the clicks they took.

Clicks, by default, as labelme needs them: a box drawn 3 (two corners, its class), one deleted 2 (select, delete), one
moved or renamed 2 (press and release, on average of one corner), a picture ticked 1. An outline of n points drawn is
n + 1. What drawing everything from nothing would have taken is the same count over the final file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from label_tools.formats.labelme_shapes import read_mask_png
from label_tools.shapes.instances import RefusedError
from toolkit.metrics.iou_and_matching import iou_table

COSTS = {"add": 3.0, "delete": 2.0, "move": 2.0}
CHANGES = ("kept", "moved", "renamed", "added", "deleted")
TICK = 1.0
MASK_SIDE = 4096  # pixels; larger masks are not compared: a damaged file may name any size
SAME_OBJECT = 0.3  # IoU of a draft's box and the corrected one; less is another object
STILL = 0.5  # pixels: labelme rounds nothing, but a file may be rewritten with fewer digits

Shape = Mapping[str, Any]


def difference(
    draft: Sequence[Shape], final: Sequence[Shape], costs: Mapping[str, float] = COSTS, *, ticked: bool = True
) -> dict[str, float]:
    """{"kept", "moved", "renamed", "added", "deleted", "clicks", "clicks_from_nothing"} between two lists of shapes.

    Pairs are made greedily: equal shapes first, then by IoU of the boxes around them, same labels before others.
    """
    overlap = iou_table([bbox(shape) for shape in draft], [bbox(shape) for shape in final]).tolist()
    candidates = []
    for i, a in enumerate(draft):
        for j, b in enumerate(final):
            same_label = a["label"] == b["label"]
            still = same_label and same_points(a, b)
            if still or overlap[i][j] >= SAME_OBJECT:
                candidates.append((not still, not same_label, -overlap[i][j], i, j))
    count = dict.fromkeys(CHANGES, 0)
    left, right = set(range(len(draft))), set(range(len(final)))
    for moved, renamed, _, i, j in sorted(candidates):
        if i in left and j in right:
            left.discard(i)
            right.discard(j)
            count["renamed" if renamed else "moved" if moved else "kept"] += 1
    count["added"], count["deleted"] = len(right), len(left)
    clicks = costs["delete"] * count["deleted"] + costs["move"] * (count["moved"] + count["renamed"])
    clicks += sum(_to_draw(final[j], costs) for j in right) + TICK * ticked
    return {**count, "clicks": clicks, "clicks_from_nothing": sum(_to_draw(shape, costs) for shape in final)}


def bbox(shape: Shape) -> list[float]:
    """[x, y, w, h] around the points of a shape; of a circle the square around it."""
    points = np.array(shape["points"], float).reshape(-1, 2)
    if not len(points):
        return [0.0, 0.0, 0.0, 0.0]
    if shape.get("shape_type") == "circle" and len(points) == 2:
        radius = float(np.hypot(*(points[1] - points[0])))
        points = np.array([points[0] - radius, points[0] + radius])
    low, high = points.min(0), points.max(0)
    return [float(v) for v in (*low, *(high - low))]


def same_points(a: Shape, b: Shape) -> bool:
    """Whether two shapes lie in the same place; a rectangle may be given by any two opposite corners."""
    if a.get("shape_type") != b.get("shape_type") or not _same_mask(a.get("mask"), b.get("mask")):
        return False
    first, second = (np.array(shape["points"], float).reshape(-1, 2) for shape in (a, b))
    if a.get("shape_type") == "rectangle" and first.shape == second.shape:
        first, second = (np.array([p.min(0), p.max(0)]) for p in (first, second))
    return first.shape == second.shape and bool(np.abs(first - second).max(initial=0) <= STILL)


def _same_mask(a: str | None, b: str | None) -> bool:
    """Compare masks by their pixels: labelme compresses the PNG of a mask again when it saves."""
    if a == b or not (a and b):
        return a == b
    try:
        first, second = (read_mask_png(mask, MASK_SIDE, MASK_SIDE) for mask in (a, b))
        return np.array_equal(first, second)
    except RefusedError:
        return False


def _to_draw(shape: Shape, costs: Mapping[str, float]) -> float:
    return len(shape["points"]) + 1 if shape.get("shape_type") == "polygon" else costs["add"]


def total(changes: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The sum over pictures."""
    return {key: sum(one[key] for one in changes) for key in (*CHANGES, "clicks", "clicks_from_nothing")}
