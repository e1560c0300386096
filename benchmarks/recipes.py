"""Recipes against each other on few labelled images: sets x numbers of images x seeds, one training after the other.

    python benchmarks/recipes.py '{}' '{"augment": "medium"}' --labels demo/labels
    python benchmarks/recipes.py '{"weights": "none"}' '{"weights": "starter"}' --labels demo/labels   # its gain
    python benchmarks/recipes.py '{"model": "fasterrcnn_efficientnet_lite0_fpn"}' '{}' --labels raccoon bccd \\
        --images 10 40 160 --seeds 0 1 2 --out rows.jsonl

Each of `--labels` is a folder with train.json and val.json (`make demo` leaves one). Every seed draws its own images of
the training images (`--images` 0: all; a set with fewer is left out); all recipes get the same images and seed, the
model's own epochs unless they say otherwise, and are evaluated once, at the end, on all of val. Seconds are CPU time of
training and that evaluation. `--out` gets a line of JSON for each training; what stands in it already is not run again.
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
import torch

from label_tools.document import coco_file
from toolkit import config
from toolkit.data import coco_index
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.networks import registry
from toolkit.training import detection_task

METRICS = ("AP", "AP50", "AP75")


def subset(document: dict, count: int, seed: int) -> dict:
    """The document with `count` of its images, drawn by `seed`."""
    rng = np.random.default_rng(seed)
    kept = {document["images"][i]["id"] for i in rng.permutation(len(document["images"]))[:count]}
    return {
        **document,
        "images": [i for i in document["images"] if i["id"] in kept],
        "annotations": [a for a in document["annotations"] if a["image_id"] in kept],
    }


def train(labels: Path, images: int, seed: int, recipe: dict) -> dict:
    """One training -> its AP, AP50, AP75 of the last weights, with masks also segm_AP ..., epochs and CPU seconds."""
    document, val_document = (coco_file.read(labels / name) for name in ("train.json", "val.json"))
    root = coco_file.image_root(document, labels / "train.json")
    val = coco_index.read_index(labels / "val.json")
    document = subset(document, images or len(document["images"]), seed)
    index = coco_index.index_of(document, root, "train.json")
    flags = {"model": "fasterrcnn_tiny_fpn", "seed": seed, "workers": 0, **recipe}
    if registry.find(flags["model"]).masks:
        index, val = coco_index.with_outlines(index, document), coco_index.with_outlines(val, val_document)
    flags["eval_every"] = config.resolve(len(index), flags).schedule.epochs
    started = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        chosen = config.resolve(len(index), flags)
        trained = detection_task.fit(chosen, Path(folder), index, val, lambda d: coco_metrics(val_document, d))
    spent = time.process_time() - started
    metrics = {
        name: round(value, 4) for name, value in trained.metrics.items() if name.removeprefix("segm_") in METRICS
    }
    return {**metrics, "epochs": chosen.schedule.epochs, "cpu_s": round(spent, 1)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("recipes", nargs="+", help="options as JSON")
    parser.add_argument("--labels", type=Path, nargs="+", required=True)
    parser.add_argument("--images", type=int, nargs="+", default=[40])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {folder: len(coco_file.read(folder / "train.json")["images"]) for folder in args.labels}
    cells = [(folder, n) for n in args.images for folder in args.labels if n <= sizes[folder]]
    rows = [json.loads(line) for line in args.out.read_text().splitlines()] if args.out and args.out.exists() else []
    found = {(row["set"], row["images"], row["seed"], row["recipe"]): row for row in rows}
    for seed in args.seeds:
        for folder, images in cells:
            for recipe in args.recipes:
                key = (folder.name, images, seed, recipe)
                if key in found:
                    continue
                about = dict(zip(("set", "images", "seed", "recipe"), key, strict=True))
                found[key] = {**about, **train(folder, images, seed, json.loads(recipe))}
                line = json.dumps(found[key])
                print(line, flush=True)
                if args.out:
                    with args.out.open("a") as file:
                        file.write(line + "\n")
    for folder, images in cells:
        runs = [[found[folder.name, images, seed, recipe] for seed in args.seeds] for recipe in args.recipes]
        base = [row["AP"] for row in runs[0]]
        for recipe, mine in zip(args.recipes, runs, strict=True):
            values = [row["AP"] for row in mine]
            gain = [a - b for a, b in zip(values, base, strict=True)]
            print(
                f"{folder.name} {images or 'all'}: AP mean {statistics.mean(values):.3f} from {min(values):.3f} to "
                f"{max(values):.3f}  gain {statistics.mean(gain):+.3f} from {min(gain):+.3f} to {max(gain):+.3f}  "
                f"{statistics.mean(row['cpu_s'] for row in mine):.0f} s  {recipe}"
            )


if __name__ == "__main__":
    main()
