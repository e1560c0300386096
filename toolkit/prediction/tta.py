"""Test-time augmentation: a detector that looks at each picture several times and takes what the views agree on.

Boxes of all views are fused class by class (Solovyev, Wang, Gabruseva 2021): from the highest score down each joins the
first group whose box it overlaps by IoU 0.55, which becomes the mean weighed by the scores; a group's score is the
sum of the best scores of the views over the number of views, so what one view alone sees counts little.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit.data.boxes import bbox, corners
from toolkit.prediction.detector import Detector, Found

KINDS = ("flip", "scales")
SCALES = (0.75, 1.0, 1.33)  # of the size that the network sees
SAME = 0.55  # the paper's


class Scalable(Detector, Protocol):
    """A detector that can look at pictures at another size than it was trained for."""

    def at_scale(self, factor: float) -> Detector:
        """The same detector, for which pictures are resized to `factor` times the usual size."""


class Views:
    """`detector` on several views of each picture: a `Detector`. Raises InputError where it cannot make one of them."""

    def __init__(self, detector: Detector, kinds: Sequence[str]) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise InputError(f"--tta: {unknown('view', kind, KINDS)}")
        self.detector = detector
        self.name, self.categories = detector.name, detector.categories
        self.score_thresholds = detector.score_thresholds
        self.opening = getattr(detector, "opening", {})
        self.identity = f"{detector.identity}, views {','.join(kinds)}"
        self._looks: list[Detector] = [detector]
        if "scales" in kinds:
            if not hasattr(detector, "at_scale"):
                raise InputError(f"--tta scales: {detector.name} sees pictures at one size; needs a run, or --tta flip")
            self._looks = [detector if scale == 1 else detector.at_scale(scale) for scale in SCALES]
        self._flips = (False, True) if "flip" in kinds else (False,)

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Every detection in each image, best first."""
        views: list[list[Found]] = []
        for look in self._looks:
            for flip in self._flips:
                found = look.detect([image[:, ::-1] if flip else image for image in images])
                if flip:
                    found = [[_mirrored(d, i.shape[1]) for d in f] for f, i in zip(found, images, strict=True)]
                views.append(found)
        return [fused([view[number] for view in views]) for number in range(len(images))]


def _mirrored(one: dict[str, Any], width: int) -> dict[str, Any]:
    x, y, w, h = one["bbox"]
    mirrored = {**one, "bbox": [width - x - w, y, w, h]}
    if "segmentation" in one:
        size = one["segmentation"]["size"]
        mask = rle.decode(rle.to_runs(one["segmentation"]), *size)[:, ::-1]
        mirrored["segmentation"] = rle.to_rle(rle.encode(mask), *size)
    return mirrored


def fused(views: list[Found]) -> Found:
    """The detections of one picture as several views saw it -> one list, best first."""
    together: Found = []
    for category in {one["category_id"] for view in views for one in view}:
        rows = [(one, v) for v, view in enumerate(views) for one in view if one["category_id"] == category]
        rows.sort(key=lambda row: -row[0]["score"])
        boxes = corners([one["bbox"] for one, _ in rows])
        score = np.array([one["score"] for one, _ in rows])
        means = np.zeros((0, 4))
        groups: list[list[int]] = []
        for row in range(len(rows)):
            overlap = _iou(boxes[row], means)
            if len(overlap) and overlap.max() >= SAME:
                nearest = int(overlap.argmax())
                members = groups[nearest]
                members.append(row)
                means[nearest] = np.average(boxes[members], axis=0, weights=score[members] + 1e-9)
            else:
                groups.append([row])
                means = np.vstack([means, boxes[row]])
        for mean, group in zip(means, groups):
            best: dict[int, float] = {}
            for one, view in (rows[row] for row in group):
                best.setdefault(view, one["score"])  # from the highest score down
            value = sum(best.values()) / len(views)
            box = [round(v, 3) for v in bbox(mean.tolist())]
            together.append({**rows[group[0]][0], "bbox": box, "score": round(value, 6)})
    return sorted(together, key=lambda one: -one["score"])


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    inside = sides.clip(0).prod(axis=1)
    areas = (others[:, 2:] - others[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod()
    return inside / np.maximum(areas - inside, 1e-9)
