"""LabelMe's shapes, and those of its relative X-AnyLabeling -> objects, under one policy (row B14).

| shape | becomes |
|---|---|
| polygon, oriented_rectangle, rotation, quadrilateral | its outline |
| rectangle | the box between two corners, given in any order |
| circle | centre and a point on the edge: the circle as a polygon, box exactly (x-r, y-r, 2r, 2r) |
| cuboid | the box around its eight points, with a note |
| mask | its pixels, as run lengths |
| line, linestrip | left out and counted; with --thicken-lines PX an object that thick |
| point, points | left out and counted; with --point-box PX a square of that side around each point |
"""

from __future__ import annotations

import base64
import binascii
import math
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np

from label_tools.document.coco_values import are_numbers
from label_tools.pictures.open_image import ImageError, open_mask
from label_tools.shapes import geometry, instances, rle
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range
from label_tools.text.findings import NOTE, WARNING
from label_tools.text.messages import counted

SHAPE_TYPES = ("polygon", "rectangle", "oriented_rectangle", "circle", "mask", "line", "linestrip", "point", "points")
_FOUR_POINTS = ("oriented_rectangle", "rotation", "quadrilateral")  # the last two are X-AnyLabeling's


@dataclass(frozen=True, slots=True)
class Options:
    """Options for reading shapes: how those without an extent are read, which are left out.

    thicken_lines: line and linestrip become objects this many pixels thick; None: they are left out.
    point_box: point and points become boxes with sides of this many pixels; None: they are left out.
    include_unreviewed: also take files that a model labelled and nobody looked at (flag `reviewed` false).
    skip_labels: objects of these labels are left out and counted.
    extract_to: where images that are only embedded (imageData) are written, at the place that their label file has
    below `source`; None: they are left out.
    """

    thicken_lines: float | None = None
    point_box: float | None = None
    include_unreviewed: bool = False
    skip_labels: Collection[str] = ()
    extract_to: str | None = None
    source: str = ""


def to_instance(
    shape: dict, label: str, width: int, height: int, turn: int, options: Options, remark: Remark
) -> Instance:
    """One shape as an object within an image of width x height. Raises RefusedError.

    turn: the EXIF orientation that the points still need (1: none).
    """
    kind = shape.get("shape_type") or "polygon"  # version 3 has none
    flags = shape.get("flags")
    if flags is not None and not isinstance(flags, dict):
        raise RefusedError("B26", "flags must be an object")
    flat = read_points(shape.get("points"), width, height)
    if turn != 1:
        flat = geometry.turn_points(flat, turn, width, height)
    if kind == "polygon":
        return _outline(label, flat, width, height, remark)
    if kind == "rectangle":
        return _rectangle(label, flat, width, height, remark, by_corners="difficult" in shape)
    if kind == "circle":
        if len(flat) != 4:
            raise RefusedError("B14", f"circle has {counted(len(flat) // 2, 'point')}, needs centre and edge")
        radius = math.hypot(flat[2] - flat[0], flat[3] - flat[1])
        return instances.from_circle(label, flat[0], flat[1], radius, width, height, remark)
    if kind in _FOUR_POINTS:
        if len(flat) != 8:
            raise RefusedError("B14", f"{kind} has {counted(len(flat) // 2, 'point')}, needs 4")
        return instances.from_polygon(label, flat, width, height, remark)
    if kind == "cuboid":
        remark(NOTE, "B14", "cuboid read as the box around its points")
        return instances.from_box(label, geometry.polygon_box(flat), width, height, remark)
    if kind == "mask":
        return _mask(shape, label, flat, width, height, turn, remark)
    if kind in ("line", "linestrip"):
        return _line(kind, label, flat, width, height, options.thicken_lines, remark)
    if kind in ("point", "points"):
        return _points(kind, label, flat, width, height, options.point_box, remark)
    raise RefusedError("B14", f"shape_type {kind!r:.60}, needs one of {', '.join(SHAPE_TYPES)}")


def read_points(points: Any, width: int, height: int) -> list[float]:
    """[x1, y1, x2, y2, ...] of LabelMe's [[x, y], ...]. Raises RefusedError (B06, B07, B26)."""
    if not isinstance(points, list) or not points:
        raise RefusedError("B26", f"points {points!r:.60}, needs a list of [x, y]")
    try:
        flat = list(chain.from_iterable(points))
        pairs = set(map(len, points)) == {2}
    except TypeError:
        pairs = False
    kinds: set[type] = set(map(type, flat)) if pairs else set()
    if not pairs or not kinds <= {int, float}:
        at = next(k for k, p in enumerate(points) if not are_numbers(p, 2))
        raise RefusedError("B26", f"points[{at}] is {points[at]!r:.60}, needs two numbers")
    try:
        total = sum(flat)  # one NaN or infinity anywhere shows in the sum
        limit = 10 * min(width, height)
        if total - total != 0.0 or max(flat) > limit or min(flat) < -limit:
            _refuse_far(points, flat, width, height)
        return list(map(float, flat)) if int in kinds else flat
    except OverflowError as error:  # a whole number of hundreds of digits
        raise RefusedError("B07", "a coordinate is beyond all range") from error


def _refuse_far(points: list, flat: list[float], width: int, height: int) -> None:
    """Raise RefusedError (B06, B07) if there is a coordinate that is not finite or far too large."""
    at = next((k for k, v in enumerate(flat) if not math.isfinite(v)), None)
    if at is not None:
        raise RefusedError("B06", f"points[{at // 2}] is {points[at // 2]!r:.60}, needs finite numbers")
    check_range(flat, width, height)


def _outline(label: str, flat: list[float], width: int, height: int, remark: Remark) -> Instance:
    n = len(flat) // 2
    if n >= 3 and len(set(zip(flat[0::2], flat[1::2]))) < n:
        shorter = geometry.without_repeats(flat)
        if len(shorter) < len(flat):
            if len(shorter) < 6:
                raise RefusedError("B08", f"polygon has {len(shorter) // 2} different points, needs 3 or more")
            remark(WARNING, "B11", f"points that repeat the one before: {n - len(shorter) // 2} of {n}; left out")
            flat = shorter
    return instances.from_polygon(label, flat, width, height, remark)


def _rectangle(label: str, flat: list[float], width: int, height: int, remark: Remark, *, by_corners: bool) -> Instance:
    """The box between two corners. by_corners: of X-AnyLabeling, which gives all four."""
    if len(flat) == 8:  # some programs write all four corners
        xs, ys = sorted(set(flat[0::2])), sorted(set(flat[1::2]))
        corners = set(zip(flat[0::2], flat[1::2]))
        if len(xs) == 2 and len(ys) == 2 and len(corners) == 4:
            if not by_corners:
                remark(WARNING, "B03", "rectangle is given by four corners; read as two")
            flat = [xs[0], ys[0], xs[1], ys[1]]
    if len(flat) != 4:
        raise RefusedError("B03", f"rectangle has {counted(len(flat) // 2, 'point')}, needs 2", "draw it again")
    x1, y1, x2, y2 = flat
    box = (min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1))  # corners in any order are legitimate
    return instances.from_box(label, box, width, height, remark)


def _mask(shape: dict, label: str, flat: list[float], width: int, height: int, turn: int, remark: Remark) -> Instance:
    if turn != 1:
        raise RefusedError("B60", "mask drawn on the picture before its EXIF rotation", "draw it on the upright one")
    if len(flat) != 4:
        points = counted(len(flat) // 2, "point")
        raise RefusedError("B15", f"mask has {points}, needs 2: top left and bottom right pixel")
    pixels = read_mask_png(shape.get("mask"), width, height)
    x1, y1, x2, y2 = (round(v) for v in flat)
    if all(v == int(v) for v in flat):
        # whole numbers name the first and the last pixel; between them lies the mask, whatever the PNG's size
        extent = (y2 - y1 + 1, x2 - x1 + 1)
        if min(extent) < 1:
            raise RefusedError("B15", f"mask reaches from ({x1}, {y1}) to ({x2}, {y2})")
        if extent != pixels.shape:
            h, w = pixels.shape
            remark(WARNING, "B15", f"mask is {w} x {h} pixels, its points say {extent[1]} x {extent[0]}; cut to fit")
            pixels = pixels[: extent[0], : extent[1]]
    runs = rle.from_crop(pixels, x1, y1, height, width)
    before, left = int(np.count_nonzero(pixels)), rle.area(runs)
    if before and not left:
        raise RefusedError("B04", "lies wholly outside the image", "delete it")
    if left < before:
        remark(WARNING, "B15", f"pixels outside the image: {before - left} of {before}; cut off")
    return instances.from_runs(label, runs, width, height, remark)


def read_mask_png(text: Any, width: int, height: int) -> np.ndarray:
    """bool [h,w] of a mask shape's PNG (0 and 1, or 0 and 255). Raises RefusedError (B15)."""
    if not isinstance(text, str):
        raise RefusedError("B15", "mask shape without its mask, needs a base64 PNG")
    try:
        data = base64.b64decode(text, validate=False)
        pixels = open_mask(data, max_pixels=4 * width * height + 4096)[0]
    except (binascii.Error, ValueError) as error:
        raise RefusedError("B15", f"mask is not base64: {error}") from error
    except ImageError as error:
        raise RefusedError("B15", f"mask cannot be read: {error.text}") from error
    if pixels.ndim == 3:
        pixels = np.any(pixels[:, :, : pixels.shape[2] - (pixels.shape[2] in (2, 4))], axis=2)  # without alpha
    return pixels != 0


def _line(
    kind: str, label: str, flat: list[float], width: int, height: int, thickness: float | None, remark: Remark
) -> Instance:
    if thickness is None:
        raise RefusedError("B14", f"{kind} has no area", "--thicken-lines PX makes it an object")
    if len(flat) < 4:
        raise RefusedError("B14", f"{kind} has {len(flat) // 2} point, needs 2 or more")
    ends = (flat[k : k + 4] for k in range(0, len(flat) - 2, 2))
    segments = [geometry.thick_segment(x1, y1, x2, y2, thickness) for x1, y1, x2, y2 in ends]
    return _pieces(instances.from_polygon, segments, label, width, height, remark)


def _points(
    kind: str, label: str, flat: list[float], width: int, height: int, side: float | None, remark: Remark
) -> Instance:
    if side is None:
        raise RefusedError("B14", f"{kind} has no area", "--point-box PX makes it an object")
    boxes = [(x - side / 2, y - side / 2, side, side) for x, y in zip(flat[0::2], flat[1::2])]
    return _pieces(instances.from_box, boxes, label, width, height, remark)


def _pieces(
    make: Callable[..., Instance], shapes: Iterable, label: str, width: int, height: int, remark: Remark
) -> Instance:
    """Join the pieces that lie in the image to one object. If none does, raise the first piece's refusal."""
    pieces, refused = [], []
    for shape in shapes:
        try:
            pieces.append(make(label, shape, width, height, remark))
        except RefusedError as error:
            refused.append(error)
    if not pieces:
        raise refused[0]
    return instances.join(pieces, width, height)
