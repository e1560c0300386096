"""The detector at a place, by what lies there."""

from __future__ import annotations

from pathlib import Path

from toolkit.prediction.detector import Detector


def open_detector(place: Path, device: str = "auto", precision: str = "auto") -> Detector:
    """The detector at `place`: a run folder, or a checkpoint in one. Raises InputError."""
    from toolkit.prediction.predictor import Predictor

    return Predictor(place, device, precision)
