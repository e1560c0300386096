"""Repair or refuse one COCO annotation: its box, outline, crowd flag and area (B01 to B18, B49 to B59)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from label_tools.document.coco_values import are_numbers, is_number, number_in, short, whole
from label_tools.shapes import geometry, rle
from label_tools.shapes.instances import RefusedError, Remark, check_range, check_sides, cut_by_edge
from label_tools.text.findings import WARNING
from label_tools.text.messages import counted
from label_tools.text.rule_limits import LARGEST_COORDINATE, LEAST_SIDE, MOST_ASPECT

LEAST_OVERLAP = 0.3  # IoU of an outline's box with bbox: an outline in other pixels or with x and y swapped has less


def annotation(item: dict, image: dict, category_id: int, remark: Remark, clip: bool = True) -> dict:
    """The annotation in our dialect. Raises RefusedError."""
    crowd = crowd_flag(item.get("iscrowd", 0), remark)
    try:
        segmentation = outline(item.get("segmentation"), image, remark)
    except RefusedError as error:
        if crowd or not are_numbers(item.get("bbox"), 4):
            raise
        remark(WARNING, error.code, f"{error.text}; the outline is left out, the box is kept")
        segmentation = []
    box = item.get("bbox")
    if segmentation and (box is None or box == []):
        remark(WARNING, "B50", "no bbox; taken from the segmentation")
        box = _box_of(segmentation)
    rotation = _rotation(item)
    if rotation and are_numbers(box, 4) and _is_its_rectangle(segmentation, box):  # before the turn, as the box is
        x, y, w, h = box
        segmentation = [list(geometry.turned_box(x + w / 2, y + h / 2, w, h, math.radians(rotation)))]
    if clip and segmentation and not rotation and are_numbers(box, 4) and _elsewhere(_box_of(segmentation), box):
        text = f"outline in {short([round(v, 1) for v in _box_of(segmentation)])}, bbox {short(box)}"
        remark(WARNING, "B59", f"{text}; the outline is left out, the box is kept")
        segmentation = []
    box, clipped = _box(box, image, remark, rotation, clip)
    if clipped and isinstance(segmentation, list):
        pieces = [geometry.clip_polygon(p, image["width"], image["height"]) for p in segmentation]
        segmentation = [p for p in pieces if len(p) >= 6]
    area = item.get("area")
    if clipped or not is_number(area) or not 0 < area < 1e300:  # False for NaN; a whole number may be beyond floats
        area = _area_of(segmentation) or box[2] * box[3]
        if not clipped:
            remark(WARNING, "B50", f"area {short(item.get('area'))}; computed as {area:g}")
    if rotation:  # applied: a reader of the result must not turn the box again
        item = {**item, "attributes": {k: v for k, v in item["attributes"].items() if k != "rotation"}}
    return {
        **item,
        "image_id": image["id"],
        "category_id": category_id,
        "bbox": box,
        "area": area,
        "iscrowd": crowd,
        "segmentation": segmentation,
    }


def is_plain(item: dict, width: int, height: int) -> bool:
    """Whether `annotation` would return this one unchanged without a finding; False if uncertain. True for nearly all,
    and takes a third of its time."""
    box, area, shape, crowd = item.get("bbox"), item.get("area"), item.get("segmentation"), item.get("iscrowd")
    if type(crowd) is not int or not 0 <= crowd <= 1 or "attributes" in item or not is_number(area):
        return False
    if not 0 < area < 1e300 or not are_numbers(box, 4) or type(shape) is not list:
        return False
    x, y, w, h = box
    if not (x >= 0 and y >= 0 and w >= LEAST_SIDE and h >= LEAST_SIDE and x + w <= width and y + h <= height):
        return False  # also for NaN
    if w > MOST_ASPECT * h or h > MOST_ASPECT * w:
        return False
    return is_plain_outline(shape, box)


def is_plain_outline(pieces: list, box: list[float]) -> bool:
    """Whether `annotation` would keep these polygons of a valid box unchanged, without a finding."""
    for piece in pieces:
        if type(piece) is not list or len(piece) < 6 or len(piece) % 2 or not are_numbers(piece, len(piece)):
            return False
        if not (min(piece) >= -LARGEST_COORDINATE and max(piece) <= LARGEST_COORDINATE and math.isfinite(sum(piece))):
            return False
    return not pieces or not _elsewhere(_box_of(pieces), box)


def _elsewhere(around: Sequence[float], box: Sequence[float]) -> bool:
    """Whether the outline's box and the annotation's own, both valid and [x,y,w,h], hardly overlap."""
    (ax, ay, aw, ah), (x, y, w, h) = around, box
    if not (w > 0 and h > 0 and max(w, h) <= LARGEST_COORDINATE and max(abs(x), abs(y)) <= LARGEST_COORDINATE):
        return False  # other rules report it
    inside = max(0.0, min(ax + aw, x + w) - max(ax, x)) * max(0.0, min(ay + ah, y + h) - max(ay, y))
    return inside < LEAST_OVERLAP * (aw * ah + w * h - inside)


def crowd_flag(value: Any, remark: Remark) -> int:
    """0 or 1; null, true and "1" are read as such."""
    if type(value) is int and value in (0, 1):
        return value
    words = {"": 0, "false": 0, "true": 1}
    meant = words.get(value.lower()) if isinstance(value, str) else None
    if meant is None:
        meant = 0 if value is None else int(value) if isinstance(value, bool) else whole(value)
    if meant not in (0, 1):
        raise RefusedError("B51", f"iscrowd {short(value)}, needs 0 or 1")
    remark(WARNING, "B49", f"iscrowd {value!r} read as {meant}")
    return meant


def _is_its_rectangle(segmentation: list | dict, box: list) -> bool:
    x, y, w, h = box
    corners = {(x, y), (x + w, y), (x + w, y + h), (x, y + h)}
    return isinstance(segmentation, list) and [set(zip(p[0::2], p[1::2])) for p in segmentation] == [corners]


def _rotation(item: dict) -> float:
    """The rotation of CVAT's box in degrees: CVAT exports the unrotated box and the angle beside it."""
    attributes = item.get("attributes")
    angle = attributes.get("rotation", 0) if isinstance(attributes, dict) else 0
    angle = number_in(angle) if isinstance(angle, str) else angle
    return float(angle) % 360 if is_number(angle) and abs(angle) < 1e6 else 0.0


def _box(box: Any, image: dict, remark: Remark, rotation: float, clip: bool) -> tuple[list, bool]:
    """(the box, with `clip` within the image, whether that cut something off). Raises RefusedError."""
    if isinstance(box, list) and len(box) == 4 and all(isinstance(v, str) for v in box):
        numbers = [number_in(v) for v in box]
        if None not in numbers:
            remark(WARNING, "B49", f"bbox {short(box)} read as numbers")
            box = numbers
    if not are_numbers(box, 4):
        raise RefusedError("B26", f"bbox {short(box)}, needs four numbers")
    width, height = image["width"], image["height"]
    try:
        finite = all(map(math.isfinite, box))
    except OverflowError as error:  # a whole number of hundreds of digits
        raise RefusedError("B07", f"bbox {short(box)} is beyond all range") from error
    if not finite:
        raise RefusedError("B06", f"bbox {short(box)} is not finite")
    x, y, w, h = box
    if x < 0 or y < 0 or w < 0 or h < 0 or x + w > width or y + h > height:
        check_range((x, y, w, h, x + w, y + h), width, height)
    if w < 0 or h < 0:
        remark(WARNING, "B02", f"bbox {short(box)} has a negative extent; read with its corners sorted")
        x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)
    if w == 0 or h == 0:
        raise RefusedError("B01", f"bbox {short(box)} has no extent", "draw it again or delete it")
    if rotation:
        x, y, w, h = _around(x, y, w, h, rotation)
        remark(WARNING, "B57", f"turned by {rotation:g} degrees; the box around the turned one is taken")
    left = (x, y, w, h)
    clipped = x < 0 or y < 0 or x + w > width or y + h > height
    if clipped:
        left = geometry.clip_box(left, width, height)
        cut_by_edge(left[2] * left[3], w * h, max(-x, -y, x + w - width, y + h - height), remark)
    check_sides(left[2], left[3], remark)
    return (list(left), True) if clipped and clip else ([x, y, w, h], False)


def _around(x: float, y: float, w: float, h: float, degrees: float) -> tuple[float, float, float, float]:
    """The axis-aligned box around a box rotated about its centre."""
    c, s = abs(math.cos(math.radians(degrees))), abs(math.sin(math.radians(degrees)))
    # a quarter turn is exact: cos 90 degrees is 6e-17 in floats
    wide, high = (round(w * c + h * s, 9), round(w * s + h * c, 9))
    return x + (w - wide) / 2, y + (h - high) / 2, wide, high


def outline(value: Any, image: dict, remark: Remark) -> list | dict:
    """The segmentation in our form, [] for none. Raises RefusedError for a malformed one."""
    if value is None or value == [] or value == "":
        return []
    if isinstance(value, dict):
        runs = run_lengths(value, image)
        if not rle.area(runs):
            raise RefusedError("B51", "segmentation holds no pixel")
        return rle.to_rle(runs, image["height"], image["width"])
    if isinstance(value, list) and not isinstance(value[0], list) and are_numbers(value, len(value)):
        if len(value) < 6 or len(value) % 2:
            raise RefusedError("B09", f"segmentation is one list of {counted(len(value), 'number')}")
        remark(WARNING, "B09", "segmentation is one list of numbers; read as one polygon")
        value = [value]
    if not isinstance(value, list):
        raise RefusedError("B26", f"segmentation is a {type(value).__name__}")
    for k, piece in enumerate(value):
        _check_piece(piece, f"segmentation[{k}]")
    return value


def _area_of(segmentation: list | dict) -> float:
    if isinstance(segmentation, dict):
        return float(rle.area(rle.to_runs(segmentation)))
    return sum(map(geometry.polygon_area, segmentation))


def _box_of(segmentation: list | dict) -> list:
    if isinstance(segmentation, dict):
        return list(rle.box(rle.to_runs(segmentation), segmentation["size"][0]))
    return list(geometry.union_box([geometry.polygon_box(p) for p in segmentation]))


def run_lengths(value: dict, image: dict) -> np.ndarray:
    """Runs of an RLE that fits the image. Raises RefusedError."""
    try:
        runs = rle.to_runs(value)
    except rle.RleError as error:
        raise RefusedError("B51", f"segmentation: {error}") from error
    height, width = value["size"]
    if (width, height) != (image["width"], image["height"]):
        text = f"segmentation is {width} x {height}, the image {image['width']} x {image['height']}"
        raise RefusedError("B51", text)
    return runs


def _check_piece(piece: Any, place: str) -> None:
    if not isinstance(piece, list) or not are_numbers(piece, len(piece)):
        raise RefusedError("B26", f"{place} is not a list of numbers")
    if len(piece) % 2:
        raise RefusedError("B09", f"{place} has an odd number of coordinates")
    if len(piece) < 6:
        raise RefusedError("B08", f"{place} has {counted(len(piece) // 2, 'point')}, needs 3 or more")
    if min(piece) >= -LARGEST_COORDINATE and max(piece) <= LARGEST_COORDINATE and math.isfinite(sum(piece)):
        return
    if any(abs(v) > LARGEST_COORDINATE and v not in (math.inf, -math.inf) for v in piece):
        raise RefusedError("B07", f"{place} has a coordinate out of range")
    raise RefusedError("B06", f"{place} has a coordinate that is not finite")
