"""How many objects, how large, how long, in pixels of the file and in those that the model will see.

size = sqrt(width x height), aspect ratio = height / width. The size classes are COCO's: small below 32, large from
96 pixels, by box.
"""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from pathlib import Path

import numpy as np

from label_tools.files.marked_folders import one_file
from label_tools.readers.open_labels import Source

SMALL, LARGE = 32.0, 96.0  # COCO's area limits 32^2 and 96^2, as sizes
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
KEYS = ("min", "q05", "q25", "median", "q75", "q95", "max")


@cache  # most images have one of a few sizes
def model_scale(width: int, height: int, min_size: int, max_size: int) -> tuple[float, float]:
    """Factors (x, y) by which torchvision's transform enlarges an image of this size before the network.

    >>> model_scale(400, 300, 600, 1000)
    (2.0, 2.0)
    """
    factor = min(min_size / min(width, height), max_size / max(width, height))
    # the transform rounds the new sides down and moves the boxes by the sides' true ratios
    return max(1, int(width * factor)) / width, max(1, int(height * factor)) / height


def measure(document: dict, min_size: int = 800, max_size: int = 1333) -> dict[str, np.ndarray]:
    """Arrays over the objects [N], ignore regions left out: category, image (ids), size, model_size,
    aspect_ratio, x and y of the centre as fractions of the image; and objects_per_image [images]."""
    sizes = [(image["width"], image["height"]) for image in document["images"]]
    scales = [model_scale(*size, min_size, max_size) for size in sizes]
    ids = np.array([image["id"] for image in document["images"]], dtype=np.int64)
    order = np.argsort(ids)
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    box = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4)
    image = np.array([a["image_id"] for a in objects], dtype=np.int64)
    row = order[np.searchsorted(ids, image, sorter=order)]  # of its image
    scale, whole = np.array(scales).reshape(-1, 2), np.array(sizes, dtype=np.int64).reshape(-1, 2)
    return {
        "category": np.array([a["category_id"] for a in objects], dtype=np.int64),
        "image": image,
        "size": np.sqrt(box[:, 2] * box[:, 3]),
        "model_size": np.sqrt(box[:, 2] * scale[row, 0] * box[:, 3] * scale[row, 1]),
        "aspect_ratio": box[:, 3] / box[:, 2],
        "x": (box[:, 0] + box[:, 2] / 2) / whole[row, 0],
        "y": (box[:, 1] + box[:, 3] / 2) / whole[row, 1],
        "objects_per_image": np.bincount(row, minlength=len(ids)),
    }


def summarise(source: Source, boxes: dict[str, np.ndarray], min_size: int, max_size: int) -> dict:
    """The numbers behind table and picture, as plain data."""
    document = source.document
    per_image = boxes["objects_per_image"]
    classes = sorted(document["categories"], key=lambda category: category["id"])
    crowd = sum(bool(a["iscrowd"]) for a in document["annotations"])
    return {
        "source": source.name,
        "images": len(per_image),
        "images_without_objects": int((per_image == 0).sum()),
        "ignore_regions": crowd,
        "most_objects_in_an_image": int(per_image.max(initial=0)),
        "min_size": min_size,
        "max_size": max_size,
        "image_width": _quantiles(np.array([i["width"] for i in document["images"]])),
        "image_height": _quantiles(np.array([i["height"] for i in document["images"]])),
        "all": _group(boxes, np.ones(len(boxes["size"]), dtype=bool)),
        "classes": {c["name"]: _group(boxes, boxes["category"] == c["id"]) for c in classes},
    }


def _group(boxes: dict[str, np.ndarray], chosen: np.ndarray) -> dict:
    size, model_size = boxes["size"][chosen], boxes["model_size"][chosen]
    return {
        "objects": int(chosen.sum()),
        "images": len(np.unique(boxes["image"][chosen])),
        "size": _quantiles(size),
        "model_size": _quantiles(model_size),
        "aspect_ratio": _quantiles(boxes["aspect_ratio"][chosen]),
        **_size_classes("", size),
        **_size_classes("model_", model_size),
    }


def _size_classes(prefix: str, size: np.ndarray) -> dict[str, int]:
    small, large = int((size < SMALL).sum()), int((size >= LARGE).sum())
    return {f"{prefix}small": small, f"{prefix}medium": len(size) - small - large, f"{prefix}large": large}


def _quantiles(values: np.ndarray) -> dict[str, float] | None:
    if not len(values):
        return None
    return {key: round(float(value), 4) for key, value in zip(KEYS, np.quantile(values, QUANTILES))}


def save(name: str, boxes: dict[str, np.ndarray], numbers: dict, out: Path) -> None:
    """Write the picture `out` (.png, .svg or .pdf) and its numbers beside it as JSON."""
    from label_tools.pictures.stats_picture import draw

    buffer = BytesIO()
    draw(name, boxes, numbers, buffer, out.suffix[1:].lower())
    with one_file(out, "stats") as made:
        made.write_bytes(buffer.getvalue())
        made.with_suffix(".json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
