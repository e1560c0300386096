"""A run -> an ONNX file, which is written only when it finds what the run finds."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from label_tools.document import coco_file
from label_tools.pictures.images import open_image
from label_tools.text.atomic import atomic_write
from label_tools.text.errors import InputError, MissingExtra
from label_tools.text.messages import counted
from toolkit import __version__, checkpoint
from toolkit.deployment import agreement, graph
from toolkit.deployment.agreement import Agreement
from toolkit.deployment.quantize import MOST_PICTURES, quantized
from toolkit.networks import builder
from toolkit.prediction.onnx_detector import ALL, EXTRA, FORMAT, INPUT, SHOWN, SUFFIX, OnnxDetector

_LOG = logging.getLogger(__name__)
MOST_LOST = 0.01  # of AP, in 8-bit integers
SHOWN_DIFFERENCES = 5  # pictures that a refusal names


class DisagreementError(InputError):
    """The exported network does not find what the original finds; no file was written."""

    exit_code = 1


@dataclass(frozen=True)
class Loaded:
    """A checkpoint on the CPU, its network perhaps at another size or with fewer proposals than it was trained with."""

    found: checkpoint.Checkpoint
    model: Any
    name: str

    @classmethod
    def of(cls, run: Path, image_size: int | None = None, proposals: int | None = None) -> Loaded:
        found = checkpoint.load(checkpoint.find(run))
        model = builder.restored(found)
        set_speed(model, image_size, proposals)
        return cls(found, model, found.meta["architecture"]["name"])

    @property
    def thresholds(self) -> list[float]:
        """[K] score thresholds of the labels 1..K."""
        stored = self.found.meta.get("score_thresholds", {})
        return [stored.get(name, 0.5) for name in self.found.classes]

    @torch.inference_mode()
    def detect(self, image: np.ndarray) -> list[np.ndarray]:
        """boxes, labels, scores of an image [H,W,3] uint8."""
        (found,) = self.model([torch.from_numpy(image.copy()).permute(2, 0, 1).float().div_(255)])
        return [found[key].numpy() for key in ("boxes", "labels", "scores")]


def set_speed(model: Any, image_size: int | None, proposals: int | None) -> None:
    """Let a network of torchvision's kind see images of another size (the shorter side, the longest in proportion), or
    look at fewer proposals. None: as it is."""
    if (image_size or proposals) and not hasattr(model, "transform"):
        raise InputError("--image-size, --proposals: not for this network, which has a resize of its own")
    if image_size:
        model.transform.max_size = round(model.transform.max_size * image_size / model.transform.min_size[-1])
        model.transform.min_size = (image_size,)
    if proposals:
        model.rpn._post_nms_top_n["testing"] = proposals


def export_onnx(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    image_root: Path | None = None,
    image_size: int | None = None,
    proposals: int | None = None,
    int8: bool = False,
    each: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Write `out`, the best checkpoint of `run` as ONNX, proven equal on a COCO file (default: the run's val.json).

    image_size, proposals: other ones than it was trained with, for both sides of the comparison. int8: of the graph
    that was proven equal the form in 8-bit integers, which is not equal; it may lose MOST_LOST of AP. each(done, total)
    is called after every image. Raises DisagreementError, with nothing written; InputError, MissingExtra.
    """
    check_place(out)
    loaded = Loaded.of(run, image_size, proposals)
    document, root, ids = labels_of(run, loaded.found, data, image_root)
    raw = graph.to_onnx(loaded.model, loaded.thresholds, loaded.name)
    meta = metadata(loaded)
    exported = OnnxDetector(out, torch.get_num_threads(), with_metadata(raw, meta))
    result = agreement.compare(loaded.detect, exported.arrays, document, root, ids, each)
    if not result.without:
        _without_detections(loaded)
    if result.differ:
        raise DisagreementError(
            f"{out}: not written: {len(result.differ)} of {counted(result.pictures, 'picture')} differ: "
            + "; ".join(result.differ[:SHOWN_DIFFERENCES])
        )
    if int8:
        raw = quantized(raw, calibration_images(document, root))
        meta["precision"] = "int8"
        exported = OnnxDetector(out, torch.get_num_threads(), with_metadata(raw, meta))
        result = agreement.compare(loaded.detect, exported.arrays, document, root, ids, each)
        before, after = (value or 0.0 for value in result.ap)
        if after < before - MOST_LOST:
            raise DisagreementError(
                f"{out}: not written: AP {before:.4f} becomes {after:.4f} in 8-bit integers, more than {MOST_LOST} less"
            )
    with atomic_write(out) as file:
        file.write(with_metadata(raw, {**meta, "agreement": json.dumps(result.to_json())}))
    return result


def calibration_images(document: dict[str, Any], image_root: Path) -> Iterator[np.ndarray]:
    """The pictures whose activations set the ranges of 8-bit integers, evenly over the document."""
    images = document["images"]
    for image in images[:: -(-len(images) // MOST_PICTURES)]:
        yield np.asarray(open_image(Path(image_root, image["file_name"])))


def check_place(out: Path) -> None:
    """Raise InputError, before the work begins, when `out` is no new ONNX file."""
    if Path(out).suffix.lower() != SUFFIX:
        raise InputError(f"--out {out}: needs a file name that ends with {SUFFIX}")
    if Path(out).exists():
        raise InputError(f"--out {out}: is there already; needs a new name")


def labels_of(
    run: Path, found: checkpoint.Checkpoint, data: Path | None, image_root: Path | None
) -> tuple[dict[str, Any], Path, list[int]]:
    """(COCO document, the folder of its images, its category id of each label) to compare on."""
    annotations = Path(data) if data else Path(run) / "val.json"
    if not annotations.is_file():
        raise InputError(f"{annotations}: not found; needs a run with val.json, or --data FILE")
    document = coco_file.read(annotations)
    theirs = {category["name"]: category["id"] for category in document["categories"]}
    if set(theirs) != set(found.classes):
        names = ", ".join(found.classes)
        raise InputError(f"{annotations}: has the classes {', '.join(theirs)}; needs those of the run: {names}")
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    return document, root, [theirs[name] for name in found.classes]


def _without_detections(loaded: Loaded) -> None:
    """Where no picture was without detections, as of a network that is not trained: the same graph with a score floor
    that nothing reaches must give none, and not fail."""
    model = loaded.model
    floor, model.roi_heads.score_thresh = model.roi_heads.score_thresh, 2.0
    try:
        empty = with_metadata(graph.to_onnx(model, loaded.thresholds, loaded.name), metadata(loaded))
    finally:
        model.roi_heads.score_thresh = floor
    found = OnnxDetector(Path("empty.onnx"), 1, empty).arrays(agreement.blank(), (*SHOWN, *ALL))
    if any(len(one) for one in found):
        raise DisagreementError("the exported network finds objects over a score of 1; no file was written")


def metadata(loaded: Loaded) -> dict[str, str]:
    """What the file says of itself, all of it text."""
    meta, model = loaded.found.meta, loaded.model
    transform: Any = getattr(model, "transform", None)
    return {
        "frcnn_format": FORMAT,
        "classes": json.dumps(meta["classes"]),
        "score_thresholds": json.dumps(dict(zip(loaded.found.classes, loaded.thresholds, strict=True))),
        "input": f"{INPUT}: uint8 [height, width, 3], RGB, upright, any size",
        "outputs": "boxes [N,4] XYXY pixels of the input, labels [N] 1..K, scores [N]: from each class's threshold; "
        "all_boxes, all_labels, all_scores: from the score floor; best first",
        "architecture": loaded.name,
        "image_size": str(transform.min_size[-1]),
        "max_size": str(transform.max_size),
        "proposals": str(model.rpn.post_nms_top_n()),
        "precision": "float32",
        "score_floor": str(model.roi_heads.score_thresh),
        "checkpoint_sha256": meta["sha256"][checkpoint.WEIGHTS],
        "first_weights": str(meta["architecture"].get("first_weights", "unknown")),
        "data_fingerprint": str(meta.get("data_fingerprint", "")),
        "opset": str(graph.OPSET),
        "versions": json.dumps(_versions()),
    }


def _versions() -> dict[str, str]:
    import importlib.metadata

    names = ("torch", "torchvision", "onnx", "onnxruntime")
    return {"frcnn-toolkit": __version__} | {name: importlib.metadata.version(name) for name in names}


def with_metadata(content: bytes, meta: dict[str, str]) -> bytes:
    """The ONNX file with these entries."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra(f"export onnx: {EXTRA}") from None
    model = onnx.load_from_string(content)
    del model.metadata_props[:]
    for key, value in meta.items():
        model.metadata_props.add(key=key, value=value)
    model.producer_name, model.producer_version = "frcnn-toolkit", __version__
    return model.SerializeToString()


def summary(out: Path, result: Agreement) -> Sequence[str]:
    """The lines that say what was compared and how fast both are."""
    before, after = result.seconds
    ap = " and ".join("none" if value is None else f"{value:.4f}" for value in result.ap)
    empty = counted(result.without, "picture") if result.without else "a graph that finds nothing"
    pictures = f"{counted(result.pictures, 'picture')} of {counted(len(result.sizes), 'size')}"
    found = f"{counted(result.detections, 'detection')}; without any: {empty}"
    if result.differ:
        verdict = f"in 8-bit integers other detections in {len(result.differ)} of {pictures}; judge it by its AP"
    else:
        verdict = f"equal on {pictures} ({found})"
    return [
        f"{out}: {verdict}",
        f"largest gap: {result.box_gap:.2g} px, {result.score_gap:.2g} of a score",
        f"AP of the run and of the file: {ap}",
        f"seconds an image: torch {before:.4f}, onnxruntime {after:.4f} ({before / after:.2f} times as fast)"
        if after
        else "no image was timed",
    ]
