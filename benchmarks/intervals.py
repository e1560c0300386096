"""How often does a 95 % interval hold the true AP? Detectors of known quality on drawn sets, again and again.

    python benchmarks/intervals.py [--sets 400] [--images 30 100 300] [--seed 1] [--jobs 1] [--no-peer]

An image has its own difficulty and 1 + Poisson(1.5) objects of one or four classes; a detector finds an object, places
its box and scores it by chance (easy, medium, hard: AP .67, .37, .11 and AP50 .96, .74, .30); it adds false ones.
The true AP is that of 30,000 images. The peer is the basic bootstrap of as many resamples. Prints a table.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import draw_weights, intervals, resampled_ap
from toolkit.metrics.iou_and_matching import Matches, match

LARGE = 30_000
PIECE = 50  # sets drawn by one job
SAMPLES = 400


@dataclass(frozen=True)
class Detector:
    found: float  # log odds of finding an object of mean difficulty
    iou: tuple[float, float]  # logit of the IoU: mean and standard deviation
    gap: float  # between the scores' logits of right and false detections
    false: float  # false detections an image


DETECTORS = {
    "easy": Detector(3.5, (1.9, 0.5), 3.0, 0.3),
    "medium": Detector(1.7, (1.3, 0.7), 2.0, 1.0),
    "hard": Detector(0.4, (0.7, 0.8), 1.0, 2.0),
}


def draw(images: int, detector: Detector, classes: int, random: np.random.Generator) -> Matches:
    """A set of `images` images and what the detector finds in them, matched."""
    annotations, detections = [], []
    for image in range(1, images + 1):
        difficulty = random.normal(0, 0.8)
        for place in range(1 + random.poisson(1.5)):
            category, (w, h) = int(random.integers(1, classes + 1)), random.uniform(20, 60, 2)
            x, y = 100 * (place % 10), 100 * (place // 10)
            known = {"image_id": image, "category_id": category}
            annotations.append(
                {**known, "id": len(annotations) + 1, "bbox": [x, y, w, h], "area": w * h, "iscrowd": 0}
                | {"segmentation": []}
            )
            if random.random() < share(detector.found - difficulty):
                iou = share(random.normal(*detector.iou) - 0.3 * difficulty)
                shift = w * (1 - iou) / (1 + iou)  # moved sideways by so much, two equal boxes have this IoU
                score = float(share(random.normal(detector.gap / 2 - 0.5 * difficulty, 1)))
                detections.append({**known, "bbox": [x + shift, y, w, h], "score": score})
        for place in range(random.poisson(detector.false)):
            category, score = int(random.integers(1, classes + 1)), random.normal(-detector.gap / 2, 1)
            bbox = [100 * (place % 10), 500, 30, 30]
            found = {"image_id": image, "category_id": category, "bbox": bbox}
            detections.append({**found, "score": float(share(score + 0.3 * difficulty))})
    document = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 1000, "height": 1000} for i in range(1, images + 1)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, classes + 1)],
    }
    return match(read_tables(document, detections))


def share(logit: float) -> float:
    return 1 / (1 + np.exp(-logit))


def means(ap: np.ndarray) -> dict[str, np.ndarray]:
    """[R,T,K] -> {"AP": [R], "AP50": [R]}."""
    return {"AP": np.nanmean(ap, axis=(1, 2)), "AP50": np.nanmean(ap[:, 0], axis=1)}


def basic_bootstrap(matches: Matches, seed: int) -> dict[str, tuple[float, float]]:
    images = len(matches.tables.image_ids)
    draws = means(resampled_ap(matches, draw_weights(images, SAMPLES, seed)))
    here = means(resampled_ap(matches, np.ones((1, images), np.int64)))
    return {key: tuple(2 * here[key][0] - np.quantile(draws[key], [0.975, 0.025])) for key in draws}


def truth_of(seed: int, number: int, classes: int) -> dict[str, float]:
    """AP and AP50 of one kind of detector on many images."""
    detector = list(DETECTORS.values())[number]
    large = draw(LARGE, detector, classes, np.random.default_rng([seed, number, classes, 0]))
    return {key: float(ap[0]) for key, ap in means(resampled_ap(large, np.ones((1, LARGE), np.int64))).items()}


def ends_of(seed: int, number: int, classes: int, images: int, piece: int, sets: int, peer: bool) -> list[dict]:
    """[{method: {"AP": (low, high), "AP50"}}] of `sets` sets."""
    random = np.random.default_rng([seed, number, classes, images, piece])
    found = []
    for k in range(sets):
        matches = draw(images, list(DETECTORS.values())[number], classes, random)
        found.append({"ours": intervals(matches, SAMPLES, PIECE * piece + k)})
        if peer:
            found[-1]["bootstrap"] = basic_bootstrap(matches, PIECE * piece + k)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--images", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=1, help="processes")
    parser.add_argument("--no-peer", action="store_true", help="without the bootstrap, in half the time")
    args = parser.parse_args()
    methods = ("ours",) if args.no_peer else ("ours", "bootstrap")
    heads = [f"true {key} | " + " | ".join(f"held, {method}" for method in methods) for key in ("AP", "AP50")]
    print("| detector | classes | images |", " | ".join(heads), "|")
    print("|" + "---|" * (5 + 2 * len(methods)), flush=True)
    kinds = [(number, classes) for number in range(len(DETECTORS)) for classes in (1, 4)]
    pieces = [(p, min(PIECE, args.sets - PIECE * p)) for p in range(-(-args.sets // PIECE))]
    with ProcessPoolExecutor(args.jobs) as pool:
        truths = {kind: pool.submit(truth_of, args.seed, *kind) for kind in kinds}
        found = {
            (kind, images): [pool.submit(ends_of, args.seed, *kind, images, *p, not args.no_peer) for p in pieces]
            for kind in kinds
            for images in args.images
        }
        for (kind, images), jobs in found.items():
            truth, sets = truths[kind].result(), [ends for job in jobs for ends in job.result()]
            cells = []
            for key, true in truth.items():
                held = [np.mean([ends[m][key][0] <= true <= ends[m][key][1] for ends in sets]) for m in methods]
                cells.append(f"{true:.3f} | " + " | ".join(f"{share:.3f}" for share in held))
            print(f"| {list(DETECTORS)[kind[0]]} | {kind[1]} | {images} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
