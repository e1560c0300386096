"""How fast labels become COCO: LabelMe files per second and memory, and mask folders beside bare PNG decoding.

    python benchmarks/convert.py [--files 2000] [--shapes 8] [--memory 100000] [--masks DIR]

Files are made in a temporary folder: small JPEGs, and LabelMe files with a mix of polygons (10 points), rectangles
and circles. The peer is the least that any converter must do with the same files in the same run: json.load, and
json.dump of the result. Prints one JSON object; figures go to docs/measurements with the machine they were measured on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import random
import resource
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))


def make_folder(folder: Path, files: int, shapes: int, seed: int = 0) -> None:
    """`files` pairs of a 640 x 480 JPEG (a few pictures, hard-linked) and a LabelMe file with `shapes` shapes."""
    from PIL import Image

    rng = random.Random(seed)
    folder.mkdir(parents=True, exist_ok=True)
    picture = Image.effect_noise((640, 480), 60).convert("RGB")
    for number in range(files):
        name = f"{number:06d}.jpg"
        if number % 10_000 == 0:  # file systems limit the links to one file
            picture.save(folder / name, quality=60)
            first = folder / name
        else:
            (folder / name).hardlink_to(first)
        content = {
            "version": "5.5.0",
            "flags": {},
            "shapes": [make_shape(rng, k) for k in range(shapes)],
            "imagePath": name,
            "imageData": None,
            "imageHeight": 480,
            "imageWidth": 640,
        }
        (folder / f"{number:06d}.json").write_text(json.dumps(content, indent=2))


def make_shape(rng: random.Random, k: int) -> dict:
    x, y, r = rng.uniform(60, 580), rng.uniform(60, 420), rng.uniform(8, 55)
    if k % 4 == 1:
        kind, points = "rectangle", [[x - r, y - r / 2], [x + r, y + r / 2]]
    elif k % 8 == 2:
        kind, points = "circle", [[x, y], [x + r, y]]
    else:
        kind = "polygon"
        radii = [r * rng.uniform(0.6, 1.0) for _ in range(10)]
        points = [[x + q * math.cos(i * math.pi / 5), y + q * math.sin(i * math.pi / 5)] for i, q in enumerate(radii)]
    label = ("cat", "dog", "bird")[k % 3]
    return {
        "label": label,
        "points": points,
        "group_id": None,
        "description": "",
        "shape_type": kind,
        "flags": {},
        "mask": None,
    }


def ours(folder: Path, out: Path) -> float:
    """Seconds of this process's core, so that neighbours count little."""
    from label_tools.readers.convert import convert

    start = time.process_time()
    convert(folder, "labelme").write(out)
    return time.process_time() - start


def bare_json(folder: Path, out: Path) -> float:
    """Read every file, write all shapes: no geometry, no images, no checks."""
    start = time.process_time()
    kept = []
    for path in sorted(folder.glob("*.json")):
        with open(path) as file:
            kept += json.load(file)["shapes"]
    with open(out, "w") as file:
        json.dump(kept, file)
    return time.process_time() - start


def labelme2coco(folder: Path) -> float | None:
    """Seconds of that program for the same folder, its own checks and no more; None: it is not installed."""
    try:
        from labelme2coco import get_coco_from_labelme_folder
    except ImportError:
        return None
    start = time.process_time()
    json.dumps(get_coco_from_labelme_folder(str(folder)).json)
    return time.process_time() - start


def _peak(queue, folder: Path, out: Path) -> None:
    seconds = ours(folder, out)
    queue.put((seconds, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss))


def memory(files: int, shapes: int, scratch: Path) -> dict:
    """Peak memory of one process that converts `files` files, measured in a child of its own."""
    folder = scratch / "many"
    make_folder(folder, files, shapes)
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    child = context.Process(target=_peak, args=(queue, folder, scratch / "many.json"))
    child.start()
    seconds, peak = queue.get()
    child.join()
    unit = 1 if sys.platform == "darwin" else 1024
    return {
        "files": files,
        "seconds": round(seconds, 1),
        "files_per_s": round(files / seconds),
        "peak_mb": round(peak * unit / 1e6),
    }


def masks(folder: Path, scratch: Path) -> dict:
    """A folder with images/ and masks/ of instance ids: our conversion beside decoding the masks and nothing else."""
    import numpy as np
    from PIL import Image

    from label_tools.readers.convert import convert

    paths = sorted((folder / "masks").rglob("*.png"))
    best = {"decode": math.inf, "convert": math.inf}
    for _ in range(3):
        start = time.process_time()
        for path in paths:
            np.asarray(Image.open(path))
        best["decode"] = min(best["decode"], time.process_time() - start)
        start = time.process_time()
        convert(folder, "masks", mode="instance", class_name="object").write(scratch / "masks.json")
        best["convert"] = min(best["convert"], time.process_time() - start)
    return {
        "masks": len(paths),
        "decode_s": round(best["decode"], 3),
        "convert_s": round(best["convert"], 3),
        "ratio": round(best["convert"] / best["decode"], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=2000)
    parser.add_argument("--shapes", type=int, default=8)
    parser.add_argument("--memory", type=int, default=0, metavar="FILES", help="also measure peak memory")
    parser.add_argument("--masks", type=Path, metavar="DIR", help="also measure a folder with images/ and masks/")
    args = parser.parse_args()
    from label_tools.files import fast_json

    result: dict = {"files": args.files, "shapes": args.shapes}
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        make_folder(scratch / "labelme", args.files, args.shapes)
        ours(scratch / "labelme", scratch / "a.json")  # once unmeasured: imports, disk cache
        seconds, bare, peer = math.inf, math.inf, math.inf
        with contextlib.redirect_stdout(sys.stderr):
            labelme2coco(scratch / "labelme")
        for _ in range(5):  # by turns: what slows one slows the other
            peer = min(peer, labelme2coco(scratch / "labelme") or math.inf)
            bare = min(bare, bare_json(scratch / "labelme", scratch / "b.json"))
            seconds = min(seconds, ours(scratch / "labelme", scratch / "a.json"))
        result |= {
            "files_per_s": round(args.files / seconds),
            "bare_json_files_per_s": round(args.files / bare),
            "ratio_to_bare_json": round(seconds / bare, 2),
            "labelme2coco_files_per_s": round(args.files / peer) if peer < math.inf else None,
            "times_labelme2coco": round(peer / seconds, 2) if peer < math.inf else None,
            "msgspec": fast_json.native is not None,
        }
        if args.memory:
            result["memory"] = memory(args.memory, args.shapes, scratch)
        if args.masks:
            result["masks"] = masks(args.masks, scratch)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
