"""Made input for the tests of evaluation and report: documents, detections, a run folder with pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tests.conftest import REAL_DATA

OFFICIAL = REAL_DATA / "coco_official"


def document_of(boxes_per_image: list[list[tuple]], names: tuple[str, ...] = ("nut",), size=(200, 160)) -> dict:
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


def with_outlines(document: dict, detections: list, seed: int) -> tuple[dict, list[dict]]:
    """The same with an outline in each box: a polygon or two, or RLE (compressed or not), also with holes; no bbox in
    the detections."""
    from label_tools.shapes import rle

    rng = np.random.default_rng(seed)
    sizes = {image["id"]: (image["height"], image["width"]) for image in document["images"]}

    def outline(entry: dict, as_runs: bool) -> list | dict:
        x, y, w, h = entry["bbox"]
        angles = np.sort(rng.uniform(0, 2 * np.pi, rng.integers(5, 12)))
        reach = rng.uniform(0.7, 1, len(angles)) / 2
        points = np.stack([x + w / 2 + w * reach * np.cos(angles), y + h / 2 + h * reach * np.sin(angles)], 1)
        polygons = [points.ravel().tolist()]
        if rng.random() < 0.2:
            polygons.append([x, y, x + w / 3, y, x, y + h / 3])
        if not as_runs:
            return polygons
        height, width = sizes[entry["image_id"]]
        pixels = rle.decode(rle.rasterize(polygons, height, width), height, width)
        if rng.random() < 0.5:
            pixels[:: int(rng.integers(2, 9))] = 0  # holes
        runs = rle.encode(pixels)
        as_text = rng.random() < 0.5
        return rle.to_rle(runs, height, width) if as_text else {"size": [height, width], "counts": runs.tolist()}

    annotations = [
        {**a, "segmentation": outline(a, bool(a["iscrowd"]) or rng.random() < 0.2)} for a in document["annotations"]
    ]
    found = [{**d, "segmentation": outline(d, rng.random() < 0.8)} for d in detections]
    return {**document, "annotations": annotations}, [{k: v for k, v in d.items() if k != "bbox"} for d in found]


def pycocotools_numbers(document: dict, detections: list, kind: str = "bbox") -> dict:
    """The twelve numbers and AP per class by pycocotools; -1 becomes None. kind: bbox or segm."""
    import contextlib
    import copy
    import io

    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = copy.deepcopy(document)
        truth.createIndex()
        detections = copy.deepcopy(detections)
        if kind == "segm":  # loadRes takes compressed RLE only
            detections = [{**d, "segmentation": truth.annToRLE(d)} for d in detections]
        result = COCOeval(truth, truth.loadRes(detections), kind)
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


def scene(seed: int, images: int = 12, size: tuple[int, int] = (240, 180)) -> tuple[dict, list[dict]]:
    """A document of nuts, bolts and washers, and detections with errors of every kind."""
    rng = np.random.default_rng(seed)
    boxes = []
    for _ in range(images):
        here, spots = [], [(10, 8), (90, 8), (170, 8), (10, 95), (90, 95), (170, 95)]
        for x, y in spots:
            if rng.random() < 0.55:
                w, h = rng.uniform(22, 56, 2)
                here.append((int(rng.integers(1, 4)), float(x), float(y), float(w), float(h)))
        boxes.append(here)
    document = document_of(boxes, ("nut", "bolt", "washer"), size)
    detections = []
    for a in document["annotations"]:
        x, y, w, h = a["bbox"]
        luck, score = rng.random(), float(rng.uniform(0.55, 0.99))
        if luck < 0.08:
            continue  # missed
        class_ = a["category_id"] % 3 + 1 if luck < 0.14 else a["category_id"]
        shift = 0.45 if luck > 0.94 else 0.04
        dx, dy = rng.normal(0, shift, 2)
        box = (max(0.0, x + dx * w), max(0.0, y + dy * h), w * rng.uniform(0.9, 1.1), h * rng.uniform(0.9, 1.1))
        detections.append(detection(a["image_id"], class_, *map(float, box), score))
        if rng.random() < 0.1:
            detections.append(detection(a["image_id"], class_, x, y, w, h, score * 0.6))
    for i in range(1, images + 1):
        if rng.random() < 0.4:
            box = (rng.uniform(0, 180), rng.uniform(0, 120), rng.uniform(15, 50), rng.uniform(15, 50))
            detections.append(detection(i, int(rng.integers(1, 4)), *map(float, box), float(rng.uniform(0.05, 0.9))))
    return document, detections


def ranked_scene(seed: int, images: int) -> tuple[dict, list[dict]]:
    """`scene` with scores that mean something, as a trained detector gives them: right ones mostly high."""
    from toolkit.metrics.coco_tables import read_tables
    from toolkit.metrics.iou_and_matching import match

    document, detections = scene(seed, images)
    matches = match(read_tables(document, detections))
    right = np.zeros(len(detections), bool)
    right[matches.det] = matches.right[0, 0]
    rng = np.random.default_rng(seed + 10**6)
    scores = np.where(right, rng.beta(5, 1.5, len(right)), rng.beta(1.5, 3, len(right)))
    return document, [{**d, "score": float(s)} for d, s in zip(detections, scores)]


def draw_images(document: dict, folder: Path) -> None:
    """A JPEG for each image of the document, its objects as shaded shapes by class."""
    from PIL import Image, ImageDraw

    folder.mkdir(parents=True, exist_ok=True)
    for image in document["images"]:
        rng = np.random.default_rng(image["id"])
        ground = np.linspace(90, 130, image["height"])[:, None, None] + rng.normal(
            0, 5, (image["height"], image["width"], 1)
        )
        picture = Image.fromarray(np.repeat(ground, 3, axis=2).clip(0, 255).astype(np.uint8))
        draw = ImageDraw.Draw(picture)
        for a in document["annotations"]:
            if a["image_id"] == image["id"]:
                x, y, w, h = a["bbox"]
                shape = (x, y, x + w - 1, y + h - 1)
                if a["category_id"] == 1:
                    draw.rectangle(shape, fill="#8a97a5", outline="#44505c")
                elif a["category_id"] == 2:
                    draw.rounded_rectangle(shape, radius=9, fill="#b58a4a", outline="#5d4520")
                else:
                    draw.ellipse(shape, fill="#c9ced3", outline="#6b7278")
        picture.save(folder / image["file_name"], quality=85)


def write_training_log(run: Path, epochs: int = 8, steps: int = 12) -> None:
    """run.json, config.yaml and metrics.jsonl as a finished training leaves them."""
    import json

    run.mkdir(parents=True, exist_ok=True)
    rng, records = np.random.default_rng(0), []
    for epoch in range(1, epochs + 1):
        for i in range(steps):
            step = (epoch - 1) * steps + i + 1
            loss = 2.2 * step**-0.35 + float(rng.normal(0, 0.05))
            records.append(
                {"kind": "step", "step": step, "epoch": epoch, "loss": loss, "lr": 0.01 / step, "images_per_s": 9.0}
            )
        ap = 0.8 * (1 - 0.6**epoch)
        records.append(
            {
                "kind": "epoch",
                "epoch": epoch,
                "step": epoch * steps,
                "seconds": epoch * 4.0,
                "train_loss": {"loss_classifier": 1.0 / epoch, "loss_box_reg": 0.5 / epoch},
                "val_loss": {"loss_classifier": 1.1 / epoch + 0.02 * epoch, "loss_box_reg": 0.6 / epoch},
                "AP": ap,
                "AP50": min(1, ap * 1.3),
                "AP75": ap * 0.9,
            }
        )
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    (run / "config.yaml").write_text("model:\n  model: fasterrcnn_tiny_fpn\nschedule:\n  epochs: 8\n")
    (run / "run.json").write_text(
        json.dumps(
            {
                "command": "frcnn train labels --model fasterrcnn_tiny_fpn",
                "model": "fasterrcnn_tiny_fpn",
                "seed": 0,
                "device": "cpu",
                "classes": ["nut", "bolt", "washer"],
                "num_images": {"train": 40, "val": 12},
                "versions": {"python": "3.11", "torch": "2.15.0"},
                "data_fingerprint": "0123456789abcdef",
                "seconds": 96.5,
                "started": "2026-11-21 10:00:00",
                "status": "finished",
            }
        )
    )


def made_run(folder: Path, images: int = 12, seed: int = 0) -> Path:
    """A run folder as training and evaluation leave it, with drawn pictures; no checkpoint. -> the run."""
    from toolkit.evaluation.compute_metrics import Settings, compute_metrics
    from toolkit.evaluation.evaluate_run import anchor_coverage
    from toolkit.evaluation.evaluation_folder import write_evaluation
    from toolkit.networks.resize_and_anchors import Level, View

    document, detections = scene(seed, images)
    draw_images(document, folder / "images")
    run = folder / "runs" / "made"
    write_training_log(run)
    evaluation = compute_metrics(document, detections, Settings(resamples=200), split="val")
    levels = tuple(Level(stride, (size,), (0.5, 1.0, 2.0)) for stride, size in ((8, 24), (16, 48), (32, 96)))
    evaluation.metrics["anchors"] = anchor_coverage(evaluation.tables, View(160, 256, levels))
    evaluation.metrics["settings"]["score_floor"] = 0.01
    evaluation.metrics["checkpoint"] = {"folder": "best", "epoch": 7, "step": 84}
    write_evaluation(run / "val", evaluation, folder / "images")
    return run
