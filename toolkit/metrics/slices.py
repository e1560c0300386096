"""How AP differs between groups of images (slices): each slice with its interval, and tested against all others.

A slice and the rest are different images, so both are drawn anew, each among its own. Their difference is taken over
the classes that both have. p is corrected for the number of slices (Holm).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from toolkit.metrics.intervals import LEVEL, draw_weights, half_samples, intervals_of, means, resampled_ap
from toolkit.metrics.iou_and_matching import Matches
from toolkit.metrics.paired_bootstrap import holm, interval_and_p

FEWEST = 5  # images of a slice and of the rest: draws from fewer repeat them, and any difference looks certain


def slices(matches: Matches, group: Sequence[str], resamples: int = 1000, seed: int = 0) -> dict[str, dict]:
    """group [I]: the slice of each image. -> {slice: {"num_images", "num_objects", "AP", "interval", "difference",
    "difference_interval", "p", "p_holm", "verdict"}}, largest first; None where there are too few images or objects.

    difference: AP of the slice less AP of all other images.
    """
    images = np.array(group)
    names = sorted(set(group), key=lambda name: (-int((images == name).sum()), name))
    found = {name: _slice(matches, images == name, resamples, seed) for name in names}
    tested = [one for one in found.values() if one["p"] is not None]
    for one, p in zip(tested, holm([one["p"] for one in tested])):
        one["p_holm"] = p
        worse = "worse than the rest" if one["difference"] < 0 else "better than the rest"
        one["verdict"] = worse if p < 1 - LEVEL else "no difference shown"
    return found


def _slice(matches: Matches, inside: np.ndarray, resamples: int, seed: int) -> dict:
    gt_image = matches.tables.gt_image[~matches.gt_ignored[0]]
    numbers: dict = {"num_images": int(inside.sum()), "num_objects": int(inside[gt_image].sum())}
    numbers |= dict.fromkeys(("AP", "interval", "difference", "difference_interval", "p", "p_holm"))
    numbers["verdict"] = "too few to tell"
    if not numbers["num_objects"]:
        return numbers
    here, rest = (resampled_ap(matches, one[None].astype(np.int64)) for one in (inside, ~inside))
    thresholds = matches.iou_thresholds
    numbers["AP"] = float(means(here, thresholds, None)[0])
    if inside.sum() < FEWEST or not resamples:
        return numbers
    halves = resampled_ap(matches, _within(inside, half_samples(int(inside.sum()), resamples, seed)))
    ends = intervals_of(halves, here, thresholds, numbers["num_objects"], numbers["num_images"])
    numbers["interval"] = ends["AP"]
    both = ~(np.isnan(here).all((0, 1)) | np.isnan(rest).all((0, 1)))
    if (~inside).sum() < FEWEST or not both.any():
        return numbers
    draws = [
        means(
            resampled_ap(matches, _within(one, draw_weights(int(one.sum()), resamples, seed + k)))[..., both],
            thresholds,
        )
        for k, one in enumerate((inside, ~inside))
    ]
    difference = draws[0] - draws[1]
    difference = difference[~np.isnan(difference)]
    value = means(here[..., both], thresholds)[0] - means(rest[..., both], thresholds)[0]
    interval, p = interval_and_p(difference)
    return {**numbers, "difference": float(value), "difference_interval": interval, "p": p}


def _within(inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights of the images inside as weights of all, 0 outside."""
    whole = np.zeros((len(weights), len(inside)), np.int64)
    whole[:, inside] = weights
    return whole
