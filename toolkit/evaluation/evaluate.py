"""Evaluate a run on one of its splits, or anybody's detections, and write the files of the evaluation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch

from label_tools.document import coco
from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.evaluation.detections import detections_of, read_detections
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.evaluation.judge import DEFAULTS, Settings, judge
from toolkit.metrics import statistics
from toolkit.prediction.predict import Predictor


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
    document = coco.read(annotations)
    root = Path(image_root) if image_root else coco.image_root(document, annotations)
    predictor = Predictor(run, device)
    where, meta = predictor.checkpoint.folder, predictor.checkpoint.meta
    detections = predictor.detect(document, root, batch_size=batch_size, each=each)
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
    layout = anchor_layout(predictor.model, predictor.device)
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
    settings.check()
    document = coco.read_raw(annotations)
    root = Path(image_root) if image_root else coco.image_root(document, annotations)
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


def anchor_layout(model: torch.nn.Module, device: torch.device) -> dict | None:
    """The anchors of a network: sizes, aspect ratios and strides per level; None where it has none."""
    generator = getattr(getattr(model, "rpn", None), "anchor_generator", None)
    sizes, ratios = getattr(generator, "sizes", None), getattr(generator, "aspect_ratios", None)
    if not sizes or not ratios:
        return None
    side = 256
    with torch.inference_mode():
        levels = model.backbone(torch.zeros(1, 3, side, side, device=device))
    maps = list(levels.values()) if isinstance(levels, dict) else [levels]
    transform = model.transform
    return {
        "sizes": [list(level) for level in sizes],
        "aspect_ratios": [list(level) for level in ratios],
        "strides": [side // level.shape[-1] for level in maps],
        "image_size": transform.min_size[-1],
        "max_size": transform.max_size,
    }
