"""Geometry and run lengths: by hand, by property, against pycocotools, and what must not reach it."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from label_tools.formats.masks import intervals_by_id
from label_tools.shapes import geometry, rle
from label_tools.shapes.components import label_parts

SQUARE = [10.0, 10.0, 30.0, 10.0, 30.0, 30.0, 10.0, 30.0]
BOW_TIE = [10.0, 10.0, 30.0, 30.0, 30.0, 10.0, 10.0, 30.0]
coordinates = st.integers(-800, 800).map(lambda v: v / 4)  # quarter pixels: exact in floats
polygons = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=12).map(
    lambda points: [v for p in points for v in p]
)
masks = hnp.arrays(bool, hnp.array_shapes(min_dims=2, max_dims=2, max_side=24))


def test_box_and_area_by_hand():
    assert geometry.polygon_box(SQUARE) == (10, 10, 20, 20)  # 30 - 10, no +1
    assert geometry.polygon_area(SQUARE) == 400  # 20 * 20
    assert geometry.polygon_area([0, 0, 4, 0, 0, 3]) == 6  # half of 4 * 3
    assert geometry.polygon_area(BOW_TIE) == 0  # two halves of 100 with opposite signs
    far = [v + 1e7 for v in SQUARE]
    assert geometry.polygon_area(far) == 400  # no digits lost far from the origin


def test_simple_or_not():
    star = [
        v for k in range(5) for v in (50 + 40 * math.cos(k * 4 * math.pi / 5), 50 + 40 * math.sin(k * 4 * math.pi / 5))
    ]
    comb = [0, 0, 10, 0, 10, 10, 8, 10, 8, 2, 6, 2, 6, 10, 4, 10, 4, 2, 2, 2, 2, 10, 0, 10]  # concave, not crossing
    assert geometry.is_simple(SQUARE) and geometry.is_simple(comb)
    assert geometry.is_simple(BOW_TIE) is False
    assert geometry.is_simple(star) is False  # turns one way, but goes around twice
    assert geometry.is_simple([0.0, 0.0, *[float(v) for k in range(2000) for v in (k, (-1) ** k * k)]]) is None


@given(polygons)
def test_turning_the_list_or_the_direction_changes_nothing(flat):
    points = list(zip(flat[0::2], flat[1::2]))
    again = [v for p in [*points[2:], *points[:2]][::-1] for v in p]
    assert geometry.polygon_area(again) == pytest.approx(geometry.polygon_area(flat), abs=1e-6)
    assert geometry.polygon_box(again) == geometry.polygon_box(flat)
    assert geometry.is_simple(again) == geometry.is_simple(flat)


def test_clipping_by_hand():
    # the right half of the square lies beyond 20
    assert sorted(zip(*[iter(geometry.clip_polygon(SQUARE, 20, 100))] * 2)) == [(10, 10), (10, 30), (20, 10), (20, 30)]
    assert geometry.clip_polygon(SQUARE, 5, 5) == []
    assert geometry.clip_box((50, 5, 20, 25), 64, 48) == (50, 5, 14, 25)
    assert geometry.clip_box((70, 5, 20, 25), 64, 48)[2] == 0
    # a U whose two arms stand in the image and whose bottom does not: two pieces, 2 * 10 and 2 * 10
    u = [0, 0, 2, 0, 2, 12, 8, 12, 8, 0, 10, 0, 10, 20, 0, 20]
    left = geometry.clip_polygon(u, 100, 10)
    assert geometry.polygon_area(left) == 40 and geometry.polygon_box(left) == (0, 0, 10, 10)


@given(polygons, st.integers(1, 150), st.integers(1, 150))
def test_clipped_lies_inside_and_clipping_again_changes_nothing(flat, width, height):
    left = geometry.clip_polygon(flat, width, height)
    assert all(0 <= x <= width for x in left[0::2]) and all(0 <= y <= height for y in left[1::2])
    if len(left) >= 6:
        again = geometry.clip_polygon(left, width, height)
        assert geometry.polygon_area(again) == pytest.approx(geometry.polygon_area(left), abs=1e-6)


@settings(max_examples=40)
@given(st.lists(st.floats(2, 60), min_size=5, max_size=12), st.floats(-20, 60), st.floats(-20, 60))
def test_clipped_area_is_what_the_pixels_say(radii, x, y):
    """Against the raster: a star-shaped outline cut by a 64 x 48 image."""
    n = len(radii)
    flat = [
        v
        for k, r in enumerate(radii)
        for v in (x + r * math.cos(2 * math.pi * k / n), y + r * math.sin(2 * math.pi * k / n))
    ]
    left = geometry.clip_polygon(flat, 64, 48)
    area = geometry.polygon_area(left) if len(left) >= 6 else 0
    fine = rle.rasterize([[8 * v for v in flat]], 48 * 8, 64 * 8)
    outline = 2 * (64 + 48)
    assert abs(rle.area(fine) / 64 - area) <= outline / 8 + 1  # an eighth of a pixel along the outline


@given(st.floats(1, 5000), st.floats(-100, 5000), st.floats(-100, 5000))
def test_a_circle_has_its_box_and_its_area(radius, x, y):
    flat = geometry.circle_polygon(x, y, radius)
    left, top, width, height = geometry.polygon_box(flat)
    assert (left, top) == pytest.approx((x - radius, y - radius), abs=0.006)  # points are rounded to 0.01
    assert (width, height) == pytest.approx((2 * radius, 2 * radius), abs=0.012)
    assert geometry.polygon_area(flat) == pytest.approx(math.pi * radius**2, rel=0.07)  # 12 points at least


def test_a_thick_line_is_a_rectangle():
    # from (10, 20) to (30, 20), 4 thick: reaches 2 beyond the ends and 2 to both sides
    assert geometry.polygon_box(geometry.thick_segment(10, 20, 30, 20, 4)) == (8, 18, 24, 4)
    assert geometry.polygon_area(geometry.thick_segment(10, 20, 10, 20, 4)) == 16  # a point: a square
    assert geometry.polygon_area(geometry.thick_segment(0, 0, 30, 40, 2)) == pytest.approx(52 * 2)  # 50 long, 1 + 1


def test_repeated_points_and_closed_rings():
    assert geometry.without_repeats([*SQUARE, 10.0, 10.0]) == SQUARE
    assert geometry.without_repeats([10.0, 10.0, *SQUARE]) == SQUARE
    assert geometry.without_repeats([1.0, 1.0] * 4) == [1.0, 1.0]


def test_runs_by_hand():
    mask = np.array([[0, 1, 1], [0, 0, 1]], bool)  # columns: 00, 10, 11 -> 00 1 0 11
    runs = rle.encode(mask)
    assert runs.tolist() == [2, 1, 1, 2]
    assert rle.area(runs) == 3 and rle.box(runs, 2) == (1, 0, 2, 2)
    assert rle.encode(np.ones((2, 2), bool)).tolist() == [0, 4]
    assert rle.encode(np.zeros((2, 2), bool)).tolist() == [4]
    assert rle.box(rle.encode(np.zeros((2, 2), bool)), 2) == (0, 0, 0, 0)


@given(masks)
def test_runs_agree_with_pycocotools_and_come_back(mask):
    from pycocotools import mask as native

    height, width = mask.shape
    runs = rle.encode(mask)
    theirs = native.encode(np.asfortranarray(mask.astype(np.uint8)))
    text = rle.to_rle(runs, height, width)["counts"]
    assert text == theirs["counts"].decode()
    assert rle.to_runs({"size": [height, width], "counts": text}).tolist() == runs.tolist()
    assert rle.to_runs({"size": [height, width], "counts": runs.tolist()}).tolist() == runs.tolist()
    assert (rle.decode(runs, height, width) == mask).all()
    assert rle.area(runs) == mask.sum()
    assert rle.box(runs, height) == tuple(native.toBbox(theirs))


@given(st.lists(st.integers(0, 1 << 27), min_size=1, max_size=40))
def test_large_runs_as_text(counts):
    runs = np.array(counts, dtype=np.int64)
    assert rle._runs_of_text(rle.to_text(runs).encode()).tolist() == counts


@given(masks, masks)
def test_union_and_crops(a, b):
    height, width = max(a.shape[0], b.shape[0]), max(a.shape[1], b.shape[1])
    x, y = 3, -2
    whole = np.zeros((height + 40, width + 40), bool)
    whole[20 + y : 20 + y + a.shape[0], 20 + x : 20 + x + a.shape[1]] = a
    expected = whole[20 : 20 + height, 20 : 20 + width]
    runs = rle.from_crop(a, x, y, height, width)
    assert runs.tolist() == rle.encode(expected).tolist()
    other = np.zeros((height, width), bool)
    other[: b.shape[0], : b.shape[1]] = b
    assert rle.union([runs, rle.encode(other)], height, width).tolist() == rle.encode(expected | other).tolist()


@given(hnp.arrays(np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=16), elements=st.integers(0, 3)))
def test_every_id_and_every_part_of_a_mask(ids):
    """Against a flood fill in plain Python."""
    height, width = ids.shape
    for value, (starts, ends) in intervals_by_id(ids).items():
        runs = rle.from_intervals(starts, ends, ids.size)
        assert (rle.decode(runs, height, width) == (ids == value)).all()
        parts = label_parts(starts, ends, height)
        got = set()
        for part in range(int(parts.max()) + 1):
            mine = parts == part
            pixels = [p for s, e in zip(starts[mine], ends[mine]) for p in range(s, e)]
            got.add(frozenset((p % height, p // height) for p in pixels))
        assert got == flood(ids == value)


def flood(mask: np.ndarray) -> set[frozenset]:
    left = {(int(r), int(c)) for r, c in zip(*np.nonzero(mask))}
    parts = set()
    while left:
        stack = [left.pop()]
        part = set(stack)
        while stack:
            r, c = stack.pop()
            near = {(r + dr, c + dc) for dr in (-1, 0, 1) for dc in (-1, 0, 1)} & left
            left -= near
            part |= near
            stack += near
        parts.add(frozenset(part))
    return parts


class Recorder:
    """Stands in for pycocotools.mask and fails when it is called with what would end it."""

    calls = 0

    def frPyObjects(self, polygons, height, width):
        Recorder.calls += 1
        assert 0 < height < 65536 and 0 < width < 65536
        assert all(len(p) >= 6 and len(p) % 2 == 0 and all(abs(v) <= 1e5 for v in p) for p in polygons)
        return polygons

    def merge(self, polygons):
        return {"counts": b"1"}


@given(st.lists(st.floats(), max_size=9), st.integers(-5, 2**33), st.integers(-5, 2**33))
def test_nothing_unsafe_reaches_pycocotools(flat, height, width):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pycocotools.mask.frPyObjects", Recorder().frPyObjects)
        patch.setattr("pycocotools.mask.merge", Recorder().merge)
        try:
            rle.rasterize([flat], height, width)
        except rle.RleError as error:
            assert str(error)


def test_the_recorder_is_reached_at_all(monkeypatch):
    monkeypatch.setattr("pycocotools.mask.frPyObjects", Recorder().frPyObjects)
    monkeypatch.setattr("pycocotools.mask.merge", Recorder().merge)
    before = Recorder.calls
    rle.rasterize([SQUARE], 48, 64)
    assert Recorder.calls == before + 1


@pytest.mark.parametrize(
    "polygon",
    [
        [],
        [1.0] * 4,
        [1.0] * 7,
        [1, 1, math.nan, 2, 3, 3],
        [1, 1, math.inf, 2, 3, 3],
        [1, 1, 2e8, 2, 3, 3],
        [0, 0, 1e5, 0, 0, 1e5] * 50,
    ],
)
def test_polygons_that_end_pycocotools_are_refused(polygon):
    with pytest.raises(rle.RleError):
        rle.rasterize([polygon], 48, 64)


@pytest.mark.parametrize(
    "size", [[0, 5], [5], None, [2**31 - 1, 2**31 - 1], [1.0, 2.0], [True, True], [-3, 4], [65535, 65535]]
)
def test_sizes_that_end_pycocotools_are_refused(size):
    with pytest.raises(rle.RleError):
        rle.to_runs({"size": size, "counts": [1]})
