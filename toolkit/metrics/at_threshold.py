"""Precision, recall, F1 and the counting error at score thresholds, with 95 % intervals over images.

A share such as precision is a ratio of sums over images, right / kept. Its variance is that of the residuals
right_i - share * kept_i of the images, because detections of one image are alike; the interval is Wilson's for as many
independent detections as have that variance (Korn and Graubard 1998). The counting error of an image is the number of
its detections less that of its objects; its interval is Student's.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from toolkit.metrics.matching import Matches

GRID = np.linspace(0, 1, 101)
SHARES = ("precision", "recall", "f1")
ALL = "all classes"


@dataclass(frozen=True)
class Counts:
    """Per threshold and image: detections kept [T,I], of these right [T,I]; labelled objects [I]."""

    kept: np.ndarray
    right: np.ndarray
    objects: np.ndarray

    def numbers(self) -> dict[str, list]:
        """{"precision": [[value, low, high] or None for each threshold], "recall", "f1", "count_error"}."""
        objects = np.broadcast_to(self.objects, self.kept.shape)
        return {
            "precision": share(self.right, self.kept),
            "recall": share(self.right, objects),
            "f1": share(2 * self.right, self.kept + objects, weight=2),
            "count_error": _mean(self.kept - objects),
        }


def counts(matches: Matches, iou: float, thresholds: np.ndarray) -> Iterator[tuple[str, Counts]]:
    """(class, Counts) in the order of the classes, last ("all classes", their sum).

    thresholds: [T], the same for all classes, or [T,K].
    """
    tables, t = matches.tables, matches.at(iou)
    images, names = len(tables.image_ids), tables.class_names
    by_class = np.broadcast_to(np.reshape(thresholds, (len(thresholds), -1)), (len(thresholds), len(names)))
    all_kept = all_good = np.zeros((len(thresholds), images), np.int64)
    for k, name in enumerate(names):
        rows = matches.rows_of(k)
        counted = ~matches.ignored[0, t, rows]
        det = matches.det[rows][counted]
        score, image = tables.det_score[det], tables.det_image[det]
        right = matches.right[0, t, rows][counted]
        over = score[None] >= by_class[:, k, None]
        kept = np.stack([np.bincount(image[row], minlength=images) for row in over])
        good = np.stack([np.bincount(image[row & right], minlength=images) for row in over])
        all_kept, all_good = all_kept + kept, all_good + good
        labelled = ~matches.gt_ignored[0] & (tables.gt_class == k)
        yield name, Counts(kept, good, np.bincount(tables.gt_image[labelled], minlength=images))
    labelled = ~matches.gt_ignored[0]
    yield ALL, Counts(all_kept, all_good, np.bincount(tables.gt_image[labelled], minlength=images))


def overall(matches: Matches, iou: float, by_class: np.ndarray) -> dict:
    """Over all classes, each at its own threshold [K]: {"num_right", "num_false", "num_missed", "precision", ...}."""
    of_all = dict(counts(matches, iou, by_class[None]))[ALL]
    right, kept, objects = (int(n.sum()) for n in (of_all.right, of_all.kept, of_all.objects))
    numbers = {key: values[0] for key, values in of_all.numbers().items()}
    return {"num_right": right, "num_false": kept - right, "num_missed": objects - right, **numbers}


def share(part: np.ndarray, whole: np.ndarray, weight: int = 1) -> list[list[float] | None]:
    """Ratios of sums over images of part [T,I] and whole [T,I], with their intervals. weight: that of one detection."""
    images = whole.shape[1]
    quantile = student(images - 1)
    made: list[list[float] | None] = []
    for a, b in zip(part, whole):
        total = int(b.sum())
        if not total:
            made.append(None)
            continue
        value, most = a.sum() / total, total / weight
        spread = ((a - value * b) ** 2).sum() * images / max(images - 1, 1) / total**2
        number = min(most, value * (1 - value) / spread) if spread > 0 else most
        made.append([float(value), *_wilson(float(value), float(number), quantile)])
    return made


def _wilson(value: float, number: float, quantile: float) -> tuple[float, float]:
    square = quantile**2 / number
    centre = (value + square / 2) / (1 + square)
    reach = quantile * np.sqrt(value * (1 - value) / number + square / (4 * number)) / (1 + square)
    return float(max(0.0, min(centre - reach, value))), float(min(1.0, max(centre + reach, value)))


def _mean(values: np.ndarray) -> list[list[float] | None]:
    images = values.shape[1]
    reach = student(images - 1) * values.std(axis=1, ddof=1) / np.sqrt(images) if images > 1 else np.zeros(len(values))
    mean = values.mean(axis=1)
    return [[float(m), float(m - r), float(m + r)] for m, r in zip(mean, reach)]


def student(freedom: int) -> float:
    """The 97.5 % quantile of Student's t, within 1 % from 5 degrees of freedom on (Cornish-Fisher)."""
    z, v = 1.959964, max(freedom, 1)
    return z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
