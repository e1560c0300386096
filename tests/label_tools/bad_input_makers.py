"""Small folders with one thing wrong: what the cases of `test_bad_input.py` are made of."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

W, H = 64, 48


class Case(NamedTuple):
    """code: the row of the table. make(folder) -> the command line, without --out. expect: an outcome.

    out: objects in the result beside the good one. text: must stand in the message.
    """

    code: str
    name: str
    make: Callable[[Path], list[str]]
    expect: str
    out: int = 0
    text: str = ""


def picture(path: Path, size: tuple[int, int] = (W, H), mode: str = "RGB", **save: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).convert(mode).save(path, **save)
    return path


def shape(points: Any, kind: Any = "rectangle", label: Any = "cat", **more: Any) -> dict:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}, **more}


BOX = [[5, 5], [25, 30]]
GOOD = shape(BOX)


def content(shapes: Any, image: str = "a.jpg", **top: Any) -> dict:
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": image,
        "imageData": None,
        "imageHeight": H,
        "imageWidth": W,
        **top,
    }


def good(folder: Path) -> None:
    """A pair without fault, so that the rest of a folder is not everything."""
    picture(folder / "good.jpg")
    (folder / "good.json").write_text(json.dumps(content([GOOD], "good.jpg")))


def labelme(*shapes: Any, options: tuple[str, ...] = (), **top: Any) -> Callable[[Path], list[str]]:
    """A folder with a good pair and a.jpg, whose label file holds `shapes`."""

    def make(folder: Path) -> list[str]:
        good(folder)
        picture(folder / "a.jpg")
        (folder / "a.json").write_text(json.dumps(content(list(shapes), **top)))
        return ["convert", "labelme", str(folder), *options]

    return make


def raw(data: bytes | str, name: str = "a.json") -> Callable[[Path], list[str]]:
    """A folder with a good pair, a.jpg, and a label file of exactly these bytes."""

    def make(folder: Path) -> list[str]:
        good(folder)
        picture(folder / "a.jpg")
        (folder / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return ["convert", "labelme", str(folder)]

    return make


def with_image(write: Callable[[Path], Any], name: str = "a.jpg", options: tuple[str, ...] = (), **top: Any):
    """A folder with a good pair, and a label file of one object for an image made by `write(path)`."""

    def make(folder: Path) -> list[str]:
        good(folder)
        write(folder / name)
        (folder / "a.json").write_text(json.dumps(content([GOOD], name, **top)))
        return ["convert", "labelme", str(folder), *options]

    return make


def png(array: np.ndarray) -> str:
    """A mask shape's PNG, as base64."""
    stream = io.BytesIO()
    Image.fromarray(array.astype(np.uint8)).save(stream, format="PNG")
    return base64.b64encode(stream.getvalue()).decode()


def annotation(**more: Any) -> dict:
    return {
        "id": 2,
        "image_id": 1,
        "category_id": 1,
        "bbox": [10, 10, 20, 20],
        "area": 400,
        "iscrowd": 0,
        "segmentation": [],
        **more,
    }


def without(item: dict, *keys: str) -> dict:
    return {k: v for k, v in item.items() if k not in keys}


def coco(*annotations: Any, images: list | None = None, categories: list | None = None, drop: str = ""):
    """A folder with good.jpg and a COCO file: one good annotation, then `annotations`."""

    def make(folder: Path) -> list[str]:
        picture(folder / "good.jpg")
        document = {
            "images": images or [{"id": 1, "file_name": "good.jpg", "width": W, "height": H}],
            "annotations": [annotation(id=1, bbox=[2, 2, 9, 9], area=81), *annotations],
            "categories": categories or [{"id": 1, "name": "cat"}],
        }
        document.pop(drop, None)
        (folder / "in.json").write_text(json.dumps(document))
        return ["convert", "coco", str(folder / "in.json")]

    return make


def masks(save: Callable[[Path], Any], *options: str, name: str = "a.png", mode: str = "instance", images: Any = None):
    """A folder with images/a.jpg and images/good.jpg, masks/good.png with one object and masks/NAME by `save`."""

    def make(folder: Path) -> list[str]:
        picture(folder / "images" / "good.jpg")
        (images or picture)(folder / "images" / "a.jpg")
        (folder / "masks").mkdir()
        ids = np.zeros((H, W), np.uint8)
        ids[4:20, 6:30] = 1
        Image.fromarray(ids).save(folder / "masks" / "good.png")
        save(folder / "masks" / name)
        chosen = ["--class", "cat"] if mode != "class" else []
        return ["convert", "masks", str(folder), "--mode", mode, *chosen, *options]

    return make


def ids(*blocks: tuple[int, slice, slice], dtype: Any = np.uint8, size: tuple[int, int] = (W, H), **save: Any):
    """Saves a mask of 0 with blocks of ids."""

    def write(path: Path) -> None:
        values = np.zeros((size[1], size[0]), dtype)
        for value, rows, columns in blocks:
            values[rows, columns] = value
        Image.fromarray(values).save(path, **save)

    return write


def save_coco(folder: Path, annotations: list[dict]) -> Path:
    """A COCO file of the classes cat and dog, and its one image, images/sub/a.jpg."""
    picture(folder / "images" / "sub" / "a.jpg")
    path = folder / "start.json"
    document = {
        "info": {"image_root": "images"},
        "images": [{"id": 1, "file_name": "sub/a.jpg", "width": W, "height": H}],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
    }
    path.write_text(json.dumps(document))
    return path


def encode_rle(values: np.ndarray) -> list[int]:
    """uint8 values as Label Studio's rle-pack, of runs alone."""
    sizes = (3, 4, 8, 16)  # bits of a length
    bits = [f"{len(values):032b}", f"{8 - 1:05b}", *(f"{s - 1:04b}" for s in sizes)]
    starts = np.flatnonzero(np.diff(values, prepend=np.array([-1], dtype=np.int64)))
    for start, end in zip(starts.tolist(), [*starts[1:].tolist(), len(values)]):
        while start < end:
            length = min(end - start, 1 << sizes[-1])
            k = next(k for k, s in enumerate(sizes) if length <= 1 << s)
            bits.append(f"1{k:02b}{length - 1:0{sizes[k]}b}{int(values[start]):08b}")
            start += length
    text = "".join(bits)
    text += "0" * (-len(text) % 8)
    return list(int(text, 2).to_bytes(len(text) // 8, "big"))
