"""Choose the next pictures to label, with their drafts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from label_tools.pictures.duplicates import Fingerprint, fingerprint_file, look_alike, same_pixels
from label_tools.shapes.components import join
from label_tools.text.errors import InputError
from toolkit.labelling import ranking
from toolkit.labelling.drafts import draft_of, draft_thresholds
from toolkit.labelling.labelling_round import Pick
from toolkit.labelling.loop_file import Loop
from toolkit.labelling.scan_folder import LABELLED, NOTHING, scan
from toolkit.prediction.detect_pictures import Seen, detect_pictures
from toolkit.prediction.detector import Detector, over
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.picture_sources import Picture

RANDOM_SHARE = 1.0  # of a round, drawn by chance; docs/measurements/loop.md says what the ranking is worth


def choose(
    loop: Loop,
    number: int,
    *,
    model: Path | None = None,
    seed: int = 0,
    device: str = "auto",
    random_share: float = RANDOM_SHARE,
) -> tuple[list[Pick], list[str]]:
    """`number` unlabelled pictures, drafted by `model` or the model that last trained, where there is one; notes.

    Never one that looks like a labelled one or another of the round. random_share: of the round, drawn by chance; the
    rest is ranked (`ranking`), once there is a model.
    """
    if number < 1:
        raise InputError(f"--number: found {number}, needs 1 or more")
    if not 0 <= random_share <= 1:
        raise InputError(f"--random-share: found {random_share:g}, needs 0 to 1")
    found, _ = scan(loop.folder)
    counts = Counter(label for one in found if one.state == LABELLED for label in one.labels)
    loop.classes = loop.classes or sorted(set(counts) - {"__ignore__"})
    if not loop.classes:
        raise InputError(f"{loop.folder}: no picture is labelled yet; --labels FILE names the classes, one a line")
    notes: list[str] = []
    seen = [(one, _print(one.path, notes)) for one in found if one.state in (LABELLED, NOTHING)]
    prints = {one.name: found for one, found in seen if found is not None}
    pool = [one for one in found if one.state == NOTHING and one.name in prints]
    known = [one for one in found if one.state == LABELLED and one.name in prints]
    if not pool:
        raise InputError(f"{loop.folder}: no picture without a label file")
    groups = look_alikes([prints[one.name] for one in (*pool, *known)])
    run = model or loop.find_model()
    detector = None if run is None else open_detector(run, device)
    if detector and (extra := [c["name"] for c in detector.categories if c["name"] not in loop.classes]):
        raise InputError(f"{run}: knows the class {extra[0]}, which is none of {', '.join(loop.classes)}")
    labelled = {c["id"]: counts[c["name"]] for c in detector.categories} if detector else {}
    rng = np.random.default_rng([seed, len(loop.rounds)])
    files, labelled_files = ([one.path for one in part] for part in (pool, known))
    chosen = ranking.choose_among(
        detector, files, labelled_files, labelled, number, rng, random_share=random_share, groups=groups
    )
    if not chosen:
        raise InputError(f"{loop.folder}: every picture without labels looks like a labelled one")
    pictures = [Picture(pool[row].name, pool[row].path) for row, _ in chosen]
    thresholds = draft_thresholds(run, detector, loop.costs) if run and detector else {}
    picks = []
    for one, (_, why) in zip(_seen(detector, pictures), chosen, strict=True):
        if one.pixels is None:
            notes.append(f"skipped: {one.error}")
        else:
            picks.append(Pick(one.picture.name, draft_of(one, over(one.found, thresholds), detector, ""), why))
    return picks, notes


def _print(path: Path, notes: list[str]) -> Fingerprint | None:
    try:
        return fingerprint_file(path)
    except InputError as error:
        notes.append(f"skipped: {error}")
        return None


def look_alikes(prints: Sequence[Fingerprint]) -> list[int]:
    """A number for each picture, equal for those that look alike."""
    pairs = [*(tuple(group) for group in same_pixels(prints)), *((p.i, p.j) for p in look_alike(prints))]
    return join(len(prints), pairs)


def _seen(detector: Detector | None, pictures: Sequence[Picture]):
    """Every picture with what the detector finds; nothing without one."""
    if detector is not None:
        return detect_pictures(detector, pictures)
    return (Seen(one, one.open({}), []) for one in pictures)
