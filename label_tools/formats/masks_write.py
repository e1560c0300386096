"""One image of a COCO document -> masks, as `formats/masks.py` reads them: objects by number, or classes by number.

A mask of up to 255 values is a palette PNG with Pascal VOC's colours (its index is the value), one of more values a
PNG of 16 bits, which can have no palette. Where objects overlap a pixel can belong to one alone: the smaller object
lies on the larger one, so that none disappears behind another that it lies on.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures.drawings import DRAWN
from label_tools.pictures.open_image import open_image
from label_tools.shapes import geometry, rle

LARGEST_8_BIT, LARGEST_16_BIT = 255, 65_535


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
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        if rle.area(runs := rle.to_runs(shape)):
            return runs
        shape = None
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


def overlay(photograph: str | os.PathLike, pixels: np.ndarray) -> bytes:
    """A JPEG of the photograph in grey with the values in their colours over it, half and half."""
    colours = voc_colours()[np.where(pixels > 0, (pixels - 1) % 255 + 1, 0)]
    grey = np.asarray(open_image(photograph).convert("L").convert("RGB"), dtype=np.uint16)
    mixed = np.where(pixels[..., None] > 0, (grey + colours) // 2, grey).astype(np.uint8)
    stream = io.BytesIO()
    Image.fromarray(mixed).save(stream, format="JPEG", quality=90, comment=DRAWN)
    return stream.getvalue()
