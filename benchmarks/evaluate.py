"""How long COCO's numbers take: ours, faster-coco-eval and pycocotools on the same drawn set, in one process.

    python benchmarks/evaluate.py                        2,000 images, 64,000 detections, 10 classes
    python benchmarks/evaluate.py --images 5000 --detections 160000 --classes 80
    python benchmarks/evaluate.py --files                from two JSON files; hotcoco, too, where it is installed
    python benchmarks/evaluate.py --segm                 masks: polygons of 24 points, detections as compressed RLE

Each time is CPU seconds from the document and the list of results in memory to the twelve numbers, the best of
--repeat.
Also: the bootstrap of 200 images. Prints seconds, the ratio to pycocotools, and the largest difference.
"""

from __future__ import annotations

import argparse
import contextlib
import copy
import importlib.util
import io
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

KEYS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def drawn_set(images: int, num_detections: int, classes: int, seed: int = 0) -> tuple[dict, list[dict]]:
    """About 7 objects an image, as in COCO; each found with a jitter nine times of ten; the rest is background."""
    rng = np.random.default_rng(seed)
    annotations, detections = [], []
    for image in range(1, images + 1):
        for _ in range(rng.poisson(7)):
            w, h = np.exp(rng.normal(4, 0.9, 2)).clip(4, 400)
            x, y = rng.uniform(0, 640 - w), rng.uniform(0, 480 - min(h, 470))
            class_ = int(rng.integers(1, classes + 1))
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": class_,
                    "iscrowd": 0,
                    "bbox": [float(x), float(y), float(w), float(h)],
                    "area": float(w * h),
                }
            )
            if rng.random() < 0.9:
                shift = rng.normal(0, 0.08, 4) * (w, h, w, h)
                box = np.array([x, y, w, h]) + shift
                box = [float(v) for v in np.maximum(box, 1)]
                detections.append(
                    {"image_id": image, "category_id": class_, "bbox": box, "score": float(rng.beta(5, 2))}
                )
    for _ in range(num_detections - len(detections)):
        box, class_ = (
            [float(v) for v in (*rng.uniform(0, 400, 2), *rng.uniform(5, 150, 2))],
            rng.integers(1, classes + 1),
        )
        detections.append(
            {
                "image_id": int(rng.integers(1, images + 1)),
                "bbox": box,
                "category_id": int(class_),
                "score": float(rng.beta(1, 5)),
            }
        )
    document = {
        "images": [{"id": i, "file_name": f"{i}.jpg", "width": 640, "height": 480} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": i, "name": f"class {i}"} for i in range(1, classes + 1)],
    }
    return document, detections[:num_detections]


def with_masks(document: dict, detections: list[dict], seed: int = 0) -> tuple[dict, list[dict]]:
    """An outline with a wavy edge in every box; the detections have it as RLE, and no bbox."""
    from label_tools.shapes import rle

    rng = np.random.default_rng(seed)
    angles = np.linspace(0, 2 * np.pi, 24, endpoint=False)

    def outline(box: list[float]) -> list[float]:
        reach = rng.uniform(0.8, 1, len(angles)) / 2
        x, y = box[0] + box[2] * (0.5 + reach * np.cos(angles)), box[1] + box[3] * (0.5 + reach * np.sin(angles))
        return np.stack([x, y], 1).ravel().tolist()

    annotations = [{**a, "segmentation": [outline(a["bbox"])]} for a in document["annotations"]]
    found = [
        {
            "image_id": d["image_id"],
            "category_id": d["category_id"],
            "score": d["score"],
            "segmentation": rle.to_rle(rle.rasterize([outline(d["bbox"])], 480, 640), 480, 640),
        }
        for d in detections
    ]
    return {**document, "annotations": annotations}, found


def ours(document: dict, detections: list) -> list[float]:
    """By boxes; of detections with masks by boxes and masks, and the numbers by masks."""
    from toolkit.evaluation.compute_metrics import coco_metrics

    found = coco_metrics(document, detections)
    return [found.get("segm", found)[key] for key in KEYS]


def reference(document: dict, detections: list, fast: bool) -> list[float]:
    """pycocotools, or faster-coco-eval; both want to own their input, the copies are made before the clock."""
    if fast:
        from faster_coco_eval import COCO
        from faster_coco_eval import COCOeval_faster as Evaluation
    else:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval as Evaluation
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = document
        truth.createIndex()
        kind = "segm" if "segmentation" in detections[0] else "bbox"
        evaluation = Evaluation(truth, truth.loadRes(detections), kind)
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return [float(value) for value in evaluation.stats[:12]]


def from_files(document: dict, detections: list[dict], repeat: int) -> None:
    """CPU seconds of ours, pycocotools and hotcoco, each reading the same two files."""
    import json
    from tempfile import TemporaryDirectory

    def of_ours(truth: Path, found: Path) -> float:
        from label_tools.document import coco_file
        from toolkit.evaluation.read_detections import read_detections

        return ours(coco_file.read_raw(truth), read_detections(found))[0]

    def of_peer(truth: Path, found: Path) -> float:
        from hotcoco import COCO, COCOeval

        labels = COCO(str(truth))
        evaluation = COCOeval(labels, labels.load_res(str(found)), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
        return float(evaluation.stats[0])

    def of_pycocotools(truth: Path, found: Path) -> float:
        return reference(json.loads(truth.read_bytes()), json.loads(found.read_bytes()), fast=False)[0]

    sides: list[tuple[str, Callable]] = [("pycocotools", of_pycocotools), ("ours", of_ours)]
    if importlib.util.find_spec("hotcoco"):
        sides.append(("hotcoco", of_peer))
    with TemporaryDirectory() as folder:
        truth, found = Path(folder, "truth.json"), Path(folder, "found.json")
        truth.write_text(json.dumps(document))
        found.write_text(json.dumps(detections))
        for name, call in sides:
            best, ap = float("inf"), 0.0
            for _ in range(1 if name == "pycocotools" else repeat):
                start = time.process_time()
                ap = call(truth, found)
                best = min(best, time.process_time() - start)
            print(f"{name:18} {best:8.3f} s of processor time from files   AP {ap:.4f}")


def timed(call: Callable, document: dict, detections: list, repeat: int) -> tuple[float, list[float]]:
    best, result = float("inf"), []
    for _ in range(repeat):
        mine = copy.deepcopy(document), copy.deepcopy(detections)
        start = time.process_time()  # other work on the machine does not count
        result = call(*mine)
        best = min(best, time.process_time() - start)
    return best, result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--detections", type=int, default=64000)
    parser.add_argument("--classes", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--files", action="store_true", help="from files to numbers")
    parser.add_argument("--segm", action="store_true", help="masks instead of boxes")
    args = parser.parse_args()
    document, detections = drawn_set(args.images, args.detections, args.classes)
    if args.segm:
        document, detections = with_masks(document, detections)
    print(
        f"{args.images} images, {len(document['annotations'])} objects, {len(detections)} detections, "
        f"{args.classes} classes"
    )
    if args.files:
        from_files(document, detections, args.repeat)
        return
    slow, wanted = timed(lambda a, b: reference(a, b, fast=False), document, detections, 1)
    peers: list[tuple[str, Callable | None]] = [("pycocotools", None), ("ours", ours)]
    if importlib.util.find_spec("faster_coco_eval"):
        peers.insert(1, ("faster-coco-eval", lambda a, b: reference(a, b, fast=True)))
    for name, call in peers:
        seconds, numbers = (slow, wanted) if call is None else timed(call, document, detections, args.repeat)
        off = max(abs(a - b) for a, b in zip(numbers, wanted))
        print(
            f"{name:18} {seconds:8.3f} s   1/{slow / seconds:.1f} of pycocotools   AP {numbers[0]:.4f}   "
            f"largest difference {off:.1e}"
        )

    if args.segm:
        return
    from toolkit.evaluation.compute_metrics import compute_metrics
    from toolkit.metrics.coco_tables import read_tables
    from toolkit.metrics.intervals import intervals
    from toolkit.metrics.iou_and_matching import match

    for few in (200, 2000):
        document, detections = drawn_set(few, few * 32, args.classes, seed=1)
        matches = match(read_tables(document, detections))
        start = time.perf_counter()
        found = intervals(matches, 1000)
        spent = time.perf_counter() - start
        low, high = found["AP"]
        start = time.perf_counter()
        compute_metrics(document, detections)
        print(
            f"bootstrap, {few} images, {len(detections)} detections, 1,000 resamples: {spent:.2f} s, "
            f"AP {low:.3f} to {high:.3f}; all that is evaluated: {time.perf_counter() - start:.2f} s"
        )


if __name__ == "__main__":
    main()
