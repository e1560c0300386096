"""Another way to look at pictures: `--tiles` and `--tta` around a detector."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from label_tools.document import coco_file
from label_tools.text.errors import InputError
from toolkit.data.boxes import corners
from toolkit.data.tiles import Tiles, largest_side, overlap_for
from toolkit.metrics.coco_tables import read_tables
from toolkit.prediction.detector import Detector
from toolkit.prediction.tiled import Tiled
from toolkit.prediction.tta import Views

AUTO = "auto"
THRESHOLDS = "score_thresholds_of_looks"  # in checkpoint.json: {Look.about: {class: score}}


@dataclass(frozen=True)
class Look:
    """name: tiles, tta or tiles-tta, for folders; about: in words; tiles: None where pictures are seen whole;
    has_thresholds: chosen with this look."""

    name: str
    about: str
    detector: Detector
    tiles: Tiles | None
    has_thresholds: bool


def look_of(detector: Detector, place: Path, tiles: str | None, tta: str | None, *, batch_size: int = 4) -> Look | None:
    """The detector at `place` as `--tiles` and `--tta` ask for it; None: as it is. `--tiles auto` of one that was
    trained on tiles: such tiles.

    Score thresholds are those that an evaluation with the same look chose, else the detector's own.
    """
    if not tiles and not tta:
        return None
    looking, names, about = getattr(detector, "whole", lambda: detector)() if tiles else detector, [], []
    if tta:
        kinds = [kind.strip() for kind in tta.split(",")]
        looking = Views(looking, kinds)
        names, about = ["tta"], [f"views: {', '.join(kinds)}"]
    cut = trained = None
    if tiles:
        trained = getattr(detector, "tiles", None) if tiles == AUTO else None
        cut = trained or tiles_of(tiles, place)
        looking = Tiled(looking, cut, batch_size)
        names, about = ["tiles", *names], [str(cut), *about]
    words = "; ".join(about)
    chosen = getattr(getattr(detector, "checkpoint", None), "meta", {}).get(THRESHOLDS, {}).get(words)
    looking.score_thresholds = chosen or detector.score_thresholds
    return Look("-".join(names), words, looking, cut, bool(chosen or (trained and not tta)))


def tiles_of(text: str, place: Path) -> Tiles:
    """`auto` or a size in pixels -> tiles, their overlap from the largest training object of the run at `place`.

    auto: tiles as large as the training images, so that objects are seen at the scale that they were learned at.
    """
    sizes, boxes = _training_of(place)
    if text == AUTO:
        if not len(sizes):
            raise InputError(f"--tiles auto: {place} has no train.json, which tells the size; needs --tiles PX")
        size = int(np.median(sizes.min(axis=1)))
    else:
        try:
            size = int(text)
        except ValueError:
            raise InputError(f"--tiles: found {text}, needs auto or a size in pixels") from None
    return Tiles(size, overlap_for(largest_side(boxes) or size / 4, size))


def _training_of(place: Path) -> tuple[np.ndarray, np.ndarray]:
    """(sizes [N,2], boxes [M,4] XYXY) of what a run was trained on; empty where that is not known."""
    file = next((f for f in (place / "train.json", place.parent / "train.json") if f.is_file()), None)
    if file is None:
        return np.zeros((0, 2)), np.zeros((0, 4))
    tables = read_tables(coco_file.read(file), [])
    return tables.image_size[:, ::-1], corners(tables.gt_bbox[~tables.gt_is_crowd])
