"""Instances: the objects in an image, the same for every format, each made of its shape and clipped to the image.

Every rule for the shape of a single object (rows B01 to B18) is applied here, once; to that of a COCO annotation, which
may be kept as it is written, by `document/repair_annotation.py`.
"""

from __future__ import annotations

import math
from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from label_tools.shapes import geometry, rle
from label_tools.shapes.geometry import Box
from label_tools.text.findings import NOTE, WARNING
from label_tools.text.messages import counted
from label_tools.text.rule_limits import (
    LARGEST_COORDINATE,
    LARGEST_FACTOR,
    LEAST_LEFT,
    LEAST_SIDE,
    MOST_ASPECT,
    SLACK,
)

Remark = Callable[[str, str, str], None]  # level, code, text: adds a finding about the object at hand


class RefusedError(Exception):
    """This object cannot be used. args: the row of `bad_input.md`, what was found, what to do about it."""

    def __init__(self, code: str, text: str, fix: str = "") -> None:
        super().__init__(code, text, fix)
        self.code, self.text, self.fix = code, text, fix


@dataclass(slots=True)
class Instance:
    """One object. bbox is (x, y, width, height); area in pixels; either polygons or an RLE says its shape.

    polygons: flat [x1, y1, ...], one per piece. rle: COCO's compressed form. crowd: an ignore region.
    place: where in its file. extra: further keys of the COCO annotation.
    """

    label: str
    bbox: Box
    area: float
    polygons: tuple[Sequence[float], ...] = ()
    rle: dict | None = None
    crowd: bool = False
    place: str = ""
    extra: dict | None = None


def from_polygon(label: str, flat: list[float], width: int, height: int, remark: Remark) -> Instance:
    """The object inside an outline, clipped to the image. Raises RefusedError (B04, B05, B07, B08, B17).

    The box comes from the points. The area is the shoelace formula's, or, where the outline crosses itself, the
    number of pixels that it fills even-odd.
    """
    if len(flat) < 6:
        raise RefusedError("B08", f"polygon has {counted(len(flat) // 2, 'point')}, needs 3 or more", "draw it again")
    xs, ys = flat[0::2], flat[1::2]
    x1, x2, y1, y2 = min(xs), max(xs), min(ys), max(ys)
    if x2 == x1 or y2 == y1:
        raise RefusedError("B08", "polygon has all its points on one line", "draw it again or delete it")
    area, simple = geometry.area_and_turn(flat)
    if x1 < 0.0 or y1 < 0.0 or x2 > width or y2 > height:
        check_range((x1, y1, x2, y2), width, height)
        flat, area = _clipped(flat, area, width, height, remark)
        x1, y1, w, h = geometry.polygon_box(flat)
    else:
        w, h = x2 - x1, y2 - y1
    if not simple and geometry.is_simple(flat) is False:
        area = float(rle.area(_rasterize([flat], height, width)))
        remark(NOTE, "B10", "outline crosses itself; the area is counted in pixels, filled even-odd")
    if area <= 1e-9 * w * h:
        raise RefusedError("B08", "polygon encloses no area", "draw it again or delete it")
    check_sides(w, h, remark)
    return Instance(label, (x1, y1, w, h), area, (array("d", flat),))


def from_box(label: str, box: Box, width: int, height: int, remark: Remark) -> Instance:
    """The object in a box, clipped to the image. Raises RefusedError (B01, B04, B05, B07, B17)."""
    x, y, w, h = box
    if w <= 0.0 or h <= 0.0:
        raise RefusedError("B01", f"box of {w:g} x {h:g} has no extent", "draw it again or delete it")
    if x < 0.0 or y < 0.0 or x + w > width or y + h > height:
        check_range((x, y, x + w, y + h), width, height)
        left = geometry.clip_box(box, width, height)
        cut_by_edge(left[2] * left[3], w * h, max(-x, -y, x + w - width, y + h - height), remark)
        x, y, w, h = left
    check_sides(w, h, remark)
    return Instance(label, (x, y, w, h), w * h, (array("d", geometry.rectangle((x, y, w, h))),))


def from_circle(label: str, x: float, y: float, radius: float, width: int, height: int, remark: Remark) -> Instance:
    """The object in a circle; inside the image its box is exactly (x-r, y-r, 2r, 2r), its area pi r^2."""
    if radius <= 0.0:
        raise RefusedError("B01", "circle of radius 0", "draw it again or delete it")
    check_range((x - radius, y - radius, x + radius, y + radius), width, height)
    flat = geometry.circle_polygon(x, y, radius)
    if x < radius or y < radius or x + radius > width or y + radius > height:
        return from_polygon(label, flat, width, height, remark)
    side = 2 * radius
    check_sides(side, side, remark)
    return Instance(label, (x - radius, y - radius, side, side), math.pi * radius * radius, (array("d", flat),))


def from_ellipse(
    label: str, cx: float, cy: float, rx: float, ry: float, angle: float, width: int, height: int, remark: Remark
) -> Instance:
    """The object in an ellipse that is turned by `angle` radians, clockwise on the screen. Raises RefusedError."""
    if rx <= 0 or ry <= 0:
        raise RefusedError("B01", f"ellipse of radii {rx:g} and {ry:g} has no extent")
    check_range((cx - rx, cy - ry, cx + rx, cy + ry), width, height)
    return from_polygon(label, geometry.ellipse_polygon(cx, cy, rx, ry, angle), width, height, remark)


def from_runs(label: str, runs: np.ndarray, width: int, height: int, remark: Remark) -> Instance:
    """The object made of a mask's pixels: box from min to max + 1, area their number. Raises RefusedError."""
    area = rle.area(runs)
    if area == 0:
        raise RefusedError("B86", "mask without a pixel", "delete it")
    x, y, w, h = map(float, rle.box(runs, height))
    check_sides(w, h, remark)
    return Instance(label, (x, y, w, h), float(area), (), rle.to_rle(runs, height, width))


def join(pieces: list[Instance], width: int, height: int) -> Instance:
    """One object of several pieces: polygons stay polygons, a mask among them makes it a mask.

    In the area, overlaps of pieces count once.
    """
    if len(pieces) == 1:
        return pieces[0]
    first = pieces[0]
    if any(p.rle for p in pieces):
        masks = [rle.to_runs(p.rle) if p.rle else _rasterize(p.polygons, height, width) for p in pieces]
        runs = rle.union(masks, height, width)
        joined = from_runs(first.label, runs, width, height, lambda *_: None)
    else:
        boxes = [p.bbox for p in pieces]
        area = sum(p.area for p in pieces)
        if any(geometry.boxes_touch(a, b) for i, a in enumerate(boxes) for b in boxes[:i]):
            flats = [flat for p in pieces for flat in p.polygons]
            area = float(rle.area(_rasterize(flats, height, width)))
        polygons = tuple(flat for p in pieces for flat in p.polygons)
        joined = Instance(first.label, geometry.union_box(boxes), area, polygons)
    joined.crowd, joined.place, joined.extra = first.crowd, first.place, first.extra
    return joined


def check_range(values: Sequence[float], width: int, height: int) -> None:
    """Raise RefusedError (B07) for a coordinate so far outside that it must be a mistake."""
    limit = min(LARGEST_COORDINATE, LARGEST_FACTOR * max(width, height))
    worst = max(values, key=abs)
    if abs(worst) > limit:
        raise RefusedError("B07", f"coordinate {worst:g} lies far outside the image of {width} x {height}")


def _clipped(flat: list[float], area: float, width: int, height: int, remark: Remark) -> tuple[list[float], float]:
    x, y, w, h = geometry.polygon_box(flat)
    left = geometry.clip_polygon(flat, width, height)
    left_area = geometry.polygon_area(left) if len(left) >= 6 else 0.0
    if area > 1e-9 * w * h:  # a bow-tie's two halves cancel out: its share cannot be measured this way
        cut_by_edge(left_area, area, max(-x, -y, x + w - width, y + h - height), remark)
    elif len(left) < 6:
        raise RefusedError("B04", "lies wholly outside the image", "delete it")
    return left, left_area


def cut_by_edge(left: float, whole: float, overhang: float, remark: Remark) -> None:
    """Refuse an object if too little of it lies in the image (B04, B05); else note that it was clipped."""
    if left <= 0.0:
        raise RefusedError("B04", "lies wholly outside the image", "delete it")
    if left < LEAST_LEFT * whole:
        text = f"only {left / whole:.0%} of it lies in the image, {LEAST_LEFT:.0%} are needed"
        raise RefusedError("B05", text, "delete it or draw what can be seen")
    if overhang > SLACK:
        remark(WARNING, "B05", f"hangs over the image's edge by {overhang:.4g} pixels; clipped")


def check_sides(w: float, h: float, remark: Remark) -> None:
    """Refuse what is thinner than a pixel (B17); note what is very long (B18)."""
    if w < LEAST_SIDE - SLACK or h < LEAST_SIDE - SLACK:  # a pixel that went through six decimals is still one
        raise RefusedError("B17", f"{w:.3g} x {h:.3g} pixels, needs {LEAST_SIDE:g} or more each way", "delete it")
    if w > MOST_ASPECT * h or h > MOST_ASPECT * w:
        remark(NOTE, "B18", f"{w:.4g} x {h:.4g} pixels: over {MOST_ASPECT} times as long as wide")


def _rasterize(polygons: Sequence[Sequence[float]], height: int, width: int) -> np.ndarray:
    try:
        return rle.rasterize(polygons, height, width)
    except rle.RleError as error:
        raise RefusedError("B07", str(error)) from error
