"""A single-object baseline beside Faster R-CNN on the same images: where it is enough, and where it breaks.

Both look at every image of a COCO file. Of each image with objects the largest one counts: is its class answered,
and how well is its box? The detector's answer to that question is the largest of its confident detections, else its
best one. AP is over all objects, of which a baseline can name only one an image. The numbers are given for all
images and apart: one object, several, none, and a small largest object (under 2 % of the image).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.files.marked_folders import adopt, refuse_foreign, together
from label_tools.files.write_json_csv import write_json
from label_tools.pictures import open_image
from label_tools.pictures.find_image import refuse_links_out
from label_tools.text.errors import InputError
from toolkit import checkpoint, device_and_seed
from toolkit.data.boxes import corners
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.prediction.draw_boxes_and_batches import ANSWER, OTHER, TRUTH, draw_boxes
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.single_object import evaluate_baseline
from toolkit.single_object.baselines import restored
from toolkit.single_object.contact_sheet import grid_of, save_png
from toolkit.single_object.data.open_data import Selection, check_size, pick
from toolkit.single_object.evaluate_baseline import paired_iou
from toolkit.single_object.network_outputs import predict, read

FOLDER = "compare"  # of a run, where a comparison is written by default
KIND, FILES = "comparison", ("compare.json", "compare.md", "compare.png")
CONFIDENT = 0.5
SMALL = 0.02  # share of the image


@dataclass(frozen=True)
class Found:
    """Predictions of one model for one image: COCO results, and seconds from file to boxes."""

    detections: list[dict]
    seconds: float

    def confident(self) -> list[dict]:
        return [d for d in self.detections if d["score"] >= CONFIDENT]

    def main(self) -> dict | None:
        """The main object of a prediction: the largest confident one, else the best scored one."""
        if confident := self.confident():
            return max(confident, key=lambda d: d["bbox"][2] * d["bbox"][3])
        return max(self.detections, key=lambda d: d["score"], default=None)


class SingleObjectPredictor:
    """A trained single-object network that answers with at most one detection in the image's own pixels."""

    def __init__(self, run: Path, device: str) -> None:
        self.checkpoint = checkpoint.load(checkpoint.find(run))
        self.baseline, network = restored(self.checkpoint)
        if self.baseline.data not in ("dominant", "largest"):
            raise InputError(
                f"{run}: {self.baseline.name} was trained on {self.baseline.data}; compare needs a baseline "
                "trained on a labelled folder, like loadhead"
            )
        self.device = device_and_seed.choose_device(device)
        self.model = network.to(self.device)
        self.size = int(self.checkpoint.meta["size"][0])

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[dict]]:
        """As `toolkit.prediction.detector.Detector`; without score thresholds, for which nobody asks."""
        return [self._one(Image.fromarray(picture)) for picture in pictures]

    def _one(self, picture: Image.Image) -> list[dict]:
        small = picture.resize((self.size, self.size), Image.Resampling.BILINEAR)
        tensor = torch.from_numpy(np.array(small)).permute(2, 0, 1)[None]
        answer = read(evaluate_baseline.outputs(self.model, self.baseline, tensor, self.device, 1), self.baseline.form)
        found = predict(answer, self.baseline.code, (self.size, self.size)).detections()
        across, down = picture.width / self.size, picture.height / self.size
        for detection in found:
            x, y, w, h = detection["bbox"]
            detection["bbox"] = [x * across, y * down, w * across, h * down]
        return found


def compare(
    run: Path, detector: Path, data: Path | None, image_root: Path | None, out: Path, device: str = "auto"
) -> dict[str, Any]:
    """Evaluate both on a COCO file (default: the detector's val.json); write compare.json, compare.md, compare.png."""
    if out == run / FOLDER and (run / "run.json").is_file():  # ours, too, where an older version wrote it
        adopt(out, KIND, FILES)
    refuse_foreign(out, KIND, FILES)
    annotations = data or detector / "val.json"
    document = coco_file.read(annotations, sizes=open_image.sizes_below, images=image_root)
    root = Path(image_root) if image_root else coco_file.image_root(document, annotations)
    if checkpoint.read_meta(checkpoint.find(detector)).get("kind") == "single_object":
        raise InputError(f"--detector {detector}: is a single-object baseline; needs a run of `frcnn train`")
    sides: dict[str, SingleObjectPredictor | TorchDetector] = {
        "baseline": SingleObjectPredictor(run, device),
        "detector": TorchDetector(detector, device),
    }
    objects = {i: [a for a in found if not a["iscrowd"]] for i, found in coco_file.by_image(document).items()}
    truth = {i["id"]: pick(objects[i["id"]], i, Selection("largest"))[0] for i in document["images"]}
    paths = {image["id"]: root / image["file_name"] for image in document["images"]}
    if not paths:
        raise InputError(f"{annotations}: has no images")
    opening = coco_file.opening(document, str(annotations))
    open_one = partial(open_image.open_image, **opening)
    most = opening.get("max_pixels", open_image.MAX_PIXELS)
    refuse_links_out(root, (image["file_name"] for image in document["images"]), annotations)
    for image in document["images"]:
        check_size(open_image.image_size(paths[image["id"]], max_pixels=most), image, paths[image["id"]])
    found = {name: _answers(side, paths, document, str(annotations), open_one) for name, side in sides.items()}
    groups = _groups(document, objects, truth)
    numbers: dict[str, Any] = {
        "data": annotations.name,
        "num_images": len(paths),
        "device": str(sides["baseline"].device),
        "threads": torch.get_num_threads(),
        "sides": {},
    }
    for name, side in sides.items():
        everything = [d for answer in found[name].values() for d in answer.detections]
        ap = coco_metrics(document, everything)
        numbers["sides"][name] = {
            "network": side.checkpoint.meta["architecture"]["name"],
            "backbone": side.checkpoint.meta["architecture"].get("backbone"),
            "first_weights": side.checkpoint.meta.get("first_weights"),
            "parameters": sum(p.numel() for p in side.model.parameters()),
            "epoch": side.checkpoint.meta.get("epoch"),
            "ms_per_image": 1000 * median(a.seconds for a in found[name].values()),
            **{key: ap[key] for key in ("AP", "AP50", "AP75", "AR100")},
            "groups": {group: _numbers(rows, truth, found[name]) for group, rows in groups.items()},
        }
    with together(out, KIND) as made:
        write_json(made / FILES[0], numbers)
        with atomic_write(made / FILES[1]) as file:
            file.write(as_text(numbers).encode() + b"\n")
        save_png(_sheet(paths, truth, found, groups, open_one), made / FILES[2])
    return numbers


def _answers(
    side: SingleObjectPredictor | TorchDetector,
    paths: dict[int, Path],
    document: coco_file.Document,
    where: str,
    open_one: Callable[[Path], Image.Image],
) -> dict[int, Found]:
    """{image id: Found}; category ids of the checkpoint become those of the document, by name."""
    theirs = {c["name"]: c["id"] for c in document["categories"]}
    names = [c["name"] for c in side.checkpoint.meta["classes"]]
    if set(names) != set(theirs):
        raise InputError(
            f"{side.checkpoint.folder}: knows the classes {', '.join(names)}, {where} has "
            f"{', '.join(theirs)}; needs the same"
        )
    own = {c["id"]: theirs[c["name"]] for c in side.checkpoint.meta["classes"]}
    first = np.asarray(open_one(next(iter(paths.values()))))
    side.detect([first])  # the first call also pays for buffers and kernels
    found = {}
    for image_id, path in paths.items():
        started = time.perf_counter()
        detections = side.detect([np.asarray(open_one(path))])[0]
        seconds = time.perf_counter() - started
        found[image_id] = Found(
            [{**d, "image_id": image_id, "category_id": own[d["category_id"]]} for d in detections], seconds
        )
    return found


def _groups(
    document: coco_file.Document, objects: dict[int, list[dict]], truth: dict[int, dict | None]
) -> dict[str, list[int]]:
    def is_small(image: dict) -> bool:
        largest = truth[image["id"]]
        area = largest["bbox"][2] * largest["bbox"][3] if largest else 0
        return bool(largest) and area / (image["width"] * image["height"]) < SMALL

    return {
        "with objects": [i for i in truth if objects[i]],
        "one object": [i for i in truth if len(objects[i]) == 1],
        "several objects": [i for i in truth if len(objects[i]) > 1],
        "largest object small": [image["id"] for image in document["images"] if is_small(image)],
        "no object": [i for i in truth if not objects[i]],
    }


def _numbers(rows: list[int], truth: dict[int, dict | None], found: dict[int, Found]) -> dict[str, float | int | None]:
    """accuracy, mean_iou and iou50 of the largest object over these images; `says_something`: share of images with a
    confident answer, which for images without objects is the share of false alarms."""
    right, ious = [], []
    for answer, true in ((found[i].main(), truth[i]) for i in rows):
        if true:
            right.append(answer is not None and answer["category_id"] == true["category_id"])
            ious.append(_iou(answer["bbox"], true["bbox"]) if answer else 0.0)
    return {
        "num_images": len(rows),
        "accuracy": _mean(right),
        "mean_iou": _mean(ious),
        "iou50": _mean([iou >= 0.5 for iou in ious]),
        "says_something": _mean([bool(found[i].confident()) for i in rows]),
    }


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _iou(a: list[float], b: list[float]) -> float:
    return float(paired_iou(*torch.from_numpy(corners([a, b])).split(1)))


def as_text(numbers: dict[str, Any]) -> str:
    """The comparison as a Markdown table."""
    sides = numbers["sides"]
    head = [f"{side['network']}{_body(side)} ({name})" for name, side in sides.items()]
    lines = [
        f"{numbers['num_images']} images of {numbers['data']}, {numbers['device']}, {numbers['threads']} threads",
        "",
        f"| | {' | '.join(head)} |",
        "|---|" + "---|" * len(head),
    ]
    names = {"parameters": "parameters", "ms_per_image": "ms an image (median)", "AP": "AP, all objects"}
    for key, name in {**names, "AP50": "AP50", "AP75": "AP75"}.items():
        lines.append(f"| {name} | " + " | ".join(_cell(side[key]) for side in sides.values()) + " |")
    for group in next(iter(sides.values()))["groups"]:
        parts = [side["groups"][group] for side in sides.values()]
        count = parts[0]["num_images"]
        rows = {"accuracy": "class of the largest object", "mean_iou": "mean IoU of the largest object"}
        if group == "no object":
            rows = {"says_something": "false alarms"}
        for key, name in rows.items() if count else ():
            values = " | ".join(_cell(part[key]) for part in parts)
            lines.append(f"| {group} ({count} images): {name} | {values} |")
    return "\n".join(lines)


def _body(side: dict[str, Any]) -> str:
    """` on fasterrcnn_tiny_fpn from starter`, where a baseline stands on another body than its own."""
    if not side.get("backbone"):
        return ""
    first = side.get("first_weights") or "none"
    return f" on {side['backbone']}" + (f" from {first}" if first != "none" else "")


def _cell(value: float | int | None) -> str:
    if value is None:
        return "-"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.1f}" if value > 1.5 else f"{value:.3f}"


def _sheet(
    paths: dict[int, Path],
    truth: dict,
    found: dict[str, dict[int, Found]],
    groups: dict,
    open_one: Callable[[Path], Image.Image],
) -> Image.Image:
    """Up to four images of each group with the main object by its label, the baseline and the detector."""
    cells = []
    for image_id in dict.fromkeys(i for name, rows in groups.items() if name != "with objects" for i in rows[:4]):
        picture = open_one(paths[image_id])
        boxes, colours = [], []
        sides = (
            (truth[image_id], TRUTH),
            (found["detector"][image_id].main(), OTHER),
            (found["baseline"][image_id].main(), ANSWER),
        )
        for answer, colour in sides:
            if answer:
                boxes += corners([answer["bbox"]]).tolist()
                colours.append(colour)
        drawn = draw_boxes(picture, boxes, [""] * len(boxes), colours)
        drawn.thumbnail((320, 320))
        cells.append(drawn)
    return grid_of(cells, 4, {"label": TRUTH, "detector": OTHER, "baseline": ANSWER})
