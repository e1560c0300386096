"""Objects of the labels: their sizes and shapes, and how well the detector's counts agree with theirs.

size is sqrt(width * height) of the box, aspect_ratio is height / width.

The count of a picture can be right although detections are wrong, where as many objects are missed. Agreement is given
as Bland and Altman (1986) give it: the mean difference over the images (bias) and the limits within which 95 % of the
differences lie, bias -+ 1.96 standard deviations, each with a bootstrap interval over the images.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from toolkit.metrics.coco_tables import Tables
from toolkit.metrics.intervals import EDGES, QUANTILE, draw_weights

QUANTILES = (0.0, 0.1, 0.5, 0.9, 1.0)


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


def object_statistics(tables: Tables) -> dict:
    """Counts, sizes and aspect ratios over all labelled objects that are not crowds, and per class."""
    size, aspect, class_ = sizes_and_aspects(tables)

    def described(chosen: np.ndarray) -> dict:
        quantiles = [np.quantile(one[chosen], QUANTILES).tolist() if chosen.any() else None for one in (size, aspect)]
        return {
            "num_objects": int(chosen.sum()),
            "size_quantiles": quantiles[0],
            "aspect_ratio_quantiles": quantiles[1],
            "quantiles": list(QUANTILES),
        }

    return {
        **described(np.ones(len(size), bool)),
        "per_class": {name: described(class_ == k) for k, name in enumerate(tables.class_names)},
        "images_without_object": int((np.bincount(tables.gt_image, minlength=len(tables.image_ids)) == 0).sum()),
        "crowds": int(tables.gt_is_crowd.sum()),
    }


def sizes_and_aspects(tables: Tables) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """size [N], aspect_ratio [N], class [N] of the objects that are not crowds and have an area."""
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    box = tables.gt_bbox[good]
    return np.sqrt(box[:, 2] * box[:, 3]), box[:, 3] / box[:, 2], tables.gt_class[good]
