"""A detector that looks at large pictures tile by tile, and puts together what a seam has cut (`data.seams`)."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from itertools import islice
from typing import Any, Self, cast

import numpy as np

from toolkit.data.merge_tiles import merged, moved
from toolkit.data.tiles import Tiles, Window
from toolkit.prediction.detector import Detector, Found


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


class Tiled:
    """`detector` on tiles, `batch_size` at a time: a `Detector`.

    Images may be anything with a shape [H,W,3] that gives [h,w,3] uint8 for [y1:y2, x1:x2]: a picture that is too large
    for the memory is read window by window.
    """

    reads_windows = True

    def __init__(self, detector: Detector, tiles: Tiles, batch_size: int = 4) -> None:
        self.detector, self.tiles, self.batch_size = detector, tiles, batch_size
        self.name, self.categories = detector.name, detector.categories
        self.score_thresholds = detector.score_thresholds
        self.opening = getattr(detector, "opening", {})
        self.identity = f"{detector.identity}, {tiles}"

    def detect(self, images: Sequence[np.ndarray]) -> list[Found]:
        """Every detection in each image, best first."""
        height, width = images[0].shape[:2]
        if len(self.tiles.windows(width, height)) == 1:
            return self.detector.detect([image[:, :] for image in images])
        return [self._one(image) for image in images]

    def _one(self, image: np.ndarray) -> Found:
        height, width = image.shape[:2]
        windows = self.tiles.windows(width, height)
        pieces: list[tuple[dict[str, Any], Window]] = []
        rest = iter(windows)
        while batch := list(islice(rest, self.batch_size)):
            found = self.detector.detect([image[y1:y2, x1:x2] for x1, y1, x2, y2 in batch])
            for window, those in zip(batch, found, strict=True):
                pieces += [(moved(one, window, (height, width)), window) for one in those]
        return merged(pieces, width, height)
