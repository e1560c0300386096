"""Paired bootstrap over images: is B better than A? An easy or hard image affects both and cancels out.

Each side is one trained network, or several of other seeds. One network a side compares these two networks, not their
recipes: another seed gives another network. With several, a side's number is their mean, and the draws also move by the
spread of the seeds (Student's t with as many degrees of freedom as the seeds leave).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.metrics.intervals import EDGES, LEVEL, draw_weights, means, resampled_ap
from toolkit.metrics.iou_and_matching import AREA_NAMES, Matches

KEYS = (("AP", None), ("AP50", 0.5), ("AP75", 0.75))


def compare(
    a: Matches | Sequence[Matches],
    b: Matches | Sequence[Matches],
    resamples: int = 1000,
    seed: int = 0,
    *,
    by_size: bool = False,
) -> dict:
    """B - A on the same images, each side one network or several.

    -> {"AP": {a, b, difference, interval, p, p_better, verdict}, "AP50", "AP75", "per_class": {name: the same of AP and
    p_holm}, "runs": [number of A, of B], ...}. p is the two-sided share of draws on the other side of zero, p_better
    the share in which B is better, p_holm p corrected for the number of classes (Holm 1979), which decides their
    verdict. by_size: also "APs", "APm", "APl", of small, medium and large objects.
    The matches must be of the same images, in the same order.
    """
    sides = [[one] if isinstance(one, Matches) else list(one) for one in (a, b)]
    first = sides[0][0].tables
    if any(one.tables.image_ids != first.image_ids for side in sides for one in side):
        raise ValueError("a comparison needs the same images in the same order")
    num_images, thresholds = len(first.image_ids), sides[0][0].iou_thresholds
    random = np.random.default_rng([seed, 1])
    weights = draw_weights(num_images, resamples, seed)
    once = np.ones((1, num_images), np.int64)
    result: dict = {"resamples": resamples, "seed": seed, "level": LEVEL, "num_images": num_images}
    result["runs"] = [len(side) for side in sides]
    for area, name in enumerate(AREA_NAMES if by_size else AREA_NAMES[:1]):
        drawn, here = ([[resampled_ap(one, w, area) for one in side] for side in sides] for w in (weights, once))

        def between(iou: float | None, classes: slice = slice(None), drawn=drawn, here=here) -> dict | None:
            draws = [[means(one[:, :, classes], thresholds, iou) for one in side] for side in drawn]
            values = [[float(means(one[:, :, classes], thresholds, iou)[0]) for one in side] for side in here]
            return _difference(draws, values, random)

        if area:
            result[f"AP{name[0]}"] = between(None)
            continue
        result |= {key: between(iou) for key, iou in KEYS}
        per_class = {name: between(None, slice(k, k + 1)) for k, name in enumerate(first.class_names)}
        result["per_class"] = _corrected({name: one for name, one in per_class.items() if one is not None})
    return result


def _difference(draws: list[list[np.ndarray]], values: list[list[float]], random: np.random.Generator) -> dict | None:
    """draws, values: of A's networks and of B's."""
    value_a, value_b = (float(np.mean(side)) for side in values)
    difference = np.mean(draws[1], axis=0) - np.mean(draws[0], axis=0)
    difference = difference[~np.isnan(difference)]
    if not len(difference) or np.isnan(value_a) or np.isnan(value_b):
        return None
    difference = difference + _spread_of_seeds(values, len(difference), random)
    (low, high), p = interval_and_p(difference)
    return {
        "a": value_a,
        "b": value_b,
        "difference": value_b - value_a,
        "interval": [low, high],
        "p": p,
        "p_better": float(((difference > 0) + 0.5 * (difference == 0)).mean()),
        "verdict": _verdict(value_b - value_a, low > 0 or high < 0),
    }


def interval_and_p(difference: np.ndarray) -> tuple[list[float], float]:
    """(95 % interval, two-sided p that there is none) of a difference, from its draws."""
    tail = min((difference <= 0).sum(), (difference >= 0).sum())
    # + 1: the observed data is one more draw, so p is never exactly 0 (Davison and Hinkley 1997, 4.2)
    p = min(1.0, 2 * (int(tail) + 1) / (len(difference) + 1))
    return np.quantile(difference, EDGES).tolist(), p


def _spread_of_seeds(values: list[list[float]], number: int, random: np.random.Generator) -> np.ndarray | float:
    """What other seeds would add to B - A: draws [number]; 0 where no side has two networks."""
    freedom = sum(len(side) - 1 for side in values)
    if not freedom:
        return 0.0
    variance = sum(((np.array(side) - np.mean(side)) ** 2).sum() for side in values) / freedom
    scale = np.sqrt(variance * sum(1 / len(side) for side in values))
    return scale * random.standard_t(freedom, number)


def _verdict(difference: float, shown: bool) -> str:
    return ("B is better" if difference > 0 else "B is worse") if shown else "no difference shown"


def _corrected(per_class: dict[str, dict]) -> dict[str, dict]:
    """The classes with p_holm, and a verdict by it."""
    corrected = holm([one["p"] for one in per_class.values()])
    return {
        name: {**one, "p_holm": p, "verdict": _verdict(one["difference"], p < 1 - LEVEL)}
        for (name, one), p in zip(per_class.items(), corrected)
    }


def holm(values: Sequence[float]) -> list[float]:
    """p values corrected for their number: the k-th smallest of n times n - k, never less than one before."""
    corrected, least = [0.0] * len(values), 0.0
    for place, i in enumerate(np.argsort(values, kind="stable")):
        least = max(least, min(1.0, (len(values) - place) * values[i]))
        corrected[i] = least
    return corrected
