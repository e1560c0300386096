"""A checkpoint and pictures -> detections: for an evaluation (`Predictor.detect`) and for new pictures (`predict`)."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from label_tools.pictures import images
from label_tools.text.errors import InputError
from toolkit import checkpoint, runtime
from toolkit.data.dataset import DetectionDataset, coco_results, index_of
from toolkit.data.loader import Batches, in_order
from toolkit.metrics.small_set import FEW_OBJECTS
from toolkit.training import engine

_LOG = logging.getLogger(__name__)
MOST_NAMES = 8  # classes that a note names


def thresholds_of(meta: dict[str, Any], score: float | None, default: float = 0.5) -> dict[int, float]:
    """{category_id: score from which a detection is shown}: `score` for all, else checkpoint.json's own."""
    stored = meta.get("score_thresholds", {})
    return {c["id"]: score if score is not None else stored.get(c["name"], default) for c in meta["classes"]}


class Predictor:
    """A loaded checkpoint on a device."""

    def __init__(self, run: Path, device: str = "auto", precision: str = "auto") -> None:
        from toolkit.networks import builder, registry

        self.checkpoint = checkpoint.load(checkpoint.find(run))
        self.device = runtime.choose_device(device)
        self.model = builder.restored(self.checkpoint).to(self.device)
        compact = registry.find(self.checkpoint.meta["architecture"]["name"]).compact
        self.dtype = runtime.choose_precision(precision, self.device, compact)
        self.categories = self.checkpoint.meta["classes"]
        self.category_ids = tuple(c["id"] for c in self.categories)

    def thresholds(self, score: float | None, default: float = 0.5) -> dict[int, float]:
        """{category_id: score from which a detection is shown}: `score` for all, else the checkpoint's own."""
        return thresholds_of(self.checkpoint.meta, score, default)

    def one(self, path: Path) -> list[dict[str, Any]]:
        """Every detection in one picture, best first, as COCO results with image_id 0."""
        return self.picture(images.open_image(path))

    def picture(self, image: Image.Image) -> list[dict[str, Any]]:
        """`one` of an RGB picture that is open already."""
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        batch = [([tensor], [{"image_id": 0}])]
        ((_, output),) = engine.predict(self.model, batch, self.device, self.dtype)
        return coco_results(0, output, self.category_ids)

    def detect(
        self,
        document: dict[str, Any],
        image_root: Path,
        *,
        batch_size: int = 4,
        workers: int = -1,
        stop: Callable[[], bool] = bool,
        each: Callable[[int, int], None] | None = None,
    ) -> list[dict[str, Any]]:
        """COCO results [{image_id, category_id, bbox XYWH, score}] of every image of a COCO document.

        The checkpoint's classes must be the document's, by name; category ids are the document's. `each(done, total)`
        is called after every image.
        """
        ids = category_map(self.checkpoint, document)
        index = index_of(document, image_root, str(self.checkpoint.folder))
        workers = runtime.worker_count(workers)
        loader = Batches(DetectionDataset(index), in_order(index, batch_size), workers, self.device)
        found: list[dict[str, Any]] = []
        predictions = engine.predict(self.model, loader, self.device, self.dtype, stop)
        for done, (image_id, output) in enumerate(predictions, 1):
            found += coco_results(image_id, output, ids)
            if each:
                each(done, len(index))
        return found


def category_map(found: checkpoint.Checkpoint, document: dict[str, Any]) -> tuple[int, ...]:
    """The document's category id of each class of the checkpoint; refused when the names differ."""
    theirs = {c["name"]: c["id"] for c in document["categories"]}
    if set(theirs) != set(found.classes):
        raise InputError(
            f"{found.folder}: was trained on the classes {', '.join(found.classes)}; "
            f"the labels have {', '.join(theirs)}; needs the same classes"
        )
    return tuple(theirs[name] for name in found.classes)


def find_images(sources: list[Path]) -> list[tuple[Path, Path]]:
    """(file, its name below the source) of pictures and folders of pictures, sorted; refused when there is none.

    Pictures that `frcnn predict` or `frcnn draw` left in a folder are no photographs.
    """
    from label_tools.pictures.our_outputs import is_drawing
    from label_tools.pictures.unread_files import not_read

    passed_over = not_read(path for source in sources if source.is_dir() for path in source.rglob("*"))
    found: list[tuple[Path, Path]] = []
    for source in sources:
        if source.is_dir():
            files = [p for p in sorted(source.rglob("*")) if p.suffix.lower() in images.SUFFIXES and p.is_file()]
            found += [(p, p.relative_to(source)) for p in files if not is_drawing(p)]
        elif source.is_file():
            found.append((source, Path(source.name)))
        else:
            raise InputError(f"{source}: not found; needs a picture or a folder of pictures")
    if not found:
        why = f"; {passed_over}" if passed_over else ""
        raise InputError(f"{', '.join(map(str, sources))}: holds no picture ({', '.join(images.SUFFIXES)}){why}")
    if passed_over:
        _LOG.warning("%s", passed_over)
    names: dict[Path, Path] = {}
    for path, name in found:
        if name in names:
            raise InputError(f"{path} and {names[name]}: would both become {name}; give folders one at a time")
        names[name] = path
    return found


def predict(
    run: Path,
    files: list[tuple[Path, Path]],
    *,
    score: float | None = None,
    device: str = "auto",
    below: dict[Path, tuple[float, str]] | None = None,
) -> Iterator[tuple[Path, Path, list[dict[str, Any]], str]]:
    """(file, name, detections over the thresholds, error text or "") for every picture that `find_images` gave.

    detections: [{"label", "category_id", "score", "bbox": [x, y, w, h] in pixels}], best first. below: receives
    (score, label) of the best detection under its threshold for each picture that shows none. The checkpoint is
    loaded by the call itself, the pictures one by one.
    """
    return _each_picture(Predictor(run, device), files, score, below)


def _each_picture(
    predictor: Predictor, files: list[tuple[Path, Path]], score: float | None, below: dict | None
) -> Iterator[tuple[Path, Path, list[dict[str, Any]], str]]:
    thresholds = predictor.thresholds(score)
    names = {c["id"]: c["name"] for c in predictor.categories}
    for path, name in files:
        try:
            found = predictor.one(path)
        except InputError as error:
            yield path, name, [], str(error)
            continue
        kept = [
            {"label": names[d["category_id"]], "category_id": d["category_id"], "score": d["score"], "bbox": d["bbox"]}
            for d in found
            if d["score"] >= thresholds[d["category_id"]]
        ]
        if below is not None and found and not kept:
            below[name] = (found[0]["score"], names[found[0]["category_id"]])
        yield path, name, kept, ""


def validation_objects(run: Path, meta: dict[str, Any]) -> dict[str, int]:
    """{class: objects of val that its stored threshold was chosen on}, as far as the run's files tell."""
    try:
        metrics = json.loads((checkpoint.find(run).parent / "val" / "metrics.json").read_bytes())
        chosen, counts = metrics["thresholds"], metrics["per_class"]
        stored = meta.get("score_thresholds", {})
        return {n: counts[n]["num_objects"] for n in stored if abs(chosen[n]["threshold"] - stored[n]) < 1e-6}
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return {}


def nothing_found(
    run: Path, meta: dict[str, Any], score: float | None, empty: int, total: int, below: dict[Path, tuple[float, str]]
) -> str:
    """A note on pictures without objects: the thresholds, on how much they rest, the best score below, what to try."""
    stored, objects, used = meta.get("score_thresholds", {}), validation_objects(run, meta), []
    thresholds = thresholds_of(meta, score)
    for category in meta["classes"] if score is None else []:
        name = category["name"]
        text = f"{name} {thresholds[category['id']]:.3f}"
        if name not in stored:
            text += " (no threshold was chosen yet; frcnn evaluate chooses one)"
        elif name in objects:
            few = f", fewer than {FEW_OBJECTS}: unreliable" if objects[name] < FEW_OBJECTS else ""
            text += f" (chosen on {objects[name]} validation object{'s' * (objects[name] != 1)}{few})"
        used.append(text)
    more = f" and {len(used) - MOST_NAMES} classes more" if len(used) > MOST_NAMES else ""
    shown = ", ".join(used[:MOST_NAMES]) + more if score is None else f"{score:g} (--score)"
    best = "there is no detection at any score"
    if below:
        name, (value, label) = max(below.items(), key=lambda item: item[1][0])
        best = f"best score below: {value:.3f} ({label} in {name.as_posix()})"
    hint = f"; --score S shows them from S on, for example --score {0.9 * value:.2g}" if below else ""
    return f"note: {empty} of {total} pictures show no object. Shown from score: {shown}; {best}{hint}"


def to_json(records: list[dict[str, Any]], categories: list[dict[str, Any]], thresholds: dict[int, float]) -> bytes:
    """The one JSON of `frcnn predict`: pictures with their detections, the classes, the thresholds used."""
    names = {c["id"]: c["name"] for c in categories}
    content = {
        "categories": categories,
        "score_thresholds": {names[i]: t for i, t in thresholds.items()},
        "images": records,
    }
    return json.dumps(content, indent=1).encode() + b"\n"
