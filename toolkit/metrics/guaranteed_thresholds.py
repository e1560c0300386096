"""A score threshold that keeps a recall or a precision on new pictures, with 95 % confidence: learn then test.

Each threshold of a grid that was fixed beforehand is a hypothesis, "the recall is under the target there", and is
tested on the images at hand; thresholds are tried in a fixed order until one is not rejected, so that all which were
rejected hold together (Angelopoulos et al. 2021, fixed sequence testing). Recall falls with the threshold: from 0 up.
Precision mostly rises with it: from four starts downwards, a quarter of the error each. The test is the exact binomial
one for as many independent objects as have the variance that the images show, because objects of one image are alike.
"New pictures" are those drawn as these were; of another camera or season nothing is promised.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from toolkit.metrics.intervals import QUANTILE, student
from toolkit.metrics.iou_and_matching import Matches
from toolkit.metrics.threshold_curves import ALL, Counts, counts_at

CONFIDENCE = 0.95
GRID = np.linspace(0, 1, 201)
STARTS = (0.9, 0.7, 0.5, 0.3)
MOST_NEEDED = 100_000
WHAT = ("recall", "precision")


def guarantee(matches: Matches, iou: float, what: str, target: float) -> dict[str, dict]:
    """{class: {"threshold", "value", "num_objects", "needed"}}: what is kept at each class's threshold.

    threshold is None where none is sure; needed then says how many objects would be enough if the share stayed as it
    is, None where no threshold reaches the target. value: the share at the threshold, or the best one there is.
    """
    return {
        name: certify(of_class, what, target)
        for name, of_class in counts_at(matches, iou, GRID)
        if name != ALL and of_class.objects.any()
    }


def certify(of_class: Counts, what: str, target: float) -> dict:
    """`guarantee` of one class, from its counts at the thresholds of GRID."""
    part, whole = of_class.right, of_class.kept
    if what == "recall":
        whole = np.broadcast_to(of_class.objects, part.shape)
    number = _independent(part, whole)
    value = np.divide(part.sum(1), whole.sum(1), out=np.zeros(len(part)), where=whole.sum(1) > 0)

    starts = [0] if what == "recall" else [int(np.searchsorted(GRID, start)) for start in STARTS]
    error, step = (1 - CONFIDENCE) / len(starts), 1 if what == "recall" else -1

    def sure(t: int, times: float = 1) -> bool:
        return tail(value[t], times * number[t], target) <= error

    found: list[int] = []
    for t in starts:
        while 0 <= t < len(GRID) and sure(t):
            found.append(t)
            t += step
    objects = int(of_class.objects.sum())
    if found:
        best = max(found) if what == "recall" else min(found)
        return {"threshold": float(GRID[best]), "value": float(value[best]), "num_objects": objects, "needed": None}
    times = _times(lambda times: any(sure(t, times) for t in starts), MOST_NEEDED / objects)
    needed = None if times is None else math.ceil(times * objects)
    best_value = max(float(value[t]) for t in starts)
    return {"threshold": None, "value": best_value, "num_objects": objects, "needed": needed}


def _times(enough: Callable[[float], bool], most: float) -> float | None:
    """About how many times as many images would be enough; None where `most` times as many are not."""
    low, high = 1.0, 2.0
    while not enough(high):
        low, high = high, 2 * high
        if high > most:
            return None
    while high / low > 1.05:
        middle = (low * high) ** 0.5
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high


def _independent(part: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """[T] how many independent objects have the variance of the share part / whole over images [T,I]."""
    images = whole.shape[1]
    total = whole.sum(1)
    share = np.divide(part.sum(1), total, out=np.zeros(len(part)), where=total > 0)
    residual = ((part - share[:, None] * whole) ** 2).sum(1) * images / max(images - 1, 1)
    binomial = total * share * (1 - share)
    alike = np.divide(residual, binomial, out=np.ones(len(part)), where=binomial > 0)
    return total / np.maximum(alike, 1.0) * (QUANTILE / student(images - 1)) ** 2


def tail(share: float, number: float, target: float) -> float:
    """Chance of a share so high, of so many independent objects, where the true one is just the target."""
    n = math.floor(number)
    k = math.floor(share * n + 1e-9)
    if n < 1 or not 0 < target < 1:
        return 1.0
    i = np.arange(k, n + 1)
    log_choose = math.lgamma(n + 1) - np.array([math.lgamma(j + 1) + math.lgamma(n - j + 1) for j in i])
    return float(min(1.0, np.exp(log_choose + i * math.log(target) + (n - i) * math.log1p(-target)).sum()))


def unsure(found: dict[str, dict], what: str, target: float) -> list[str]:
    """A line for each class without such a threshold."""
    lines = []
    for name, one in found.items():
        if one["threshold"] is None:
            text = f"class {name}: no threshold keeps {what} {target:.2f} with {CONFIDENCE:.0%} confidence"
            if one["needed"] is None:
                at = "at any score" if what == "recall" else "at best"
                text += f": it is {one['value']:.3f} {at}"
            else:
                text += f"; about {one['needed']} objects to validate on would do, here are {one['num_objects']}"
            lines.append(f"{text}. Its threshold is chosen as without --guarantee")
    return lines
