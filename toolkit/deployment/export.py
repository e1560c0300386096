"""Export a run to an ONNX file, written only when it finds what the run finds."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit import checkpoint
from toolkit.deployment import agreement, anylabeling, onnx_file
from toolkit.deployment.agreement import Agreement, Detect, Otherwise
from toolkit.deployment.onnx_file import quantized
from toolkit.deployment.original_network import Loaded
from toolkit.prediction.detect_in_batches import check_files
from toolkit.prediction.onnx_detector import SUFFIX, OnnxDetector

MOST_LOST = 0.01  # of AP, in 8-bit integers
SHOWN_DIFFERENCES = 5  # pictures that a refusal names


class DisagreementError(InputError):
    """The exported network does not find what the original finds; no file was written."""

    exit_code = 1


def export_onnx(
    run: Path,
    out: Path,
    *,
    data: Path | None = None,
    image_root: Path | None = None,
    image_size: int | None = None,
    proposals: int | None = None,
    int8: bool = False,
    program: str = "",
    each: Callable[[int, int], None] | None = None,
) -> Agreement:
    """Write `out`, the best checkpoint of `run` as ONNX, proven equal on a COCO file (default: the run's val.json).

    image_size, proposals: other ones than it was trained with, for both sides of the comparison. int8: of the graph
    that was proven equal the form in 8-bit integers, which is not equal; it may lose MOST_LOST of AP. program: a
    labelling program ("x-anylabeling") that loads the file and a YAML beside it. each(done, total) is called after each
    image. Raises DisagreementError, with nothing written; InputError, MissingExtra.
    """
    places = check_place(out, program)
    if int8 and program:
        raise InputError("--int8, --for: exclude each other")
    loaded = Loaded.of(run, image_size, proposals)
    document, root, ids = labels_of(run, loaded.found, data, image_root)
    raw, meta, (original, exported, otherwise) = _built(loaded, out, program)
    result = agreement.compare(original, exported, document, root, ids, each, otherwise)
    if not result.without:
        _without_detections(loaded, out, program)
    if result.differ:
        raise DisagreementError(
            f"{out}: not written: {len(result.differ)} of {counted(result.pictures, 'picture')} differ: "
            + "; ".join(result.differ[:SHOWN_DIFFERENCES])
        )
    if len(result.undecided) > agreement.MOST_UNDECIDED * result.pictures:
        raise DisagreementError(
            f"{out}: not written: in {len(result.undecided)} of {counted(result.pictures, 'picture')} a rounding "
            "decides what the network finds: with other roundings it finds something else; train longer"
        )
    if int8:
        raw, meta["precision"] = quantized(raw, onnx_file.calibration_images(document, root)), "int8"
        rounded = OnnxDetector(out, torch.get_num_threads(), onnx_file.with_metadata(raw, meta))
        result = agreement.compare(loaded.detect, rounded.arrays, document, root, ids, each)
        before, after = (value or 0.0 for value in result.ap)
        if after < before - MOST_LOST:
            raise DisagreementError(
                f"{out}: not written: AP {before:.4f} becomes {after:.4f} in 8-bit integers, more than {MOST_LOST} less"
            )
    contents = [onnx_file.with_metadata(raw, {**meta, "agreement": json.dumps(result.to_json())})]
    if program:
        name = f"frcnn-{Path(out).stem}-{meta['checkpoint_sha256'][:8]}"
        contents.append(anylabeling.config(Path(out).name, name, loaded.found.classes))
    for place, content in zip(places, contents, strict=True):
        with atomic_write(place) as file:
            file.write(content)
    return result


def _built(loaded: Loaded, out: Path, program: str) -> tuple[bytes, dict[str, str], tuple[Detect, Detect, Otherwise]]:
    """(the ONNX file without metadata, its metadata, what is detected in a picture by the network, by the file, by the
    network with other roundings)."""
    if not program:
        raw = onnx_file.to_onnx(loaded.model, loaded.thresholds, loaded.name)
        meta = onnx_file.metadata(loaded)
        exported = OnnxDetector(out, torch.get_num_threads(), onnx_file.with_metadata(raw, meta))
        return raw, meta, (loaded.detect, exported.arrays, loaded.detect_otherwise)
    raw = anylabeling.to_onnx(loaded.model, loaded.thresholds, loaded.name)
    of_program = {"frcnn_format": program, "input": "as its type dfine", "outputs": ", ".join(anylabeling.OUTPUTS)}
    meta = {**onnx_file.metadata(loaded), **of_program}
    return raw, meta, anylabeling.comparable(loaded.detect, loaded.detect_otherwise, loaded.thresholds, raw)


def check_place(out: Path, program: str = "") -> list[Path]:
    """The files to write. Raises InputError, before the work begins, where `out` is no new ONNX file."""
    if Path(out).suffix.lower() != SUFFIX:
        raise InputError(f"--out {out}: needs a file name that ends with {SUFFIX}")
    places = [Path(out), *([Path(out).with_suffix(".yaml")] if program else [])]
    for place in places:
        if place.exists():
            raise InputError(f"--out {place}: is there already; needs a new name")
    return places


def labels_of(
    run: Path, found: checkpoint.Checkpoint, data: Path | None, image_root: Path | None
) -> tuple[dict[str, Any], Path, list[int]]:
    """(COCO document, the folder of its images, its category id of each label) to compare on."""
    annotations = Path(data) if data else Path(run) / "val.json"
    if not annotations.is_file():
        raise InputError(f"{annotations}: not found; needs a run with val.json, or --data FILE")
    document = coco_file.read(annotations, sizes=sizes_below, images=image_root)
    theirs = {category["name"]: category["id"] for category in document["categories"]}
    if set(theirs) != set(found.classes):
        names = ", ".join(found.classes)
        raise InputError(f"{annotations}: has the classes {', '.join(theirs)}; needs those of the run: {names}")
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    check_files(document, root)
    return document, root, [theirs[name] for name in found.classes]


def _without_detections(loaded: Loaded, out: Path, program: str) -> None:
    """Where no picture was without detections, as of a network that is not trained: the same graph with a score floor
    that nothing reaches must give none, and not fail."""
    heads = loaded.model.roi_heads
    floor, heads.score_thresh = heads.score_thresh, 2.0
    try:
        _, _, (_, exported, _) = _built(loaded, out, program)
    finally:
        heads.score_thresh = floor
    if len(exported(agreement.blank())[0]):
        raise DisagreementError(f"{out}: not written: it finds objects over a score of 1")


def summary(out: Path, result: Agreement) -> Sequence[str]:
    """The lines that say what was compared and how fast both are."""
    before, after = result.seconds
    ap = " and ".join("none" if value is None else f"{value:.4f}" for value in result.ap)
    empty = counted(result.without, "picture") if result.without else "a graph that finds nothing"
    pictures = f"{counted(result.pictures - len(result.undecided), 'picture')} of {counted(len(result.sizes), 'size')}"
    found = f"{counted(result.detections, 'detection')}; without any: {empty}"
    if result.differ:
        verdict = f"in 8-bit integers other detections in {len(result.differ)} of {pictures}; judge it by its AP"
    else:
        verdict = f"equal on {pictures} ({found})"
        if result.undecided:
            verdict += f"; not counted: {len(result.undecided)} where a rounding decides what the network finds"
    return [
        f"{out}: {verdict}",
        f"largest gap: {result.box_gap:.2g} px, {result.score_gap:.2g} of a score",
        f"AP of the run and of the file: {ap}",
        f"seconds an image: torch {before:.4f}, onnxruntime {after:.4f} ({before / after:.2f} times as fast)"
        if after
        else "no image was timed",
    ]
