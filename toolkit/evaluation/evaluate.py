"""Detections against labels: COCO's numbers, what explains them, and the files of an evaluation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco
from label_tools.text.errors import InputError
from toolkit.metrics import bootstrap, curves, statistics
from toolkit.metrics.arrays import Tables, read_tables
from toolkit.metrics.calibration import calibration
from toolkit.metrics.coco import KEYS, summary
from toolkit.metrics.confusion import confusion
from toolkit.metrics.error_kinds import error_kinds
from toolkit.metrics.matching import MAX_DETECTIONS, Matches, match
from toolkit.metrics.suspects import Suspect, suspects


@dataclass(frozen=True)
class Settings:
    """What an evaluation is asked for. The only place where these defaults are written."""

    iou: float = 0.5  # of the curves, thresholds, calibration and confusion; a multiple of 0.05 from 0.5 to 0.95
    resamples: int = 1000  # of the bootstrap; 0: no intervals
    seed: int = 0
    precision: float | None = None  # thresholds reach this precision; None: they have the highest F1
    confident: float = 0.5  # score from which a detection may accuse a label

    def check(self) -> None:
        steps = (self.iou - 0.5) / 0.05
        if not (-1e-9 < steps < 9 + 1e-9 and abs(steps - round(steps)) < 1e-6):
            raise InputError(f"--iou: found {self.iou}, needs 0.5, 0.55, ... 0.95")
        if self.resamples < 0:
            raise InputError(f"--resamples: found {self.resamples}, needs 0 or more")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise InputError(f"--min-precision: found {self.precision}, needs more than 0 and at most 1")


DEFAULTS = Settings()


@dataclass(frozen=True)
class Evaluation:
    """The numbers for metrics.json, and what they were made from."""

    metrics: dict
    document: dict
    detections: list
    tables: Tables
    matches: Matches
    curves: list[curves.Curve]
    thresholds: dict[str, float]
    suspects: list[Suspect]


def coco_metrics(document: dict, detections: list) -> dict:
    """COCO's twelve numbers of a COCO document and a list of COCO results. Prints nothing.

    document: with "images", "annotations", "categories"; every image counts, with detections or without.
    detections: [{"image_id", "category_id", "bbox": [x, y, w, h] in pixels of the original image, "score"}].
    Returns AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl in 0..1, None where there is no object;
    "per_class" {name: the same and "num_objects"}, "num_images", "num_objects", "num_objects_by_size",
    "num_detections", "warnings". The same numbers as pycocotools (tests/metrics/test_coco.py).
    Raises InputError for detections that cannot be judged.
    """
    tables = read_tables(document, detections)
    return {**summary(match(tables)), "warnings": list(tables.warnings)}


def thresholds(
    document: dict, detections: list, iou: float = Settings.iou, precision: float | None = Settings.precision
) -> dict[str, float]:
    """{class: score} with the highest F1, or with the highest recall that keeps `precision`, at one IoU."""
    return curves.score_thresholds(curves.curves(match(read_tables(document, detections)), iou), precision)


def judge(
    document: dict,
    detections: list,
    settings: Settings = DEFAULTS,
    *,
    split: str = "",
    document_name: str = "annotations",
    detections_name: str = "detections",
    fixed_thresholds: dict[str, float] | None = None,
    others: tuple[list, ...] = (),
) -> Evaluation:
    """Everything that is said about one set of detections.

    fixed_thresholds: scores chosen before on other images; without them they are chosen here.
    others: detections of further models on the same images, for the suspects alone.
    """
    settings.check()
    tables = read_tables(document, detections, document_name, detections_name)
    matches = match(tables)
    lines = curves.curves(matches, settings.iou)
    chosen = curves.score_thresholds(lines, settings.precision)
    if fixed_thresholds:
        chosen = {name: float(fixed_thresholds.get(name, chosen[name])) for name in chosen}
    by_class = np.array([chosen[name] for name in tables.class_names])
    all_tables = tuple(read_tables(document, other, document_name, "other detections") for other in others)
    accused = suspects(tables, all_tables, settings.confident)
    metrics: dict[str, Any] = {
        **summary(matches),
        "split": split,
        "settings": {
            **dataclasses.asdict(settings),
            "max_detections": MAX_DETECTIONS,
            "lowest_score": float(tables.det_score.min()) if len(tables.det_score) else None,
            "thresholds_from": "elsewhere" if fixed_thresholds else "these images",
        },
        "intervals": bootstrap.intervals(matches, settings.resamples, settings.seed),
        "thresholds": {
            curve.name: {"threshold": chosen[curve.name], **curve.at(chosen[curve.name])} for curve in lines[:-1]
        },
        "calibration": calibration(matches, settings.iou),
        "confusion": {
            "classes": [*tables.class_names, "background"],
            "counts": confusion(matches, by_class, settings.iou).tolist(),
            "iou": settings.iou,
            "rows": "true class",
            "columns": "detected class",
        },
        "error_kinds": error_kinds(matches, by_class),
        "objects": statistics.object_statistics(tables),
        "suspects": len(accused),
        "warnings": list(tables.warnings),
    }
    if settings.precision is not None and not fixed_thresholds:
        metrics["warnings"] += _unreached(metrics["thresholds"], settings.precision)
    return Evaluation(metrics, document, detections, tables, matches, lines, chosen, accused)


def _unreached(found: dict[str, dict], wanted: float) -> list[str]:
    """A line for each class whose threshold does not reach the wanted precision."""
    return [
        f"class {name}: no threshold reaches precision {wanted:.2f}; the nearest gives {at['precision']:.2f}"
        for name, at in found.items()
        if at["precision"] is not None and at["precision"] < wanted
    ]


def evaluate_run(
    run: Path,
    split: str = "val",
    *,
    data: Path | None = None,
    image_root: Path | None = None,
    settings: Settings = DEFAULTS,
    device: str = "auto",
    batch_size: int = 4,
    each: Callable[[int, int], None] | None = None,
    others: tuple[Path, ...] = (),
) -> dict:
    """Detect with the best checkpoint of `run` on a split, judge, and write run/<split>/. -> its metrics.

    data: another COCO file than the run's own <split>.json. On val the score thresholds found go into the
    checkpoint, where `predict` reads them; other splits are judged with the checkpoint's. each(done, total) is
    called after every image. others: runs or COCO results that look for label errors too.
    """
    run = Path(run)
    settings.check()
    annotations = Path(data) if data else run / f"{split}.json"
    if run.is_file():
        raise InputError(f"{run}: is a file, needs a run folder (runs/NAME); a run is judged on it by RUN --data {run}")
    if data is None and not annotations.is_file():
        raise InputError(f"{annotations}: not found; needs a run with a {split} split, or --data FILE")
    from toolkit import checkpoint
    from toolkit.evaluation.comparison import detections_of
    from toolkit.evaluation.evaluation_folder import write_evaluation
    from toolkit.prediction import predict

    document = coco.read(annotations)
    root = Path(image_root) if image_root else coco.image_root(document, annotations)
    where = checkpoint.find(run)
    meta = checkpoint.read_meta(where)
    detections = predict.detect(where, document, root, device=device, batch_size=batch_size, each=each)
    stored = None if split == "val" and data is None else meta.get("score_thresholds")
    further = tuple(detections_of(o, document, root, split, device=device, batch_size=batch_size) for o in others)
    evaluation = judge(
        document,
        detections,
        settings,
        split=split,
        document_name=str(annotations),
        detections_name="detections",
        fixed_thresholds=stored,
        others=further,
    )
    evaluation.metrics["warnings"] += unseen_classes(run, document)
    evaluation.metrics["checkpoint"] = {key: meta.get(key) for key in ("epoch", "step", "data_fingerprint")}
    evaluation.metrics["checkpoint"]["folder"] = where.name
    evaluation.metrics["settings"]["score_floor"] = meta.get("config", {}).get("score_floor")
    layout = anchor_layout(where)
    if layout:
        evaluation.metrics["anchors"] = statistics.anchor_coverage(evaluation.tables, layout)
        if evaluation.metrics["anchors"]:
            evaluation.metrics["anchors"]["layout"] = layout
    write_evaluation(run / split, evaluation, root)
    if stored is None and split == "val":
        checkpoint.update_meta(where, score_thresholds=evaluation.thresholds)
    return evaluation.metrics


def evaluate_files(
    annotations: Path,
    detections: Path,
    out: Path,
    *,
    image_root: Path | None = None,
    settings: Settings = DEFAULTS,
    others: tuple[Path, ...] = (),
) -> dict:
    """Judge anybody's COCO results against a COCO file and write `out`. -> the metrics."""
    from toolkit.evaluation.evaluation_folder import write_evaluation

    settings.check()
    document = coco.read_raw(annotations)
    root = Path(image_root) if image_root else coco.image_root(document, annotations)
    from toolkit.evaluation.comparison import detections_of

    further = tuple(detections_of(path, document, root, Path(out).name) for path in others)
    evaluation = judge(
        document,
        read_detections(detections),
        settings,
        document_name=str(annotations),
        detections_name=str(detections),
        others=further,
    )
    evaluation.metrics["source"] = {"annotations": Path(annotations).name, "detections": Path(detections).name}
    write_evaluation(Path(out), evaluation, root)
    return evaluation.metrics


def read_detections(path: Path) -> list:
    """A file in COCO's results format. InputError when it is no list."""
    from label_tools.text.strict_json import loads

    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    found = loads(content, str(path))
    if not isinstance(found, list):
        hint = "; this is an annotations file" if isinstance(found, dict) and "images" in found else ""
        raise InputError(f"{path}: found an object at the top, needs a list of COCO results{hint}")
    return found


def unseen_classes(run: Path, document: dict) -> list[str]:
    """A line for each class that has objects here but none in the run's train.json."""
    if not (run / "train.json").is_file():
        return []
    train = coco.read_raw(run / "train.json")
    names = {c["id"]: c["name"] for c in train["categories"]}
    seen = {names.get(a["category_id"]) for a in train["annotations"]}
    here = {c["id"]: c["name"] for c in document["categories"]}
    count: dict[str, int] = {}
    for annotation in document["annotations"]:
        name = here[annotation["category_id"]]
        count[name] = count.get(name, 0) + 1
    return [
        f"class {name}: {number} objects here, but none in the training images: it cannot be found"
        for name, number in sorted(count.items())
        if name not in seen
    ]


def anchor_layout(folder: Path) -> dict | None:
    """The anchors of a checkpoint's network: sizes, aspect ratios and strides per level; None where it has none."""
    import torch

    from toolkit import checkpoint
    from toolkit.networks import models

    model = models.restored(checkpoint.load(folder))
    generator = getattr(getattr(model, "rpn", None), "anchor_generator", None)
    sizes, ratios = getattr(generator, "sizes", None), getattr(generator, "aspect_ratios", None)
    if not sizes or not ratios:
        return None
    side = 256
    with torch.inference_mode():
        levels = model.backbone(torch.zeros(1, 3, side, side))
    maps = list(levels.values()) if isinstance(levels, dict) else [levels]
    transform = model.transform
    return {
        "sizes": [list(level) for level in sizes],
        "aspect_ratios": [list(level) for level in ratios],
        "strides": [side // level.shape[-1] for level in maps],
        "image_size": transform.min_size[-1],
        "max_size": transform.max_size,
    }


def headline(metrics: dict) -> dict[str, float | None]:
    """The twelve numbers alone."""
    return {key: metrics[key] for key in KEYS}
