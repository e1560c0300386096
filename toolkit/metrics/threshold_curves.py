"""Precision, recall, F1 and the counting error against the score threshold, and the threshold that each class gets.

A detection counts from a threshold t on when its score is t or more. Right means COCO's match at the stated IoU.

The 95 % intervals are over images. A share such as precision is a ratio of sums over images, right / kept. Its variance
is that of the residuals right_i - share * kept_i of the images, because detections of one image are alike; the interval
is Wilson's for as many independent detections as have that variance (Korn and Graubard 1998). The counting error of an
image is the number of its detections less that of its objects; its interval is Student's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from toolkit.metrics.coco_ap import precision_at_recalls
from toolkit.metrics.coco_tables import Tables
from toolkit.metrics.intervals import student
from toolkit.metrics.iou_and_matching import Matches

ALL = "all classes"
GRID = np.linspace(0, 1, 101)  # of thresholds
QUANTITIES = ("precision", "recall", "f1", "count_error")
FALLBACK = 0.5  # where there is nothing to learn a threshold from
SHARPNESS = 20  # a threshold whose F1 is .9 of the highest weighs an eighth


@dataclass(frozen=True)
class Curve:
    """One class, or all of them pooled; S distinct scores from the highest down."""

    name: str
    num_objects: int
    score: np.ndarray  # [S]
    precision: np.ndarray  # [S] keeping scores of score[i] or more
    recall: np.ndarray  # [S]; NaN where there is no object
    f1: np.ndarray  # [S]

    def best_threshold(self, precision: float | None = None) -> float | None:
        """The middle of the thresholds with a high F1, or the lowest that keeps `precision`; None: not defined.

        The middle is the mean over all thresholds from 0 up, each with weight F1^20: the curve of few objects is flat
        and ragged, and its highest point is chance (measured on other images: docs/measurements/evaluation.md).
        """
        if not self.num_objects or not len(self.score) or not self.f1.max() > 0:
            return None
        below = np.append(self.score[1:], min(0.0, self.score[-1]))
        middle = (self.score + below) / 2  # thresholds between two scores keep the same detections
        if precision is not None:
            enough = np.flatnonzero(self.precision >= precision)
            return float(middle[enough[-1] if len(enough) else np.argmax(self.precision)])
        weight = (self.score - below) * (self.f1 / self.f1.max()) ** SHARPNESS
        return float(np.average(middle, weights=weight)) if weight.sum() > 0 else float(self.score[0])

    def at(self, threshold: float) -> dict:
        """Precision, recall and F1 when scores of `threshold` or more are kept; None where not defined."""
        values = {key: float(value[0]) for key, value in sampled(self, np.array([threshold])).items()}
        found = {key: None if np.isnan(value) else value for key, value in values.items()}
        return {**found, "f1": None} if None in found.values() else found


def curves(matches: Matches, iou: float = 0.5) -> list[Curve]:
    """A curve per class in the order of the classes, and last the pooled one, named ALL."""
    t = matches.at(iou)
    right, ignored = matches.right[0, t], matches.ignored[0, t]
    score = matches.tables.det_score[matches.det]
    counts = matches.num_objects()[0]
    made = []
    for k, name in enumerate(matches.tables.class_names):
        rows = matches.rows_of(k)
        made.append(curve_of(name, int(counts[k]), score[rows], right[rows], ignored[rows]))
    by_score = np.argsort(-score, kind="stable")
    pooled = (score[by_score], right[by_score], ignored[by_score])
    return [*made, curve_of(ALL, int(counts.sum()), *pooled)]


def curve_of(name: str, num_objects: int, score: np.ndarray, right: np.ndarray, ignored: np.ndarray) -> Curve:
    score, right = score[~ignored], right[~ignored]
    last_of_score = np.flatnonzero(np.r_[score[1:] != score[:-1], True]) if len(score) else np.zeros(0, int)
    found = np.cumsum(right)[last_of_score]
    kept = last_of_score + 1
    recall = found / num_objects if num_objects else np.full(len(found), np.nan)
    f1 = 2 * found / (kept + num_objects)
    return Curve(name, num_objects, score[last_of_score], found / kept, recall, f1)


def score_thresholds(curves: list[Curve], precision: float | None = None) -> dict[str, float]:
    """{class: threshold}. A class without objects or right detections takes the pooled one; without that, FALLBACK."""
    pooled = curves[-1].best_threshold(precision)
    fallback = FALLBACK if pooled is None else pooled
    found = {curve.name: curve.best_threshold(precision) for curve in curves[:-1]}
    return {name: round(fallback if value is None else value, 6) for name, value in found.items()}


def precision_recall(matches: Matches, class_index: int, iou: float) -> np.ndarray | None:
    """Precision at the 101 recalls of COCO for one class; None without objects."""
    num_objects = int(matches.num_objects()[0, class_index])
    if not num_objects:
        return None
    rows, t = matches.rows_of(class_index), matches.at(iou)
    return precision_at_recalls(matches.right[0, t, rows], matches.ignored[0, t, rows], num_objects)


def sampled(curve: Curve, thresholds: np.ndarray) -> dict[str, np.ndarray]:
    """Precision, recall and F1 at given thresholds, for plots and tables; NaN where nothing is kept."""
    kept = np.searchsorted(-curve.score, -thresholds, side="right")
    empty = {"precision": np.nan, "recall": 0.0 if curve.num_objects else np.nan, "f1": 0.0}
    columns = {"precision": curve.precision, "recall": curve.recall, "f1": curve.f1}
    return {key: np.r_[empty[key], values][kept] for key, values in columns.items()}


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


def counts_at(matches: Matches, iou: float, thresholds: np.ndarray) -> Iterator[tuple[str, Counts]]:
    """(class, Counts) in the order of the classes, last (ALL, their sum).

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
    of_all = dict(counts_at(matches, iou, by_class[None]))[ALL]
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
