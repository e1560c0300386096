"""Connected parts of a mask, from its runs instead of its pixels: a thousand runs, not a million pixels."""

from __future__ import annotations

import numpy as np


def label_parts(starts: np.ndarray, ends: np.ndarray, height: int) -> np.ndarray:
    """The number of the connected part, 0, 1, ..., of each interval; parts in the order of their first interval.

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
    # intervals with several neighbours join what began apart; there are few of them
    joins = np.flatnonzero(counts > 1)
    part = {int(k): int(k) for k in np.unique(origin)}

    def root(k: int) -> int:
        while part[k] != k:
            part[k] = part[part[k]]
            k = part[k]
        return k

    for a, b in zip(first[joins].tolist(), last[joins].tolist()):
        one, *others = {root(k) for k in origin[a:b].tolist()}
        for other in others:
            one, other = min(one, other), max(one, other)
            part[other] = one
    roots = np.array([root(k) for k in part], dtype=np.int64)
    return np.unique(roots[np.searchsorted(np.array(list(part)), origin)], return_inverse=True)[1]
