"""Objects painted on their picture: masks and polygons filled and outlined, boxes, class names that can be read.

Everything is painted at the size that is looked at: coordinates are scaled, lines and letters are not, so a
thumbnail is as legible as the full picture. Lines are drawn on a canvas of twice the size and then averaged,
because Pillow's own are jagged. Every line has a dark casing, so it shows on any background.
"""

from __future__ import annotations

import colorsys
import importlib.util
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from label_tools.document.coco import is_ignore_region
from label_tools.shapes import rle

Colour = tuple[int, int, int]

# Twelve that are told apart at a glance, on photographs and by most colour-blind people in pairs.
_FIRST: tuple[Colour, ...] = (
    (255, 70, 70),
    (0, 170, 255),
    (255, 200, 0),
    (50, 205, 90),
    (200, 90, 255),
    (255, 130, 30),
    (0, 220, 200),
    (255, 120, 190),
    (170, 230, 40),
    (95, 110, 255),
    (190, 120, 70),
    (235, 235, 235),
)
IGNORED: Colour = (150, 150, 150)
FILL, BOX_FILL = 0.38, 0.10  # opacity of a mask, and of an object that is only a box
_FINE = 2  # the canvas is this many times larger than the picture


def palette(count: int) -> list[Colour]:
    """`count` colours, the first ones most distinct; the n-th never changes when classes are added."""
    colours = list(_FIRST[:count])
    for index in range(len(_FIRST), count):
        hue = index * 0.618033988749895 % 1  # golden ratio: the next hue falls into the widest gap
        saturation, value = ((0.75, 1.0), (0.55, 0.8), (0.9, 0.65))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colours.append((round(255 * red), round(255 * green), round(255 * blue)))
    return colours


@lru_cache(maxsize=32)
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """DejaVu Sans as matplotlib brings it (Latin, Greek, Cyrillic, ...), else the small one inside Pillow."""
    spec = importlib.util.find_spec("matplotlib")  # found, not imported: that takes a second
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' * bold}.ttf"
        if path.is_file():
            return ImageFont.truetype(str(path), size)
    return ImageFont.load_default(size)


def paint(
    image: Image.Image,
    annotations: Sequence[dict],
    names: Mapping[int, str],
    colours: Mapping[int, Colour],
    *,
    scale: float = 1.0,
    labels: bool = True,
    ids: bool = False,
) -> Image.Image:
    """A new RGB picture, `scale` times the size of `image`, with its annotations (COCO dicts) painted on it.

    names and colours: by category id. labels: write class names. ids: write annotation ids beside them.
    Crowds and ignore regions (iscrowd) are grey.
    """
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    picture = image.convert("RGB")
    if (width, height) != image.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    line = max(2.0, min(4.0, max(width, height) / 300))
    annotations = _once(annotations)
    # large objects first, so that small ones stay visible on top of them
    for annotation in sorted(annotations, key=lambda a: -a["bbox"][2] * a["bbox"][3]):
        colour = IGNORED if annotation.get("iscrowd") else colours[annotation["category_id"]]
        _paint_object(picture, annotation, colour, width / image.width, height / image.height, line)
    if labels or ids:
        _write_labels(picture, annotations, names, colours, width / image.width, labels, ids)
    return picture


def _once(annotations: Sequence[dict]) -> list[dict]:
    """An ignore region stands in a COCO file once per class; it is painted once."""
    kept, seen = [], set()
    for annotation in annotations:
        if is_ignore_region(annotation):
            key = repr((annotation["bbox"], annotation.get("segmentation")))
            if key in seen:
                continue
            seen.add(key)
        kept.append(annotation)
    return kept


def _paint_object(picture: Image.Image, annotation: dict, colour: Colour, sx: float, sy: float, line: float) -> None:
    x, y, w, h = annotation["bbox"]
    pad = int(np.ceil(line)) + 2
    left, top = max(0, int(x * sx) - pad), max(0, int(y * sy) - pad)
    right = min(picture.width, int(np.ceil((x + w) * sx)) + pad)
    bottom = min(picture.height, int(np.ceil((y + h) * sy)) + pad)
    if right <= left or bottom <= top:
        return
    fine = ((right - left) * _FINE, (bottom - top) * _FINE)
    shift = (left, top, sx * _FINE, sy * _FINE)
    mask = _mask(annotation, picture.size, fine, shift)
    box = Image.new("L", fine, 0)
    # Pillow's rectangles reach to their last pixel, ours to the edge behind it
    x1, y1, x2, y2 = (round(v) for v in _fine_points([x, y, x + w, y + h], left, top, sx, sy))
    corners = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
    pen = round(line * _FINE)
    draw = ImageDraw.Draw(box)
    if mask is None:
        draw.rectangle(corners, fill=255)
        layers = _ring(box, pen, BOX_FILL)
    else:
        draw.rectangle(corners, outline=150, width=_FINE)
        layers = [*_ring(mask, pen, FILL), (colour, box)]
    part = picture.crop((left, top, right, bottom))
    for paint_colour, layer in layers:
        part.paste(paint_colour or colour, (0, 0), layer.reduce(_FINE))
    picture.paste(part, (left, top))


def _ring(mask: Image.Image, pen: int, fill: float) -> list[tuple[Colour | None, Image.Image]]:
    """The layers of a filled shape: its inside, a dark casing around the outline, the outline in its colour."""
    pixels = np.asarray(mask)
    inner, outer = _spread(pixels, -(pen // 2)), _spread(pixels, pen // 2)
    casing, core = _spread(outer, 1), _spread(inner, -1)
    return [
        (None, Image.fromarray((pixels * np.float32(fill)).astype(np.uint8))),
        ((0, 0, 0), Image.fromarray(((casing - core) * np.float32(0.55)).astype(np.uint8))),
        (None, Image.fromarray(outer - inner)),
    ]


def _spread(pixels: np.ndarray, reach: int) -> np.ndarray:
    """Each pixel's maximum over the square of side 2 * reach + 1 around it; with a negative reach its minimum.

    Beyond the edge all is 0, so that a shape that ends with the picture has an outline there, too. One axis after
    the other, by shifted copies: twenty times as fast as a rank filter.
    """
    choose = np.maximum if reach > 0 else np.minimum
    for _ in range(2):
        pixels = pixels.T
        padded = np.zeros((pixels.shape[0] + 2 * abs(reach), pixels.shape[1]), dtype=pixels.dtype)
        padded[abs(reach) : abs(reach) + len(pixels)] = pixels
        pixels = padded[: len(pixels)].copy()
        for shift in range(1, 2 * abs(reach) + 1):
            choose(pixels, padded[shift : shift + len(pixels)], out=pixels)
    return pixels


def _mask(annotation: dict, size: tuple[int, int], fine: tuple[int, int], shift: tuple) -> Image.Image | None:
    """The object's pixels on the fine canvas (0 or 255), or None when all that is known is its box."""
    left, top, fx, fy = shift
    segmentation = annotation.get("segmentation")
    if isinstance(segmentation, dict):
        height, width = segmentation["size"]
        pixels = rle.decode(rle.to_runs(segmentation), height, width)
        whole = Image.fromarray((np.asarray(pixels) > 0).astype(np.uint8) * 255)
        region = (left * _FINE / fx, top * _FINE / fy)
        box = (*region, region[0] + fine[0] / fx, region[1] + fine[1] / fy)
        # the region may reach a fraction of a pixel over the edge, which resize(box=) does not take
        box = (box[0], box[1], min(box[2], width), min(box[3], height))
        return whole.resize(fine, Image.Resampling.BILINEAR, box=box).point(lambda v: 255 * (v > 127))
    polygons = [polygon for polygon in segmentation or () if not _is_box(polygon, annotation["bbox"])]
    if not polygons:
        return None
    mask = Image.new("L", fine, 0)
    draw = ImageDraw.Draw(mask)
    for polygon in polygons:
        draw.polygon(_fine_points(polygon, left, top, fx / _FINE, fy / _FINE), fill=255)
    # Pillow fills to the last point, one row and column too many: a pixel counts when all its four corners are in
    corners = np.pad(np.asarray(mask), ((0, 1), (0, 1)), mode="edge")
    rows = np.minimum(corners[:-1], corners[1:])
    return Image.fromarray(np.minimum(rows[:, :-1], rows[:, 1:]))


def _is_box(polygon: Sequence[float], bbox: Sequence[float]) -> bool:
    """Whether a polygon is nothing but the four corners of the box."""
    x, y, w, h = bbox
    corners = {(x, y), (x + w, y), (x + w, y + h), (x, y + h)}
    points = set(zip(polygon[0::2], polygon[1::2]))
    return len(polygon) == 8 and all(
        any(abs(a - c) < 1e-6 and abs(b - d) < 1e-6 for c, d in corners) for a, b in points
    )


def _fine_points(flat: Sequence[float], left: int, top: int, sx: float, sy: float) -> list[float]:
    return [(v * (sy if i % 2 else sx) - (top if i % 2 else left)) * _FINE for i, v in enumerate(flat)]


def _write_labels(
    picture: Image.Image,
    annotations: Sequence[dict],
    names: Mapping[int, str],
    colours: Mapping[int, Colour],
    scale: float,
    labels: bool,
    ids: bool,
) -> None:
    size = round(max(10, min(26, max(picture.size) / 48)))
    letters, draw = font(size, bold=True), ImageDraw.Draw(picture)
    taken: list[tuple[float, float, float, float]] = []
    for annotation in sorted(annotations, key=lambda a: (a["bbox"][1], a["bbox"][0])):
        crowd = annotation.get("iscrowd")
        text = names[annotation["category_id"]] + " (crowd)" * bool(crowd)
        text = ("ignored" if is_ignore_region(annotation) else text) if labels else ""
        text = shorten(f"{text} {annotation['id']}".strip() if ids else text, letters, picture.width - 8)
        colour = IGNORED if crowd else colours[annotation["category_id"]]
        chip = (letters.getlength(text) + 0.6 * size, 1.35 * size)
        x, y = _free_place([v * scale for v in annotation["bbox"]], chip, picture.size, taken)
        taken.append((x, y, x + chip[0], y + chip[1]))
        draw.rounded_rectangle(taken[-1], radius=size / 4, fill=colour, outline=(0, 0, 0))
        draw.text((x + chip[0] / 2, y + chip[1] / 2), text, fill=ink(colour), font=letters, anchor="mm")


def _free_place(
    bbox: Sequence[float],
    chip: tuple[float, float],
    size: tuple[int, int],
    taken: Sequence[tuple[float, float, float, float]],
) -> tuple[float, float]:
    """Where a label is inside the picture and covers no other: above, inside, below its box; else above anyway."""
    x, y, w, h = bbox
    wide, high = chip
    places = [(x, y - high), (x + w - wide, y - high), (x, y), (x + w - wide, y), (x, y + h), (x + w - wide, y + h)]
    places += [(x, y + k * high) for k in range(1, 6)] + [(x, y - k * high) for k in range(2, 5)]
    clamped = [
        (min(max(a, 0), max(size[0] - wide - 1, 0)), min(max(b, 0), max(size[1] - high - 1, 0))) for a, b in places
    ]
    for a, b in clamped:
        if all(a >= r or a + wide <= p or b >= s or b + high <= q for p, q, r, s in taken):
            return a, b
    return clamped[0]


def ink(colour: Colour) -> Colour:
    """Black or white, whichever is easier to read on a colour (ITU-R BT.601 brightness)."""
    return (0, 0, 0) if 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140 else (255, 255, 255)


def shorten(text: str, letters: ImageFont.FreeTypeFont | ImageFont.ImageFont, width: float) -> str:
    """`text` without unprintable characters, its middle replaced by ... until it is at most `width` pixels wide."""
    text = "".join(c if c.isprintable() else "?" for c in text)[:300]
    if letters.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if letters.getlength(short) <= width:
            return short
    return "…"
