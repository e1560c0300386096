"""Paint objects on their picture: masks and polygons filled and outlined, boxes, readable class names.

Everything is painted at the size of display: coordinates are scaled, lines and letters are not, so a
thumbnail is as legible as the full picture. Lines are drawn on a canvas of twice the size and then averaged,
because Pillow's own are jagged. Every line has a dark casing, so it shows on any background.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw

from label_tools.document.coco_file import ignore_regions_once, is_ignore_region
from label_tools.pictures.fonts import class_texts
from label_tools.pictures.name_tags import Tag, with_legend, write_tags
from label_tools.pictures.palette import IGNORED, Colour, class_colour
from label_tools.shapes import rle

FILL, BOX_FILL = 0.38, 0.10  # opacity of a mask, and of an object that is only a box
_CASING: Colour = (25, 25, 25)
_FINE = 2  # the canvas is this many times larger than the picture


def paint(
    image: Image.Image,
    annotations: Sequence[dict],
    names: Mapping[int, str],
    colours: Mapping[int, Colour] | None = None,
    *,
    scale: float = 1.0,
    labels: bool = True,
    ids: bool = False,
    legend: bool = True,
) -> Image.Image:
    """A new RGB picture, `scale` times the size of `image`, with its annotations (COCO dicts) painted on it.

    An annotation with a `score` is a detection, and the score is written. names and colours: by category id; colours
    default to the palette's. labels: write class names. ids: write annotation ids beside them. legend: where names do
    not fit without covering objects, add a strip below the picture. Crowds and ignore regions (iscrowd) are grey.
    """
    colours = colours if colours is not None else {number: class_colour(number) for number in names}
    annotations = ignore_regions_once(annotations)
    shades = [IGNORED if a.get("iscrowd") else colours[a["category_id"]] for a in annotations]
    picture = paint_shapes(image, annotations, shades, scale)
    if not (labels or ids):
        return picture
    texts = class_texts(names)
    sx, sy = picture.width / image.width, picture.height / image.height
    tags = [_tag(a, texts, shade, sx, sy, labels, ids) for a, shade in zip(annotations, shades, strict=True)]
    if write_tags(picture, tags) or not (labels and legend):
        return picture
    return with_legend(picture, list(dict.fromkeys((tag.kind, tag.colour) for tag in tags)))


def _tag(
    annotation: dict, texts: Mapping[int, str], colour: Colour, sx: float, sy: float, labels: bool, ids: bool
) -> Tag:
    x, y, w, h = annotation["bbox"]
    kind = texts[annotation["category_id"]] + " (crowd)" * bool(annotation.get("iscrowd"))
    kind = "ignored" if is_ignore_region(annotation) else kind
    score = f"{annotation['score']:.2f}" if "score" in annotation else ""
    short = " ".join((score, str(annotation["id"]) if ids else "")).strip()
    text = f"{kind if labels else ''} {short}".strip()
    return Tag((x * sx, y * sy, (x + w) * sx, (y + h) * sy), text, colour, short, kind)


def paint_shapes(
    image: Image.Image, annotations: Sequence[dict], colours: Sequence[Colour], scale: float = 1.0
) -> Image.Image:
    """A new RGB picture, `scale` times the size of `image`, with boxes and masks, each in its colour, and no text."""
    width, height = max(1, round(image.width * scale)), max(1, round(image.height * scale))
    picture = image.convert("RGB")
    if (width, height) != image.size:
        picture = picture.resize((width, height), Image.Resampling.LANCZOS)
    elif picture is image:
        picture = image.copy()
    line = max(2.0, min(4.0, max(width, height) / 300))
    # large objects first, so that small ones stay visible on top of them
    for k in sorted(range(len(annotations)), key=lambda k: -annotations[k]["bbox"][2] * annotations[k]["bbox"][3]):
        _paint_object(picture, annotations[k], colours[k], width / image.width, height / image.height, line)
    return picture


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
    # Pillow's rectangles reach to their last pixel, ours to the edge behind it
    x1, y1, x2, y2 = (round(v) for v in _fine_points([x, y, x + w, y + h], left, top, sx, sy))
    corners = (x1, y1, max(x1, x2 - 1), max(y1, y2 - 1))
    mask = _mask(annotation, fine, shift)
    if mask is None:
        _paint_box(picture, (left, top, right, bottom), corners, colour, line)
        return
    box = Image.new("L", fine, 0)
    ImageDraw.Draw(box).rectangle(corners, outline=150, width=_FINE)
    part = picture.crop((left, top, right, bottom))
    for paint_colour, layer in [*_ring(mask, round(line * _FINE)), (colour, box)]:
        part.paste(paint_colour or colour, (0, 0), layer.reduce(_FINE))
    picture.paste(part, (left, top))


def _paint_box(picture: Image.Image, region: tuple, corners: tuple, colour: Colour, line: float) -> None:
    """Paint an axis-aligned box without the fine canvas: a photograph with a hundred takes under a second.

    corners: first and last pixel on the fine canvas of `region`.
    """
    part = picture.crop(region)
    x1, y1 = corners[0] // _FINE, corners[1] // _FINE
    x2, y2 = max(x1, corners[2] // _FINE), max(y1, corners[3] // _FINE)
    # an edge of the picture keeps the whole line
    x1, y1 = max(x1, -region[0], 0), max(y1, -region[1], 0)
    inside = part.crop((x1, y1, x2 + 1, y2 + 1))
    part.paste(Image.blend(inside, Image.new("RGB", inside.size, colour), BOX_FILL), (x1, y1))
    draw, pen = ImageDraw.Draw(part), round(line)
    reach = pen // 2
    outer = (x1 - reach, y1 - reach, x2 + reach, y2 + reach)
    outer = (max(outer[0], 0), max(outer[1], 0), min(outer[2], part.width - 1), min(outer[3], part.height - 1))
    inner = (outer[0] + pen, outer[1] + pen, outer[2] - pen, outer[3] - pen)
    for casing in ((outer[0] - 1, outer[1] - 1, outer[2] + 1, outer[3] + 1), inner):
        if casing[2] >= casing[0] and casing[3] >= casing[1]:
            draw.rectangle(casing, outline=_CASING)
    if outer[2] >= outer[0] and outer[3] >= outer[1]:
        draw.rectangle(outer, outline=colour, width=pen)
    picture.paste(part, region[:2])


def _ring(mask: Image.Image, pen: int) -> list[tuple[Colour | None, Image.Image]]:
    """The layers of a filled shape: its inside, a dark casing around the outline, the outline in its colour."""
    pixels = np.asarray(mask)
    inner, outer = _spread(pixels, -(pen // 2)), _spread(pixels, pen // 2)
    casing, core = _spread(outer, 1), _spread(inner, -1)
    return [
        (None, Image.fromarray((pixels * np.float32(FILL)).astype(np.uint8))),
        ((0, 0, 0), Image.fromarray(((casing - core) * np.float32(0.55)).astype(np.uint8))),
        (None, Image.fromarray(outer - inner)),
    ]


def _spread(pixels: np.ndarray, reach: int) -> np.ndarray:
    """Each pixel's maximum over the square of side 2 * reach + 1 around it; with a negative reach its minimum.

    Pixels beyond the edge count as 0, so that a shape that ends at the edge is outlined there, too. One axis after
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


def _mask(annotation: dict, fine: tuple[int, int], shift: tuple) -> Image.Image | None:
    """The object's pixels on the fine canvas (0 or 255), or None if only its box is known."""
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
