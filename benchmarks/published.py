"""Do we reach what others published? With internet and a GPU: their data, weights and recipe, our toolkit.

    python benchmarks/published.py                              # both sets
    python benchmarks/published.py pennfudan --seeds 0 1 2 --work DIR
    python benchmarks/published.py fridge --archive odFridgeObjects.zip --weights fasterrcnn_resnet50_fpn.pth

Each set is fetched once into `--work` (or taken from `--archive`), converted, and split at random into as many
training and test images as the publication had. The detector starts from torchvision's COCO weights and trains without
looking at the test images; its last weights are evaluated on them. A published value is one run on one random split of
32 or 50 images (of PennFudan seed 1 is the tutorial's own split), so it counts as met when it lies in the 95 %
interval of our AP. `--recipe` changes options, as JSON: a smaller image_size for a smaller GPU, say. Exit code 1: some
published value is not inside.
"""

from __future__ import annotations

import argparse
import json
import sys
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

import torch

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.text.errors import FINDINGS, FINE, InputError, exit_code_of
from toolkit import run as runs
from toolkit.__main__ import main as frcnn
from toolkit.networks import first_weights

METRICS = ("AP", "AP50", "AP75")
RECIPE = {"optimizer": "sgd", "lr": 0.005, "schedule": "step", "epochs": 10, "batch_size": 2, "augment": "light"}


@dataclass(frozen=True)
class Published:
    """A public set, how its labels are read, the images to train on and to test on, the recipe and what was reached."""

    url: str
    folder: str  # of the archive
    convert: str  # arguments of `frcnn convert`; {0}: the folder
    train: int
    test: int
    recipe: dict
    reached: tuple[float, float, float]
    source: str


SETS = {
    "pennfudan": Published(
        "https://www.cis.upenn.edu/~jshi/ped_html/PennFudanPed.zip",
        "PennFudanPed",
        "masks {0} --images {0}/PNGImages --masks {0}/PedMasks --mode instance --class person",
        120,
        50,
        {**RECIPE, "model": "maskrcnn_resnet50_fpn", "weight_decay": 5e-4},
        (0.799, 0.969, 0.935),
        "boxes of Mask R-CNN R50-FPN, pytorch/tutorials torchvision_tutorial, 10 epochs",
    ),
    "fridge": Published(
        "https://cvbp-secondary.z19.web.core.windows.net/datasets/object_detection/odFridgeObjects.zip",
        "odFridgeObjects",
        "voc {0}",
        96,
        32,
        {**RECIPE, "model": "fasterrcnn_resnet50_fpn", "weight_decay": 5e-4, "image_size": 500},
        (0.894, 1.0, 1.0),
        "microsoft/computervision-recipes, detection notebook 01, 10 epochs",
    ),
}


def fetched(published: Published, archive: Path | None, work: Path) -> Path:
    """The unpacked folder of the set below `work`; InputError where it cannot be had."""
    folder = work / published.folder
    if folder.is_dir():
        return folder
    packed = archive or work / published.url.rsplit("/", 1)[-1]
    work.mkdir(parents=True, exist_ok=True)
    if not packed.exists():
        try:
            with urllib.request.urlopen(published.url, timeout=60) as answer, atomic_write(packed) as file:
                while block := answer.read(1 << 20):
                    file.write(block)
        except (urllib.error.URLError, OSError) as error:
            reason = getattr(error, "reason", error)
            raise InputError(f"{published.url}: cannot be fetched ({reason}); give the file with --archive") from None
    try:
        with zipfile.ZipFile(packed) as content:
            content.extractall(work)
    except (zipfile.BadZipFile, OSError) as error:
        raise InputError(f"{packed}: cannot be unpacked ({error}); needs the zip file of {published.url}") from None
    if not folder.is_dir():
        raise InputError(f"{packed}: holds no folder {published.folder}; needs the zip file of {published.url}")
    return folder


def labelled(published: Published, folder: Path) -> Path:
    """annotations.json of the set; made where it is not there yet."""
    annotations = folder / "annotations.json"
    if not annotations.exists():
        code = frcnn(
            ["convert", *(word.format(folder) for word in published.convert.split()), "--out", str(annotations)]
        )
        if code not in (FINE, FINDINGS):
            raise InputError(f"{folder}: its labels could not be read; needs the unpacked {published.url}")
    return annotations


def split(annotations: Path, seed: int, train: int, test: int) -> tuple[Path, Path]:
    """train and test file of a random split: as many images as were published, or in that proportion of fewer.

    torch's own permutation, as torchvision's tutorial draws it: seed 1 of PennFudan is the tutorial's split.
    """
    document = coco_file.read(annotations)
    order = torch.randperm(len(document["images"]), generator=torch.Generator().manual_seed(seed)).tolist()
    first = train if len(order) == train + test else round(len(order) * train / (train + test))
    files = []
    for name, rows in ((f"train{seed}", order[:first]), (f"test{seed}", order[first:])):
        ids = {document["images"][row]["id"] for row in rows}
        part = {
            **document,
            "images": [i for i in document["images"] if i["id"] in ids],
            "annotations": [a for a in document["annotations"] if a["image_id"] in ids],
        }
        files.append(annotations.with_name(f"{name}.json"))
        coco_file.write(part, files[-1])
    return files[0], files[1]


def verdict(value: float, low: float, high: float) -> str:
    """Where a published value lies: inside our interval, or which of the two is higher."""
    return "inside" if low <= value <= high else "theirs higher" if value > high else "ours higher"


def compare(name: str, seed: int, args: argparse.Namespace) -> bool:
    """Train, evaluate and print the rows of one set and seed -> whether every published value is inside."""
    published = SETS[name]
    recipe = {**published.recipe, "weights": args.weights, "seed": seed, **json.loads(args.recipe)}
    first_weights.ensure(recipe["model"], recipe["weights"])  # before anything is fetched for them
    train, test = split(
        labelled(published, fetched(published, args.archive, args.work)), seed, published.train, published.test
    )
    run = runs.train(train, runs=args.work / "runs", name=f"{name}{seed}", report=False, **recipe)
    metrics = run.evaluate("test", data=test)
    found = []
    for metric, value in zip(METRICS, published.reached, strict=True):
        low, high = metrics["intervals"][metric]
        found.append(verdict(value, low, high))
        ours = f"{metrics[metric]:.3f} | {low:.3f} to {high:.3f}"
        print(f"| {name} | {seed} | {metric} | {value:.3f} | {ours} | {found[-1]} |")
    return set(found) == {"inside"}


def run(args: argparse.Namespace) -> int:
    names = args.sets or list(SETS)
    if args.archive and len(names) > 1:
        raise InputError("--archive: is one file, needs the name of its set before it")
    for name in names:
        print(f"{name}: {SETS[name].source}")
    print("| set | seed | metric | published | ours | 95 % | published value is |\n|" + "---|" * 7)
    fine = [compare(name, seed, args) for name in names for seed in args.seeds]
    return FINE if all(fine) else FINDINGS


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("sets", nargs="*", choices=[[], *SETS], help="default: all")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1], help="1 is the tutorial's own split of PennFudan")
    parser.add_argument("--work", type=Path, default=Path("published"), help="data and runs (default: published)")
    parser.add_argument("--archive", type=Path, help="the set's zip file, where it cannot be fetched")
    parser.add_argument("--weights", default="coco", help="coco, or a file of torchvision's weights")
    parser.add_argument("--recipe", default="{}", help="other options, as JSON")
    return exit_code_of(run, parser.parse_args())


if __name__ == "__main__":
    sys.exit(main())
