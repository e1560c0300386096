"""Connected components: of a mask, from its runs instead of its pixels; of any linked items (union-find)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np


def label_parts(starts: np.ndarray, ends: np.ndarray, height: int) -> np.ndarray:
    """Label intervals by their connected part: 0, 1, ..., in the order of the parts' first intervals.

    starts, ends: sorted half-open intervals of a column-first image, none reaching over a column's end.
    Two pixels are neighbours along sides and corners (8-connected).
    """
    n = len(starts)
    if n == 0:
        return np.zeros(0, dtype=np.int64)
    # push every column's intervals apart, so that "the next column, same rows" is one sorted search
    column = starts // height
    stride = height + 2
    low = (starts - column * height) + column * stride
    high = low + (ends - starts)  # exclusive
    # an interval touches those of the column before with high' >= low - stride and low' <= high - stride
    first = np.searchsorted(high, low - stride, side="left")
    last = np.searchsorted(low, high - stride, side="right")
    counts = last - first
    if np.count_nonzero(counts) == n - 1:  # all but one have a neighbour on their left: all lead to that one
        return np.zeros(n, dtype=np.int64)
    # follow every interval to the left, through its first neighbour, to one that has none there
    origin = np.where(counts > 0, first, np.arange(n))
    while not np.array_equal(further := origin[origin], origin):
        origin = further
    # the few intervals with several neighbours join parts that started separately
    parts, part = np.unique(origin, return_inverse=True)
    several = np.flatnonzero(counts > 1)
    links = [part[a:b].tolist() for a, b in zip(first[several].tolist(), last[several].tolist())]
    return np.unique(np.array(join(len(parts), links))[part], return_inverse=True)[1]


def join(count: int, links: Iterable[Sequence[int]]) -> list[int]:
    """Group `count` items connected by `links`; a group's number is its lowest index.

    `join(4, [(0, 2), (2, 3)])` is `[0, 1, 0, 0]`: links are transitive (union-find).
    """
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for one, *others in links:
        for other in others:
            a, b = sorted((root(one), root(other)))
            parent[b] = a
    return [root(item) for item in range(count)]
