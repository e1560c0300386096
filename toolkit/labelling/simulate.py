"""Simulate labelling on pictures with known labels, to compare the ranking with random choice.

For each seed: a start drawn at random, a model on it, then rounds in which each strategy chooses `step` pictures more
and a new model is trained on all it has. Start and test pictures are the same for every strategy of a seed; every
training has the same number of steps. What is compared is AP at equal numbers of pictures.
"""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.document.stratified_split import subset
from label_tools.pictures.duplicates import fingerprint_files
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import config as recipes
from toolkit.data.coco_index import index_of
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.fine_tune import with_model
from toolkit.labelling.choose_pictures import choose_among, look_alikes
from toolkit.metrics.intervals import student
from toolkit.prediction.detect_in_batches import detect_document
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.training import detection_task as training

STRATEGIES = {"random": 1.0, "ranked": 0.2, "ranked alone": 0.0}  # the share of each round that chance draws


@dataclass(frozen=True)
class Plan:
    """start: pictures of the first model; step: more in each of `rounds`; test: share of the set that is evaluated on;
    steps: of each training."""

    start: int = 12
    step: int = 12
    rounds: int = 2
    test: float = 0.3
    steps: int = 120
    strategies: tuple[str, ...] = ("random", "ranked")


def simulate(
    annotations: Path, seeds: Sequence[int], plan: Plan, options: dict[str, Any], each: Callable[[dict], None]
) -> dict[str, Any]:
    """{"points": [{"seed", "strategy", "images", "objects", "AP", "AP50"}], "summary": [...]}; each(point) when made.

    options: of a recipe, as in `frcnn train`. Raises InputError when the set is too small for the plan.
    """
    document = coco_file.read(annotations, sizes=sizes_below)
    root = coco_file.image_root(document, annotations)
    need = plan.start + plan.step * plan.rounds
    pool = round(len(document["images"]) * (1 - plan.test))
    if need > pool:
        raise InputError(
            f"{annotations}: {counted(len(document['images']), 'picture')}, {pool} of them beside the test part; the "
            f"simulation would label {need}; needs fewer with --start, --step or --rounds"
        )
    prints = list(fingerprint_files([root / image["file_name"] for image in document["images"]]))
    groups = look_alikes(prints)
    points = [point for seed in seeds for point in _of_seed(document, root, groups, seed, plan, options, each)]
    return {"points": points, "summary": summary(points, plan.strategies)}


def _of_seed(document, root, groups, seed, plan, options, each) -> Iterator[dict]:
    rng = np.random.default_rng(seed)
    images = document["images"]
    order = rng.permutation(sorted(set(groups))).tolist()  # groups, so that no test picture has a twin in the pool
    held: list[int] = []
    while len(held) < round(len(images) * plan.test):
        group = order.pop()
        held += [i for i, g in enumerate(groups) if g == group]
    pool = [i for i in range(len(images)) if i not in set(held)]
    test = _part(document, held)
    start = rng.choice(pool, plan.start, replace=False).tolist()
    with tempfile.TemporaryDirectory(prefix="frcnn-simulate-") as folder:
        first = _train(_part(document, start), root, Path(folder), seed, plan, options)
        at_first = coco_metrics(test, detect_document(first, test, root))
        for strategy in plan.strategies:
            detector, labelled, metrics = first, list(start), at_first
            for number in range(plan.rounds + 1):
                if number:
                    labelled += _more(document, root, detector, labelled, pool, groups, strategy, plan, [seed, number])
                    detector = _train(_part(document, labelled), root, Path(folder), seed, plan, options)
                    metrics = coco_metrics(test, detect_document(detector, test, root))
                part = _part(document, labelled)
                point = {"seed": seed, "strategy": strategy, "images": len(labelled)}
                point |= {"objects": len(part["annotations"]), "AP": metrics["AP"], "AP50": metrics["AP50"]}
                each(point)
                yield point


def _more(document, root, detector, labelled, pool, groups, strategy, plan, seed) -> list[int]:
    rest = [i for i in pool if i not in set(labelled)]
    counts = Counter(annotation["category_id"] for annotation in _part(document, labelled)["annotations"])
    files, labelled_files = ([root / document["images"][i]["file_name"] for i in part] for part in (rest, labelled))
    rng, share = np.random.default_rng([1, *seed]), STRATEGIES[strategy]
    groups = [groups[i] for i in (*rest, *labelled)]
    chosen = choose_among(detector, files, labelled_files, counts, plan.step, rng, random_share=share, groups=groups)
    return [rest[row] for row, _ in chosen]


def _train(part, root, folder: Path, seed: int, plan: Plan, options: dict[str, Any]) -> TorchDetector:
    """A model after plan.steps steps, in one epoch over pictures that are repeated as often as it takes."""
    given = {"workers": 0, **with_model(options, {}), "seed": seed, "epochs": 1, "patience": 0}
    config = recipes.resolve(len(part["images"]), given)
    wanted = plan.steps * config.data.batch_size
    times = -(-wanted // len(part["images"]))
    ids = [image["id"] for _ in range(times) for image in part["images"]][:wanted]
    images = {image["id"]: image for image in part["images"]}
    objects: dict[int, list[dict]] = {}
    for annotation in part["annotations"]:
        objects.setdefault(annotation["image_id"], []).append(annotation)
    repeated = {
        **part,
        "images": [{**images[i], "id": row} for row, i in enumerate(ids, 1)],
        "annotations": [{**a, "image_id": row} for row, i in enumerate(ids, 1) for a in objects.get(i, ())],
    }
    with tempfile.TemporaryDirectory(dir=folder) as run:
        training.fit(config, Path(run), index_of(repeated, root, "simulation", check_files=False), None, None)
        return TorchDetector(Path(run), config.run.device)


def _part(document: dict[str, Any], rows: Sequence[int]) -> dict[str, Any]:
    return subset(document, {document["images"][i]["id"] for i in rows})


def summary(points: Sequence[dict], strategies: Sequence[str]) -> list[dict[str, Any]]:
    """For each number of pictures and strategy: mean AP over the seeds with its interval, and, against the first
    strategy, the mean of the paired differences with its interval."""
    rows = []
    for images in sorted({p["images"] for p in points}):
        base = {p["seed"]: p["AP"] for p in points if p["images"] == images and p["strategy"] == strategies[0]}
        for strategy in strategies:
            here = {p["seed"]: p for p in points if p["images"] == images and p["strategy"] == strategy}
            both = [seed for seed in here if base.get(seed) is not None and here[seed]["AP"] is not None]
            rows.append(
                {
                    "images": images,
                    "strategy": strategy,
                    "objects": float(np.mean([p["objects"] for p in here.values()])) if here else None,
                    "AP": of_mean([here[seed]["AP"] for seed in both]),
                    "difference": of_mean([here[seed]["AP"] - base[seed] for seed in both]),
                }
            )
    return rows


def of_mean(values: Sequence[float]) -> dict[str, float | None]:
    """{"mean", "low", "high"}: the mean of independent values and its 95 % interval by Student's t; an interval needs
    three values or more."""
    mean = float(np.mean(values)) if len(values) else None
    if mean is None or len(values) < 3:
        return {"mean": mean, "low": None, "high": None}
    half = student(len(values) - 1) * float(np.std(values, ddof=1)) / float(np.sqrt(len(values)))
    return {"mean": mean, "low": mean - half, "high": mean + half}
