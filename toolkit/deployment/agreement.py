"""Check that an exported detector agrees with the original: on labelled pictures, at other sizes, on a blank one.

A picture agrees when both have the same detections: as many, and each pair of one class with corners within BOX pixels
and scores within SCORE. The order counts nothing: detections of almost one score may change places.

Some pictures have no one answer: where scores tie, or an IoU lies on the threshold of NMS, the rounding of single
precision decides: with other roundings, or in double precision, the original is as far from itself. Such a picture says
nothing of an export; it is counted, and only MOST_UNDECIDED of the pictures may be so.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document import coco_file
from label_tools.pictures.open_image import open_image
from toolkit.data.boxes import result_entries
from toolkit.evaluation.compute_metrics import coco_metrics

BOX, SCORE = 0.01, 1e-4  # pixels of the picture; of a score in 0..1
NUM_SIZES, SMALLEST, LARGEST = 24, 24, 1000  # pictures of other sizes, and the sides between which they are drawn
MOST_UNDECIDED = 0.1  # of the pictures
BLANK = (240, 320)  # height, width of the picture that shows nothing

Arrays = list[np.ndarray]  # boxes [N,4] XYXY pixels, labels [N], scores [N]
Detect = Callable[[np.ndarray], Arrays]  # of an image [H,W,3] uint8
Otherwise = Callable[[np.ndarray], Iterable[Arrays]]  # the same network with other roundings, several times


@dataclass
class Agreement:
    """What the comparison of two detectors found."""

    pictures: int = 0
    sizes: set[tuple[int, int]] = field(default_factory=set)
    detections: int = 0
    without: int = 0  # pictures in which neither finds anything
    box_gap: float = 0.0
    score_gap: float = 0.0
    differ: list[str] = field(default_factory=list)  # a line for each picture that does not agree
    undecided: list[str] = field(default_factory=list)  # and for each in which the original differs from itself
    seconds: list[float] = field(default_factory=lambda: [0.0, 0.0])  # an image of the set, of both
    ap: list[float | None] = field(default_factory=lambda: [None, None])

    def add(
        self, name: str, image: np.ndarray, original: Arrays, exported: Arrays, otherwise: Otherwise | None = None
    ) -> None:
        """Take in what both found in one picture. otherwise: the original with other roundings."""
        self.pictures += 1
        self.sizes.add(image.shape[:2])
        self.detections += len(original[0])
        self.without += not len(original[0]) and not len(exported[0])
        box, score, unpaired = difference(original, exported)
        if not _apart(box, score, unpaired):
            self.box_gap, self.score_gap = max(self.box_gap, box), max(self.score_gap, score)
            return
        counts = f"{len(original[0])} and {len(exported[0])} detections, {unpaired} without a partner"
        height, width = image.shape[:2]
        line = f"{name}, {width} x {height}: {counts}, gaps {box:.2g} px and {score:.2g}"
        for other in otherwise(image) if otherwise else ():
            own_box, own_score, own_unpaired = difference(original, other)
            near = not unpaired and box <= BOX + own_box and score <= SCORE + own_score
            if near or _apart(own_box, own_score, own_unpaired):
                self.undecided.append(line)
                return
        self.box_gap, self.score_gap = max(self.box_gap, box), max(self.score_gap, score)
        self.differ.append(line)

    def to_json(self) -> dict[str, Any]:
        return {
            "pictures": self.pictures,
            "sizes": len(self.sizes),
            "without_detections": self.without,
            "detections": self.detections,
            "pictures_that_differ": len(self.differ),
            "pictures_undecided": len(self.undecided),
            "largest_gap_pixels": self.box_gap,
            "largest_gap_score": self.score_gap,
            "AP_original": self.ap[0],
            "AP_exported": self.ap[1],
            "seconds_original": round(self.seconds[0], 5),
            "seconds_exported": round(self.seconds[1], 5),
        }


def _apart(box: float, score: float, unpaired: int) -> bool:
    return bool(unpaired) or box > BOX or score > SCORE


def difference(one: Arrays, other: Arrays) -> tuple[float, float, int]:
    """(largest gap of a corner in pixels, largest gap of scores, detections without a partner) of two sets.

    Each detection of the first, best first, has the nearest free one of its class within BOX pixels as its partner,
    else the nearest at all.
    """
    box_gap = score_gap = 0.0
    unpaired = abs(len(one[0]) - len(other[0]))
    free = np.ones(len(other[0]), dtype=bool)
    missed = 0
    for box, label, score in zip(*one):
        candidates = np.flatnonzero(free & (other[1] == label))
        if not len(candidates):
            missed += 1
            continue
        apart = np.abs(other[0][candidates] - box).max(axis=1)
        best = candidates[np.lexsort((np.abs(other[2][candidates] - score), np.maximum(apart, BOX)))[0]]
        free[best] = False
        box_gap = max(box_gap, float(np.abs(other[0][best] - box).max()))
        score_gap = max(score_gap, abs(float(other[2][best]) - float(score)))
    return box_gap, score_gap, max(unpaired, missed)


def compare(
    original: Detect,
    exported: Detect,
    document: dict[str, Any],
    image_root: Path,
    category_ids: Sequence[int],
    each: Callable[[int, int], None] | None = None,
    otherwise: Otherwise | None = None,
) -> Agreement:
    """Compare two detectors on the images of a COCO document, at NUM_SIZES other sizes and on a blank picture.

    category_ids: of the document, for the labels 1..K. otherwise: the original with other roundings. The seconds are
    those of the document's images alone.
    """
    result, opening = Agreement(), coco_file.opening(document)
    paths = [(image["id"], image["file_name"]) for image in document["images"]]
    found: tuple[list, list] = [], []
    for done, (image_id, name) in enumerate(paths, 1):
        image = np.asarray(open_image(Path(image_root, name), **opening))
        both = []
        for k, detect in enumerate((original, exported)):
            start = time.perf_counter()
            both.append(detect(image))
            result.seconds[k] += (time.perf_counter() - start) / len(paths)
            boxes, labels, scores = both[k]
            found[k].extend({"image_id": image_id, **d} for d in result_entries(boxes, labels, scores, category_ids))
        result.add(name, image, both[0], both[1], otherwise)
        if each:
            each(done, len(paths))
    for name, image in _other_sizes([Path(image_root, name) for _, name in paths], opening):
        result.add(name, image, original(image), exported(image), otherwise)
    if not len((nothing := original(blank()))[0]):  # else all its places score the same, and any order of them is right
        result.add("blank", blank(), nothing, exported(blank()))
    result.ap = [coco_metrics(document, one)["AP"] for one in found]
    return result


def _other_sizes(paths: Sequence[Path], opening: Mapping[str, Any]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, image) of pictures of the set, brought to sizes that no camera has: the same ones every time."""
    random = np.random.default_rng(0)
    sides = np.exp(random.uniform(np.log(SMALLEST), np.log(LARGEST), (NUM_SIZES, 2))).astype(int)
    for k, (width, height) in enumerate(sides.tolist()):
        path = paths[k % len(paths)]
        picture = open_image(path, **opening).resize((width, height), Image.Resampling.BILINEAR)
        yield f"{path.name} resized", np.asarray(picture)


def blank() -> np.ndarray:
    """A grey picture, in which a trained detector finds nothing."""
    return np.full((*BLANK, 3), 128, dtype=np.uint8)
