"""Which pictures next, with their drafts."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from label_tools.pictures.images import image_size
from label_tools.text.errors import InputError
from toolkit.labelling.drafts import draft_of, draft_thresholds
from toolkit.labelling.loop_file import Loop
from toolkit.labelling.pictures import LABELLED, NOTHING, scan
from toolkit.labelling.rounds import Pick
from toolkit.prediction.detector import over
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.sources import Picture
from toolkit.prediction.stream import detect_pictures


def choose(loop: Loop, number: int, *, model: Path | None = None, seed: int = 0, device: str = "auto") -> list[Pick]:
    """`number` unlabelled pictures, drafted by `model` or the model that last trained, where there is one."""
    if number < 1:
        raise InputError(f"--number: found {number}, needs 1 or more")
    found, _ = scan(loop.folder)
    if not loop.classes:
        loop.classes = sorted(
            {label for one in found if one.state == LABELLED for label in one.labels} - {"__ignore__"}
        )
    if not loop.classes:
        raise InputError(f"{loop.folder}: no picture is labelled yet; --labels FILE names the classes, one a line")
    pool = [one for one in found if one.state == NOTHING]
    if not pool:
        raise InputError(f"{loop.folder}: no picture without a label file")
    order = np.random.default_rng([seed, len(loop.rounds)]).permutation(len(pool))
    chosen = [pool[i] for i in order[:number]]
    run = model or loop.find_model()
    if run is None:
        return [Pick(one.name, _empty(one.path), "random") for one in chosen]
    detector = open_detector(run, device)
    if extra := [c["name"] for c in detector.categories if c["name"] not in loop.classes]:
        raise InputError(f"{run}: knows the class {extra[0]}, which is none of {', '.join(loop.classes)}")
    thresholds = draft_thresholds(run, detector, loop.costs)
    picks = []
    for one in detect_pictures(detector, (Picture(c.name, c.path) for c in chosen)):
        if one.pixels is not None:
            draft = draft_of(one, over(one.found, thresholds), detector, Path(one.picture.name).name)
            picks.append(Pick(one.picture.name, draft, "random"))
    return picks


def _empty(path: Path) -> dict:
    from label_tools.formats.labelme_write import file_content

    width, height = image_size(path)
    return file_content({"width": width, "height": height}, [], {}, path.name)
