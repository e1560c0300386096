"""Evaluate an exported detector on a COCO file; nothing here imports torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from label_tools.document import coco_file
from label_tools.text.errors import InputError
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings, compute_metrics
from toolkit.evaluation.evaluation_folder import check_place, write_evaluation
from toolkit.evaluation.read_detections import detections_of
from toolkit.prediction.detect_pictures import detect_document
from toolkit.prediction.open_detector import open_detector
from toolkit.processes import worker_count


def named_after(data: Path) -> str:
    """What an evaluation on a COCO file is called: after the file, never as a run calls its own splits."""
    data = Path(data)
    return f"{data.absolute().parent.name}-{data.stem}" if data.stem in ("train", "val", "test") else data.stem


def place_of(model: Path, data: Path) -> Path:
    """Where an evaluation of model.onnx on parts/val.json goes unless told: model-parts-val beside the model."""
    return Path(model).with_name(f"{Path(model).stem}-{named_after(data)}")


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
    check_place(out, [model, annotations])
    document = coco_file.read(annotations)
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
    write_evaluation(out, evaluation, root, [model, annotations])
    return evaluation.metrics
