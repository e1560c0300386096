"""How fast a data set is checked, split and drawn, beside the least that anybody must do with the same files.

    python benchmarks/check.py [--images 20000] [--objects 8] [--decode-images 1000]

Makes JPEGs of 640 x 480 (200 different pictures, hard-linked) and a COCO file in a temporary folder. Peers in the
same run, all in processor time: json.load of the document and Pillow's header of every image; Pillow decoding every
image. Also the search for likes among as many random hashes. Prints one JSON object; figures go to docs/measurements.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

PICTURES = 200


def make(folder: Path, images: int, objects: int, seed: int = 0) -> Path:
    """A COCO file with `objects` polygons in each of `images` pictures."""
    import numpy as np
    from PIL import Image

    from label_tools.document import coco_file

    rng, noise = random.Random(seed), np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for number in range(min(PICTURES, images)):
        small = Image.fromarray(noise.integers(0, 256, (48, 64, 3), dtype=np.uint8))
        small.resize((640, 480)).save(folder / "images" / f"{number:06d}.jpg", quality=80)
    for number in range(PICTURES, images):
        (folder / "images" / f"{number:06d}.jpg").hardlink_to(folder / "images" / f"{number % PICTURES:06d}.jpg")
    annotations = []
    for image in range(1, images + 1):
        for _ in range(objects):
            x, y, w, h = rng.uniform(0, 500), rng.uniform(0, 400), rng.uniform(10, 130), rng.uniform(10, 70)
            outline = [x, y + h / 2, x + w / 2, y, x + w, y + h / 2, x + w / 2, y + h]
            annotations.append(
                {
                    "id": len(annotations) + 1,
                    "image_id": image,
                    "category_id": rng.randint(1, 5),
                    "area": w * h / 2,
                    "bbox": [x, y, w, h],
                    "iscrowd": 0,
                    "segmentation": [outline],
                }
            )
    document = {
        "info": {"image_root": "images"},
        "images": [{"id": k + 1, "file_name": f"{k:06d}.jpg", "width": 640, "height": 480} for k in range(images)],
        "annotations": annotations,
        "categories": [{"id": k, "name": f"class {k}"} for k in range(1, 6)],
    }
    coco_file.write(document, folder / "annotations.json")
    return folder / "annotations.json"


def seconds(work: Callable[[], object]) -> float:
    """Processor time, so that other work on the machine counts little."""
    start = time.process_time()
    work()
    return round(time.process_time() - start, 2)


def headers(path: Path) -> None:
    """The least of a check: read the document, look at the size of every image."""
    from PIL import Image

    for image in json.loads(path.read_bytes())["images"]:
        with Image.open(path.parent / "images" / image["file_name"]) as file:
            assert file.size == (640, 480)


def decode(paths: list[Path]) -> None:
    from PIL import Image

    for path in paths:
        with Image.open(path) as file:
            file.load()


def search(count: int) -> None:
    """Likes among `count` pictures that have nothing in common."""
    import numpy as np

    from label_tools.pictures.duplicates import Fingerprint, look_alike

    rng = np.random.default_rng(0)

    def drawn(name: str) -> Fingerprint:
        dhash, *turned = rng.integers(0, 2**63, 8).tolist()  # as it lies, and in its seven other turns
        return Fingerprint(name, dhash, rng.integers(0, 256, 1024, dtype=np.uint8).tobytes(), tuple(turned))

    prints = [drawn(str(k)) for k in range(count)]
    look_alike(prints)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=20_000)
    parser.add_argument("--objects", type=int, default=8)
    parser.add_argument("--decode-images", type=int, default=1_000)
    args = parser.parse_args()
    from label_tools.operations.split import split_file
    from label_tools.rules.check import examine_files

    result: dict[str, object] = {"images": args.images, "annotations": args.images * args.objects}
    with tempfile.TemporaryDirectory() as scratch:
        path = make(Path(scratch) / "all", args.images, args.objects)
        result["peer: json.load and headers, s"] = peer = seconds(lambda: headers(path))
        result["check, s"] = ours = seconds(lambda: examine_files([path]))
        result["check / peer"] = round(ours / peer, 2)
        result["peak memory, MB"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
        shares = {"train": 0.7, "val": 0.2, "test": 0.1}
        result["split without looking at pixels, s"] = seconds(
            lambda: split_file(path, fractions=shares, duplicates="off", out=Path(scratch) / "split")
        )
        result["search for likes, s"] = seconds(lambda: search(args.images))
        few = make(Path(scratch) / "few", args.decode_images, args.objects)
        paths = sorted((few.parent / "images").iterdir())
        result["decoded images"] = args.decode_images
        result["peer: decode, s"] = peer = seconds(lambda: decode(paths))
        result["check --decode, s"] = ours = seconds(lambda: examine_files([few], decode=True))
        result["check --decode / peer"] = round(ours / peer, 2)
        result["split with duplicates, s"] = seconds(lambda: split_file(few, fractions=shares))
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
