"""95 % intervals of AP over images.

The images of a split are a sample; another sample would have given another AP. An interval comes from half samples:
AP of half of the images, drawn without replacement, moves around AP of all as AP of all moves around the true one
(both have the variance of a mean of n images). Halves also show the bias: AP of fewer images is a little too high,
because precision is made monotone, and the halves lie above the whole as the whole lies above the truth.

interval = centre -+ 1.96 * STRETCH * spread, centre = AP - BIAS * (mean of halves - AP), drawn towards 1/2 as if one
more object had been found and one missed, as Agresti and Coull (1998) do for a share; spread is the halves' standard
deviation, made wider near 0 and 1 by the same two objects, with what COCO's 101 recalls round away. BIAS and STRETCH
were chosen by simulation (benchmarks/intervals.py; how often it is right: docs/measurements/evaluation.md).
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.coco_ap import RECALLS
from toolkit.metrics.iou_and_matching import Matches

LEVEL = 0.95
EDGES = ((1 - LEVEL) / 2, (1 + LEVEL) / 2)  # quantiles of draws
QUANTILE = 1.96  # of the normal distribution, for LEVEL
BIAS, STRETCH = 1.4, 1.1  # found by simulation: the bias falls slower than 1 / n, and the spread is a little too small
_STUDENT = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262, 2.228)  # of 1, 2, ... degrees of freedom
CELLS_AT_ONCE = 4_000_000  # resamples x detections held at a time: about 32 MB an array


def draw_weights(num_images: int, resamples: int, seed: int) -> np.ndarray:
    """[R,I] how often each image is in each resample; rows sum to I."""
    return np.random.default_rng(seed).multinomial(num_images, np.full(num_images, 1 / num_images), resamples)


def half_samples(num_images: int, resamples: int, seed: int) -> np.ndarray:
    """[R,I] 0 or 1: half of the images, each second row the other half (of an odd number one is left out)."""
    random, half = np.random.default_rng(seed), num_images // 2
    weights = np.zeros((resamples, num_images), np.int64)
    for row in range(0, resamples, 2):
        order = random.permutation(num_images)
        weights[row, order[:half]] = 1
        weights[row + 1 : row + 2, order[half : 2 * half]] = 1
    return weights


def resampled_ap(matches: Matches, weights: np.ndarray, area: int = 0) -> np.ndarray:
    """weights [R,I] -> AP [R,T,K] over an area range with 100 detections; NaN where a resample has no object."""
    tables = matches.tables
    num_classes = len(tables.class_names)
    counted = ~matches.gt_ignored[area]
    ap = np.full((len(weights), len(matches.iou_thresholds), num_classes), np.nan)
    for k in range(num_classes):
        gt_image = tables.gt_image[counted & (tables.gt_class == k)]
        if not len(gt_image):
            continue
        num_objects = weights[:, gt_image].sum(1)
        rows = matches.rows_of(k)
        image = tables.det_image[matches.det[rows]]
        right, ignored = matches.right[area][:, rows], matches.ignored[area][:, rows]
        step = max(1, CELLS_AT_ONCE // max(1, len(image)))
        for begin in range(0, len(weights), step):
            piece = slice(begin, begin + step)
            ap[piece, :, k] = _class_ap(weights[piece], image, right, ignored, num_objects[piece])
    return ap


def _class_ap(
    weights: np.ndarray, image: np.ndarray, right: np.ndarray, ignored: np.ndarray, num_objects: np.ndarray
) -> np.ndarray:
    """AP [R,T] of one class; right, ignored [T,D] from the highest score down, num_objects [R]."""
    ap = np.zeros((len(weights), len(right)))
    some = num_objects > 0
    weight = weights[some].astype(np.int32)[:, image]  # [R,D]
    last_ignored: np.ndarray | None = None
    seen = np.zeros(weight.shape, np.int32)
    for t in range(len(right)):
        hits = np.flatnonzero(right[t])
        if not len(hits):
            continue
        if last_ignored is None or not np.array_equal(last_ignored, ignored[t]):
            last_ignored, seen = ignored[t], np.cumsum(weight * ~ignored[t], axis=1, dtype=np.int32)
        found = np.cumsum(weight[:, hits], axis=1, dtype=np.int32)  # [R,H]
        at_hit = seen[:, hits]
        precision = np.divide(found, at_hit, out=np.zeros(found.shape), where=at_hit > 0)
        envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
        # how many of the 101 recalls are first reached at each hit
        reached = _recalls_up_to(found / num_objects[some, None])
        first = np.diff(reached, axis=1, prepend=0)
        ap[some, t] = (envelope * first).sum(1) / len(RECALLS)
    ap[~some] = np.nan
    return ap


def _recalls_up_to(recall: np.ndarray) -> np.ndarray:
    """How many of the 101 recalls are at most `recall`: a searchsorted that knows they are evenly spaced."""
    guess = (recall * 100).astype(np.int64)  # at most one off, by rounding
    guess -= RECALLS[guess] > recall
    guess += (guess < 100) & (RECALLS[np.minimum(guess + 1, 100)] <= recall)
    return guess + 1


def intervals(matches: Matches, resamples: int = 1000, seed: int = 0) -> dict | None:
    """95 % intervals {"AP": [low, high], "AP50", "AP75", "per_class": {name: ...}}; None for fewer than 2 images.

    A class with all its objects in one image has no interval.
    """
    num_images = len(matches.tables.image_ids)
    if num_images < 2 or resamples < 1:
        return None
    halves = resampled_ap(matches, half_samples(num_images, resamples, seed))
    whole = resampled_ap(matches, np.ones((1, num_images), np.int64))
    counted = ~matches.gt_ignored[0]
    objects, thresholds = matches.num_objects()[0], matches.iou_thresholds
    nothing = {"AP": None, "AP50": None, "AP75": None}
    per_class = {
        name: intervals_of(halves[:, :, k : k + 1], whole[:, :, k : k + 1], thresholds, int(objects[k]), num_images)
        if len(np.unique(matches.tables.gt_image[counted & (matches.tables.gt_class == k)])) > 1
        else nothing  # all objects in one image: parts of the images cannot tell how AP would move
        for k, name in enumerate(matches.tables.class_names)
    }
    return {
        **intervals_of(halves, whole, thresholds, int(objects.sum()), num_images),
        "per_class": per_class,
        "level": LEVEL,
        "resamples": resamples,
        "seed": seed,
    }


def intervals_of(
    halves: np.ndarray, whole: np.ndarray, iou_thresholds: np.ndarray, num_objects: int, num_images: int
) -> dict:
    """Intervals of AP, AP50 and AP75 from half samples [R,T,K] and the whole [1,T,K]; None where there is no object."""
    result: dict = {}
    half = num_images // 2
    scale = np.sqrt(half / (num_images - half))  # 1 for even numbers: a half of n varies as n images do
    for key, threshold in (("AP", None), ("AP50", 0.5), ("AP75", 0.75)):
        draws = means(halves, iou_thresholds, threshold)
        draws = draws[~np.isnan(draws)]
        value = means(whole, iou_thresholds, threshold)[0]
        if len(draws) < 2 or np.isnan(value):
            result[key] = None
            continue
        spread, steps = scale * float(draws.std(ddof=1)), _rounding(whole, iou_thresholds, threshold)
        low, high = _interval(float(value), float(draws.mean()), spread, num_objects, steps)
        result[key] = [float(np.clip(low, 0, value)), float(np.clip(high, value, 1))]
    return result


def _rounding(whole: np.ndarray, iou_thresholds: np.ndarray, threshold: float | None) -> float:
    """Standard deviation of what COCO's 101 recalls round away: up to a step of 1 / 101, times the precision there, in
    every class and IoU. No half sample shows it, as the true AP is rounded, too."""
    ap = _of(whole, iou_thresholds, threshold)
    ap = ap[~np.isnan(ap)]
    return float(np.sqrt((ap**2).sum() / 12) / (len(RECALLS) * len(ap)))


def _interval(
    value: float, mean_of_halves: float, spread: float, num_objects: int, rounding: float = 0.0
) -> tuple[float, float]:
    if spread == 0:  # all right or all wrong: the rule of three
        unseen = 3 / (num_objects + 3)
        return value - unseen, value + unseen
    centre = min(max(value - BIAS * (mean_of_halves - value), 0.0), 1.0)
    drawn = (centre * num_objects + 1) / (num_objects + 2)
    spread *= np.sqrt(drawn * (1 - drawn) / max(centre * (1 - centre), 1e-4))
    reach = QUANTILE * float(np.hypot(STRETCH * spread, rounding))
    return drawn - reach, drawn + reach


def means(ap: np.ndarray, iou_thresholds: np.ndarray, threshold: float | None = None) -> np.ndarray:
    """AP [R,T,K] -> [R], averaged over what is defined; one IoU threshold or all."""
    ap = _of(ap, iou_thresholds, threshold)
    flat = ap.reshape(len(ap), -1)
    defined = ~np.isnan(flat)
    total = np.where(defined, flat, 0).sum(1)
    return np.divide(total, defined.sum(1), out=np.full(len(flat), np.nan), where=defined.any(1))


def _of(ap: np.ndarray, iou_thresholds: np.ndarray, threshold: float | None) -> np.ndarray:
    """AP [R,T,K] at one IoU threshold, or at all."""
    if threshold is None:
        return ap
    t = int(np.argmin(np.abs(iou_thresholds - threshold)))
    return ap[:, t : t + 1]


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t; beyond 10 degrees of freedom within 0.1 % (Cornish-Fisher)."""
    if freedom <= len(_STUDENT):
        return _STUDENT[max(freedom, 1) - 1]
    z = 1.959964
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)
