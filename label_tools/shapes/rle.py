"""RLE: masks as run lengths. The only module that uses pycocotools.

pycocotools is C code that trusts its input: NaN, infinite or huge coordinates and a wrong `size` end the whole
process, short counts give uninitialised memory. So everything is checked here before it is passed on.

Runs are COCO's: columns first, starting with the number of zeros, so that [[0,1],[0,1]] is [2, 2].
Run lengths and their compressed text are read and written here in numpy (pycocotools has room for six characters a run,
and writes a zero behind them); polygons, and masks for their IoU, go to pycocotools.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import numpy as np

from label_tools.text.rule_limits import LARGEST_COORDINATE

LARGEST_SIDE = 65_535
LARGEST_AREA = 1 << 28  # pixels of one mask: an int32 index in C code holds eight times as many
LARGEST_PERIMETER = 10_000_000.0  # pixels; pycocotools keeps five points a pixel of outline
_FIVE_BITS = np.array([16 << 5 * k for k in range(7)], dtype=np.int64)


class RleError(ValueError):
    """An invalid run-length mask or polygon; the message says why, without the file."""


def check_size(size: object) -> tuple[int, int]:
    """(height, width) from an RLE's `size`. Raises RleError."""
    if not isinstance(size, (list, tuple)) or len(size) != 2 or any(type(v) is not int for v in size):
        raise RleError(f"size {size!r}, needs [height, width]")
    height, width = size
    if not (1 <= height <= LARGEST_SIDE and 1 <= width <= LARGEST_SIDE and height * width <= LARGEST_AREA):
        raise RleError(f"size {height} x {width} is out of range")
    return height, width


def to_runs(rle: object) -> np.ndarray:
    """Run lengths int64 [R] of a COCO RLE, compressed (text) or not (list), summing to height x width.

    Raises RleError for anything else: no or negative counts, counts that do not fill the image, broken text.
    """
    if not isinstance(rle, dict):
        raise RleError(f"{type(rle).__name__} is not RLE")
    height, width = check_size(rle.get("size"))
    counts = rle.get("counts")
    if isinstance(counts, (str, bytes)):
        runs = _runs_of_text(counts.encode() if isinstance(counts, str) else counts)
    elif isinstance(counts, list):
        if any(type(c) is not int or not 0 <= c <= height * width for c in counts):
            raise RleError("counts must be whole numbers from 0 to height x width")
        runs = np.array(counts, dtype=np.int64)
    else:
        raise RleError("no counts")
    if len(runs) == 0 or (runs < 0).any() or int(runs.sum()) != height * width:
        raise RleError(f"counts sum to {int(runs.sum())}, {height} x {width} needs {height * width}")
    return runs


def to_text(runs: np.ndarray) -> str:
    """The compressed form of `counts`: differences to the run before last, five bits a character."""
    runs = np.asarray(runs, dtype=np.int64)
    values = runs.copy()
    values[3:] -= runs[1:-2]
    # characters needed: the smallest k with -16*32^(k-1) <= value < 16*32^(k-1)
    length = np.searchsorted(_FIVE_BITS, np.where(values < 0, ~values, values), side="right") + 1
    out = np.empty(int(length.sum()), dtype=np.uint8)
    start = np.cumsum(length) - length
    for k in range(int(length.max(initial=0))):
        here = length > k
        more = length[here] > k + 1
        out[start[here] + k] = ((values[here] >> 5 * k) & 31) + 32 * more + 48
    return out.tobytes().decode("ascii")


def _runs_of_text(text: bytes) -> np.ndarray:
    raw = np.frombuffer(text, dtype=np.uint8).astype(np.int64) - 48
    if len(raw) == 0 or (raw < 0).any() or (raw > 63).any() or raw[-1] & 32:
        raise RleError("counts are not compressed run lengths")
    ends = np.flatnonzero((raw & 32) == 0)
    starts = np.concatenate(([0], ends[:-1] + 1))
    length = ends - starts + 1
    if int(length.max()) > 7:
        raise RleError("counts hold a number too large for any image")
    shift = 5 * (np.arange(len(raw)) - np.repeat(starts, length))
    values = np.add.reduceat((raw & 31) << shift, starts)
    values -= np.where(raw[ends] & 16, np.int64(1) << (5 * length), 0)
    # counts[i] = value + counts[i-2] for i > 2: a running sum over odd and over even places from the 1st and 2nd on
    runs = values
    runs[1::2] = np.cumsum(runs[1::2])
    runs[2::2] = np.cumsum(runs[2::2])
    return runs


def encode(mask: np.ndarray) -> np.ndarray:
    """Runs of a mask [H,W] (nonzero counts)."""
    flat = np.asarray(mask).astype(bool, copy=False).ravel(order="F")
    changes = np.flatnonzero(flat[1:] != flat[:-1]) + 1
    edges = np.concatenate(([0], changes, [flat.size]))
    runs = np.diff(edges)
    return np.concatenate(([0], runs)) if flat.size and flat[0] else runs


def without_empty(runs: np.ndarray) -> np.ndarray:
    """The same mask without runs of length 0 behind the first.

    pycocotools' IoU stops where two masks have such a run at the same place.
    """
    if runs[1:].all():
        return runs
    ends = np.cumsum(runs)
    starts, size, ends = ends[0::2][: len(runs) // 2], int(ends[-1]), ends[1::2]
    filled = ends > starts
    return from_intervals(starts[filled], ends[filled], size)


def decode(runs: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H,W] of runs that sum to height x width."""
    values = np.arange(len(runs)) % 2 == 1
    return np.repeat(values, runs).reshape(width, height).T


def area(runs: np.ndarray) -> int:
    """The number of pixels of a mask."""
    return int(runs[1::2].sum())


def box(runs: np.ndarray, height: int) -> tuple[int, int, int, int]:
    """x, y, width, height of the pixels: min to max + 1. All zeros where there is none."""
    ends = np.cumsum(runs)
    starts, ends = ends[0::2][: len(runs) // 2], ends[1::2]
    filled = ends > starts
    starts, ends = starts[filled], ends[filled] - 1  # first and last pixel of each run of ones
    if len(starts) == 0:
        return 0, 0, 0, 0
    left, right = int(starts[0] // height), int(ends[-1] // height)
    if (starts // height != ends // height).any():  # a run over a column's end touches top and bottom
        return left, 0, right - left + 1, height
    top, bottom = int((starts % height).min()), int((ends % height).max())
    return left, top, right - left + 1, bottom - top + 1


def crop(runs: np.ndarray, height: int, width: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """(bool [h,w] of the pixels within their box, the box)."""
    x, y, w, h = box(runs, height)
    return decode(runs, height, width)[y : y + h, x : x + w], (x, y, w, h)


def from_intervals(starts: np.ndarray, ends: np.ndarray, size: int) -> np.ndarray:
    """Runs of sorted, separate half-open intervals of ones in a column-first image of `size` pixels."""
    edges = np.empty(2 * len(starts) + 2, dtype=np.int64)
    edges[0], edges[-1] = 0, size
    edges[1:-1:2], edges[2:-1:2] = starts, ends
    runs = np.diff(edges)
    # neighbours that touch leave a zero between two runs of ones: join them
    if len(starts) > 1 and (touching := np.flatnonzero(runs[2:-1:2] == 0)).size:
        keep = np.ones(len(starts), dtype=bool)
        keep[touching + 1] = False
        last = np.append(np.flatnonzero(keep)[1:] - 1, len(starts) - 1)
        return from_intervals(starts[keep], ends[last], size)
    return runs[:-1] if runs[-1] == 0 and len(runs) > 1 else runs


def to_rle(runs: np.ndarray, height: int, width: int) -> dict:
    """{"size": [h, w], "counts": text}, as COCO files hold it."""
    return {"size": [int(height), int(width)], "counts": to_text(runs)}


def rasterize(polygons: Iterable[Sequence[float]], height: int, width: int) -> np.ndarray:
    """Runs of the union of polygons [x1, y1, x2, y2, ...], each filled even-odd, as COCO rasterises them.

    Raises RleError for what would crash pycocotools: fewer than three points, odd length, coordinates that are not
    finite or beyond 100,000, an outline of more than 10 million pixels.
    """
    check_size([height, width])
    flats = [guarded_polygon(p) for p in polygons]
    if not flats:
        return np.array([height * width], dtype=np.int64)
    from pycocotools import mask as native

    return _runs_of_text(native.merge(native.frPyObjects(flats, height, width))["counts"])


def ious(a: list[dict], b: list[dict], b_is_crowd: np.ndarray) -> np.ndarray:
    """IoU [A,B] of masks of one image, by COCO's own code. Over a crowd b: the part of a that lies in b.

    a, b: as `to_rle(without_empty(runs))` makes them; b_is_crowd bool [B].
    """
    from pycocotools import mask as native

    if not a or not b:
        return np.zeros((len(a), len(b)))
    return np.asarray(native.iou(a, b, b_is_crowd.astype(np.uint8).tolist()), float).reshape(len(a), len(b))


def union(masks: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """Runs of the pixels that lie in any of several masks of one size, given as runs."""
    step = np.zeros(height * width + 1, dtype=np.int32)
    for runs in masks:
        edges = np.cumsum(runs)
        np.add.at(step, edges[0::2][: len(runs) // 2], 1)
        np.add.at(step, edges[1::2], -1)
    return encode(np.cumsum(step[:-1]).reshape(width, height).T > 0)


def guarded_polygon(flat: Sequence[float]) -> list[float]:
    """A polygon that is safe to hand to pycocotools. Raises RleError."""
    values = [float(v) for v in flat]
    if len(values) < 6 or len(values) % 2:
        raise RleError(f"a polygon of {len(values)} numbers, needs an even number of 6 or more")
    if not all(math.isfinite(v) and abs(v) <= LARGEST_COORDINATE for v in values):
        raise RleError(f"a polygon with a coordinate that is not finite or beyond {LARGEST_COORDINATE:.0f}")
    xs, ys = values[0::2], values[1::2]
    outline = sum(max(abs(xs[i] - xs[i - 1]), abs(ys[i] - ys[i - 1])) for i in range(len(xs)))
    if outline > LARGEST_PERIMETER:
        raise RleError(f"a polygon whose outline is {outline:.0f} pixels long")
    return values


def from_crop(crop: np.ndarray, x: int, y: int, height: int, width: int) -> np.ndarray:
    """Runs, in an image of height x width, of a mask [h,w] whose top left pixel lies at (x, y).

    What hangs over the image's edge is cut off.
    """
    top, left = max(-y, 0), max(-x, 0)
    crop = np.asarray(crop).astype(bool, copy=False)[top : max(height - y, 0), left : max(width - x, 0)]
    x, y = x + left, y + top
    h, w = crop.shape
    if h == 0 or w == 0:
        return np.array([height * width], dtype=np.int64)
    padded = np.zeros((w, h + 2), dtype=np.int8)
    padded[:, 1:-1] = crop.T
    columns, rows = np.nonzero(np.diff(padded, axis=1))  # in pairs: a run's first pixel, and the one behind it
    edges = (x + columns) * height + y + rows
    return from_intervals(edges[0::2], edges[1::2], height * width)
