"""Does an option help on few labelled images? Recipes against each other, seed by seed, on the starter weights.

    python benchmarks/recipes.py --labels demo/labels '{}' '{"augment": "medium"}'
    python benchmarks/recipes.py --labels demo/labels '{"weights": "none"}' '{"weights": "starter"}'   # its gain

`--labels` is a folder with train.json and val.json (`make demo` leaves one). Every seed draws its own `--images` of the
training images; all recipes get the same images, epochs and seed, and are evaluated once, at the end, on all of val.
The first recipe is what the others are held against.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import numpy as np

from label_tools.document import coco_file
from toolkit import config
from toolkit.data import dataset
from toolkit.evaluation.compute import coco_metrics
from toolkit.training import fit


def subset(document: dict, count: int, seed: int) -> dict:
    """The document with `count` of its images, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    kept = {document["images"][i]["id"] for i in rng.permutation(len(document["images"]))[:count]}
    return {
        **document,
        "images": [i for i in document["images"] if i["id"] in kept],
        "annotations": [a for a in document["annotations"] if a["image_id"] in kept],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="options as JSON")
    parser.add_argument("--labels", type=Path, required=True)
    parser.add_argument("--images", type=int, default=40)
    parser.add_argument("--epochs", type=int, default=40)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args()
    document = coco_file.read(args.labels / "train.json")
    root = coco_file.image_root(document, args.labels / "train.json")
    val_document = coco_file.read(args.labels / "val.json")
    val = dataset.read_index(args.labels / "val.json")
    found: dict[str, list[float]] = {recipe: [] for recipe in args.recipes}
    for seed in range(args.seeds):
        index = dataset.index_of(subset(document, args.images, seed), root, "train.json")
        for recipe in found:
            flags = {
                "model": "fasterrcnn_tiny_fpn",
                "epochs": args.epochs,
                "seed": seed,
                "workers": 0,
                "eval_every": args.epochs,
                **json.loads(recipe),
            }
            started = time.monotonic()
            with tempfile.TemporaryDirectory() as folder:
                trained = fit.fit(
                    config.resolve(len(index), flags), Path(folder), index, val, lambda d: coco_metrics(val_document, d)
                )
            found[recipe].append(trained.state.best_score)
            spent = time.monotonic() - started
            print(
                f"seed {seed}  AP {trained.state.best_score:.4f}  {recipe}  {spent:.0f} s with evaluation", flush=True
            )
    base = found[args.recipes[0]]
    for recipe, values in found.items():
        gain = [a - b for a, b in zip(values, base, strict=True)]
        print(
            f"AP mean {statistics.mean(values):.3f}  from {min(values):.3f} to {max(values):.3f}   gain "
            f"{statistics.mean(gain):+.3f}  from {min(gain):+.3f} to {max(gain):+.3f}   {recipe}"
        )


if __name__ == "__main__":
    main()
