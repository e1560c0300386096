"""Precision, recall and F1 against the score threshold, and a threshold per class that holds on other images.

A detection counts from a threshold t on when its score is t or more. Right means COCO's match at the stated IoU.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.metrics.coco_ap import precision_at_recalls
from toolkit.metrics.matching import Matches

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
    """A curve per class in the order of the classes, and last the pooled one, named "all classes"."""
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
    return [*made, curve_of("all classes", int(counts.sum()), *pooled)]


def curve_of(name: str, num_objects: int, score: np.ndarray, right: np.ndarray, ignored: np.ndarray) -> Curve:
    score, right = score[~ignored], right[~ignored]
    last_of_score = np.flatnonzero(np.r_[score[1:] != score[:-1], True]) if len(score) else np.zeros(0, int)
    found = np.cumsum(right)[last_of_score]
    kept = last_of_score + 1
    recall = found / num_objects if num_objects else np.full(len(found), np.nan)
    f1 = 2 * found / (kept + num_objects)
    return Curve(name, num_objects, score[last_of_score], found / kept, recall, f1)


def score_thresholds(curves: list[Curve], precision: float | None = None) -> dict[str, float]:
    """{class: threshold}. A class without objects or finds takes the pooled one; without any, FALLBACK."""
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
