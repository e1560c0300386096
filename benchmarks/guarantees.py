"""Does a guaranteed threshold keep its promise, and do the intervals at a threshold hold? On the sets of intervals.py.

    python benchmarks/guarantees.py [--sets 400] [--images 30 100 300] [--seed 1]

The true recall, precision, F1 and count bias are those of 6,000 images. "given": sets for which a threshold was found;
"broken": sets for which one was found that does not keep the target, at most 5 of 100 as promised.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.intervals import DETECTORS, LARGE, draw
from toolkit.metrics.guaranteed_thresholds import GRID, certify
from toolkit.metrics.threshold_curves import counts_at

TARGETS = {"easy": (0.9, 0.9), "medium": (0.7, 0.8), "hard": (0.4, 0.6)}  # recall, precision
AT = np.array([0.3, 0.6])  # thresholds of the intervals
KEYS = ("precision", "recall", "f1", "count_error")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", type=int, default=400)
    parser.add_argument("--images", type=int, nargs="+", default=[30, 100, 300])
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    print("| detector | images | recall, given | broken | precision, given | broken | " + " | ".join(KEYS) + " |")
    print("|" + "---|" * 10)
    for number, (name, detector) in enumerate(DETECTORS.items()):
        large = draw(LARGE, detector, 1, np.random.default_rng([args.seed, number, 0]))
        on_grid = dict(counts_at(large, 0.5, GRID))["class 1"]
        true = {"recall": on_grid.right.sum(1) / on_grid.objects.sum()}
        true["precision"] = on_grid.right.sum(1) / np.maximum(on_grid.kept.sum(1), 1)
        true_at = dict(counts_at(large, 0.5, AT))["class 1"].numbers()
        for images in args.images:
            random = np.random.default_rng([args.seed, number, images])
            given: dict[str, list[bool]] = {"recall": [], "precision": []}
            broken: dict[str, list[bool]] = {"recall": [], "precision": []}
            held: dict[str, list[bool]] = {key: [] for key in KEYS}
            for _ in range(args.sets):
                matches = draw(images, detector, 1, random)
                here = dict(counts_at(matches, 0.5, GRID))["class 1"]
                for what, target in zip(("recall", "precision"), TARGETS[name]):
                    threshold = certify(here, what, target)["threshold"]
                    given[what].append(threshold is not None)
                    at = int(np.argmin(abs(GRID - (threshold or 0))))
                    broken[what].append(threshold is not None and bool(true[what][at] < target))
                for key, found in dict(counts_at(matches, 0.5, AT))["class 1"].numbers().items():
                    for one, truth in zip(found, true_at[key]):
                        if one and truth:
                            held[key].append(one[1] <= truth[0] <= one[2])
            cells = [f"{np.mean(given[w]):.3f} | {np.mean(broken[w]):.3f}" for w in given]
            cells += [f"{np.mean(held[key]):.3f}" for key in KEYS]
            targets = "{:.1f}, {:.1f}".format(*TARGETS[name])
            print(f"| {name} ({targets}) | {images} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
