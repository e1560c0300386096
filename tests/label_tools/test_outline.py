"""Masks as polygons with few points: how close they are is measured again here, by COCO's own filling."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.shapes import geometry, outline, rle


def disc(height: int, width: int, x: float, y: float, radius: float) -> np.ndarray:
    ys, xs = np.mgrid[:height, :width] + 0.5
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


def iou(polygons: list, mask: np.ndarray) -> float:
    filled = rle.decode(rle.rasterize(polygons, *mask.shape), *mask.shape)
    return (filled & mask).sum() / (filled | mask).sum()


def simplified(mask: np.ndarray, least: float = outline.IOU) -> tuple:
    return outline.simplified(rle.encode(mask), *mask.shape, least)


def test_a_rectangle_is_four_corners():
    mask = np.zeros((60, 80), bool)
    mask[10:40, 20:70] = True
    polygons, reached = simplified(mask)
    assert len(polygons) == 1 and len(polygons[0]) == 8 and reached >= 0.98
    assert geometry.polygon_box(polygons[0]) == pytest.approx((20, 10, 50, 30), abs=1)


def test_a_disc_takes_about_the_corners_that_a_circle_needs():
    """An n-gon whose sides lie half in and half out of a circle misses least. The polygon of equal area has IoU .98
    from n = 10 on or so; the largest inside of the circle needs n = 18: sin(2 pi / n) n / (2 pi) = .98."""
    mask = disc(200, 200, 100, 100, 80)
    polygons, reached = simplified(mask)
    assert 10 <= len(polygons[0]) // 2 <= 18 and 0.98 <= reached == iou(polygons, mask)


@pytest.mark.parametrize("least", [0.8, 0.9, 0.98])
def test_what_is_asked_for_is_reached_with_fewer_points_for_less(least):
    mask = disc(120, 160, 50, 60, 40) | disc(120, 160, 100, 50, 30)
    polygons, reached = simplified(mask, least)
    more, _ = simplified(mask, (1 + least) / 2)
    assert least <= reached == iou(polygons, mask) and len(polygons[0]) < len(more[0])


def test_parts_stay_parts_and_specks_go():
    mask = disc(100, 200, 50, 50, 40) | disc(100, 200, 150, 50, 30)
    mask[2:4, 2:4] = True  # 4 of 7,800 pixels
    polygons, reached = simplified(mask)
    assert len(polygons) == 2 and reached == iou(polygons, mask) >= 0.98


def test_a_hole_too_large_for_polygons_is_said():
    mask = disc(100, 100, 50, 50, 40) & ~disc(100, 100, 50, 50, 20)
    assert simplified(mask)[0] is None
    # filled, it has 40^2 of 40^2 - 20^2 pixels: IoU 3/4
    assert simplified(mask)[1] == pytest.approx(0.75, abs=0.01)
    assert simplified(mask, 0.7)[0] is not None


def test_many_parts_stay_a_mask():
    mask = np.zeros((100, 100), bool)
    for k in range(11):
        mask[:, 9 * k : 9 * k + 5] = True  # eleven bars, none of which can be left out: 10 / 11 < .98
    assert simplified(mask)[0] is None
    assert len(simplified(mask, 0.9)[0]) == 10


def test_nothing_and_a_pixel():
    assert simplified(np.zeros((9, 9), bool)) == (None, 0.0)
    mask = np.zeros((9, 9), bool)
    mask[4, 5] = True
    polygons, reached = simplified(mask)
    assert polygons is None or reached == iou(polygons, mask) == 1


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32 - 1), st.floats(0.7, 1.0))
def test_drawn_masks_keep_the_promise(seed, least):
    """Blobs anywhere, over the edge too: the IoU said is that of COCO's filling, no polygon leaves the mask's box."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((40, 50), bool)
    for _ in range(rng.integers(1, 4)):
        mask |= disc(40, 50, rng.uniform(-5, 55), rng.uniform(-5, 45), rng.uniform(1, 15))
    polygons, reached = simplified(mask, least)
    if polygons is None:
        assert reached < least
        return
    assert least <= reached == iou(polygons, mask)
    x, y, w, h = rle.box(rle.encode(mask), 40)
    for flat in polygons:
        left, top, width, height = geometry.polygon_box(flat)
        assert x <= left and y <= top and left + width <= x + w and top + height <= y + h
        assert len(flat) >= 6 and geometry.is_simple(flat) is not False


def test_edges_are_those_of_holes_too():
    mask = np.zeros((20, 24), bool)
    mask[4:14, 3:15] = True
    mask[7:11, 6:12] = False
    rings = outline.edges(rle.encode(mask), 20, 24, 0.5)
    assert len(rings) == 2
    boxes = sorted((min(r[::2]), min(r[1::2]), max(r[::2]), max(r[1::2])) for r in rings)
    assert boxes == [(3, 4, 15, 14), (6, 7, 12, 11)]
    assert all(len(r) <= 16 for r in rings)  # corners cut at half a pixel: two points each at most
    assert outline.edges(rle.encode(np.zeros((5, 5), bool)), 5, 5, 1.0) == []
    speck = np.zeros((5, 5), bool)
    speck[2, 2] = True
    assert len(outline.edges(rle.encode(speck), 5, 5, 3.0)[0]) >= 6  # thinner than the tolerance, and still there
