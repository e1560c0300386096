"""Evaluate a run on one of its splits, and write the files of the evaluation."""

from __future__ import annotations

import filecmp
import shlex
import time
from collections import Counter
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.files.marked_folders import check_whole
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.data.boxes import corners
from toolkit.evaluation.compare_runs_tiles_tta import compare_looks
from toolkit.evaluation.compute_metrics import DEFAULTS, Evaluation, Settings, compute_metrics
from toolkit.evaluation.evaluate_files import named_after
from toolkit.evaluation.evaluation_folder import adopt_older, check_place, write_evaluation
from toolkit.evaluation.read_detections import detections_of
from toolkit.metrics.coco_tables import Tables
from toolkit.networks import advise
from toolkit.networks.resize_and_anchors import View, coverage, view_of
from toolkit.prediction.detect_in_batches import detect_document
from toolkit.prediction.detector import Detector
from toolkit.prediction.tiles_and_tta import THRESHOLDS, Look, look_of
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.rank_and_cores import worker_count
from toolkit.training import run_folder

MOST_TRIED = 5000  # boxes that other anchors and image sizes are tried on
SMALL_SEEN = 16  # pixels of an object as the network sees it: about one cell of the level that finds it


def evaluate_run(
    run: Path,
    split: str | None = None,
    *,
    data: Path | None = None,
    image_root: Path | None = None,
    settings: Settings = DEFAULTS,
    device: str = "auto",
    batch_size: int = 4,
    each: Callable[[int, int], None] | None = None,
    others: tuple[Path, ...] = (),
    tiles: str | None = None,
    tta: str | None = None,
) -> dict:
    """Detect with the best checkpoint of `run` on a split, evaluate, and write run/<split>/. -> its metrics.

    split: default test where the run has one, else val; with `data`, another COCO file than the run's own, the name
    that `name_of_split` gives. On the run's own val the score thresholds found go into the checkpoint, where `predict`
    reads them; other splits are evaluated with the checkpoint's. each(done, total) is called after every image.
    others: runs or COCO results that look for label errors too. tiles, tta: as prediction/tiles_and_tta takes them;
    then also without them, for a paired comparison, and the files go into run/<split>-tiles, -tta or -tiles-tta.
    """
    run = Path(run)
    settings.check()
    if run.is_file():
        raise InputError(
            f"{run}: is a file, needs a run folder (runs/NAME); a run is evaluated on it by RUN --data {run}"
        )
    run_folder.check(run)
    split = split or name_of_split(run, data)
    annotations = Path(data) if data else run / f"{split}.json"
    if data is None and not annotations.is_file():
        raise InputError(f"{annotations}: not found; needs a run with a {split} split, or --data FILE")
    check_whole(annotations.parent, "split")
    predictor = TorchDetector(run, device)
    look = look_of(predictor, run, tiles, tta, batch_size=batch_size)
    adopt_older(run, split)
    check_place(run / place_of(split, look), [annotations, *others])
    document = coco_file.read(annotations, sizes=sizes_below, images=image_root)
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    how: dict[str, Any] = {"settings": settings, "batch_size": batch_size, "each": each, "others": others, "look": look}
    own = data is None
    return evaluate_split(predictor, run, split, document, root, own=own, where=str(annotations), **how)


def place_of(split: str, look: Look | None) -> str:
    """The folder of an evaluation in its run."""
    return f"{split}-{look.name}" if look else split


def name_of_split(run: Path, data: Path | None = None) -> str:
    """What an evaluation is called: test or val, those that the run has; on another file after that, never after the
    run's own splits."""
    if data is None:
        return "test" if (run / "test.json").is_file() else "val"
    return named_after(data)


def evaluate_split(
    predictor: TorchDetector,
    run: Path,
    split: str,
    document: dict,
    image_root: Path,
    *,
    own: bool = True,
    settings: Settings = DEFAULTS,
    batch_size: int = 4,
    each: Callable[[int, int], None] | None = None,
    others: tuple[Path, ...] = (),
    where: str = "annotations",
    seen: Collection[str] | None = None,
    look: Look | None = None,
) -> dict:
    """`evaluate_run` with what it reads: the best checkpoint, the labels of a split, `own` or of another file.

    where: the file of the labels, for messages. seen: classes with objects in the training images; None: as
    run/train.json says.
    """
    found, meta = predictor.checkpoint, predictor.checkpoint.meta
    settings.by_hand({one["name"]: 0.0 for one in document["categories"]})  # a wrong class is named before the work

    def detect(detector: Detector) -> tuple[list, float]:
        """(detections, seconds an image)"""
        begin = time.perf_counter()
        workers = worker_count(-1)
        found = detect_document(detector, document, image_root, batch_size=batch_size, workers=workers, each=each)
        return found, (time.perf_counter() - begin) / max(1, len(document["images"]))

    plain, seconds = detect(predictor.whole() if look and look.tiles else predictor)
    detections, seconds_looked = detect(look.detector) if look else (plain, seconds)
    stored = (look.detector if look else predictor).score_thresholds
    chosen = own and split == "val"
    device = str(predictor.device)
    further = tuple(detections_of(o, document, image_root, split, device=device, batch_size=batch_size) for o in others)
    place, fixed = place_of(split, look), None if chosen else stored
    evaluation = compute_metrics(
        document, detections, settings, split=place, document_name=where, fixed_thresholds=fixed, others=further
    )
    metrics, config = evaluation.metrics, meta.get("config", {})
    metrics["warnings"] += [*unseen_classes(document, _seen(run) if seen is None else seen), *_unfinished(run, found)]
    metrics["checkpoint"] = {key: meta.get(key) for key in ("epoch", "step", "data_fingerprint")}
    metrics["checkpoint"]["folder"] = found.folder.name
    metrics["settings"]["score_floor"] = config.get("score_floor")
    if own and not chosen and not stored:
        metrics["warnings"].append(
            f"{run} had no score thresholds, so they were chosen on these images, where they look a little too good; "
            f"frcnn evaluate {run} --split val chooses them first"
        )
    if chosen and not settings.thresholds:
        metrics["warnings"] += _replaced(stored, evaluation.thresholds)
    tiles = look.tiles if look and look.tiles else predictor.tiles
    if (view := view_of(predictor.model)) and tiles is None:  # which sees another scale in tiles
        metrics["anchors"] = anchor_coverage(evaluation.tables, view, config.get("anchor_scale", 1.0))
        metrics["seen_size"] = seen_size(evaluation, view)
    metrics["copies_in_train"] = [] if split == "train" else copies_in_train(run, document, image_root)
    if look:
        cost = (seconds, seconds_looked)
        metrics["look"] = compare_looks(document, plain, detections, look, evaluation.thresholds, cost, settings)
    write_evaluation(run / place, evaluation, image_root)
    if chosen or (own and settings.thresholds):
        key = THRESHOLDS if look else "score_thresholds"
        meta[key] = {**meta.get(key, {}), look.about: evaluation.thresholds} if look else evaluation.thresholds
        checkpoint.update_meta(found.folder, **{key: meta[key]})
        predictor.score_thresholds = meta.get("score_thresholds", {})  # for the next split
    return metrics


def _replaced(before: dict[str, float], now: dict[str, float]) -> list[str]:
    """A line when the run has other score thresholds from now on: those before may have been set by hand."""
    other = [name for name, score in now.items() if name in before and abs(score - before[name]) >= 0.001]
    if not other:
        return []
    shown = ", ".join(f"{name} {before[name]:.3f} by {now[name]:.3f}" for name in other[:8])
    shown += ", ..." if len(other) > 8 else ""
    back = " ".join(shlex.quote(f"{name}={before[name]:.3f}") for name in other[:8])
    return [f"replaces score thresholds stored in the run: {shown}; `--thresholds {back}` stores those before again"]


def _unfinished(run: Path, found: checkpoint.Checkpoint) -> list[str]:
    """A line when the run has not ended: its best checkpoint may not stay the best."""
    if run_folder.read_run(run).get("status") != "running":
        return []
    what = "is still training" if run_folder.is_locked(run) else "was cut off before it ended"
    return [f"{run} {what}: these are the numbers of its best checkpoint so far, of epoch {found.meta.get('epoch')}"]


def _seen(run: Path) -> set[str] | None:
    """Names of the classes that have objects in the run's train.json; None where there is none."""
    if not (run / "train.json").is_file():
        return None
    train = coco_file.read_raw(run / "train.json")
    names = {c["id"]: c["name"] for c in train["categories"]}
    return {names[a["category_id"]] for a in train["annotations"] if a["category_id"] in names}


def unseen_classes(document: dict, seen: Collection[str] | None) -> list[str]:
    """A line for each class that has objects here but none in the training images."""
    names = {c["id"]: c["name"] for c in document["categories"]}
    count = Counter(names[annotation["category_id"]] for annotation in document["annotations"])
    return [
        f"class {name}: {number} objects here, but none in the training images: it cannot be found"
        for name, number in sorted(count.items())
        if seen is not None and name not in seen
    ]


def seen_size(evaluation: Evaluation, view: View) -> dict:
    """How many objects are small as the network sees them, and which share of both is found at the thresholds."""
    tables, matches = evaluation.tables, evaluation.matches
    t = matches.at(evaluation.metrics["settings"]["iou"])
    scale = view.scale(tables.image_size[tables.gt_image][:, ::-1])  # [G,2] of height and width
    size = np.sqrt((tables.gt_bbox[:, 2:] * scale[:, ::-1]).prod(axis=1))
    kept = tables.over(evaluation.thresholds)[matches.det]
    found = np.zeros(len(size), bool)
    found[matches.gt[t][kept & matches.right[0, t]]] = True
    counted = ~matches.gt_ignored[0]
    numbers: dict = {"pixels": SMALL_SEEN}
    for name, chosen in (("small", counted & (size < SMALL_SEEN)), ("larger", counted & (size >= SMALL_SEEN))):
        numbers[f"num_{name}"] = int(chosen.sum())
        numbers[f"recall_{name}"] = float(found[chosen].mean()) if chosen.any() else None
    return numbers


def copies_in_train(run: Path, document: dict, image_root: Path) -> list[str]:
    """File names of images whose very file is among the run's training images, under the same or another name."""
    if not (run / "train.json").is_file():
        return []
    train = coco_file.read_raw(run / "train.json")
    root = coco_file.image_root(train, run / "train.json")
    known: dict[int, list[Path]] = {}
    for image in train["images"]:
        path = root / image["file_name"]
        if coco_file.is_inside(image["file_name"]) and path.is_file():
            known.setdefault(path.stat().st_size, []).append(path)

    def is_copy(name: str) -> bool:
        path = image_root / name
        if not coco_file.is_inside(name) or not path.is_file():
            return False
        alike = known.get(path.stat().st_size, [])
        return any(path.samefile(one) or filecmp.cmp(path, one, shallow=False) for one in alike)

    return [image["file_name"] for image in document["images"] if is_copy(image["file_name"])]


def anchor_coverage(tables: Tables, view: View, anchor_scale: float = 1.0) -> dict | None:
    """How well the anchors cover the labelled objects, per class too, with the anchors and what `advise` proposes;
    None without objects. anchor_scale: the run's own."""
    good = ~tables.gt_is_crowd & (tables.gt_bbox[:, 2:] > 0).all(1)
    if not good.any():
        return None
    class_ = tables.gt_class[good]
    boxes, sizes = corners(tables.gt_bbox[good]), tables.image_size[tables.gt_image[good]][:, ::-1]
    best = view.best_iou(boxes, sizes)
    some = slice(None, None, 1 + len(boxes) // MOST_TRIED)
    tried = advise.reach_of_others(boxes[some], sizes[some], view)
    return {
        **coverage(best),
        "proposals": advise.proposals(boxes[some], sizes[some], view, tried, anchor_scale),
        "per_class": {
            name: coverage(best[class_ == k]) for k, name in enumerate(tables.class_names) if (class_ == k).any()
        },
        "best_iou": [round(float(v), 4) for v in best],
        "layout": {
            "sizes": [list(level.sizes) for level in view.levels],
            "aspect_ratios": [list(level.aspect_ratios) for level in view.levels],
            "strides": [level.stride for level in view.levels],
            "image_size": view.image_size,
            "max_size": view.max_size,
        },
    }
