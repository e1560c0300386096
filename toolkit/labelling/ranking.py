"""Rank pictures by how much labelling them should help: four signs, balanced with chance.

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

from collections.abc import Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.metrics.iou_and_matching import iou_table
from toolkit.prediction.detect_pictures import detect_pictures
from toolkit.prediction.detector import Detector, Found
from toolkit.prediction.picture_sources import Picture

LEAST, SAME = 0.05, 0.5  # score of a detection that counts at all; IoU of one with its partner in the mirror
RANDOM = "random"
SIGNS = ("uncertainty", "disagreement", "rarity", "unlikeness")


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


def _mirrored_back(found: Found, width: int) -> Found:
    """Detections of a mirrored picture in the coordinates of the picture."""
    return [{**d, "bbox": [width - d["bbox"][0] - d["bbox"][2], *d["bbox"][1:]]} for d in found]


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
        mirrored.append(_mirrored_back(mirror, one.pixels.shape[1]))
        features.append(features_of(detector, one.pixels))
    return signs_of(found, mirrored, labelled, features)


def known_features(detector: Detector, paths: Sequence[Path]) -> np.ndarray:
    """[M,C] of pictures, for `choose`."""
    opening = getattr(detector, "opening", {})
    return np.array([features_of(detector, Picture(str(path), path).open(opening)) for path in paths])


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
    """`choose` among the pictures of a pool; without a detector chance alone decides.

    known: the labelled pictures; labelled: {category id: labelled objects}; groups: of the pool, then of these.
    """
    signs, near = Signs(*(np.zeros(len(pool)),) * 3, features=np.zeros((len(pool), 0))), None
    if detector and random_share < 1:
        signs, near = pool_signs(detector, pool, labelled), known_features(detector, known)
    share = random_share if detector else 1.0
    of_pool, used = groups[: len(pool)], set(groups[len(pool) :])
    return choose(signs, number, rng, random_share=share, known_features=near, groups=of_pool, used=used)


def choose(
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
