"""Made input for the tests of evaluation and report: documents, detections, a run folder with pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

OFFICIAL = Path(__file__).resolve().parents[1].parent / "shared" / "data" / "coco_official"


def document_of(
    boxes_per_image: list[list[tuple]], names: tuple[str, ...] = ("nut",), size=(200, 160)
) -> dict:
    """COCO document; each object is (category_id, x, y, w, h) or (category_id, x, y, w, h, {more keys})."""
    annotations = []
    for image_id, boxes in enumerate(boxes_per_image, 1):
        for category_id, x, y, w, h, *more in boxes:
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": [x, y, w, h],
                    "area": w * h,
                    "iscrowd": 0,
                    **(more[0] if more else {}),
                }
            )
    return {
        "images": [
            {"id": i, "file_name": f"{i:03d}.jpg", "width": size[0], "height": size[1]}
            for i in range(1, len(boxes_per_image) + 1)
        ],
        "annotations": annotations,
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, 1)],
    }


def detection(image_id: int, category_id: int, x: float, y: float, w: float, h: float, score: float) -> dict:
    return {"image_id": image_id, "category_id": category_id, "bbox": [x, y, w, h], "score": score}


def perfect(document: dict, score: float = 0.9) -> list[dict]:
    """A detection on every object."""
    return [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": list(a["bbox"]), "score": score}
        for a in document["annotations"]
    ]


def random_set(seed: int, images: int = 6, classes: int = 3, most: int = 8, crowds: bool = True) -> tuple:
    """A document, and detections that jitter its objects, miss, double, confuse and invent; scores tie."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(images):
        here = []
        for _ in range(rng.integers(0, most + 1)):
            w, h = np.exp(rng.uniform(np.log(4), np.log(300), 2))
            more = {"iscrowd": 1} if crowds and rng.random() < 0.1 else {}
            if rng.random() < 0.3:
                more["area"] = float(w * h * rng.uniform(0.4, 1))  # a mask's area
            xy = rng.uniform(0, 400, 2)
            here.append((int(rng.integers(1, classes + 1)), *map(float, xy), float(w), float(h), more))
        boxes.append(here)
    document = document_of(boxes, tuple(f"class {k}" for k in range(1, classes + 1)), (800, 800))
    detections = []
    for a in document["annotations"]:
        for _ in range(rng.integers(0, 4)):
            x, y, w, h = a["bbox"]
            dx, dy = rng.normal(0, 0.15, 2) * (w, h)
            grow = np.exp(rng.normal(0, 0.2, 2))
            class_ = a["category_id"] if rng.random() < 0.8 else int(rng.integers(1, classes + 1))
            score = round(float(rng.random()), 1 if rng.random() < 0.5 else 9)  # one decimal: ties
            box = (max(0.0, x + dx), max(0.0, y + dy), w * grow[0], h * grow[1])
            detections.append(detection(a["image_id"], class_, *map(float, box), score))
    for _ in range(rng.integers(0, 2 * most)):
        box = (*rng.uniform(0, 400, 2), *rng.uniform(1, 200, 2))
        image_id, class_ = int(rng.integers(1, images + 1)), int(rng.integers(1, classes + 1))
        detections.append(detection(image_id, class_, *map(float, box), float(rng.random())))
    return document, detections


def pycocotools_numbers(document: dict, detections: list) -> dict:
    """The twelve numbers and AP per class by pycocotools; -1 becomes None."""
    import contextlib
    import copy
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(document)
        truth.createIndex()
        result = COCOeval(truth, truth.loadRes(copy.deepcopy(detections)), "bbox")
        result.evaluate()
        result.accumulate()
        result.summarize()
    keys = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
    numbers = {key: None if value == -1 else float(value) for key, value in zip(keys, result.stats)}
    per_class = {}
    for k, category_id in enumerate(result.params.catIds):
        precision = result.eval["precision"][:, :, k, 0, 2]
        name = truth.cats[category_id]["name"]
        per_class[name] = float(precision.mean()) if (precision > -1).all() else None
    return {**numbers, "per_class": per_class}
