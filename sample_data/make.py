"""Draw the sample: python sample_data/make.py [--out FOLDER]

116 photographs labelled in LabelMe files and 44 labelled by instance masks, drawn with numpy, OpenCV and
Pillow. The same versions of these on the same kind of machine give the same bytes; the committed files are
the truth. For endless other pictures: `from sample_data.make import scene`.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image

if __package__ in (None, ""):  # started as a file: the folder above holds the package
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from sample_data.labels import instance_masks, labelme
from sample_data.scene import LABELS, NUMBER_OF_PARTS, scene

__all__ = ["LABELS", "scene"]

SEED = 20261121
MADE_WITH = {"numpy": "2.4.6", "cv2": "5.0.0", "PIL": "13.0.0"}  # the committed files, on Linux x86-64
IN_LABELME, IN_MASKS = 116, 44
SIZES = ((224, 224), (256, 192), (192, 256), (240, 200), (200, 240), (256, 224))  # width, height
EMPTY = {7, 22, 35, 48, 61, 74, 87, 98, 110, 121, 132, 143, 154}  # only clutter on the bench
EMPTY_MASK_LABEL = "hex_nut"  # the folder that holds the all-zero mask of an image without parts
QUALITY = 80
PALETTE = [0, 0, 0, 230, 60, 50, 60, 180, 75, 255, 225, 25, 0, 130, 200, 245, 130, 48, 145, 30, 180]


def photograph(number: int) -> tuple[Image.Image, list]:
    """Image `number` (1 to 160) of the sample and its parts, as `scene` returns them."""
    rng = np.random.default_rng([SEED, number])
    size = SIZES[rng.integers(len(SIZES))]
    chances = np.array(NUMBER_OF_PARTS[1:])
    count = 0 if number in EMPTY else 1 + int(rng.choice(len(chances), p=chances / chances.sum()))
    return scene(rng, size, count)


def files(number: int) -> dict[str, bytes]:
    """Path in the sample -> content, of image `number` and its labels."""
    image, parts = photograph(number)
    name = f"bench_{number:03d}"
    if number <= IN_LABELME:
        document = labelme(np.random.default_rng([SEED, number, 1]), f"{name}.jpg", image.size, parts)
        text = json.dumps(document, indent=2) + "\n"
        return {f"labelme/{name}.jpg": encoded(image), f"labelme/{name}.json": text.encode()}
    made = {f"masks/images/{name}.jpg": encoded(image)}
    nothing = {EMPTY_MASK_LABEL: np.zeros((image.height, image.width), np.uint8)}
    for label, ids in (instance_masks(image.size, parts) or nothing).items():
        mask = Image.fromarray(ids)
        if number % 2:
            mask.putpalette(PALETTE)  # half of the files are grey, half have a palette: both are common
        made[f"masks/masks/{label}/{name}.png"] = encoded(mask)
    return made


def encoded(image: Image.Image) -> bytes:
    stream = io.BytesIO()
    if image.mode == "RGB":
        image.save(stream, "JPEG", quality=QUALITY, optimize=True)
    else:
        image.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def make(out: Path) -> Counter:
    """Write the whole sample into `out`, and remove what an older drawing left there. Returns the counts."""
    counts: Counter = Counter()
    written = set()
    (out / "labelme").mkdir(parents=True, exist_ok=True)
    write(out / "labels.txt", "".join(f"{label}\n" for label in LABELS).encode())
    for number in range(1, IN_LABELME + IN_MASKS + 1):
        for path, content in files(number).items():
            write(out / path, content)
            written.add(out / path)
            counts["bytes"] += len(content)
            counts["files " + Path(path).suffix] += 1
            if path.endswith(".json"):
                counts.update(f"{s['label']} {s['shape_type']}" for s in json.loads(content)["shapes"])
            elif path.endswith(".png"):
                with Image.open(io.BytesIO(content)) as mask:
                    counts[f"{Path(path).parent.name} in masks"] += int(np.count_nonzero(np.unique(mask)))
    for folder in ("labelme", "masks"):
        for old in set((out / folder).rglob("bench_???.*")) - written:
            old.unlink()
    return counts


def write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(path.name + ".part")
    temporary.write_bytes(content)
    os.replace(temporary, path)


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the sample data.")
    parser.add_argument("--out", type=Path, default=Path(__file__).resolve().parent, help="folder to write into")
    for name, count in sorted(make(parser.parse_args().out).items()):
        print(f"{count:8d}  {name}")


if __name__ == "__main__":
    main()
