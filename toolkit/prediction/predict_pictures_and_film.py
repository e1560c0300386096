"""Detect in new pictures, or in a film or a camera frame by frame, and write what was found: `frcnn predict`."""

from __future__ import annotations

import hashlib
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures.films import Film, film_writer, frame_name, is_film
from label_tools.pictures.own_output import drawing_paths
from label_tools.pictures.paint_objects import paint
from label_tools.text.errors import InputError
from toolkit.prediction.detect_in_batches import detect_pictures
from toolkit.prediction.detector import Detector, Found, over, thresholds_of
from toolkit.prediction.draw_boxes_and_batches import save_jpeg
from toolkit.prediction.mask_outlines import MASKS, Outlines
from toolkit.prediction.picture_sources import Picture
from toolkit.prediction.prediction_files import Journal, Record, write_files
from toolkit.rank_and_cores import Processes

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
                save_jpeg(drawn(one.pixels, kept, detector), drawings[one.picture.name])
            if one.found and not kept:
                best = named(one.found[:1], detector)[0]
                summary.below[one.picture.name] = (best["score"], best["label"])
            journal.add(record(one.picture.name, kept, detector, one.error))
            if each:
                each(done, len(todo), one.error)
        if not share.first:
            return None
        journal.wait_for(names)
        finish(journal, names, detector, thresholds, summary, pixel_size)
    finally:
        journal.close()
    return summary


def finish(
    journal: Journal,
    names: list[str],
    detector: Detector,
    thresholds: dict[int, float],
    summary: Summary,
    pixel_size: float | None = None,
) -> None:
    """Write the files of what the journal holds of these pictures, count it, and remove the journal."""
    write_files(journal.folder, lambda: journal.records(names), detector.categories, thresholds, pixel_size)
    for one in journal.records(names):
        summary.objects += len(one["detections"])
        summary.unreadable += "error" in one
        summary.empty += not one["detections"] and "error" not in one
    journal.remove()


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


def drawn(pixels: np.ndarray, found: Found, detector: Detector, legend: bool = True) -> Image.Image:
    """A picture with boxes or masks, class names and scores."""
    return paint(Image.fromarray(pixels), found, {c["id"]: c["name"] for c in detector.categories}, legend=legend)


def record(name: str, kept: Found, detector: Detector, error: str = "", **more: Any) -> Record:
    """What is written of a picture."""
    written: Record = {"file_name": name, **more, "detections": named(kept, detector)}
    return {**written, "error": error} if error else written


def film_in(sources: list[str]) -> Film | None:
    """The film or camera that `frcnn predict` was given, opened; None: pictures. InputError for several films."""
    films = [s for s in sources if is_film(Path(s)) or (s.isdecimal() and not Path(s).exists())]
    if not films:
        return None
    if len(sources) > 1:
        raise InputError(f"{films[0]}: a film and {len(sources) - 1} more; needs one film at a time")
    return Film(int(films[0]) if films[0].isdecimal() else Path(films[0]))


def predict_film(
    detector: Detector,
    film: Film,
    out: Path,
    *,
    score: float | None = None,
    outlines: Outlines | None = None,
    every: int = 1,
    draw: bool = True,
    batch_size: int = 4,
    stop: Callable[[], bool] = bool,
    each: Callable[[int, int], None] | None = None,
) -> Summary:
    """Detect in every `every`-th frame and write `out`: the film with boxes, detections as JSON and CSV, counts.csv.

    stop() is asked after every frame: True ends the film there, and all files are whole. each(done, of) is called after
    every frame that was looked at; of is 0 where nobody knows. A camera is looked at as fast as the detector can, and
    its times are those of the clock.
    """
    thresholds = thresholds_of(detector, score)
    outlines = outlines or Outlines(MASKS)
    place = out / f"{film.name}.mp4"
    if place.exists():
        raise InputError(f"{place}: exists, and is never overwritten; use another --out")
    journal = Journal(out, {"film": film.name, "begun": time.time()})
    names: list[str] = []
    total = -(-film.frames // every)
    frames = _frames(film, every)
    try:
        with film_writer(place, max(1.0, film.rate / every)) as write:
            seen = detect_pictures(detector, frames, batch_size=1 if film.is_camera else batch_size)
            for one in seen:
                assert one.pixels is not None, one.picture.name
                kept = outlines.of(over(one.found, thresholds))
                if draw:
                    write(np.asarray(drawn(one.pixels, kept, detector, legend=False)))
                journal.add(record(one.picture.name, kept, detector, **one.picture.more))
                names.append(one.picture.name)
                if each:
                    each(len(names), total)
                if stop():
                    break
        summary = Summary(pictures=len(names))
        finish(journal, names, detector, thresholds, summary)
    finally:
        journal.close()
    return summary


def _frames(film: Film, every: int) -> Iterator[Picture]:
    begin = time.monotonic()
    for frame in film:
        if frame.number % every == 0:
            at = time.monotonic() - begin if film.is_camera else frame.time
            more = {"frame": frame.number, "time": round(at, 3)}
            yield Picture(frame_name(film.name, frame.number), pixels=frame.pixels, more=more)
