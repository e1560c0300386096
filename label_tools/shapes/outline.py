"""Outline a mask by polygons as a person would draw them: few points, as close to the mask as asked for.

The outline runs between the pixels (marching squares, by contourpy); Douglas and Peucker (1973, by OpenCV) leaves out
points, and the remaining corners move to where the lines fitted to the outline between them cross. The tolerance is
the largest whose polygons, filled as COCO fills them, still have the IoU that is asked for: measured, not estimated.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from label_tools.shapes import geometry, rle

MOST_PARTS = 10  # of an object as polygons; whoever corrects more has no use for them
IOU = 0.98  # of polygons with their mask, by default
STEPS = 10  # halvings of the interval of tolerances; the last one is a thousandth of the object


def simplified(runs: np.ndarray, height: int, width: int, least: float = IOU) -> tuple[list[list[float]] | None, float]:
    """(polygons [x1, y1, ...] in pixels, their IoU with the mask of these runs), with few points.

    Every connected part is a polygon, but for parts so small that `least` is reached without them. (None, the best IoU)
    where polygons cannot reach it: a hole is too large, for COCO's polygons have none, the mask is a few pixels, or it
    lies in more than MOST_PARTS parts.
    """
    x, y, w, h = rle.box(runs, height)
    if not w:
        return None, 0.0
    left, top = max(x - 1, 0), max(y - 1, 0)  # COCO's filling knows the crop's edge, so the object must not touch it
    mask = rle.decode(runs, height, width)[top : y + h + 1, left : x + w + 1]
    box = np.array([x - left, y - top, x - left + w, y - top + h], dtype=np.float64)
    outlines = _outer(mask)
    best: list[np.ndarray] = []
    reached = 0.0
    low, high = 0.0, float(np.hypot(w, h)) / 4
    for step in range(STEPS + 1):
        tolerance = (low + high) / 2 if step else 0.0
        found, iou = _closest(outlines, tolerance, mask, box)
        if iou >= least:
            best, reached, low = found, iou, tolerance
        elif not step:
            return None, iou
        else:
            high = tolerance
    best, reached = _without_specks(best, reached, mask, least)
    return [(part + np.array([left, top])).ravel().tolist() for part in best], reached


def edges(runs: np.ndarray, height: int, width: int, tolerance: float) -> list[list[float]]:
    """[x1, y1, ...] of every edge of a mask, of holes too, to be drawn; points within `tolerance` left out."""
    import contourpy

    crop, (x, y, w, _) = rle.crop(runs, height, width)
    if not w:
        return []
    padded = np.pad(crop.astype(np.float32), 1)
    lines: Any = contourpy.contour_generator(z=padded).lines(0.5)
    rings = []
    for line in (line[:-1] for line in lines):
        rows = _fewer(line, tolerance)
        kept = line[rows] if len(rows) >= 3 else line  # thin as the tolerance: nothing would be left
        rings.append((kept - 0.5 + [x, y]).round(1).ravel().tolist())
    return rings


def _outer(mask: np.ndarray) -> list[np.ndarray]:
    """[n,2] of the outer outlines of the largest connected parts, holes left out."""
    import contourpy

    padded = np.pad(mask.astype(np.float32), 1)
    generator = contourpy.contour_generator(z=padded, fill_type=contourpy.FillType.OuterOffset)
    found: tuple[Any, ...] = generator.filled(0.5, np.inf)
    points, offsets = found
    # z[1, 1] is the pixel that reaches from 0 to 1
    parts = [one[: ends[1] - 1] - 0.5 for one, ends in zip(points, offsets)]
    return _largest_first(parts)[:MOST_PARTS]


def _closest(
    outlines: list[np.ndarray], tolerance: float, mask: np.ndarray, box: np.ndarray
) -> tuple[list[np.ndarray], float]:
    """The better of the outlines with points left out, and of these with their corners moved."""
    fewer = [_fewer(one, tolerance) for one in outlines]
    plain = [one[rows] for one, rows in zip(outlines, fewer)]
    moved = [_moved(one, rows, tolerance) for one, rows in zip(outlines, fewer)]
    # quarters of a pixel have no rounding error, so that filling them gives the same pixels wherever the object lies
    candidates = [
        [(4 * part.clip(box[:2], box[2:])).round() / 4 for part in parts if len(part) >= 3] for parts in (plain, moved)
    ]
    return max(((parts, _iou(parts, mask)) for parts in candidates), key=lambda found: found[1])


def _fewer(outline: np.ndarray, tolerance: float) -> np.ndarray:
    """Indices of the points that are kept."""
    import cv2

    if not tolerance or len(outline) < 4:
        return np.arange(len(outline))
    kept = cv2.approxPolyDP(outline.astype(np.float32)[:, None], tolerance, True)[:, 0]
    rows = {tuple(point): row for row, point in enumerate(outline.astype(np.float32).tolist())}
    return np.array(sorted(rows[tuple(point)] for point in kept.tolist()))


def _moved(outline: np.ndarray, rows: np.ndarray, tolerance: float) -> np.ndarray:
    """The corners `rows`, each where the lines that fit the outline before and behind it cross, if that is near."""
    corners = outline[rows]
    if len(rows) < 3 or not tolerance:
        return corners
    middle, along = np.empty_like(corners), np.empty_like(corners)
    for k, (a, b) in enumerate(zip(rows, [*rows[1:], rows[0] + len(outline)])):
        part = outline[np.arange(a, b + 1) % len(outline)]
        middle[k] = part.mean(axis=0)
        along[k] = np.linalg.svd(part - middle[k], full_matrices=False)[2][0]
    before_middle, before_along = np.roll(middle, 1, axis=0), np.roll(along, 1, axis=0)
    cross = before_along[:, 0] * along[:, 1] - before_along[:, 1] * along[:, 0]
    gap = middle - before_middle
    with np.errstate(divide="ignore", invalid="ignore"):
        way = (gap[:, 0] * along[:, 1] - gap[:, 1] * along[:, 0]) / cross
        crossing = before_middle + way[:, None] * before_along
    near = np.linalg.norm(crossing - corners, axis=1) <= 2 * tolerance + 0.5  # NaN is not
    return np.where(near[:, None], crossing, corners)


def _iou(parts: list[np.ndarray], mask: np.ndarray) -> float:
    """IoU of the polygons with the mask; 0 if one crosses itself."""
    flats = [part.ravel().tolist() for part in parts]
    if not flats or any(geometry.is_simple(flat) is False for flat in flats):
        return 0.0
    filled = rle.decode(rle.rasterize(flats, *mask.shape), *mask.shape)
    return float((filled & mask).sum() / max(1, (filled | mask).sum()))


def _without_specks(
    parts: list[np.ndarray], reached: float, mask: np.ndarray, least: float
) -> tuple[list[np.ndarray], float]:
    """Remove the smallest parts as long as the rest reaches `least`."""
    parts = _largest_first(parts)
    while len(parts) > 1 and (iou := _iou(parts[:-1], mask)) >= least:
        parts, reached = parts[:-1], iou
    return parts, reached


def _largest_first(parts: list[np.ndarray]) -> list[np.ndarray]:
    return sorted(parts, key=lambda part: -geometry.polygon_area(part.ravel().tolist()))
