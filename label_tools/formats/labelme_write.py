"""Write one image of a COCO document as a LabelMe file that labelme 5 to 7 opens and that we read back unchanged."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document.coco_file import ignore_regions_once, is_ignore_region
from label_tools.formats.labelme import IGNORE_LABEL
from label_tools.shapes import rle
from label_tools.shapes.geometry import rectangle

VERSION = "5.5.0"  # of the format: the first whose keys all later ones read


def file_content(
    image: Mapping[str, Any],
    annotations: Iterable[Mapping[str, Any]],
    names: Mapping[int, str],
    image_path: str,
    flags: Mapping[str, bool] | None = None,
) -> dict[str, Any]:
    """The JSON object of a LabelMe file.

    names: category id -> label. image_path: from the file's folder to the picture, with slashes. flags: of the image.
    A box becomes a rectangle, one polygon a polygon, several polygons a group, an RLE a mask shape. A crowd region
    carries the flag `crowd`, an ignore region the label `__ignore__`; a score is kept as `score`.
    """
    shapes: list[dict] = []
    group = 0
    for annotation in ignore_regions_once(annotations):
        ignored = is_ignore_region(annotation)
        pieces = shapes_of(annotation)
        group_id = None
        if len(pieces) > 1:
            group += 1
            group_id = group
        for kind, points, mask in pieces:
            shape = {
                "label": IGNORE_LABEL if ignored else names[annotation["category_id"]],
                "points": points,
                "group_id": group_id,
                "description": "",
                "shape_type": kind,
                "flags": {"crowd": True} if annotation.get("iscrowd") and not ignored else {},
                "mask": mask,
            }
            if "score" in annotation:
                shape["score"] = annotation["score"]
            shapes.append(shape)
    return {
        "version": VERSION,
        "flags": dict(flags or {}),
        "shapes": shapes,
        "imagePath": image_path,
        "imageData": None,
        "imageHeight": image["height"],
        "imageWidth": image["width"],
    }


def shapes_of(annotation: Mapping[str, Any]) -> list[tuple[str, list[list[float]], str | None]]:
    """(shape_type, points, mask) of each piece of an annotation; a box when it has no segmentation, or no pixel."""
    segmentation = annotation.get("segmentation")
    x, y, w, h = annotation["bbox"]
    if isinstance(segmentation, dict) and rle.area(rle.to_runs(segmentation)):
        return [_mask_shape(segmentation)]
    if (
        not segmentation
        or isinstance(segmentation, dict)
        or [list(p) for p in segmentation] == [rectangle((x, y, w, h))]
    ):
        return [("rectangle", [[x, y], [x + w, y + h]], None)]
    return [("polygon", [list(p) for p in zip(flat[0::2], flat[1::2])], None) for flat in segmentation]


def _mask_shape(segmentation: dict) -> tuple[str, list[list[float]], str]:
    """A mask shape: its first and last pixel, and the pixels between as a PNG of 0 and 255."""
    crop, (x, y, w, h) = rle.crop(rle.to_runs(segmentation), *segmentation["size"])
    stream = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).save(stream, format="PNG")
    return "mask", [[x, y], [x + w - 1, y + h - 1]], base64.b64encode(stream.getvalue()).decode()


def file_bytes(content: Mapping[str, Any]) -> bytes:
    """The bytes of the file, formatted as by labelme itself."""
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode()
