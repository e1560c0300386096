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
    """pixels [3,800,800] float in 0..1; of each object: boxes [M,4] XYXY in those pixels, names, outlines [P,2] of x, y
    (the box's corners where the labels have no outline)."""

    pixels: Tensor
    boxes: Tensor
    names: tuple[str, ...]
    outlines: tuple[Tensor, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(sorted(set(self.names)))

    def mask(self, index: int) -> Tensor:
        """[800,800] bool: the pixels whose centre is inside the outline of an object."""
        from matplotlib.path import Path as Outline

        y, x = torch.meshgrid(torch.arange(SIDE) + 0.5, torch.arange(SIDE) + 0.5, indexing="ij")
        centres = torch.stack((x, y), dim=-1).reshape(-1, 2)
        inside = Outline(self.outlines[index].numpy()).contains_points(centres.numpy())
        return torch.from_numpy(inside).reshape(SIDE, SIDE)

    def area(self, index: int) -> float:
        """Inside the outline, in square pixels."""
        x, y = self.outlines[index].double().unbind(1)
        return abs(float((x * y.roll(-1) - x.roll(-1) * y).sum())) / 2

    @property
    def labels(self) -> Tensor:
        """[M] int64, 1 for the first class: 0 is background."""
        return torch.tensor([1 + self.classes.index(name) for name in self.names], dtype=torch.int64)


def read_picture(image: str | Path | None, labels: str | Path | None) -> Picture:
    """The image with the boxes of its labels. Without labels: the JSON file of the same name beside the image.

    Without both: the lesson's own picture. ValueError for a file that is not a picture, has no box, or does not fit.
    """
    if labels is None:
        image, labels = (DEFAULT_IMAGE, DEFAULT_LABELS) if image is None else (image, Path(image).with_suffix(".json"))
    document = read_json(Path(labels))
    if image is None:
        image = Path(labels).parent / image_of(document, labels)
    pixels, (width, height) = read_pixels(Path(image))
    names, boxes, outlines = objects_of(document, str(labels), (width, height))
    scale = torch.tensor([SIDE / width, SIDE / height] * 2)
    scaled = tuple(torch.tensor(outline) * scale[:2] for outline in outlines)
    return Picture(pixels, torch.tensor(boxes, dtype=torch.float32) * scale, tuple(names), scaled)


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
        reason = error.strerror or "it is not a picture, or it is cut short"
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


Outline = list[tuple[float, float]]


def objects_of(document, file: str, size: tuple[int, int]) -> tuple[list[str], list[list[float]], list[Outline]]:
    """Names, boxes (cut at the picture's edges), outlines of a LabelMe document or [[label, x1, y1, x2, y2], ...]."""
    width, height = size
    if isinstance(document, dict):
        claimed = (document.get("imageWidth", width), document.get("imageHeight", height))
        if None not in claimed and claimed != (width, height):
            raise ValueError(f"{file}: found labels of a {claimed[0]}x{claimed[1]} picture, needed {width}x{height}")
        shapes = document.get("shapes")
        if not isinstance(shapes, list):
            raise ValueError(f"{file}: found no list of shapes, needed a LabelMe file")
        rows = [shape_outline(shape, f"{file}, shapes[{i}]") for i, shape in enumerate(shapes)]
    elif isinstance(document, list):
        rows = [listed_outline(row, f"{file}, entry {i}") for i, row in enumerate(document)]
    else:
        raise ValueError(f"{file}: found {type(document).__name__}, needed a LabelMe file or a list of boxes")
    names, boxes, outlines = [], [], []
    for name, outline in rows:
        xs, ys = zip(*outline)
        x1, y1, x2, y2 = min(xs), min(ys), max(xs), max(ys)
        box = [min(max(x1, 0), width), min(max(y1, 0), height), min(max(x2, 0), width), min(max(y2, 0), height)]
        if box[2] - box[0] >= 1 and box[3] - box[1] >= 1:  # points and lines have no box
            names.append(name)
            boxes.append(box)
            outlines.append(outline)
    if not 1 <= len(boxes) <= MOST_BOXES:
        raise ValueError(f"{file}: found {len(boxes)} boxes inside the picture, needed 1 to {MOST_BOXES}")
    return names, boxes, outlines


def listed_outline(row, place: str) -> tuple[str, Outline]:
    if not isinstance(row, list) or len(row) != 5 or not isinstance(row[0], str):
        raise ValueError(f"{place}: found {row!r}, needed [label, x1, y1, x2, y2]")
    x1, y1, x2, y2 = numbers(row[1:], place)
    return row[0], corners(x1, y1, x2, y2)


def corners(x1: float, y1: float, x2: float, y2: float) -> Outline:
    return [(x1, y1), (x2, y1), (x2, y2), (x1, y2)]


def shape_outline(shape, place: str) -> tuple[str, Outline]:
    """The outline of a LabelMe shape; a circle is given by its centre and a point of its rim."""
    points = shape.get("points") if isinstance(shape, dict) else None
    name = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(name, str) or not isinstance(points, list) or not points:
        raise ValueError(f"{place}: found {shape!r:.80}, needed a label and points")
    pairs = [numbers(point, place, 2) for point in points]
    if shape.get("shape_type") == "circle" and len(pairs) == 2:
        (x, y), rim = pairs[0], pairs[1]
        radius = math.dist((x, y), rim)
        turns = [(math.cos(k * math.pi / 32), math.sin(k * math.pi / 32)) for k in range(64)]
        return name, [(x + radius * u, y + radius * v) for u, v in turns]
    if shape.get("shape_type") == "polygon" and len(pairs) >= 3:
        return name, [(x, y) for x, y in pairs]
    xs, ys = zip(*pairs)
    return name, corners(min(xs), min(ys), max(xs), max(ys))


def numbers(values, place: str, count: int = 4) -> list[float]:
    fits = isinstance(values, list) and len(values) == count
    if not fits or not all(type(v) in (int, float) and math.isfinite(v) for v in values):
        raise ValueError(f"{place}: found {values!r:.80}, needed {count} numbers")
    return [float(value) for value in values]
