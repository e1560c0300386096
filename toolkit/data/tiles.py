"""Cut a picture into tiles and merge the detections found in them; cut the pictures of an `Index` to train on tiles.

Tiles are squares of one size with an overlap; where a picture does not divide evenly they overlap more, so that every
tile is full. A picture that is no larger than a tile in a direction is not cut in it. With an overlap of the largest
object, every object lies whole in some tile.

The rule at seams, class by class. A box that ends at a tile's border inside of the picture is a piece, any other is
whole.
1. Whole boxes first, then pieces, each from the highest score down: a box is left out where an earlier one has IoU 0.5
   or more with it; a piece also where half of it lies in an earlier box. With an overlap of the largest object every
   object is whole in some tile, so this takes its pieces away.
2. Pieces that are left belong to objects larger than the overlap: two that meet in the overlap of their tiles, and are
   alike across it, become one box with the higher score.

To train on: an object belongs to a tile that shows half of it or more, or that it fills by half or more; its box ends
at the tile's border. A smaller piece is background there: with an overlap of the largest object, that object is whole
in another tile.
"""

from __future__ import annotations

import itertools
import math
from collections import defaultdict
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from toolkit.data.boxes import bbox, corners
from toolkit.data.coco_index import Cut, Index

AUTO, NONE = "auto", "none"
SMALLEST, LARGEST_OVERLAP = 32, 0.5  # pixels; of a tile's side: more would double the work for rare giants
Window = tuple[int, int, int, int]  # x1, y1, x2, y2 in pixels of the picture
SAME = 0.5  # IoU from which two boxes are one object
AT_BORDER = 2.0  # pixels from a tile's border: a box there may go on behind it
SHOWN = 0.5  # share of an object in a tile, or of a tile filled by it, from which on it belongs to the tile
MOST_DETECTIONS = 1000  # of a picture
Group = tuple[list[dict[str, Any]], np.ndarray, np.ndarray]  # pieces of one object, their box, which sides are cut
Found = list[dict[str, Any]]  # of one picture: {"category_id", "bbox": [x, y, w, h] pixels, "score", ...}


@dataclass(frozen=True)
class Tiles:
    """size, overlap: of square tiles, pixels of the picture."""

    size: int
    overlap: int

    def __post_init__(self) -> None:
        if self.size < SMALLEST or not 0 <= self.overlap < self.size:
            raise InputError(
                f"--tiles: found {self.size} px with an overlap of {self.overlap}, needs {SMALLEST} px or more and "
                f"an overlap under the size"
            )

    def __str__(self) -> str:
        return f"tiles of {self.size} px, overlap {self.overlap}"

    def windows(self, width: int, height: int) -> list[Window]:
        """The tiles of a picture, row by row."""
        return [
            (x, y, min(x + self.size, width), min(y + self.size, height))
            for y in self.starts(height)
            for x in self.starts(width)
        ]

    def starts(self, length: int) -> list[int]:
        """Where tiles begin along one side, as few as cover it, evenly apart."""
        if length <= self.size:
            return [0]
        number = math.ceil((length - self.overlap) / (self.size - self.overlap))
        return [round(place) for place in np.linspace(0, length - self.size, number)]


def overlap_for(largest: float, size: int) -> int:
    """The overlap of tiles of this size for objects up to `largest` pixels, at most half of the tile."""
    return min(math.ceil(largest), int(LARGEST_OVERLAP * size))


def largest_side(boxes: np.ndarray) -> float:
    """The longer side that all but one of a hundred boxes [N,4] XYXY stay under; 0 without boxes."""
    return float(np.quantile((boxes[:, 2:] - boxes[:, :2]).max(axis=1), 0.99)) if len(boxes) else 0.0


def tiles_for(text: str, index: Index, image_size: int) -> Tiles | None:
    """`--tiles` of a training: `none`, a size in pixels, or `auto`: image_size, so that nothing shrinks, and at least
    twice the largest object, so that the overlap holds it. Raises InputError."""
    if text == NONE:
        return None
    largest = largest_side(index.boxes[~index.crowd])
    if text == AUTO:
        size = max(image_size, math.ceil(2 * largest))
    elif text.isascii() and text.isdecimal():
        size = int(text)
    else:
        raise InputError(f"--tiles: found {text}, needs none, auto or a size in pixels")
    return Tiles(size, overlap_for(largest, size))


def cut(index: Index, tiles: Tiles, *, all_tiles: bool) -> Index:
    """The index of the tiles of its pictures, numbered from 1.

    all_tiles: False leaves out tiles without an object, evenly, where these are more than the others.
    """
    if index.outlines is not None:
        raise InputError("--tiles: not for networks with masks; needs a network of boxes")
    rows, windows, objects, boxes = [], [], [], []
    for row in range(len(index)):
        here = index.objects(row)
        all_boxes = index.boxes[here]
        height, width = (int(side) for side in index.sizes[row])
        for window in tiles.windows(width, height):
            corner, end = np.array(window[:2] * 2, np.float32), np.array(window[2:] * 2, np.float32)
            seen = all_boxes.clip(corner, end)
            belongs = np.flatnonzero(area(seen) >= SHOWN * np.minimum(area(all_boxes), np.prod((end - corner)[:2])))
            rows.append(row)
            windows.append(window)
            objects.append(here.start + belongs)
            boxes.append(seen[belongs] - corner)
    counts = np.array([len(one) for one in objects])
    kept = np.arange(len(rows))
    if not all_tiles:
        kept = np.sort(np.r_[np.flatnonzero(counts), _some(np.flatnonzero(counts == 0), int((counts > 0).sum()))])
    of = np.array(rows)[kept]
    kept_windows = np.array(windows, dtype=np.int32)[kept]
    object_rows = np.concatenate([objects[k] for k in kept]).astype(np.int64)
    paths = [index.name(row) for row in of.tolist()]
    return replace(
        index,
        image_ids=np.arange(1, len(kept) + 1),
        sizes=(kept_windows[:, 2:] - kept_windows[:, :2])[:, ::-1],
        boxes=np.concatenate([boxes[k] for k in kept]).astype(np.float32),
        labels=index.labels[object_rows],
        crowd=index.crowd[object_rows],
        first=np.r_[0, np.cumsum(counts[kept])],
        names=np.frombuffer(b"".join(paths), dtype=np.uint8),
        name_ends=np.cumsum([len(path) for path in paths]),
        cut=Cut(tiles.size, tiles.overlap, kept_windows, index.image_ids[of], index.sizes[of]),
    )


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]


def moved(one: dict[str, Any], window: Window, size: tuple[int, int]) -> dict[str, Any]:
    """A detection in a tile as one in the picture."""
    x, y, w, h = one["bbox"]
    moved = {**one, "bbox": [x + window[0], y + window[1], w, h]}
    if "segmentation" in one:
        tile = rle.decode(rle.to_runs(one["segmentation"]), window[3] - window[1], window[2] - window[0])
        mask = np.zeros(size, dtype=bool)
        mask[window[1] : window[3], window[0] : window[2]] = tile
        moved["segmentation"] = rle.to_rle(rle.encode(mask), *size)
    return moved


def joined(results: Found, cut: Cut) -> Found:
    """COCO results of tiles, whose image_id is a row's number from 1 -> those of their pictures."""
    pieces: dict[int, list[tuple[dict[str, Any], tuple]]] = defaultdict(list)
    sizes = {}
    for one in results:
        row = one["image_id"] - 1
        picture, window = int(cut.picture_ids[row]), tuple(cut.windows[row].tolist())
        sizes[picture] = tuple(cut.picture_sizes[row].tolist())
        pieces[picture].append((moved(one, window, sizes[picture]), window))
    return [
        {**one, "image_id": picture}
        for picture, found in pieces.items()
        for one in merged(found, sizes[picture][1], sizes[picture][0])
    ]


def merged(pieces: list[tuple[dict[str, Any], Window]], width: int, height: int) -> Found:
    """Detections in pixels of the picture, each with the tile it was found in -> those of the picture, best first."""
    kept: Found = []
    for category in {one["category_id"] for one, _ in pieces}:
        kept += _of_class([piece for piece in pieces if piece[0]["category_id"] == category], width, height)
    return sorted(kept, key=lambda one: -one["score"])[:MOST_DETECTIONS]


def _of_class(pieces: list[tuple[dict[str, Any], Window]], width: int, height: int) -> Found:
    boxes = corners([one["bbox"] for one, _ in pieces])
    windows = np.array([window for _, window in pieces], dtype=float)
    cut = cut_sides(boxes, windows, width, height)
    is_piece = np.any(cut, axis=1).tolist()
    score = np.array([one["score"] for one, _ in pieces])
    kept: list[int] = []
    # what no border cuts first, by score; then pieces, the largest first: a sliver must not take the place of the rest
    piece_area = np.where(is_piece, area(boxes), 0.0)
    for row in np.lexsort((-score, -piece_area, is_piece)).tolist():
        others = boxes[kept]
        inside = _intersection(boxes[row], others)
        own, theirs = area(boxes[row][None]), area(others)
        same: np.ndarray = inside >= SAME * (own + theirs - inside)
        if is_piece[row]:
            same = same | (inside >= SAME * own)
        if not same.any():
            kept.append(row)
    found = [one for one, _ in pieces]
    return [found[row] for row in kept if not is_piece[row]] + _joined(
        [row for row in kept if is_piece[row]], found, boxes, cut
    )


def cut_sides(boxes: np.ndarray, windows: np.ndarray, width: int, height: int) -> np.ndarray:
    """[N,4] bool: which sides (left, top, right, bottom) of boxes XYXY end at their tile's border in the picture."""
    near = np.abs(boxes - windows) <= AT_BORDER
    inner = windows * [1, 1, -1, -1] + [0, 0, width, height] > 0
    return near & inner


def _joined(kept: list[int], found: Found, boxes: np.ndarray, cut: np.ndarray) -> Found:
    """Pieces that meet, put together until none meet any more."""
    groups: list[Group] = [([found[row]], boxes[row], cut[row]) for row in kept]
    while pair := _two_that_meet(groups):
        a, b, axis = pair
        (members, box, low), (others, other, high) = groups[a], groups[b]
        sides = low | high
        sides[axis + 2], sides[axis] = high[axis + 2], low[axis]
        extent = np.r_[np.minimum(box, other)[:2], np.maximum(box, other)[2:]]
        groups[a] = members + others, extent, sides
        del groups[b]
    return [_together(members, box) for members, box, _ in groups]


def _two_that_meet(groups: list[Group]) -> tuple[int, int, int] | None:
    """Places of the first two, and the axis: one is left of the other (0), or above it (1)."""
    for (a, (_, box, sides)), (b, (_, other, others)) in itertools.permutations(enumerate(groups), 2):
        for axis in (0, 1):
            if sides[axis + 2] and others[axis] and _meet(box, other, axis):
                return a, b, axis
    return None


def _meet(a: np.ndarray, b: np.ndarray, axis: int) -> bool:
    """Whether the end of a and the beginning of b along `axis` overlap, and their extents across it are alike."""
    across = 1 - axis
    if not (a[axis] < b[axis] <= a[axis + 2] + AT_BORDER and a[axis + 2] < b[axis + 2]):
        return False
    shared = min(a[across + 2], b[across + 2]) - max(a[across], b[across])
    whole = max(a[across + 2], b[across + 2]) - min(a[across], b[across])
    return bool(shared >= SAME * whole)


def _together(group: Found, box: np.ndarray) -> dict[str, Any]:
    best = max(group, key=lambda one: one["score"])
    if len(group) == 1:
        return best
    joined = {**best, "bbox": [round(value, 3) for value in bbox(box.tolist())]}
    if "segmentation" in best:
        size = best["segmentation"]["size"]
        masks = [rle.decode(rle.to_runs(one["segmentation"]), *size) for one in group]
        joined["segmentation"] = rle.to_rle(rle.encode(np.any(masks, axis=0)), *size)
    return joined


def area(boxes: np.ndarray) -> np.ndarray:
    """[N] of boxes [N,4] XYXY."""
    return (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)


def _intersection(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    """[M] area that others [M,4] share with one box."""
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    return sides.clip(0).prod(axis=1)
