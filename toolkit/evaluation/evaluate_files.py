"""Evaluate anybody's COCO results, or an exported detector, on a COCO file; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from label_tools.document import coco_file
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings, compute_metrics
from toolkit.evaluation.evaluation_folder import check_place, write_evaluation
from toolkit.evaluation.read_detections import detections_of, read, read_detections
from toolkit.prediction.detect_in_batches import detect_document
from toolkit.prediction.open_detector import open_detector
from toolkit.rank_and_cores import worker_count


def named_after(data: Path) -> str:
    """What an evaluation on a COCO file is called: after the file, never as a run calls its own splits."""
    data = Path(data)
    return f"{data.absolute().parent.name}-{data.stem}" if data.stem in ("train", "val", "test") else data.stem


def place_of(model: Path, data: Path) -> Path:
    """Where an evaluation of model.onnx on parts/val.json goes unless told: model-parts-val beside the model."""
    return Path(model).with_name(f"{Path(model).stem}-{named_after(data)}")


def evaluate_files(
    annotations: Path,
    detections: Path,
    out: Path,
    *,
    image_root: Path | None = None,
    settings: Settings = DEFAULTS,
    others: tuple[Path, ...] = (),
) -> dict:
    """Evaluate COCO results of any detector against a COCO file, and write `out`. -> the metrics."""
    settings.check()
    annotations = coco_file.file_of(annotations)
    inputs = (annotations, detections, *others)
    check_place(Path(out), inputs)
    document = coco_file.read_raw(annotations)
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    known = read(document, [], str(annotations), sizes=sizes_below(root))[0] if others else {}
    further = tuple(_named(detections_of(path, known, root, Path(out).name), known, path) for path in others)
    evaluation = compute_metrics(
        document,
        read_detections(detections),
        settings,
        document_name=str(annotations),
        detections_name=str(detections),
        others=further,
        sizes=sizes_below(root),
    )
    evaluation.metrics["source"] = {"annotations": Path(annotations).name, "detections": Path(detections).name}
    write_evaluation(Path(out), evaluation, root, inputs)
    return evaluation.metrics


def evaluate_exported(
    model: Path,
    data: Path,
    out: Path,
    *,
    image_root: Path | None = None,
    settings: Settings = DEFAULTS,
    each: Callable[[int, int], None] | None = None,
    others: tuple[Path, ...] = (),
) -> dict:
    """Detect with an ONNX file on the images of a COCO file, evaluate at the file's own thresholds, and write `out`.
    -> the metrics."""
    settings.check()
    annotations = coco_file.file_of(data)
    if not annotations.is_file():
        raise InputError(f"--data {data}: not found; needs a COCO file with labels")
    inputs = (model, annotations, *others)
    check_place(out, inputs)
    document = coco_file.read(annotations, sizes=sizes_below, images=image_root)
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    detector = open_detector(model)
    evaluation = compute_metrics(
        document,
        detect_document(detector, document, root, workers=worker_count(-1), each=each),
        settings,
        document_name=str(annotations),
        detections_name=detector.name,
        fixed_thresholds=detector.score_thresholds,
        others=tuple(detections_of(other, document, root, out.name) for other in others),
    )
    evaluation.metrics["source"] = {"annotations": annotations.name, "detections": Path(model).name}
    write_evaluation(out, evaluation, root, inputs)
    return evaluation.metrics


def _named(detections: list, document: dict, source: Path) -> list:
    """Detections of a run with the names of their images and classes, as `document` may have numbered both anew."""
    if source.is_file():
        return detections
    files = {image["id"]: image["file_name"] for image in document["images"]}
    names = {category["id"]: category["name"] for category in document["categories"]}
    return [{**d, "file_name": files[d["image_id"]], "category_name": names[d["category_id"]]} for d in detections]
