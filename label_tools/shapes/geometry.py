"""Shapes in a plane: area, box, clipping, circles and thick lines as polygons. Pure geometry, no pixels.

A polygon is flat, as in COCO: [x1, y1, x2, y2, ...], at least three points, its last point joined to its first.
A box is (x, y, width, height). Coordinates are continuous: the pixel with index 0 reaches from 0.0 to 1.0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np

Flat = Sequence[float]
Box = tuple[float, float, float, float]
ROUND_WITHIN = 0.25  # pixels: how near the polygon of a circle or ellipse stays to it
_SIMPLE_TEST_LIMIT = 1_000  # points; beyond it the test of every edge against every other costs too much


def polygon_box(flat: Flat) -> Box:
    """x, y, width, height of the points: width is right - left, with no "+1"."""
    xs, ys = flat[0::2], flat[1::2]
    x, y = min(xs), min(ys)
    return x, y, max(xs) - x, max(ys) - y


def polygon_area(flat: Flat) -> float:
    """|sum of (x1*y2 - x2*y1)| / 2, the shoelace formula. Exact where the outline does not cross itself."""
    return area_and_turn(flat)[0]


def area_and_turn(flat: Flat) -> tuple[float, bool]:
    """(the shoelace area, whether the outline runs exactly once around its centre, always the same way).

    The second is true of most outlines that people draw, and then the outline cannot cross itself.
    """
    xs, ys = flat[0::2], flat[1::2]
    n = len(xs)
    # relative to the centre: far from the origin the products would lose digits
    cx, cy = sum(xs) / n, sum(ys) / n
    px, py = xs[-1] - cx, ys[-1] - cy
    total = least = most = 0.0
    crossings = 0
    for x, y in zip(xs, ys):
        qx, qy = x - cx, y - cy
        cross = px * qy - qx * py
        total += cross
        if cross < least:
            least = cross
        elif cross > most:
            most = cross
        if (py < 0.0) != (qy < 0.0):  # once around means once down and once up through the centre's height
            crossings += 1
        px, py = qx, qy
    return abs(total) * 0.5, (least == 0.0 or most == 0.0) and crossings == 2 and total != 0.0


def union_box(boxes: Sequence[Box]) -> Box:
    """The smallest box around several boxes."""
    if len(boxes) == 1:
        return boxes[0]
    x, y = min(b[0] for b in boxes), min(b[1] for b in boxes)
    return x, y, max(b[0] + b[2] for b in boxes) - x, max(b[1] + b[3] for b in boxes) - y


def boxes_touch(a: Box, b: Box) -> bool:
    """Whether two boxes share any area."""
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]


def clip_box(box: Box, width: float, height: float) -> Box:
    """The part of a box within [0, width] x [0, height]; extent 0 where nothing is left."""
    x1, y1 = min(max(box[0], 0.0), width), min(max(box[1], 0.0), height)
    x2, y2 = min(max(box[0] + box[2], 0.0), width), min(max(box[1] + box[3], 0.0), height)
    return x1, y1, x2 - x1, y2 - y1


def clip_polygon(flat: Flat, width: float, height: float) -> list[float]:
    """The part of a polygon within [0, width] x [0, height] (Sutherland and Hodgman, 1974). May be empty.

    A concave outline that falls into pieces stays one list: the pieces are joined along the image's edge by
    lines without area, so that area, box and mask are still right.
    """
    points = list(zip(flat[0::2], flat[1::2]))
    for axis, limit, sign in ((0, 0.0, 1), (0, float(width), -1), (1, 0.0, 1), (1, float(height), -1)):
        kept: list[tuple[float, float]] = []
        for before, here in zip([points[-1], *points], points) if points else ():
            inside_before, inside = (sign * (p[axis] - limit) >= 0 for p in (before, here))
            if inside != inside_before:
                t = (limit - before[axis]) / (here[axis] - before[axis])
                other = before[1 - axis] + t * (here[1 - axis] - before[1 - axis])
                kept.append((limit, other) if axis == 0 else (other, limit))
            if inside:
                kept.append(here)
        points = kept
    return [min(max(v, 0.0), limit) for p in points for v, limit in zip(p, (float(width), float(height)))]


def is_simple(flat: Flat) -> bool | None:
    """Whether the outline does not cross itself; None when it has too many points to find out quickly."""
    if area_and_turn(flat)[1]:
        return True
    if len(flat) > 2 * _SIMPLE_TEST_LIMIT:
        return None
    a = np.asarray(flat, dtype=np.float64).reshape(-1, 2)
    a = a - a[0]
    b = np.roll(a, -1, axis=0)
    ab = b - a

    def side(points: np.ndarray) -> np.ndarray:  # [edge, point]: which side of the edge a point lies on
        return ab[:, None, 0] * (points[None, :, 1] - a[:, None, 1]) - ab[:, None, 1] * (
            points[None, :, 0] - a[:, None, 0]
        )

    parted = side(a) * side(b) < 0  # both ends of edge j on different sides of edge i
    return not bool((parted & parted.T).any())


def without_repeats(flat: Flat) -> list[float]:
    """The polygon without points that repeat the one before them, and without a last point equal to the first."""
    points = list(zip(flat[0::2], flat[1::2]))
    kept = [p for i, p in enumerate(points) if i == 0 or p != points[i - 1]]
    while len(kept) > 1 and kept[-1] == kept[0]:
        kept.pop()
    return [v for p in kept for v in p]


def circle_polygon(x: float, y: float, radius: float) -> list[float]:
    """A circle as a polygon whose edges stay within ROUND_WITHIN pixels of it.

    Topmost, leftmost, ... point are exact, so that the polygon's box is the circle's; the others are rounded to
    a hundredth of a pixel, which is far less than the tolerance and keeps files small.
    """
    quarter = _edges_of_a_quarter(radius)
    points = np.round((x, y) + radius * _unit_circle(quarter), 2)
    points[::quarter] = (x + radius, y), (x, y + radius), (x - radius, y), (x, y - radius)
    return points.ravel().tolist()


def _edges_of_a_quarter(radius: float) -> int:
    edges = math.pi / math.acos(1.0 - ROUND_WITHIN / radius) if radius > ROUND_WITHIN else 12
    return min(max(math.ceil(edges / 4), 3), 90)


@lru_cache(maxsize=128)
def _unit_circle(quarter: int) -> np.ndarray:
    """[4 * quarter, 2] points, from (1, 0) on."""
    angles = np.arange(4 * quarter) * (math.pi / 2 / quarter)
    return np.stack([np.cos(angles), np.sin(angles)], axis=1)


def thick_segment(x1: float, y1: float, x2: float, y2: float, thickness: float) -> list[float]:
    """A line of some thickness as a rectangle that reaches half the thickness beyond both ends."""
    length = math.hypot(x2 - x1, y2 - y1)
    ux, uy = ((x2 - x1) / length, (y2 - y1) / length) if length > 0 else (1.0, 0.0)
    h = thickness / 2
    corners = ((x1, y1, -h, h), (x2, y2, h, h), (x2, y2, h, -h), (x1, y1, -h, -h))  # end, along and beside the line
    return [v for x, y, along, side in corners for v in (x + ux * along - uy * side, y + uy * along + ux * side)]


def rectangle(box: Box) -> list[float]:
    """The four corners of a box as a polygon, clockwise on the screen from the top left one."""
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def turned_box(cx: float, cy: float, width: float, height: float, angle: float) -> list[float]:
    """The four corners of a box turned about its centre by `angle` radians, clockwise on the screen."""
    c, s = math.cos(angle), math.sin(angle)
    corners = ((-width / 2, -height / 2), (width / 2, -height / 2), (width / 2, height / 2), (-width / 2, height / 2))
    return [v for x, y in corners for v in (cx + x * c - y * s, cy + x * s + y * c)]


def ellipse_polygon(cx: float, cy: float, rx: float, ry: float, angle: float) -> list[float]:
    """An ellipse turned by `angle` radians, clockwise on the screen, as a polygon whose edges stay within ROUND_WITHIN
    pixels of it. Its outermost points are exact, so that the polygon's box is the ellipse's."""
    n = 4 * _edges_of_a_quarter(max(rx, ry))
    c, s = math.cos(angle), math.sin(angle)
    right, lowest = math.atan2(-ry * s, rx * c), math.atan2(ry * c, rx * s)
    outermost = {round(t % (2 * math.pi), 12) for e in (right, lowest) for t in (e, e + math.pi)}
    turns = sorted(outermost | {round(2 * math.pi * k / n, 12) for k in range(n)})
    points = ((rx * math.cos(t), ry * math.sin(t)) for t in turns)
    return [v for x, y in points for v in (cx + x * c - y * s, cy + x * s + y * c)]


def turn_points(flat: Flat, orientation: int, width: int, height: int) -> list[float]:
    """Turn points of a stored picture to its upright one (width x height), by its EXIF orientation 1 to 8."""
    xs, ys = flat[0::2], flat[1::2]
    if orientation >= 5:
        xs, ys = ys, xs
    if orientation in (2, 3, 6, 7):
        xs = [width - x for x in xs]
    if orientation in (3, 4, 7, 8):
        ys = [height - y for y in ys]
    return [v for pair in zip(xs, ys) for v in pair]
