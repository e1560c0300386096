"""Interface of all detectors: a checkpoint on torch, an exported file, one wrapped in tiles or views.

Whoever reads pictures and writes results (`detect_pictures`, `predict_film`, evaluation) knows this interface alone,
and nothing here imports torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import numpy as np

from label_tools.text.errors import InputError

Found = list[dict[str, Any]]  # of one picture, best first: {"category_id", "bbox": [x, y, w, h] pixels, "score", ...}


class Detector(Protocol):
    """A detector that is ready to run.

    name: for messages. identity: changes when what it would find changes. categories: [{"id", "name"}] of its classes,
    in the order of its labels 1..K. score_thresholds: {class: score}, those that an evaluation chose. opening: keywords
    of `open_image.open_image` for the pictures that it expects. reads_windows: whether an image may be `Windows`.
    """

    name: str
    identity: str
    categories: list[dict[str, Any]]
    score_thresholds: dict[str, float]
    opening: dict[str, Any]

    @property
    def reads_windows(self) -> bool: ...

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Every detection at any score in each image [H,W,3] uint8 RGB. Images of one size make the fullest batch."""


def thresholds_of(detector: Detector, score: float | None = None) -> dict[int, float]:
    """{category_id: score from which a detection is shown}: `score` for all, else the detector's own."""
    stored = detector.score_thresholds
    return {c["id"]: score if score is not None else stored.get(c["name"], 0.5) for c in detector.categories}


def over(found: Found, thresholds: Mapping[int, float]) -> Found:
    """The detections with at least the score of their class."""
    return [one for one in found if one["score"] >= thresholds[one["category_id"]]]


def category_map(detector: Detector, document: dict[str, Any]) -> dict[int, int]:
    """{category id of the detector: that of a COCO document}; refused when the names differ."""
    theirs = {c["name"]: c["id"] for c in document["categories"]}
    ours = {c["name"]: c["id"] for c in detector.categories}
    if set(theirs) != set(ours):
        raise InputError(
            f"{detector.name}: was trained on the classes {', '.join(ours)}; "
            f"the labels have {', '.join(theirs)}; needs the same classes"
        )
    return {number: theirs[name] for name, number in ours.items()}
