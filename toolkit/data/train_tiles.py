"""Cut the pictures of an `Index` into tiles to train on.

The rule: an object belongs to a tile that shows half of it or more, or that it fills by half or more; its box ends at
the tile's border. A smaller piece is background there: with an overlap of the largest object, that object is whole in
another tile.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from label_tools.text.errors import InputError
from toolkit.data.coco_index import Index
from toolkit.data.tiles import Cut, Tiles, area, largest_side, overlap_for

AUTO, NONE = "auto", "none"
SHOWN = 0.5  # share of an object in a tile, or of a tile filled by it, from which on it belongs to the tile


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
        cut=Cut(tiles, kept_windows, index.image_ids[of], index.sizes[of]),
    )


def _some(rows: np.ndarray, most: int) -> np.ndarray:
    """At most so many of the rows, evenly."""
    return rows if len(rows) <= most else rows[np.linspace(0, len(rows) - 1, most).astype(int)]
