"""Tiles: the cutter, the rule at seams, and a detector that is right whatever the cut."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from toolkit.data.tiles import Tiles, largest_side, merged, overlap_for
from toolkit.prediction.tiles_and_tta import Tiled


@settings(max_examples=200, deadline=None)
@given(st.integers(1, 700), st.integers(1, 700), st.integers(32, 300), st.integers(0, 149))
def test_tiles_cover_the_picture_and_are_full(width, height, size, overlap):
    tiles = Tiles(size, min(overlap, size // 2))
    seen = np.zeros((height, width), dtype=int)
    for x1, y1, x2, y2 in tiles.windows(width, height):
        assert (x2 - x1, y2 - y1) == (min(size, width), min(size, height))
        assert x1 >= 0 and y1 >= 0 and x2 <= width and y2 <= height
        seen[y1:y2, x1:x2] += 1
    assert seen.min() >= 1


@settings(max_examples=200, deadline=None)
@given(st.integers(100, 2000), st.integers(64, 300), st.integers(1, 150), st.data())
def test_an_object_no_larger_than_the_overlap_is_whole_in_some_tile(length, size, overlap, data):
    tiles = Tiles(size, min(overlap, size // 2))
    side = data.draw(st.integers(1, tiles.overlap))
    at = data.draw(st.integers(0, max(0, length - side)))
    assert any(start <= at and at + side <= start + size for start in tiles.starts(length))


def test_as_few_as_cover_it():
    # 1000 px in tiles of 400 that share 100: 0 and 300 and 600 cover it exactly; one pixel more needs a fourth
    assert Tiles(400, 100).starts(1000) == [0, 300, 600]
    assert len(Tiles(400, 100).starts(1001)) == 4
    assert Tiles(400, 100).starts(400) == [0]


def test_overlap_from_the_largest_object():
    boxes = np.array([[0, 0, 10, 30]] * 99 + [[0, 0, 900, 5]], dtype=float)
    assert overlap_for(largest_side(boxes[:99]), 400) == 30
    assert overlap_for(300, 400) == 200  # at most half of the tile
    assert largest_side(np.zeros((0, 4))) == 0
    for size, overlap in ((31, 0), (100, 100), (100, -1)):
        with pytest.raises(InputError, match="--tiles"):
            Tiles(size, overlap)


class Blobs:
    """A detector that finds every connected grey value above 0 as one box, scored by its value / 255, cut or not."""

    opening: ClassVar[dict] = {}
    reads_windows = False
    name, identity = "blobs", "1"

    def __init__(self) -> None:
        self.categories = [{"id": 7, "name": "blob"}]
        self.score_thresholds: dict[str, float] = {}
        self.seen: list[tuple[int, ...]] = []

    def detect(self, images):
        self.seen += [image.shape for image in images]
        return [[self._box(image, value) for value in np.unique(image)[::-1] if value] for image in images]

    def _box(self, image, value):
        mask = (image == value).any(axis=2)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = [columns[0], rows[0], columns[-1] - columns[0] + 1, rows[-1] - rows[0] + 1]
        segmentation = rle.to_rle(rle.encode(mask), *mask.shape)
        return {
            "category_id": 7,
            "score": round(float(value) / 255, 6),
            "bbox": [float(v) for v in box],
            "segmentation": segmentation,
        }


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000))
def test_tiled_finds_what_is_found_in_the_whole_picture(seed):
    """Objects up to the overlap, anywhere: the same boxes and masks as without tiles, each once."""
    random = np.random.default_rng(seed)
    height, width = random.integers(60, 260, 2)
    image = np.zeros((height, width, 3), dtype=np.uint8)
    for value in range(1, 12):
        h, w = random.integers(4, 20, 2)
        y, x = random.integers(0, height - h), random.integers(0, width - w)
        if not image[max(0, y - 1) : y + h + 1, max(0, x - 1) : x + w + 1].any():
            image[y : y + h, x : x + w] = value * 20
    whole, tiled = Blobs().detect([image])[0], Tiled(Blobs(), Tiles(64, 20)).detect([image])[0]
    assert tiled == whole


def test_an_object_larger_than_the_overlap_is_put_together():
    """200 px wide in tiles of 100 that share 20: cut into pieces in every tile, one box and one mask in the end."""
    image = np.zeros((90, 340, 3), dtype=np.uint8)
    image[20:60, 50:250] = 200
    (found,) = Tiled(Blobs(), Tiles(100, 20)).detect([image])[0]
    assert found["bbox"] == [50, 20, 200, 40]
    mask = rle.decode(rle.to_runs(found["segmentation"]), 90, 340)
    assert (mask == image.any(axis=2)).all()


def test_two_objects_that_a_seam_parts_stay_two():
    """Their extents across the seam differ: 10..30 above, 60..80 below."""
    pieces = [
        ({"category_id": 1, "score": 0.9, "bbox": [60.0, 10.0, 40.0, 20.0]}, (0, 0, 100, 100)),
        ({"category_id": 1, "score": 0.8, "bbox": [80.0, 60.0, 40.0, 20.0]}, (80, 0, 180, 100)),
    ]
    assert len(merged(pieces, 180, 100)) == 2
    # and a box that ends at the border of the picture is whole: nothing is joined to it
    at_border = [({**one, "bbox": [0.0, 10.0, 100.0, 20.0]}, window) for one, window in pieces[:1]]
    assert merged(at_border, 100, 100)[0]["bbox"] == [0, 10, 100, 20]


def test_a_piece_goes_where_the_whole_is_and_other_classes_stay():
    whole = ({"category_id": 1, "score": 0.6, "bbox": [70.0, 10.0, 40.0, 40.0]}, (50, 0, 150, 100))
    piece = ({"category_id": 1, "score": 0.9, "bbox": [70.0, 12.0, 30.0, 36.0]}, (0, 0, 100, 100))
    other = ({**piece[0], "category_id": 2}, piece[1])
    found = merged([piece, whole, other], 150, 100)
    assert [(one["category_id"], one["score"]) for one in found] == [(2, 0.9), (1, 0.6)]


def test_a_sliver_goes_where_the_larger_piece_is():
    # one object from x = 40 on; the right tile sees only what of it lies inside of the left tile's piece, but surer
    large = ({"category_id": 1, "score": 0.6, "bbox": [40.0, 10.0, 60.0, 40.0]}, (0, 0, 100, 100))
    sliver = ({"category_id": 1, "score": 0.9, "bbox": [80.0, 12.0, 12.0, 36.0]}, (80, 0, 180, 100))
    assert merged([sliver, large], 180, 100) == [large[0]]


def test_a_small_picture_is_seen_whole_and_batches_are_of_one_size():
    detector = Blobs()
    Tiled(detector, Tiles(100, 20), batch_size=2).detect([np.zeros((80, 60, 3), np.uint8)] * 3)
    assert detector.seen == [(80, 60, 3)] * 3
    assert Tiled(Blobs(), Tiles(100, 20)).detect([np.zeros((300, 300, 3), np.uint8)]) == [[]]


def test_a_picture_keeps_its_thousand_best():
    # 1,001 boxes apart from one another in one tile; the first has the lowest score and goes
    boxes = [[20 * (k % 40), 20 * (k // 40), 10, 10] for k in range(1001)]
    pieces = [({"category_id": 1, "bbox": box, "score": k / 2000}, (0, 0, 800, 600)) for k, box in enumerate(boxes)]
    found = merged(pieces, 800, 600)
    assert len(found) == 1000 and [found[0]["score"], found[-1]["score"]] == [0.5, 1 / 2000]
