"""One object an image from any COCO file: the `dominant` one (homework 5) or the `largest` one (the VOC post).

    dominant   images with exactly one object whose area reaches `min_area`; smaller ones beside it do not matter.
               The homework asks for 200 x 200 pixels in COCO's 640 x 480: 13 % of the image. Its code counts each
               class for itself, so that a bus and a pizza in one image both pass; here all classes count together
    largest    every image with an object: the one with the largest box

Pictures are resized to size x size, boxes with them (x and y each by its own factor). Crowds never count.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document import coco_file
from label_tools.pictures import open_image
from label_tools.pictures.find_image import refuse_links_out
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.single_object.data.samples import Object, Samples

SELECTIONS = ("dominant", "largest")


@dataclass(frozen=True)
class Selection:
    """How one object is chosen. min_area: a share of the image, or pixels of the original image when 1 or more."""

    kind: str = "dominant"
    size: int = 256
    min_area: float = 0.13
    classes: tuple[str, ...] = ()  # only these; empty: all of the file
    keep_empty: bool = False  # keep images without an object, for networks with a presence output

    def __post_init__(self) -> None:
        if self.kind not in SELECTIONS:
            raise InputError(f"--select {self.kind}: needs {' or '.join(SELECTIONS)}")
        if not 16 <= self.size <= 2048:
            raise InputError(f"--size {self.size}: needs 16 to 2048 pixels")
        if not self.min_area > 0:
            raise InputError(f"--min-area {self.min_area}: needs a share under 1, or pixels")


def read(annotations: Path, selection: Selection) -> Samples:
    """Samples of a COCO file. Raises InputError when nothing is left; `left_out` counts the images not taken."""
    document = coco_file.read(annotations, sizes=open_image.sizes_below)
    return choose(document, coco_file.image_root(document, annotations), selection, str(annotations))


def choose(document: coco_file.Document, root: Path, selection: Selection, name: str) -> Samples:
    """The same from a document in memory, `file_name` starting from `root`."""
    refuse_links_out(root, (image["file_name"] for image in document["images"]), name)
    opening = coco_file.opening(document, name)
    wanted = _wanted(document, selection.classes, name)
    classes = tuple(wanted.values())
    label_of = {category_id: label for label, category_id in enumerate(wanted)}
    by_image: dict[int, list[dict]] = {}
    for annotation in document["annotations"]:
        if not annotation["iscrowd"] and annotation["category_id"] in wanted:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    left_out: Counter = Counter()
    files: list[str] = []
    pixels: list[np.ndarray] = []
    objects: list[Object] = []
    for image in sorted(document["images"], key=lambda image: image["file_name"]):
        chosen, reason = pick(by_image.get(image["id"], []), image, selection)
        if chosen is None and not (selection.keep_empty and reason == "without an object"):
            left_out[reason] += 1
            continue
        if chosen is not None:
            objects.append((len(files), label_of[chosen["category_id"]], scaled(chosen["bbox"], image, selection.size)))
        if not coco_file.is_inside(image["file_name"]):
            raise InputError(f'{name}, image {image["id"]}: file_name "{image["file_name"]}" leads out of the folder')
        pixels.append(square(root / image["file_name"], image, selection.size, opening))
        files.append(image["file_name"])
    if not objects:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        found = found or (f"{counted(len(files), 'image')} without any" if files else "no images")
        way = "; try --select largest or a smaller --min-area" if selection.kind == "dominant" else ""
        raise InputError(f"{name}: no image has a {selection.kind} object ({found}){way}")
    about = f"{selection.kind} of {Path(name).name}"
    return Samples.of(about, classes, np.stack(pixels), objects, files=tuple(files), left_out=left_out)


def pick(annotations: list[dict], image: dict, selection: Selection) -> tuple[dict | None, str]:
    """-> (the chosen annotation, ""), or (None, why this image has none)."""
    if not annotations:
        return None, "without an object"
    if selection.kind == "largest":
        return max(annotations, key=lambda a: (a["bbox"][2] * a["bbox"][3], -a["id"])), ""
    least = selection.min_area
    if least < 1:
        least *= image["width"] * image["height"]
    large = [a for a in annotations if a["area"] >= least]
    if len(large) == 1:
        return large[0], ""
    return None, "with several dominant objects" if large else "without a dominant object"


def scaled(bbox: Sequence[float], image: dict, size: int) -> list[float]:
    """COCO bbox in the image's pixels -> XYXY in size x size."""
    x, y, width, height = bbox
    across, down = size / image["width"], size / image["height"]
    corners = (x * across, y * down, (x + width) * across, (y + height) * down)
    return [min(max(v, 0.0), float(size)) for v in corners]


def square(path: Path, image: dict, size: int, opening: Mapping[str, Any]) -> np.ndarray:
    """The picture as [3,size,size] uint8, opened by `opening`; refused when not as large as the document says."""
    picture = open_image.open_image(path, **opening)
    check_size(picture.size, image, path)
    resized = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def check_size(size: tuple[int, int], image: dict, path: Path) -> None:
    """Refuse a picture whose size differs from its labels': its boxes would be misplaced."""
    if size != (image["width"], image["height"]):
        raise InputError(
            f"{path}: is {size[0]} x {size[1]} pixels, its labels say {image['width']} x {image['height']}"
        )


def _wanted(document: coco_file.Document, names: tuple[str, ...], where: str) -> dict[int, str]:
    """{category id: name} of the classes asked for, in the order of their ids."""
    known = {c["id"]: c["name"] for c in sorted(document["categories"], key=lambda c: c["id"])}
    missing = set(names) - set(known.values())
    if missing:
        raise InputError(f"{where}: has no class {', '.join(sorted(missing))}; it has {', '.join(known.values())}")
    return {i: name for i, name in known.items() if not names or name in names}
