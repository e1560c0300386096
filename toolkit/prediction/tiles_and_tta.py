"""Wrap a detector to predict tile by tile (`--tiles`) or on several views, fused (`--tta`).

What a seam between tiles has cut is put together by `data.tiles.merged`.

Boxes of all views are fused class by class (Solovyev, Wang, Gabruseva 2021): from the highest score down each joins the
first group whose box it overlaps by IoU 0.55, which becomes the mean weighed by the scores; a group's score is the sum
of the best scores of the views over the number of views, so what one view alone sees counts little.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self, cast

import numpy as np

from label_tools.document import coco_file
from label_tools.shapes import rle
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit.data.boxes import corners
from toolkit.data.tiles import Tiles, Window, largest_side, merged, moved, overlap_for
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import iou_table
from toolkit.prediction.detector import Detector, Found

AUTO = "auto"
THRESHOLDS = "score_thresholds_of_looks"  # in checkpoint.json: {Look.about: {class: score}}
KINDS = ("flip", "scales")
SCALES = (0.75, 1.0, 1.33)  # of the size that the network sees
SAME = 0.55  # the paper's


@dataclass(frozen=True)
class Look:
    """How a detector looks at pictures: in tiles, in several views, or both.

    name: tiles, tta or tiles-tta, for folders; about: in words; tiles: None where pictures are seen whole;
    has_thresholds: whether score thresholds were chosen with this look."""

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


class TrainedOnTiles:
    """What detectors share that may have been trained on tiles: then they look at every picture in such tiles, else
    (tiles is None) at whole pictures. They have `_detect(images)` for these."""

    tiles: Tiles | None

    @property
    def reads_windows(self) -> bool:
        return self.tiles is not None

    def whole(self) -> Self:
        """The same detector, which looks at whole pictures."""
        other = copy.copy(self)
        other.tiles = None
        return other

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Every detection in each image [H,W,3] uint8 RGB, best first."""
        if self.tiles is None:
            return self._detect(images)
        return Tiled(cast(Detector, self.whole()), self.tiles).detect(images)

    def _detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        raise NotImplementedError


class _Around:
    """What a detector that wraps another one takes over from it."""

    reads_windows = False

    def __init__(self, detector: Detector, more: str) -> None:
        self.detector = detector
        self.name, self.categories = detector.name, detector.categories
        self.score_thresholds = detector.score_thresholds
        self.opening = detector.opening
        self.identity = f"{detector.identity}, {more}"


class Tiled(_Around):
    """`detector` on tiles, `batch_size` at a time: a `Detector`.

    Images may be anything with a shape [H,W,3] that gives [h,w,3] uint8 for [y1:y2, x1:x2]: a picture that is too large
    for the memory is read window by window.
    """

    reads_windows = True

    def __init__(self, detector: Detector, tiles: Tiles, batch_size: int = 4) -> None:
        super().__init__(detector, str(tiles))
        self.tiles, self.batch_size = tiles, batch_size

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        height, width = images[0].shape[:2]
        windows = self.tiles.windows(width, height)
        if len(windows) == 1:
            return self.detector.detect([image[:, :] for image in images])
        return [self._one(image, windows) for image in images]

    def _one(self, image: np.ndarray, windows: Sequence[Window]) -> Found:
        height, width = image.shape[:2]
        pieces: list[tuple[dict[str, Any], Window]] = []
        rest = iter(windows)
        while batch := list(islice(rest, self.batch_size)):
            found = self.detector.detect([image[y1:y2, x1:x2] for x1, y1, x2, y2 in batch])
            for window, those in zip(batch, found, strict=True):
                pieces += [(moved(one, window, (height, width)), window) for one in those]
        return merged(pieces, width, height)


class Views(_Around):
    """`detector` on several views of each picture: a `Detector`. Raises InputError where it cannot make one of them."""

    def __init__(self, detector: Detector, kinds: Sequence[str]) -> None:
        for kind in kinds:
            if kind not in KINDS:
                raise InputError(f"--tta: {unknown('view', kind, KINDS)}")
        super().__init__(detector, f"views {','.join(kinds)}")
        self._looks: list[Detector] = [detector]
        if "scales" in kinds:
            at_scale = getattr(detector, "at_scale", None)  # of a detector whose network can see another size
            if at_scale is None:
                raise InputError(f"--tta scales: {detector.name} sees pictures at one size; needs a run, or --tta flip")
            self._looks = [detector if scale == 1 else at_scale(scale) for scale in SCALES]
        self._flips = (False, True) if "flip" in kinds else (False,)

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        views: list[list[Found]] = []
        for look in self._looks:
            for flip in self._flips:
                found = look.detect([image[:, ::-1] if flip else image for image in images])
                if flip:
                    found = [[turned(d, i.shape[1]) for d in f] for f, i in zip(found, images, strict=True)]
                views.append(found)
        return [fused([view[number] for view in views]) for number in range(len(images))]


def turned(one: dict[str, Any], width: int) -> dict[str, Any]:
    """A detection of a mirrored picture in the coordinates of the picture."""
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
        boxes = np.array([one["bbox"] for one, _ in rows])
        score = np.array([one["score"] for one, _ in rows])
        means = np.zeros((0, 4))
        groups: list[list[int]] = []
        for row in range(len(rows)):
            overlap = iou_table(boxes[row], means)[0]
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
            box = [round(v, 3) for v in mean.tolist()]
            together.append({**rows[group[0]][0], "bbox": box, "score": round(value, 6)})
    return sorted(together, key=lambda one: -one["score"])
