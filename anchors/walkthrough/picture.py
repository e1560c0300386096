"""The picture of the walkthrough and its boxes, stretched to 800 x 800 pixels."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

SIDE = 800
HERE = Path(__file__).parent
DEFAULT_IMAGE, DEFAULT_LABELS = HERE / "example.jpg", HERE / "example.json"
MOST_BOXES = 200


@dataclass(frozen=True)
class Picture:
    """pixels [3,800,800] float in 0..1; boxes [M,4] XYXY in those pixels; names: of each box, and of the classes."""

    pixels: Tensor
    boxes: Tensor
    names: tuple[str, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.names)))

    @property
    def labels(self) -> Tensor:
        """[M] int64, 1 for the first class: 0 is background."""
        return torch.tensor([1 + self.classes.index(name) for name in self.names], dtype=torch.int64)


def read_picture(image: str | Path | None, labels: str | Path | None) -> Picture:
    """The image with the boxes of its labels. Without labels: the JSON file of the same name beside the image.

    Without both: the lesson's own picture. ValueError for a file that is no picture, has no box, or does not fit.
    """
    if image is None and labels is None:
        image, labels = DEFAULT_IMAGE, DEFAULT_LABELS
    elif labels is None:
        labels = Path(image).with_suffix(".json")
    document = read_json(Path(labels))
    if image is None:
        image = Path(labels).parent / image_of(document, labels)
    pixels, (width, height) = read_pixels(Path(image))
    names, boxes = boxes_of(document, str(labels), (width, height))
    scale = torch.tensor([SIDE / width, SIDE / height] * 2)
    return Picture(pixels, torch.tensor(boxes, dtype=torch.float32) * scale, tuple(names))


def read_pixels(path: Path) -> tuple[Tensor, tuple[int, int]]:
    """([3,800,800] in 0..1, the file's own (width, height)), turned as its EXIF says."""
    import numpy as np
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened).convert("RGB")
    except (Image.DecompressionBombError, SyntaxError, ValueError) as error:
        raise ValueError(f"{path}: found no picture that can be read ({error})") from None
    except OSError as error:
        reason = error.strerror or "it is no picture, or cut short"
        raise ValueError(f"{path}: {reason}; needed a picture") from None
    resized = image.resize((SIDE, SIDE), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.asarray(resized).copy()).permute(2, 0, 1).float() / 255, image.size


def read_json(path: Path):
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise ValueError(f"{path}: found no JSON ({error}), needed a LabelMe file or a list of boxes") from None
    except OSError as error:
        raise ValueError(f"{path}: {error.strerror}; needed the boxes, a LabelMe file or a list") from None


def image_of(document, labels: str | Path) -> str:
    name = document.get("imagePath") if isinstance(document, dict) else None
    if not isinstance(name, str) or not name:
        raise ValueError(f"{labels}: found no imagePath, needed --image as well")
    return name.replace("\\", "/")


def boxes_of(document, file: str, size: tuple[int, int]) -> tuple[list[str], list[list[float]]]:
    """Names and boxes, cut at the picture's edges, of a LabelMe document or of [[label, x1, y1, x2, y2], ...]."""
    width, height = size
    if isinstance(document, dict):
        claimed = (document.get("imageWidth", width), document.get("imageHeight", height))
        if None not in claimed and claimed != (width, height):
            raise ValueError(f"{file}: found labels of a {claimed[0]}x{claimed[1]} picture, needed {width}x{height}")
        shapes = document.get("shapes")
        if not isinstance(shapes, list):
            raise ValueError(f"{file}: found no list of shapes, needed a LabelMe file")
        rows = [shape_box(shape, f"{file}, shapes[{i}]") for i, shape in enumerate(shapes)]
    elif isinstance(document, list):
        rows = [listed_box(row, f"{file}, entry {i}") for i, row in enumerate(document)]
    else:
        raise ValueError(f"{file}: found {type(document).__name__}, needed a LabelMe file or a list of boxes")
    names, boxes = [], []
    for name, (x1, y1, x2, y2) in rows:
        box = [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]
        if box[2] - box[0] >= 1 and box[3] - box[1] >= 1:  # points and lines have no box
            names.append(name)
            boxes.append(box)
    if not 1 <= len(boxes) <= MOST_BOXES:
        raise ValueError(f"{file}: found {len(boxes)} boxes inside the picture, needed 1 to {MOST_BOXES}")
    return names, boxes


def listed_box(row, place: str) -> tuple[str, list[float]]:
    if not isinstance(row, list) or len(row) != 5 or not isinstance(row[0], str):
        raise ValueError(f"{place}: found {row!r}, needed [label, x1, y1, x2, y2]")
    return row[0], numbers(row[1:], place)


def shape_box(shape, place: str) -> tuple[str, list[float]]:
    """The box around a LabelMe shape; a circle is given by its centre and a point of its rim."""
    points = shape.get("points") if isinstance(shape, dict) else None
    name = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(name, str) or not isinstance(points, list) or not points:
        raise ValueError(f"{place}: found {shape!r:.80}, needed a label and points")
    pairs = [numbers(point, place, 2) for point in points]
    if shape.get("shape_type") == "circle" and len(pairs) == 2:
        (x, y), rim = pairs[0], pairs[1]
        radius = math.dist((x, y), rim)
        return name, [x - radius, y - radius, x + radius, y + radius]
    xs, ys = zip(*pairs)
    return name, [min(xs), min(ys), max(xs), max(ys)]


def numbers(values, place: str, count: int = 4) -> list[float]:
    fits = isinstance(values, list) and len(values) == count
    if not fits or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise ValueError(f"{place}: found {values!r:.80}, needed {count} numbers")
    return [float(value) for value in values]
