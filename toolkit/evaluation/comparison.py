"""Is run B better than run A? Both on the same images, by a paired bootstrap."""

from __future__ import annotations

import json
from pathlib import Path

from label_tools.document import coco
from label_tools.text.errors import InputError
from toolkit.evaluation.evaluate import DEFAULTS, Settings, read_detections
from toolkit.evaluation.evaluation_folder import write_json
from toolkit.metrics.arrays import read_tables
from toolkit.metrics.bootstrap import compare
from toolkit.metrics.matching import match


def compare_with(
    folder: Path, other: Path, settings: Settings = DEFAULTS, *, device: str = "auto", batch_size: int = 4
) -> dict:
    """Compare the evaluation in `folder` (A) with `other` (B) and add "compare" to its metrics.json. -> its metrics.

    other: a COCO results file of the same images; or a run, or the --out folder of an evaluation. What B has
    detected on the same images before is used again; else its best checkpoint detects on A's images.
    """
    folder, other = Path(folder), Path(other)
    document = coco.read_raw(folder / "annotations.json")
    ours = read_detections(folder / "detections.json")
    root = coco.image_root(document, folder / "annotations.json")
    theirs = detections_of(other, document, root, folder.name, device=device, batch_size=batch_size)
    a = match(read_tables(document, ours, str(folder / "annotations.json"), str(folder / "detections.json")))
    b = match(read_tables(document, theirs, str(folder / "annotations.json"), str(other)))
    metrics = json.loads((folder / "metrics.json").read_bytes())
    resamples = settings.resamples or Settings.resamples
    metrics["compare"] = {**compare(a, b, resamples, settings.seed), "name": other.name or str(other)}
    write_json(folder / "metrics.json", metrics)
    return metrics


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
            translated = _same_images(document, coco.read_raw(place / "annotations.json"))
            if translated:
                return _renumbered(read_detections(place / "detections.json"), *translated)
    from toolkit import checkpoint
    from toolkit.prediction import predict

    return predict.detect(checkpoint.find(other), document, image_root, device=device, batch_size=batch_size)


def _same_images(ours: dict, theirs: dict) -> tuple[dict, dict] | None:
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
