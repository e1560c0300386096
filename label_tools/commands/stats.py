"""The command `stats`: how many, how large, how long, in pixels of the file and in those that the model will see.

    stats annotations.json                              a table
    stats labelme_folder --min-size 600 --max-size 1000 --out stats.png

size = sqrt(width x height), aspect ratio = height / width. The size classes are COCO's: small below 32, large from
96 pixels, by box. The model's size is that of torchvision's GeneralizedRCNNTransform: the shorter side becomes
--min-size unless the longer one would pass --max-size.
"""

from __future__ import annotations

import argparse
import json
from io import BytesIO
from pathlib import Path

import numpy as np

from label_tools.readers.sources import Source, open_source
from label_tools.text.atomic import atomic_write
from label_tools.text.errors import InputError, one_line
from label_tools.text.messages import counted

SMALL, LARGE = 32.0, 96.0  # COCO's area limits 32^2 and 96^2, as sizes
QUANTILES = (0.0, 0.05, 0.25, 0.5, 0.75, 0.95, 1.0)
KEYS = ("min", "q05", "q25", "median", "q75", "q95", "max")


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "stats",
        help="counts, box sizes and aspect ratios, as a table and a picture",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    what = "a COCO file, or a folder: its LabelMe files, else annotations.json"
    parser.add_argument("path", type=Path, metavar="PATH", help=what)
    parser.add_argument("--min-size", type=int, default=800, metavar="PX", help="default 800, as torchvision")
    parser.add_argument("--max-size", type=int, default=1333, metavar="PX", help="default 1333, as torchvision")
    parser.add_argument("--out", type=Path, metavar="FILE.png", help="the picture; its numbers go to FILE.json")
    parser.add_argument("--json", action="store_true", help="print the numbers as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    for name in ("min_size", "max_size"):
        if not 1 <= getattr(args, name) <= 100_000:
            raise InputError(f"--{name.replace('_', '-')} {getattr(args, name)}: a number of pixels above 0")
    if args.out and args.out.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise InputError(f"--out {args.out}: needs the ending .png, .svg or .pdf")
    beside = args.out.with_suffix(".json") if args.out else None
    if beside is not None and beside.exists() and args.path.is_file() and beside.samefile(args.path):
        raise InputError(f"--out {args.out}: its numbers would overwrite {args.path}; choose another name")
    source = open_source(args.path)
    boxes = measure(source.document, args.min_size, args.max_size)
    numbers = summarise(source, boxes, args.min_size, args.max_size)
    print(json.dumps(numbers, indent=1, ensure_ascii=False) if args.json else table(numbers))
    if args.out:
        from label_tools.pictures.stats_picture import draw

        buffer = BytesIO()
        draw(source.name, boxes, numbers, buffer, args.out.suffix[1:].lower())
        with atomic_write(args.out) as file:
            file.write(buffer.getvalue())
        with atomic_write(beside) as file:
            file.write((json.dumps(numbers, indent=1, ensure_ascii=False) + "\n").encode())
    return 0


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
    images = {image["id"]: image for image in document["images"]}
    scales = {i: model_scale(m["width"], m["height"], min_size, max_size) for i, m in images.items()}
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    box = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4)
    image = np.array([a["image_id"] for a in objects], dtype=np.int64)
    scale = np.array([scales[i] for i in image.tolist()], dtype=np.float64).reshape(-1, 2)
    whole = np.array([(images[i]["width"], images[i]["height"]) for i in image.tolist()]).reshape(-1, 2)
    counts = dict.fromkeys(images, 0)
    for image_id in image.tolist():
        counts[image_id] += 1
    return {
        "category": np.array([a["category_id"] for a in objects], dtype=np.int64),
        "image": image,
        "size": np.sqrt(box[:, 2] * box[:, 3]),
        "model_size": np.sqrt(box[:, 2] * scale[:, 0] * box[:, 3] * scale[:, 1]),
        "aspect_ratio": box[:, 3] / box[:, 2],
        "x": (box[:, 0] + box[:, 2] / 2) / whole[:, 0],
        "y": (box[:, 1] + box[:, 3] / 2) / whole[:, 1],
        "objects_per_image": np.array(list(counts.values()), dtype=np.int64),
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


def table(numbers: dict) -> str:
    """The numbers for a person: a row per class and one for all."""
    head = (
        "class",
        "images",
        "objects",
        "size: median",
        "5 to 95 %",
        "small",
        "medium",
        "large",
        "h/w: median",
        "5 to 95 %",
        "in the model: median",
        "5 to 95 %",
    )
    rows = [head]
    groups = {**numbers["classes"], "all": numbers["all"]} if len(numbers["classes"]) != 1 else numbers["classes"]
    for name, group in groups.items():
        cells = [one_line(name), str(group["images"]), str(group["objects"])]
        for key, digits in (("size", 0), ("aspect_ratio", 2), ("model_size", 0)):
            q = group[key]
            cells.append(f"{q['median']:.{digits}f}" if q else "-")
            cells.append(f"{q['q05']:.{digits}f} to {q['q95']:.{digits}f}" if q else "-")
            if key == "size":
                cells += [str(group["small"]), str(group["medium"]), str(group["large"])]
        rows.append(tuple(cells))
    widths = [max(map(len, column)) for column in zip(*rows)]
    lines = [
        "  ".join(
            cell.ljust(width) if k == 0 else cell.rjust(width) for k, (cell, width) in enumerate(zip(row, widths))
        )
        for row in rows
    ]
    sizes = "no image"
    if numbers["images"]:
        wide, high = numbers["image_width"], numbers["image_height"]
        smallest, largest, middle = (f"{wide[key]:.0f} x {high[key]:.0f}" for key in ("min", "max", "median"))
        sizes = f"each {middle}" if smallest == largest else f"{smallest} to {largest}, median {middle}"
    lines += [
        f"{counted(numbers['images'], 'image')} ({numbers['images_without_objects']} without objects), {sizes} pixels; "
        f"at most {counted(numbers['most_objects_in_an_image'], 'object')} in one; "
        f"{counted(numbers['ignore_regions'], 'ignore region')}",
        f"size = sqrt(width x height) in pixels; in the model: after resizing to {numbers['min_size']} "
        f"(at most {numbers['max_size']})",
    ]
    return "\n".join(lines)
