"""Choose the next pictures to label, with their drafts: by chance, or by how much labelling them should help.

The ranking balances four signs:
    uncertainty    the sum of 1 - |2 score - 1| over the detections: boxes that the model half believes
    disagreement   of the detections with those in the mirrored picture: scores that no partner of IoU 0.5 has there
    rarity         expected objects of a class over the labelled ones of it: a class that has few labels counts more
    unlikeness     1 - cosine to the nearest labelled or chosen picture, of the backbone's features

Each is turned into a rank within the pool, so that no sign's scale decides; their mean is the benefit.
Unlikeness is taken anew after each choice, so that a round is not twenty times the same scene. A stated share of a
round is drawn at random: what a model is sure of and wrong about, only chance finds. Of pictures that look alike one is
chosen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.pictures.duplicates import Fingerprint, fingerprint_file, look_alike, same_pixels
from label_tools.shapes.components import join
from label_tools.text.errors import InputError
from toolkit.labelling.drafts import draft_of, draft_thresholds
from toolkit.labelling.labelling_round import Pick
from toolkit.labelling.loop_file import Loop
from toolkit.labelling.scan_folder import LABELLED, NOTHING, scan
from toolkit.metrics.iou_and_matching import iou_table
from toolkit.prediction.detect_in_batches import Seen, detect_pictures
from toolkit.prediction.detector import Detector, Found, over
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.picture_sources import Picture
from toolkit.prediction.tiles_and_tta import turned

RANDOM_SHARE = 1.0  # of a round, drawn by chance; docs/measurements/loop.md says what the ranking is worth
LEAST, SAME = 0.05, 0.5  # score of a detection that counts at all; IoU of one with its partner in the mirror
RANDOM = "random"
SIGNS = ("uncertainty", "disagreement", "rarity", "unlikeness")


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
    rest is ranked, once there is a model.
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
    chosen = choose_among(
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


@dataclass(frozen=True)
class Signs:
    """Of the N pictures of a pool; features [N,C], each of length 1; [N,0] where there are none."""

    uncertainty: np.ndarray
    disagreement: np.ndarray
    rarity: np.ndarray
    features: np.ndarray


def signs_of(
    found: Sequence[Found], mirrored: Sequence[Found], labelled: Mapping[int, int], features: Sequence[np.ndarray]
) -> Signs:
    """found, mirrored: detections of each picture as it is and mirrored, the latter's boxes turned back. labelled:
    {category id: labelled objects}."""
    return Signs(
        np.array([sum(1 - abs(2 * d["score"] - 1) for d in one if d["score"] >= LEAST) for one in found]),
        np.array([_disagreement(a, b) for a, b in zip(found, mirrored, strict=True)]),
        np.array([sum(d["score"] / (1 + labelled.get(d["category_id"], 0)) for d in one) for one in found]),
        np.array(features).reshape(len(found), -1) if len(found) else np.zeros((0, 0)),
    )


def _disagreement(a: Found, b: Found) -> float:
    """Scores of detections, less what their best partners of the same class in the other list share."""
    a, b = ([d for d in one if d["score"] >= LEAST] for one in (a, b))
    apart = 0.0
    for these, those in ((a, b), (b, a)):
        meet = iou_table([d["bbox"] for d in these], [d["bbox"] for d in those]) >= SAME
        for d, near in zip(these, meet):
            partners = [o["score"] for o, ok in zip(those, near) if ok and o["category_id"] == d["category_id"]]
            apart += max(d["score"] - max(partners, default=0.0), 0.0)
    return apart


def pool_signs(detector: Detector, paths: Sequence[Path], labelled: dict[int, int]) -> Signs:
    """The signs of pictures that can be read. labelled: {category id: labelled objects}."""
    found, mirrored, features = [], [], []
    for one in detect_pictures(detector, (Picture(str(path), path) for path in paths)):
        assert one.pixels is not None, one.error
        found.append(one.found)
        mirror = detector.detect([np.ascontiguousarray(one.pixels[:, ::-1])])[0]
        boxes = (
            {key: d[key] for key in ("category_id", "score", "bbox")} for d in mirror
        )  # turning masks takes seconds
        mirrored.append([turned(d, one.pixels.shape[1]) for d in boxes])
        features.append(features_of(detector, one.pixels))
    return signs_of(found, mirrored, labelled, features)


def known_features(detector: Detector, paths: Sequence[Path]) -> np.ndarray:
    """[M,C] of pictures, for `chosen_rows`."""
    return np.array([features_of(detector, Picture(str(path), path).open(detector.opening)) for path in paths])


def features_of(detector: Detector, image: np.ndarray) -> np.ndarray:
    """[C] of length 1 for an image [H,W,3] uint8: the backbone's maps, each averaged over the picture. [0] where the
    detector is no network of torch with a backbone."""
    import torch

    model: Any = getattr(detector, "model", None)
    if not hasattr(model, "backbone") or not hasattr(model, "transform"):
        return np.zeros(0)
    with torch.no_grad():
        model.eval()
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        batch, _ = model.transform([tensor.to(next(model.parameters()).device)])
        maps = model.backbone(batch.tensors)
        levels = list(maps.values()) if isinstance(maps, dict) else [maps]
        row = torch.cat([level.mean((2, 3))[0] for level in levels]).float().cpu().numpy()
    return row / max(float(np.linalg.norm(row)), 1e-12)


def choose_among(
    detector: Detector | None,
    pool: Sequence[Path],
    known: Sequence[Path],
    labelled: dict[int, int],
    number: int,
    rng: np.random.Generator,
    *,
    random_share: float,
    groups: Sequence[Hashable],
) -> list[tuple[int, str]]:
    """`chosen_rows` among the pictures of a pool; without a detector chance alone decides.

    known: the labelled pictures; labelled: {category id: labelled objects}; groups: of the pool, then of these.
    """
    signs, near = Signs(*(np.zeros(len(pool)),) * 3, features=np.zeros((len(pool), 0))), None
    if detector and random_share < 1:
        signs, near = pool_signs(detector, pool, labelled), known_features(detector, known)
    share = random_share if detector else 1.0
    of_pool, used = groups[: len(pool)], set(groups[len(pool) :])
    return chosen_rows(signs, number, rng, random_share=share, known_features=near, groups=of_pool, used=used)


def chosen_rows(
    signs: Signs,
    number: int,
    rng: np.random.Generator,
    *,
    random_share: float,
    known_features: np.ndarray | None = None,
    groups: Sequence[Hashable] | None = None,
    used: Collection[Hashable] = (),
) -> list[tuple[int, str]]:
    """(row of the pool, why) of at most `number` pictures, useful ones first, chance ones among them.

    known_features [M,C]: of the labelled pictures. groups: of each picture, equal where two look alike; used: those of
    labelled pictures.
    """
    total = len(signs.uncertainty)
    groups = list(range(total)) if groups is None else groups
    free = np.array([group not in used for group in groups], bool)
    fixed = {name: _ranks(getattr(signs, name)) for name in SIGNS[:3]}
    nearest = _nearest(signs.features, known_features)
    by_chance = set(np.flatnonzero(rng.permutation(number) < round(random_share * number)).tolist())
    chosen: list[tuple[int, str]] = []
    while len(chosen) < number and free.any():
        if len(chosen) in by_chance:
            row, why = int(rng.choice(np.flatnonzero(free))), RANDOM
        else:
            ranks = fixed if nearest is None else {**fixed, "unlikeness": _ranks(nearest)}
            benefit = np.where(free, sum(ranks.values()), -1.0)
            row = int(rng.choice(np.flatnonzero(benefit == benefit.max())))
            why = max(ranks, key=lambda name: ranks[name][row])
        chosen.append((row, why))
        free &= np.array([group != groups[row] for group in groups], bool)
        if nearest is not None:
            nearest = np.minimum(nearest, 1 - signs.features @ signs.features[row])
    return chosen


def _nearest(features: np.ndarray, known: np.ndarray | None) -> np.ndarray | None:
    if not features.shape[1]:
        return None
    return np.full(len(features), 2.0) if known is None or not len(known) else 1 - (features @ known.T).max(1)


def _ranks(values: np.ndarray) -> np.ndarray:
    """0..1 by order; equal values have equal ranks."""
    if len(values) < 2:
        return np.zeros(len(values))
    low = np.searchsorted(np.sort(values), values, "left")
    high = np.searchsorted(np.sort(values), values, "right")
    return (low + high - 1) / 2 / (len(values) - 1)
