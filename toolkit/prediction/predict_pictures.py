"""Detect in new pictures and write what was found: `frcnn predict` on pictures."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures.drawings import drawing_paths
from toolkit.prediction import drawing
from toolkit.prediction.detect_pictures import detect_pictures
from toolkit.prediction.detector import Detector, Found, over, thresholds_of
from toolkit.prediction.mask_outlines import MASKS, Outlines
from toolkit.prediction.picture_sources import Picture
from toolkit.prediction.prediction_files import Journal, Record, write_files
from toolkit.processes import Processes

ALONE = Processes()
_LOG = logging.getLogger(__name__)


@dataclass
class Summary:
    """What a prediction came to. below: (score, label) of the best detection under its threshold for each picture
    that shows none, of those detected in this call."""

    pictures: int = 0
    unreadable: int = 0
    empty: int = 0
    objects: int = 0
    went_on: int = 0  # pictures that an earlier call had done
    below: dict[str, tuple[float, str]] = field(default_factory=dict)


def predict(
    detector: Detector,
    files: list[tuple[Path, Path]],
    out: Path,
    *,
    score: float | None = None,
    outlines: Outlines | None = None,
    pixel_size: float | None = None,
    max_pixels: int | None = None,
    draw: bool = True,
    batch_size: int = 4,
    workers: int = 0,
    share: Processes = ALONE,
    each: Callable[[int, int, str], None] | None = None,
) -> Summary | None:
    """Detect in the pictures that `find_images` gave and write `out`. None: another process writes the files.

    A call that was killed goes on where it stopped when the same is asked again. share: which of torchrun's processes
    this is; each takes its part. max_pixels: of a picture, in place of the detector's limit; a detector on tiles reads
    larger TIFF files by windows. each(done, of this process, error or "") is called after every picture.
    """
    thresholds = thresholds_of(detector, score)
    outlines = outlines or Outlines(MASKS)
    names = [name.as_posix() for _, name in files]
    drawings = drawing_paths(out, dict(zip(names, (path for path, _ in files)))) if draw else {}
    settings = {
        "detector": detector.identity,
        "thresholds": thresholds,
        "outlines": [outlines.kind, outlines.least],
        "pictures": fingerprint(files),
        "max_pixels": max_pixels,
    }
    journal = Journal(out, settings, share.rank)
    summary = Summary(pictures=len(files))
    try:
        opening = {} if max_pixels is None else {"max_pixels": max_pixels}
        mine = [Picture(name, path, opening=opening) for name, (path, _) in zip(names, files)][
            share.rank :: share.world_size
        ]
        todo = [picture for picture in mine if picture.name not in journal]
        summary.went_on = len(mine) - len(todo)
        seen = detect_pictures(detector, todo, batch_size=batch_size, workers=workers)
        for done, one in enumerate(seen, 1):
            kept = outlines.of(over(one.found, thresholds))
            if draw and one.pixels is not None and not isinstance(one.pixels, np.ndarray):
                _LOG.warning(f"{one.picture.path}: over the limit of pixels, read by windows and not drawn")
            elif draw and one.pixels is not None:
                picture = drawing.draw_detections(Image.fromarray(one.pixels), named(kept, detector))
                drawing.save_jpeg(picture, drawings[one.picture.name])
            if one.found and not kept:
                best = named(one.found[:1], detector)[0]
                summary.below[one.picture.name] = (best["score"], best["label"])
            journal.add(record(one.picture.name, kept, detector, one.error))
            if each:
                each(done, len(todo), one.error)
        if not share.first:
            return None
        journal.wait_for(names)
        write_files(out, lambda: journal.records(names), detector.categories, thresholds, pixel_size)
        for one_record in journal.records(names):
            summary.objects += len(one_record["detections"])
            summary.unreadable += "error" in one_record
            summary.empty += not one_record["detections"] and "error" not in one_record
        journal.remove()
    finally:
        journal.close()
    return summary


def fingerprint(files: list[tuple[Path, Path]]) -> str:
    """Changes when a picture is another one."""
    digest = hashlib.sha256()
    for path, name in files:
        stat = path.stat()
        digest.update(f"{name.as_posix()}:{stat.st_size}:{stat.st_mtime_ns}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def named(found: Found, detector: Detector) -> Found:
    """Detections with the name of their class, as they are written."""
    names = {c["id"]: c["name"] for c in detector.categories}
    keys = ("score", "bbox", "segmentation", "area")
    return [
        {"label": names[d["category_id"]], "category_id": d["category_id"], **{k: d[k] for k in keys if k in d}}
        for d in found
    ]


def record(name: str, kept: Found, detector: Detector, error: str = "", **more: Any) -> Record:
    """What is written of a picture."""
    written: Record = {"file_name": name, **more, "detections": named(kept, detector)}
    return {**written, "error": error} if error else written
