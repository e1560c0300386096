"""Masks, one image of ids or colours per photograph. What a value means is named, never guessed. Reading and writing.

| mode | a pixel's value is | objects |
|---|---|---|
| instance | 0: background, 1..65535: an object's id | one per id |
| class | 0: background, k: the k-th class; or a colour of a file | one per class; with components one per part |
| binary | 0: background, anything else: the object | one; with components one per part |

Values are read raw: 16 bits stay 16 bits, a palette's index is the id, whatever its colour. A mask's own pixels are
kept bit for bit as run lengths; the box reaches from the first to behind the last pixel, the area counts pixels.

A mask of up to 255 values is written as a palette PNG in Pascal VOC's colours (the index is the value), one of more
values as a 16-bit PNG, which can have no palette. A pixel belongs to one object only: where they overlap, the smaller
object covers the larger one, so that none disappears.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document.coco_file import own_shape
from label_tools.pictures.open_image import LOSSY_FORMATS, ImageError, ImageInfo, open_image, open_mask
from label_tools.pictures.own_output import DRAWN
from label_tools.shapes import geometry, rle
from label_tools.shapes.components import label_parts
from label_tools.shapes.instances import Instance, RefusedError, Remark, from_runs
from label_tools.text.errors import InputError
from label_tools.text.findings import NOTE, WARNING
from label_tools.text.rule_limits import MAX_PIXELS

MODES = ("instance", "class", "binary")
LARGEST_8_BIT, LARGEST_16_BIT = 255, 65_535
THRESHOLD = 128  # of a binary mask with grey edges
_MANY_VALUES = 16  # more values than this are looked at: ids, or the grey edges of a smoothed mask?

Color = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class MaskOptions:
    """mode: one of MODES. class_name: the class of all objects (instance, binary).

    names: class mode: value -> class. colors: class mode, RGB masks: colour -> class. void: a value that means
    "ignore" and is read as background (255 in Pascal VOC's masks). components: unconnected parts are objects
    of their own (8-connected).
    """

    mode: str
    class_name: str = ""
    names: Mapping[int, str] = field(default_factory=dict)
    colors: Mapping[Color, str] = field(default_factory=dict)
    void: int | None = None
    components: bool = False
    max_pixels: int = MAX_PIXELS


def read_mask(path: str, image: ImageInfo, options: MaskOptions, remark: Remark) -> list[Instance]:
    """The objects in the mask at `path` of a photograph with header `image`.

    Raises RefusedError when the mask as a whole cannot be used (B65, B80), InputError when the mode cannot be
    right for it (B82, B83, B84, B87): then all others would be read wrongly too.
    """
    values = _read_values(path, image, options, remark)
    if options.mode == "binary":
        ids = _binary_ids(values, path, remark)
    elif values.ndim == 3:
        ids, options = _color_ids(values, path, options)
    else:
        ids = values
    return _objects(ids, path, options, remark)


def _read_values(path: str, image: ImageInfo, options: MaskOptions, remark: Remark) -> np.ndarray:
    try:
        values, kind, mode = open_mask(path, max_pixels=options.max_pixels)
    except ImageError as error:
        raise RefusedError(error.code, error.text, "save the mask again as PNG") from error
    if kind in LOSSY_FORMATS and not (kind == "GIF" and mode in ("L", "P", "1")):
        raise InputError(f"{path}: a {kind} mask: its compression changes ids; save masks as PNG")
    height, width = values.shape[:2]
    if (width, height) == (image.width, image.height):
        return _single(values, path, options)
    if (width, height) == image.stored_size and image.orientation != 1:
        remark(WARNING, "B80", f"mask lies as the photograph did before its EXIF rotation {image.orientation}; turned")
        return _single(turn_pixels(values, image.orientation), path, options)
    text = f"mask is {width} x {height}, its image {image.width} x {image.height}"
    raise RefusedError("B80", text, "make the mask for this image; it is never resized")


def turn_pixels(values: np.ndarray, orientation: int) -> np.ndarray:
    """Pixels [H,W,...] as stored -> upright, for an EXIF orientation from 1 to 8."""
    if orientation >= 5:
        values = np.swapaxes(values, 0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return values


def _single(values: np.ndarray, path: str, options: MaskOptions) -> np.ndarray:
    """[H,W] ids, or [H,W,3] colours when they are colours and a colour file explains them."""
    if values.ndim == 3 and values.shape[2] in (2, 4):
        if (values[:, :, -1] == 255).all():
            values = values[:, :, :-1]
        else:
            raise InputError(f"{path}: a mask with transparency: what a see-through pixel means is not known")
    if values.ndim == 3 and (values == values[:, :, :1]).all() and not options.colors:
        values = values[:, :, 0]  # grey saved as RGB
    if values.ndim == 3 and not (options.mode == "class" and options.colors):
        raise InputError(f"{path}: a mask of colours; --mode class --colors FILE (lines `R G B name`) explains them")
    if values.dtype.kind == "f":
        raise InputError(f"{path}: a mask of floating point numbers; save ids as whole numbers in PNG")
    return values


def _binary_ids(values: np.ndarray, path: str, remark: Remark) -> np.ndarray:
    found = np.unique(values)
    if len(found) <= 2 and (len(found) < 2 or found[0] == 0):
        return values != 0
    if values.dtype == np.uint8 and found[0] == 0 and found[-1] == 255:
        remark(NOTE, "B83", f"binary mask with {len(found)} grey values; {THRESHOLD} and more is the object")
        return values >= THRESHOLD
    raise InputError(
        f"{path}: values {_some(found)} are not a binary mask (0 and one other); --mode instance or class?"
    )


def _some(values: Sequence | np.ndarray) -> str:
    return ", ".join(map(str, values[:8])) + " ..." * (len(values) > 8)


def _color_ids(values: np.ndarray, path: str, options: MaskOptions) -> tuple[np.ndarray, MaskOptions]:
    packed = values[:, :, 0].astype(np.int64) << 16 | values[:, :, 1].astype(np.int64) << 8 | values[:, :, 2]
    code_of = {r << 16 | g << 8 | b: name for (r, g, b), name in options.colors.items()}
    found = np.unique(packed)
    if unknown := [int(v) for v in found if int(v) not in code_of and v != 0]:
        listed = _some([f"({v >> 16} {v >> 8 & 255} {v & 255})" for v in unknown])
        raise InputError(f"{path}: colours that the colour file does not have: {listed}")
    codes = np.array(sorted(code_of), dtype=np.int64)
    ids = np.where(np.isin(packed, codes), np.searchsorted(codes, packed) + 1, 0)
    names = {i: code_of[int(code)] for i, code in enumerate(codes, start=1)}
    return ids, MaskOptions("class", names=names, void=None, components=options.components)


def _objects(ids: np.ndarray, path: str, options: MaskOptions, remark: Remark) -> list[Instance]:
    height, width = ids.shape
    columns = intervals_by_id(ids)
    found = [v for v in columns if v != 0 and v != options.void]
    _check_values(ids, found, path, options)
    objects: list[Instance] = []
    for value in found:
        starts, ends = columns[value]
        name = options.names[value] if options.mode == "class" else options.class_name
        groups = label_parts(starts, ends, height)
        if not options.components:
            if int(groups.max()) > 0 and options.mode == "instance":
                remark(NOTE, "B89", f"id {value} lies in {int(groups.max()) + 1} unconnected parts; one object")
            groups = np.zeros(len(starts), dtype=np.int64)
        for part in range(int(groups.max()) + 1):
            mine = groups == part
            runs = rle.from_intervals(starts[mine], ends[mine], height * width)
            place = f"id {value}" + (f", part {part + 1}" if options.components else "")

            def said(level: str, code: str, text: str, place: str = place) -> None:
                remark(level, code, f"{place}: {text}")

            objects.append(from_runs(name, runs, width, height, said))  # never refused: it has a pixel or more
            objects[-1].place = place
    return objects


def intervals_by_id(ids: np.ndarray) -> dict[int, tuple[np.ndarray, np.ndarray]]:
    """id -> (starts, ends) of its pixels as half-open intervals, columns first, in an image [H,W] of ids.

    One pass over the image for all ids; an interval never reaches over the end of a column.
    """
    height = len(ids)
    flat = np.ascontiguousarray(ids.T).ravel()
    new = np.empty(flat.size, dtype=bool)
    np.not_equal(flat[1:], flat[:-1], out=new[1:])
    new[::height] = True
    starts = np.flatnonzero(new)
    ends = np.append(starts[1:], flat.size)
    values = flat[starts]
    order = np.argsort(values, kind="stable")
    unique, first = np.unique(values[order], return_index=True)
    pieces = np.split(order, first[1:])
    return {int(v): (starts[piece], ends[piece]) for v, piece in zip(unique, pieces)}


def _check_values(ids: np.ndarray, found: list[int], path: str, options: MaskOptions) -> None:
    if options.mode == "class":
        if unknown := [v for v in found if v not in options.names]:
            raise InputError(
                f"{path}: values {_some(unknown)} are not classes; the labels give 1 to {len(options.names)}"
                + ("; --void 255 leaves out the border of Pascal VOC's masks" if 255 in unknown else "")
            )
        return
    if options.mode == "instance":
        if any(not 0 < v <= LARGEST_16_BIT for v in found):
            raise InputError(f"{path}: id {max(found, key=abs)} is out of range, ids reach from 1 to {LARGEST_16_BIT}")
        if found == [255]:
            raise InputError(f"{path}: 0 and 255 only is a binary mask, not ids; --mode binary")
        if len(found) > _MANY_VALUES and (smeared := smeared_values(ids, found)) > len(found) / 2:
            raise InputError(
                f"{path}: {len(found)} values, {smeared} of them strewn over edges, as smoothing or lossy compression "
                f"leaves them: {_histogram(ids)}; export the mask without anti-aliasing"
            )


def smeared_values(ids: np.ndarray, found: list[int]) -> int:
    """Count values that look like edges of a smoothed mask: no 2 x 2 block of their own, but next to another's.

    Thin and tiny objects have no such block either, but stand by themselves.
    """
    same = (ids[:-1, :-1] == ids[1:, :-1]) & (ids[:-1, :-1] == ids[:-1, 1:]) & (ids[:-1, :-1] == ids[1:, 1:])
    solid = np.unique(ids[:-1, :-1][same])
    solid = solid[solid != 0]
    inside = np.pad(np.isin(ids, solid), 1)
    near = np.zeros_like(ids, dtype=bool)
    for dy in (0, 1, 2):
        for dx in (0, 1, 2):
            near |= inside[dy : dy + ids.shape[0], dx : dx + ids.shape[1]]
    return len((set(found) - set(solid.tolist())) & set(np.unique(ids[near]).tolist()))


def _histogram(ids: np.ndarray) -> str:
    values, counts = np.unique(ids, return_counts=True)
    order = np.argsort(-counts, kind="stable")[:6]
    return ", ".join(f"{values[k]}: {counts[k]} pixels" for k in order) + (" ..." if len(values) > 6 else "")


def paint_values(
    image: Mapping[str, Any], annotations: Sequence[Mapping[str, Any]], values: Sequence[int]
) -> tuple[np.ndarray, list[int]]:
    """(int32 [H,W] of 0 and `values`, the places in `annotations` of objects of which no pixel is left)."""
    height, width = image["height"], image["width"]
    pixels = np.zeros((height, width), dtype=np.int32)
    owner = np.full((height, width), -1, dtype=np.int32)
    masks = [rle.decode(runs_of(a, height, width), height, width) for a in annotations]
    for k in sorted(range(len(masks)), key=lambda k: -int(masks[k].sum())):
        pixels[masks[k]] = values[k]
        owner[masks[k]] = k
    seen = set(np.unique(owner).tolist())
    return pixels, [k for k in range(len(masks)) if k not in seen]


def runs_of(annotation: Mapping[str, Any], height: int, width: int) -> np.ndarray:
    """The object's pixels as run lengths: of its RLE, its outlines, or, where these have no pixel, its box."""
    shape = own_shape(annotation)
    if isinstance(shape, dict):
        return rle.to_runs(shape)
    return rle.rasterize(shape or [geometry.rectangle(tuple(annotation["bbox"]))], height, width)


def png(pixels: np.ndarray, bits: int) -> bytes:
    """A PNG of the values: with 8 bits a palette image in VOC's colours, with 16 bits grey."""
    if bits == 8:
        picture = Image.fromarray(pixels.astype(np.uint8)).convert("P")
        picture.putpalette(voc_colours().ravel().tolist())
    else:
        picture = Image.fromarray(pixels.astype(np.uint16))
    stream = io.BytesIO()
    picture.save(stream, format="PNG")
    return stream.getvalue()


def voc_colours() -> np.ndarray:
    """uint8 [256,3]: Pascal VOC's colours, the bits of the value dealt out to red, green and blue, high bits first."""
    values = np.arange(256)
    colours = np.zeros((256, 3), dtype=np.uint8)
    for step in range(8):
        for channel in range(3):
            colours[:, channel] |= ((values >> (3 * step + channel) & 1) << (7 - step)).astype(np.uint8)
    return colours


def overlay(photograph: str | os.PathLike, pixels: np.ndarray, **opening: Any) -> bytes:
    """A JPEG of the photograph in grey with the values in their colours over it, half and half.

    opening: keywords of `open_image`.
    """
    colours = voc_colours()[np.where(pixels > 0, (pixels - 1) % 255 + 1, 0)]
    grey = np.asarray(open_image(photograph, **opening).convert("L").convert("RGB"), dtype=np.uint16)
    mixed = np.where(pixels[..., None] > 0, (grey + colours) // 2, grey).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mixed).save(stream, format="JPEG", quality=90, comment=DRAWN)
    return stream.getvalue()
