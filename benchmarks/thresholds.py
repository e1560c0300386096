"""Which rule chooses score thresholds that hold on other pictures? Rules beside each other on the same random splits.

    python benchmarks/thresholds.py EVALUATION [EVALUATION ...] [--images 10 20 40] [--splits 60] [--seed 0]

EVALUATION: a folder with annotations.json and detections.json, as `frcnn evaluate` writes it for val or test of a run.
Of its images some are drawn to choose each class's threshold on; F1 at that threshold (IoU .5) is taken on the others,
the mean over the classes that both parts hold. Beside our rule: the highest F1 itself, the middle of the stretch within
.05 of it, and a fixed .5. Prints a table; figures: docs/measurements.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from label_tools.document import coco_file
from toolkit.metrics import threshold_curves
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import Matches, match
from toolkit.metrics.threshold_curves import Curve


def highest(curve: Curve) -> float | None:
    """The threshold of the highest F1, half way to the next lower score."""
    if not curve.num_objects or not len(curve.score) or not curve.f1.max() > 0:
        return None
    best = int(np.argmax(curve.f1))
    below = curve.score[best + 1] if best + 1 < len(curve.score) else 0.0
    return float(curve.score[best] + below) / 2


def stretch(curve: Curve) -> float | None:
    """The middle of the unbroken stretch around the highest F1 in which F1 is at most .05 lower."""
    if highest(curve) is None:
        return None
    near = curve.f1 >= curve.f1.max() - 0.05
    first = last = int(np.argmax(curve.f1))
    while first > 0 and near[first - 1]:
        first -= 1
    while last + 1 < len(near) and near[last + 1]:
        last += 1
    below = curve.score[last + 1] if last + 1 < len(near) else 0.0
    return float(curve.score[first] + below) / 2


RULES: dict[str, Callable[[Curve], float | None]] = {
    "highest F1": highest,
    "middle within .05": stretch,
    "fixed .5": lambda curve: 0.5,
    "ours": Curve.best_threshold,
}


def parts_of(matches: Matches, chosen: np.ndarray) -> tuple[list[Curve], list[Curve]]:
    """Curves of each class on the chosen images [I] bool, and on the others."""
    tables, t = matches.tables, matches.at(0.5)
    counted = ~matches.gt_ignored[0]
    result: tuple[list[Curve], list[Curve]] = ([], [])
    for k, name in enumerate(tables.class_names):
        rows = matches.rows_of(k)
        image = tables.det_image[matches.det[rows]]
        score = tables.det_score[matches.det[rows]]
        right, ignored = matches.right[0, t, rows], matches.ignored[0, t, rows]
        objects = tables.gt_image[counted & (tables.gt_class == k)]
        for made, images in zip(result, (chosen, ~chosen), strict=True):
            here = images[image]
            made.append(
                threshold_curves.curve_of(name, int(images[objects].sum()), score[here], right[here], ignored[here])
            )
    return result


def scores_of(matches: Matches, chosen: np.ndarray) -> dict[str, float]:
    """{rule: mean F1 over the classes} on the images that were not chosen."""
    choose, test = parts_of(matches, chosen)
    both = [(a, b) for a, b in zip(choose, test, strict=True) if a.num_objects and b.num_objects]
    found = {}
    for name, rule in RULES.items():
        values = []
        for a, b in both:
            threshold = rule(a)
            values.append(b.at(0.5 if threshold is None else threshold)["f1"] or 0.0)
        found[name] = float(np.mean(values)) if values else np.nan
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("evaluations", type=Path, nargs="+")
    parser.add_argument("--images", type=int, nargs="+", default=[10, 20, 40])
    parser.add_argument("--splits", type=int, default=60)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print("| set | images | " + " | ".join(RULES) + " |\n|" + "---|" * (2 + len(RULES)))
    for folder in args.evaluations:
        document = coco_file.read(folder / "annotations.json")
        matches = match(read_tables(document, json.loads((folder / "detections.json").read_bytes())))
        total = len(matches.tables.image_ids)
        for images in args.images:
            random = np.random.default_rng([args.seed, images])
            rows = []
            for _ in range(args.splits):
                chosen = np.zeros(total, bool)
                chosen[random.permutation(total)[:images]] = True
                rows.append(scores_of(matches, chosen))
            means = [np.nanmean([row[name] for row in rows]) for name in RULES]
            name = "/".join(folder.resolve().parts[-2:])
            print(f"| {name} | {images} | " + " | ".join(f"{m:.3f}" for m in means) + " |", flush=True)


if __name__ == "__main__":
    main()
