"""How long and how much memory large sets need: each row a process of its own, made input, processor seconds.

    python benchmarks/scale.py FOLDER                     all rows; FOLDER holds the input, about 2 GB with all of it
    python benchmarks/scale.py FOLDER --rows split check  only those whose name begins so

Seconds are user and system time of the process and those it started, MB the largest resident size of one, the best of
--repeat for rows under half a minute; the time includes the imports (1 to 3 s), with bytecode compiled. COCO's numbers
from files stand in `benchmarks/evaluate.py --files`, beside their peers.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

INDEX = """
import os, sys
from pathlib import Path
import torch
from toolkit.data.dataset import DetectionDataset
from toolkit.data.epoch_batches import EpochBatches
from toolkit.data.loader import Batches
from toolkit.training.train_val_test import check_labels, read_labels

labels = read_labels({"train": Path(sys.argv[1])}, None)
check_labels(labels)
index = labels["train"].index
batches = Batches(DetectionDataset(index), EpochBatches(index, 4, 0), 8, torch.device("cpu"))
each = iter(batches)
next(each)
seconds = sum(os.times()[:2])
for _ in range(40):
    next(each)
def pss(pid):
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024
held = [pss(pid) for pid in (os.getpid(), *(one.pid for one in batches._processes))]
print(f"first batch after {seconds:.1f} s, then all {len(held)} processes together {sum(held):.0f} MB", file=sys.stderr)
batches.close()
"""


def coco(path: Path, images: int, each: int, *, outlines: bool = False) -> Path:
    """A COCO file of 640 x 480 pictures in images/, five classes; seed 0."""
    if path.exists():
        return path
    from label_tools.document import coco_file

    rng = random.Random(0)

    def annotations() -> Iterator[str]:
        for number in range(each * images):
            low, high = (0, 0, 10, 10), (500, 400, 130, 70)
            x, y, w, h = box = [round(rng.uniform(*ends), 2) for ends in zip(low, high)]
            edge = [x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]
            place = (number + 1, number // each + 1, rng.randint(1, 5))
            yield coco_file.annotation_line(*place, box, w * h / 2, 0, [edge] if outlines else [])

    document = {
        "info": {"image_root": "images"},
        "images": ({"id": i + 1, "file_name": f"{i:07d}.jpg", "width": 640, "height": 480} for i in range(images)),
        "annotations": annotations(),
        "categories": [{"id": c, "name": f"class {c}"} for c in range(1, 6)],
    }
    coco_file.write(document, path)
    return path


def pictures(folder: Path, number: int) -> None:
    """Links to one picture for each 50,000 (file systems allow no more links)."""
    from PIL import Image

    folder.mkdir(exist_ok=True)
    for i in range(number):
        path = folder / f"{i:07d}.jpg"
        if i % 50_000 == 0:
            first = path
            Image.new("RGB", (640, 480), (i // 50_000, 90, 90)).save(first)
        elif not path.exists():
            os.link(first, path)


def noise(folder: Path, number: int, brightest: int) -> Path:
    """Pictures of 320 x 240 and a COCO file without objects but one each."""
    from PIL import Image

    path = folder / "annotations.json"
    if not path.exists():
        (folder / "images").mkdir(parents=True)
        rng = np.random.default_rng(0)
        for i in range(number):
            small = Image.fromarray(rng.integers(0, brightest + 1, (12, 16, 3), dtype=np.uint8))
            small.resize((320, 240)).save(folder / "images" / f"{i:07d}.jpg")
        document = json.loads(coco(folder / "made.json", number, 1).read_bytes())
        for image in document["images"]:
            image.update(width=320, height=240)
        for one in document["annotations"]:
            one.update(bbox=[10, 10, 40, 40], area=1600)
        path.write_text(json.dumps(document))
    return path


def bad_shapes(folder: Path) -> Path:
    """One LabelMe file with a good shape and 300,000 polygons of one point."""
    from PIL import Image

    if not folder.exists():
        folder.mkdir()
        Image.new("RGB", (640, 480)).save(folder / "a.jpg")
        common = {"label": "cat", "shape_type": "polygon", "group_id": None, "flags": {}}
        shapes = [{**common, "points": [[k % 640, 5.0]]} for k in range(300_000)]
        shapes.append({**common, "points": [[1, 1], [9, 1], [9, 9]]})
        content = {"version": "5", "flags": {}, "shapes": shapes, "imagePath": "a.jpg", "imageData": None}
        (folder / "a.json").write_text(json.dumps({**content, "imageHeight": 480, "imageWidth": 640}))
    return folder


def evaluation(folder: Path) -> tuple[Path, Path]:
    from benchmarks.evaluate import drawn_set

    truth, found = folder / "truth.json", folder / "found.json"
    if not found.exists():
        document, detections = drawn_set(5000, 500_000, 80)
        truth.write_text(json.dumps(document))
        found.write_text(json.dumps(detections))
    return truth, found


def trained(folder: Path) -> Path:
    """A run of fasterrcnn_tiny_fpn after one epoch of eight pictures: what it finds does not matter here."""
    run = folder / "runs" / "tiny"
    if not run.exists():
        pictures(folder / "images", 8)
        size = ["--image-size", "256", "--epochs", "1", "--workers", "0", "--name", "tiny", "--runs", str(run.parent)]
        model = ["--model", "fasterrcnn_tiny_fpn", "--weights", "none"]
        frcnn("train", str(coco(folder / "eight.json", 8, 2)), *model, *size)
    return run


def frcnn(*words: str) -> list[str]:
    subprocess.run([sys.executable, "-m", "toolkit", *words], check=True, cwd=ROOT, stdout=subprocess.DEVNULL)
    return []


def measured(command: list[str], folder: Path) -> tuple[float, float, str]:
    """(processor seconds, largest MB, last line of standard error) of a command that may end with 0 or 1."""
    out = folder / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    process = subprocess.Popen(
        [sys.executable, *command], cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    said = process.stderr.read()
    _, status, used = os.wait4(process.pid, 0)
    if os.waitstatus_to_exitcode(status) not in (0, 1):
        raise SystemExit(f"{' '.join(command)}: {said}")
    return used.ru_utime + used.ru_stime, used.ru_maxrss / 1024, said.strip().splitlines()[-1] if said.strip() else ""


def rows(folder: Path) -> dict[str, Callable[[], list[str]]]:
    """Name -> what makes the row's input and gives its command, without the interpreter."""
    out, tool = str(folder / "out"), ["-m", "toolkit"]

    def split(images: int) -> list[str]:
        file = coco(folder / f"split{images}.json", images, 2)
        return [*tool, "split", str(file), "--out", out, "--duplicates", "off"]

    def likes(name: str, brightest: int) -> list[str]:
        return [*tool, "split", str(noise(folder / name, 3000, brightest)), "--out", out]

    def large() -> str:
        return str(coco(folder / "large.json", 100_000, 8, outlines=True))

    def convert() -> list[str]:
        pictures(folder / "images", 100_000)
        return [*tool, "convert", "coco", large(), "--out", f"{out}/annotations.json"]

    def evaluate() -> list[str]:
        truth, found = evaluation(folder)
        return [*tool, "evaluate", "--annotations", str(truth), "--detections", str(found), "--out", f"{out}/e"]

    def predict(number: int) -> list[str]:
        pictures(folder / f"some{number}", number)
        words = ["predict", str(trained(folder)), str(folder / f"some{number}"), "--out", f"{out}/p", "--no-pictures"]
        return [*tool, *words, "--score", "0.01"]

    def index() -> list[str]:
        pictures(folder / "images", 1_000_000)
        return ["-c", INDEX, str(coco(folder / "million.json", 1_000_000, 3))]

    made: dict[str, Callable[[], list[str]]] = {}
    for images in (20_000, 40_000, 100_000):
        made[f"split {images}"] = lambda images=images: split(images)
    made["duplicates among 3000 nearly black"] = lambda: likes("black", 3)
    made["duplicates among 3000 ordinary"] = lambda: likes("ordinary", 255)
    made["bad shapes, 300000"] = lambda: [*tool, "convert", "labelme", str(bad_shapes(folder / "bad")), "--out", out]
    made["check of 100000 images"] = lambda: [*tool, "check", large(), "--no-images"]
    made["stats of 100000 images"] = lambda: [*tool, "stats", large()]
    made["convert coco of 100000 images"] = convert
    made["evaluate 5000 images, 500000 detections"] = evaluate
    for number in (500, 2000):
        made[f"predict {number} pictures"] = lambda number=number: predict(number)
    made["index of 1000000 images"] = index
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rows", nargs="+", default=[""], metavar="NAME")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    folder = args.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    os.environ.update(OMP_NUM_THREADS="1", PYTHONPATH=str(ROOT))
    for name, make in rows(folder).items():
        if not name.startswith(tuple(args.rows)):
            continue
        command = make()
        begin = time.monotonic()
        tries = [measured(command, folder)]
        while len(tries) < args.repeat and tries[0][0] < 30:
            tries.append(measured(command, folder))
        seconds, megabytes, said = min(tries)
        wall = (time.monotonic() - begin) / len(tries)
        more = f"   {said}" if name.startswith("index") else ""
        print(
            f"{name:42} {seconds:6.1f} s {megabytes:6.0f} MB   best of {len(tries)}, {wall:.0f} s of clock{more}",
            flush=True,
        )


if __name__ == "__main__":
    main()
