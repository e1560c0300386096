"""Detections to evaluate: read from a COCO results file, from an earlier evaluation, or made by a run's checkpoint."""

from __future__ import annotations

from pathlib import Path

from label_tools.document import coco_file
from label_tools.files.marked_folders import check_whole
from label_tools.files.pause_gc import collector_paused
from label_tools.files.strict_reading import loads
from label_tools.text.errors import InputError
from toolkit.evaluation.detections_to_coco import of_document, of_predict
from toolkit.prediction.detect_pictures import detect_document
from toolkit.prediction.open_detector import open_detector

TOGETHER = ("annotations.json", "detections.json", "metrics.json")  # of one evaluation, or its numbers are wrong


@collector_paused()
def read_detections(path: Path) -> list:
    """Read COCO results, the JSON of `frcnn predict`, or a COCO document with scores. InputError for anything else."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    found = loads(content, str(path))
    if isinstance(found, dict) and isinstance(found.get("images"), list) and "score_thresholds" in found:
        return of_predict(found, str(path))
    if isinstance(found, dict) and (theirs := of_document(found)) is not None:
        return theirs
    if not isinstance(found, list):
        hint = "; this is an annotations file" if isinstance(found, dict) and "images" in found else ""
        raise InputError(f"{path}: found an object at the top, needs a list of COCO results{hint}")
    return found


def read_evaluation(folder: Path) -> tuple[dict, list, Path]:
    """(labels, detections, the folder of the images) of an evaluation. InputError where one of its files is missing."""
    check_whole(folder, "evaluation", TOGETHER)
    document = coco_file.read_raw(folder / "annotations.json")
    root = coco_file.image_root(document, folder / "annotations.json")
    return document, read_detections(folder / "detections.json"), root


def detections_of(
    other: Path, document: dict, image_root: Path, split: str, *, device: str = "auto", batch_size: int = 4
) -> list:
    """What `other` (a COCO results file, a run, an evaluation's folder) detects on the images of `document`."""
    if other.is_file():
        return read_detections(other)
    if not other.is_dir():
        raise InputError(f"{other}: not found; needs a run, an evaluation's folder or a COCO results file")
    for place in (other / split, other):
        if (place / "annotations.json").is_file() and (place / "detections.json").is_file():
            check_whole(place, "evaluation", TOGETHER)
            translated = same_images(document, coco_file.read_raw(place / "annotations.json"))
            if translated:
                return _renumbered(read_detections(place / "detections.json"), *translated)
    return detect_document(open_detector(other, device), document, image_root, batch_size=batch_size)


def same_images(ours: dict, theirs: dict) -> tuple[dict, dict] | None:
    """({their image id: ours}, {their category id: ours}) when both documents have the same images and classes."""
    our_images = {i["file_name"]: i["id"] for i in ours["images"]}
    our_classes = {c["name"]: c["id"] for c in ours["categories"]}
    their_images = {i["id"]: i["file_name"] for i in theirs["images"]}
    their_classes = {c["id"]: c["name"] for c in theirs["categories"]}
    if set(our_images) != set(their_images.values()) or set(our_classes) != set(their_classes.values()):
        return None
    if len(our_images) != len(ours["images"]):
        return None  # names that repeat cannot tell images apart
    return (
        {i: our_images[name] for i, name in their_images.items()},
        {c: our_classes[name] for c, name in their_classes.items()},
    )


def _renumbered(detections: list, images: dict, classes: dict) -> list:
    return [{**d, "image_id": images[d["image_id"]], "category_id": classes[d["category_id"]]} for d in detections]
