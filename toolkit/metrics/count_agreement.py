"""Agreement of the detector's counts per picture and class with those of the labels.

A count is right when the wrong detections are as many as the missed objects: it says nothing of each object. Agreement
is given as Bland and Altman (1986) give it: the mean difference over the images (bias) and the limits within which 95 %
of the differences lie, bias -+ 1.96 standard deviations, each with a bootstrap interval over the images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from toolkit.metrics.coco_tables import Tables
from toolkit.metrics.intervals import EDGES, QUANTILE, draw_weights


def counts(tables: Tables, thresholds: Mapping[str, float]) -> tuple[np.ndarray, np.ndarray]:
    """(labelled [I,K], counted [I,K]): objects that are no crowds, and detections with the score of their class."""
    shape = (len(tables.image_ids), len(tables.class_names))
    labelled, counted = np.zeros(shape, np.int64), np.zeros(shape, np.int64)
    real = ~tables.gt_is_crowd
    np.add.at(labelled, (tables.gt_image[real], tables.gt_class[real]), 1)
    kept = tables.over(thresholds)
    np.add.at(counted, (tables.det_image[kept], tables.det_class[kept]), 1)
    return labelled, counted


def agreement(tables: Tables, thresholds: Mapping[str, float], resamples: int, seed: int) -> dict[str, dict]:
    """{class: {"labelled", "counted", "bias", "mean_absolute_error", "limits": [low, high], "intervals": {"bias": [low,
    high], "mean_absolute_error", "lower_limit", "upper_limit"}}}, differences counted - labelled an image.

    Limits need two images or more, else None; intervals two images and resamples, else None.
    """
    labelled, counted = counts(tables, thresholds)
    num_images = len(labelled)
    weights = draw_weights(num_images, resamples, seed) / num_images if num_images > 1 and resamples else None
    found = {}
    for k, name in enumerate(tables.class_names):
        difference = (counted[:, k] - labelled[:, k]).astype(float)
        once = _numbers(difference, np.full((1, num_images), 1 / max(1, num_images)))
        limits = [float(once[key][0]) for key in ("lower_limit", "upper_limit")]
        drawn = _numbers(difference, weights) if weights is not None else {}
        found[name] = {
            "labelled": int(labelled[:, k].sum()),
            "counted": int(counted[:, k].sum()),
            "bias": float(once["bias"][0]) if num_images else None,
            "mean_absolute_error": float(once["mean_absolute_error"][0]) if num_images else None,
            "limits": limits if num_images > 1 else None,
            "intervals": {key: np.quantile(values, EDGES).tolist() for key, values in drawn.items()} or None,
        }
    return found


def _numbers(difference: np.ndarray, weights: np.ndarray) -> dict[str, np.ndarray]:
    """Of differences [I], for each row of weights [R,I], which sum to 1: arrays [R]."""
    num_images = len(difference)
    bias = weights @ difference
    variance = (weights @ difference**2 - bias**2).clip(0) * num_images / max(1, num_images - 1)
    reach = QUANTILE * np.sqrt(variance)
    error = weights @ np.abs(difference)
    return {"bias": bias, "mean_absolute_error": error, "lower_limit": bias - reach, "upper_limit": bias + reach}


def count_thresholds(tables: Tables, fallback: Mapping[str, float]) -> dict[str, float]:
    """{class: score from which on about as many detections are kept as objects are labelled}.

    The mean over all thresholds from 0 up, each with the likelihood that its total count is right on other images, too:
    normal around no difference, with the standard error of the total difference. So it lies in the middle of a gap in
    the scores of few objects (measured: docs/measurements/prediction.md). A class without objects or detections takes
    its `fallback`.
    """
    found = dict(fallback)
    num_images = len(tables.image_ids)
    for k, name in enumerate(tables.class_names):
        of_class = tables.det_class == k
        score, image = tables.det_score[of_class], tables.det_image[of_class]
        labelled = np.bincount(tables.gt_image[(tables.gt_class == k) & ~tables.gt_is_crowd], minlength=num_images)
        number = int(labelled.sum())
        if not number or not len(score):
            continue
        highest = np.sort(score)[::-1]
        exact = highest[min(number, len(score)) - 1]
        difference = np.bincount(image[score >= exact], minlength=num_images) - labelled
        error = max(0.5, float(difference.std(ddof=1)) * num_images**0.5) if num_images > 1 else 0.5
        below = np.append(highest[1:], min(0.0, highest[-1]))  # thresholds down to here keep the same detections
        weight = (highest - below) * np.exp(-(((np.arange(1, len(highest) + 1) - number) / error) ** 2) / 2)
        middle = np.average((highest + below) / 2, weights=weight) if weight.sum() > 0 else exact
        found[name] = round(float(middle), 6)
    return found
