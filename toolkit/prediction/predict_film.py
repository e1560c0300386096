"""Detect in a film or a camera, frame by frame: `frcnn predict` on a film."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

from label_tools.pictures.films import Film, film_writer, frame_name, is_film
from label_tools.text.errors import InputError
from toolkit.prediction.detect_pictures import detect_pictures
from toolkit.prediction.detector import Detector, over, thresholds_of
from toolkit.prediction.mask_outlines import MASKS, Outlines
from toolkit.prediction.picture_sources import Picture
from toolkit.prediction.predict_pictures import Summary, drawn, finish, record
from toolkit.prediction.prediction_files import Journal


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
