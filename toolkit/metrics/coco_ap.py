"""COCO's twelve numbers, and the same for each class, from the matches.

AP: precision at 101 recalls, made monotone from the right, averaged; then averaged over IoU thresholds and
over the classes that have objects. AR: the recall that is reached with 1, 10 or 100 detections of an image
and class. A number over no objects is None: it is not defined, not zero, and never enters a mean.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.iou_and_matching import AREA_NAMES, Matches

RECALLS = np.linspace(0.0, 1.0, 101)
KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def precision_at_recalls(right: np.ndarray, ignored: np.ndarray, num_objects: int) -> np.ndarray:
    """[D] bool from the highest score down -> [101] precision at recall 0, 0.01 ... 1; 0 where not reached.

    Recall only grows where a detection is right, and precision is highest there: the others are only counted.
    """
    hits = np.flatnonzero(right)
    sampled = np.zeros(len(RECALLS))
    if len(hits):
        true_positives = np.arange(1, len(hits) + 1)
        precision = true_positives / np.cumsum(~ignored)[hits]
        envelope = np.maximum.accumulate(precision[::-1])[::-1]
        place = np.searchsorted(true_positives / num_objects, RECALLS, side="left")
        reached = place < len(hits)
        sampled[reached] = envelope[place[reached]]
    return sampled


def accumulate(matches: Matches) -> tuple[np.ndarray, np.ndarray]:
    """precision [A,T,K,101] with 100 detections an image, recall [A,T,K,3] with 1, 10, 100; NaN: no object."""
    num_objects = matches.num_objects()
    num_areas, num_thresholds, _ = matches.right.shape
    num_classes = num_objects.shape[1]
    precision = np.full((num_areas, num_thresholds, num_classes, len(RECALLS)), np.nan)
    recall = np.full((num_areas, num_thresholds, num_classes, 3), np.nan)
    for k in range(num_classes):
        rows = matches.rows_of(k)
        few = [matches.rank[rows] < limit for limit in (1, 10, 100)]
        for a in np.flatnonzero(num_objects[:, k]):
            right, ignored = matches.right[a, :, rows], matches.ignored[a, :, rows]
            for limit in range(3):
                recall[a, :, k, limit] = (right & few[limit]).sum(1) / num_objects[a, k]
            for t in range(num_thresholds):
                precision[a, t, k] = precision_at_recalls(right[t], ignored[t], num_objects[a, k])
    return precision, recall


def mean_of_defined(values: np.ndarray) -> float | None:
    """Mean over what is not NaN; None when nothing is defined."""
    defined = values[~np.isnan(values)]
    return float(defined.mean()) if len(defined) else None


def twelve(precision: np.ndarray, recall: np.ndarray, iou_thresholds: np.ndarray) -> dict[str, float | None]:
    """The twelve numbers of precision [A,T,K,101] and recall [A,T,K,3]; K may be one class."""
    at_50, at_75 = (int(np.argmin(np.abs(iou_thresholds - t))) for t in (0.5, 0.75))
    numbers = {
        "AP": precision[0],
        "AP50": precision[0, at_50],
        "AP75": precision[0, at_75],
        **{f"AP{AREA_NAMES[a][0]}": precision[a] for a in (1, 2, 3)},
        "AR1": recall[0, :, :, 0],
        "AR10": recall[0, :, :, 1],
        "AR100": recall[0, :, :, 2],
        **{f"AR{AREA_NAMES[a][0]}": recall[a, :, :, 2] for a in (1, 2, 3)},
    }
    return {key: mean_of_defined(numbers[key]) for key in KEYS}


def summary(matches: Matches) -> dict:
    """The twelve numbers, AP at each IoU, `per_class` {name: the twelve, num_objects}, and the counts."""
    precision, recall = accumulate(matches)
    counts = matches.num_objects()
    names = matches.tables.class_names

    def numbers_of(classes: slice) -> dict:
        counted = counts[:, classes].sum(1)
        return {
            **twelve(precision[:, :, classes], recall[:, :, classes], matches.iou_thresholds),
            "num_objects": int(counted[0]),
            "num_objects_by_size": {AREA_NAMES[a]: int(counted[a]) for a in (1, 2, 3)},
        }

    by_iou = {f"{iou:.2f}": mean_of_defined(precision[0, t]) for t, iou in enumerate(matches.iou_thresholds)}
    return {
        **numbers_of(slice(None)),
        "AP_by_iou": by_iou,
        "per_class": {name: numbers_of(slice(k, k + 1)) for k, name in enumerate(names)},
        "num_images": len(matches.tables.image_ids),
        "num_detections": len(matches.tables.det_score),
    }
