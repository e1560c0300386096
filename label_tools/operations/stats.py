"""Statistics of the objects: counts, sizes, aspect ratios, in pixels of the file and of the model's input; plots."""

from __future__ import annotations

import json
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from label_tools.files.marked_folders import one_file
from label_tools.pictures.fonts import plot_class_texts, plot_families, plot_text
from label_tools.pictures.own_output import DRAWN
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.readers.open_labels import Source
from label_tools.text.messages import counted

SMALL, LARGE = 32.0, 96.0  # COCO's area limits 32^2 and 96^2, as sizes
QUANTILES = {"min": 0.0, "q05": 0.05, "q25": 0.25, "median": 0.5, "q75": 0.75, "q95": 0.95, "max": 1.0}
ANCHOR_SIZES = (32, 64, 128, 256, 512)  # torchvision's Faster R-CNN with FPN
ANCHOR_RATIOS = (0.5, 1.0, 2.0)
BARS, MARKS = PAGE_COLOURS[1], PAGE_COLOURS[0]
MOST_BARS = 30


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
    return {key: round(float(value), 4) for key, value in zip(QUANTILES, np.quantile(values, list(QUANTILES.values())))}


def save(name: str, boxes: dict[str, np.ndarray], numbers: dict, out: Path) -> None:
    """Write the picture `out` (.png, .svg or .pdf) and its numbers beside it as JSON."""
    buffer = BytesIO()
    draw(name, boxes, numbers, buffer, out.suffix[1:].lower())
    with one_file(out, "stats") as made:
        made.write_bytes(buffer.getvalue())
        made.with_suffix(".json").write_text(json.dumps(numbers, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def draw(title: str, boxes: dict[str, np.ndarray], numbers: dict, out: BinaryIO, kind: str = "png") -> None:
    """Plot the results of `measure` and `summarise` in six panels; write `out` as png, svg or pdf."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    written = plot_class_texts(dict(enumerate(numbers["classes"], start=1)))
    texts = {name: written[k] for k, name in enumerate(numbers["classes"], start=1)}
    heading = plot_text(title, "these labels")
    style: dict[Any, Any] = {"font.family": plot_families([heading, *texts.values()]), "font.size": 9}
    style |= {"axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "stats"}
    with rc_context(style):
        figure = Figure(figsize=(13, 7.6), layout="constrained")
        FigureCanvasAgg(figure)
        panels = figure.subplots(2, 3)
        every = numbers["all"]
        said = f"{counted(numbers['images'], 'image')}, {counted(every['objects'], 'object')}"
        said = f"{heading}: {said}, {counted(len(numbers['classes']), 'class', 'classes')}"
        families = plot_families([heading])  # not those of the classes: other fonts may have no bold face
        figure.suptitle(said, fontsize=13, fontfamily=families, fontweight="bold" if len(families) == 1 else "normal")
        _classes(panels[0, 0], numbers, texts)
        _sizes(panels[0, 1], boxes["size"], every, "", "Box size in the file", (32, 96))
        model = f"Box size in the model ({numbers['min_size']}, at most {numbers['max_size']})"
        _sizes(panels[0, 2], boxes["model_size"], every, "model_", model, ANCHOR_SIZES)
        _per_image(panels[1, 0], boxes["objects_per_image"])
        _ratios(panels[1, 1], boxes["aspect_ratio"])
        _places(figure, panels[1, 2], boxes["x"], boxes["y"])
        # no date and no version in the file: the same numbers give the same bytes
        clockless = {"png": {"Software": None, "Comment": DRAWN}, "svg": {"Date": None}, "pdf": {"CreationDate": None}}
        figure.savefig(out, format=kind, dpi=110, metadata=clockless[kind])


def _classes(panel, numbers: dict, texts: dict[str, str]) -> None:
    rows = sorted(((g["objects"], name) for name, g in numbers["classes"].items()), key=lambda row: (-row[0], row[1]))
    shown = rows[:MOST_BARS]
    rest = f", the {len(shown)} most frequent of {len(rows)}" if len(rows) > len(shown) else ""
    panel.set_title(f"Objects per class{rest}")
    names = [texts[name] if len(texts[name]) <= 22 else texts[name][:21] + "…" for _, name in shown]
    places = np.arange(len(shown))
    bars = panel.barh(places, [count for count, _ in shown], color=BARS)
    panel.set_yticks(places, names, fontsize=9 if len(shown) <= 15 else 6)
    panel.bar_label(bars, padding=3, fontsize=9 if len(shown) <= 15 else 6)
    panel.margins(x=0.15)
    panel.xaxis.get_major_locator().set_params(integer=True)
    # as many rows as there are classes; one or two would be walls of colour
    spare = max(0.0, 3 - len(shown)) / 2
    panel.set_ylim(len(shown) - 0.5 + spare, -0.5 - spare)


def _sizes(panel, sizes: np.ndarray, group: dict, prefix: str, title: str, marks: tuple[int, ...]) -> None:
    counts = ", ".join(f"{group[prefix + name]} {name}" for name in ("small", "medium", "large"))
    panel.set_title(f"{title}\n{counts}")
    dashed = "the anchors' sizes" if marks == ANCHOR_SIZES else "small < {}, large ≥ {}".format(*marks)
    panel.set_xlabel(f"sqrt(width × height), pixels; dashed: {dashed}")
    panel.set_ylabel("objects")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}")
    panel.hist(sizes, bins=2.0 ** np.arange(0, 13.01, 0.25), color=BARS)
    low, high = (sizes.min(), sizes.max()) if len(sizes) else (32, 96)
    panel.set_xlim(max(1, min(low / 1.5, 16)), max(high * 1.5, 256))
    for mark in marks:
        panel.axvline(mark, color=MARKS, linestyle="--", linewidth=1)


def _per_image(panel, counts: np.ndarray) -> None:
    panel.set_title("Objects per image")
    panel.set_xlabel("objects")
    panel.set_ylabel("images")
    top = int(counts.max(initial=1))
    step = max(1, -(-top // 40))
    panel.hist(counts, bins=np.arange(-0.5, top + step + 0.5, step), color=BARS, rwidth=0.9)
    panel.xaxis.get_major_locator().set_params(integer=True)
    panel.yaxis.get_major_locator().set_params(integer=True)


def _ratios(panel, ratios: np.ndarray) -> None:
    panel.set_title("Aspect ratio of the boxes")
    panel.set_xlabel("height / width; dashed: the anchors' ratios")
    panel.set_ylabel("objects")
    panel.set_xscale("log", base=2)
    panel.xaxis.set_major_formatter(lambda value, _: f"{value:g}" if value >= 1 else f"1/{1 / value:g}")
    reach = max(2.0, float(np.abs(np.log2(ratios)).max(initial=0)))
    panel.hist(ratios, bins=2.0 ** np.linspace(-reach, reach, 41), color=BARS)
    for mark in ANCHOR_RATIOS:
        panel.axvline(mark, color=MARKS, linestyle="--", linewidth=1)


def _places(figure, panel, x: np.ndarray, y: np.ndarray) -> None:
    panel.set_title("Where the boxes' centres lie")
    panel.set_xlabel("x / image width")
    panel.set_ylabel("y / image height")
    counts, _, _ = np.histogram2d(y, x, bins=20, range=((0, 1), (0, 1)))
    image = panel.imshow(counts, extent=(0, 1, 1, 0), cmap="viridis", aspect="auto", interpolation="nearest")
    bar = figure.colorbar(image, ax=panel, label="objects")
    bar.ax.yaxis.get_major_locator().set_params(integer=True)
