"""LabelMe JSON, of every version from 3 to 7, one file per image. Reading and writing.

A file as the program writes it:
    {"version": "5.5.0", "flags": {}, "imagePath": "a.jpg", "imageData": null or base64,
     "imageHeight": 480, "imageWidth": 640,
     "shapes": [{"label": "cat", "points": [[x, y], ...], "shape_type": "polygon", "group_id": null,
                 "flags": {}, "description": "", "mask": null or base64 PNG}]}

Version 3 has no shape_type (then it is a polygon) and no group_id; other keys are ignored.
Points refer to the upright picture, as shown in its window, and may lie outside the image.
What is written, labelme 5 to 7 open and `read_file` reads back unchanged.
"""

from __future__ import annotations

import base64
import binascii
import io
import json
import math
import os
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document.coco_file import ignore_regions_once, is_ignore_region, own_shape
from label_tools.document.coco_values import is_number
from label_tools.files import strict_reading
from label_tools.files.atomic_write import atomic_write
from label_tools.files.strict_reading import TextError
from label_tools.formats.image_records import ImageRecord, Tally, join_groups, new_record, read_label, without_copies
from label_tools.formats.labelme_shapes import Options, to_instance
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import ImageInfo, image_info, image_size
from label_tools.pictures.own_output import is_ours
from label_tools.shapes import rle
from label_tools.shapes.instances import Instance, RefusedError
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding

IGNORE_LABEL, BACKGROUND_LABEL = "__ignore__", "_background_"
NOT_REVIEWED, DRAFTS = "not reviewed", "drafts left out (--include-unreviewed uses them)"


def read_file(path: str, name: str, images: ImageFolder, options: Options) -> tuple[ImageRecord | None, Tally]:
    """Read one label file at `path`, called `name` in messages. No record: the file was skipped or refused.

    Never raises for the file's content: the tally reports it.
    """
    tally = Tally()
    try:
        content, encoding = strict_reading.read(Path(path).read_bytes(), name)
    except (TextError, OSError) as error:
        tally.unreadable(error, name)
        return None, tally
    if encoding != "utf-8":
        code = "B22" if encoding == "utf-8-sig" else "B23"
        tally.findings.append(Finding(code, WARNING, name, "", f"read as {encoding.upper()}; LabelMe writes UTF-8"))
    if is_ours(content):
        return None, tally
    if isinstance(content, dict) and "shapes" not in content:
        tally.skipped["JSON files that are not LabelMe's"] += 1
        tally.findings.append(Finding("B21", NOTE, name, "", 'no "shapes": not a LabelMe file, skipped'))
        return None, tally
    return _read_content(content, os.path.dirname(path), name, images, options, tally), tally


def _read_content(
    content: Any, folder: str, name: str, images: ImageFolder, options: Options, tally: Tally
) -> ImageRecord | None:
    if not isinstance(content, dict) or not isinstance(content["shapes"], list):
        what = (
            f'"shapes" is {_kind(content["shapes"])}' if isinstance(content, dict) else f"{_kind(content)} at the top"
        )
        tally.skipped["label files that cannot be read"] += 1
        tally.findings.append(Finding("B20", ERROR, name, "", f"{what}; LabelMe has an object with a list of shapes"))
        return None
    shapes = content["shapes"]
    tally.objects_in += len(shapes)
    remark = tally.remarks(name)
    try:
        _check_reviewed(content, options)
        path = _find_image(content, folder, name, images, options, remark)
        tally.refused_images.append(path)  # until all has gone well
        info = images.info(path)
        turn = _compare_sizes(content, info, remark)
        record = new_record(images, path, info, name, remark)
        tally.refused_images.clear()
    except RefusedError as error:
        draft = error.code == NOT_REVIEWED
        tally.skipped[DRAFTS if draft else "images left out"] += 1
        tally.drop(error, name, "", len(shapes), level=NOTE if draft else ERROR)
        return None
    record.instances = read_shapes(shapes, record, name, options, tally, turn)
    return record


def read_shapes(
    shapes: list, record: ImageRecord, name: str, options: Options, tally: Tally, turn: int = 1
) -> list[Instance]:
    """The instances of the list `shapes`, pieces of one group joined, exact copies left out.

    turn: the EXIF orientation by which the points still have to be turned; 1: they are upright.
    """
    width, height = record.width, record.height
    found: list[tuple[Instance, int | None]] = []
    labels_of_group: dict[int, str] = {}
    for i, shape in enumerate(shapes):

        def remark(level: str, code: str, text: str, i: int = i, shape: Any = shape) -> None:
            tally.findings.append(Finding(code, level, name, _place(i, shape), text))

        try:
            if not isinstance(shape, dict):
                raise RefusedError("B26", f"{_kind(shape)} found, needs an object")
            label = read_label(shape.get("label"), remark)
            if label == BACKGROUND_LABEL or label in options.skip_labels:
                tally.dropped[f"label {label}"] += 1
                continue
            instance = to_instance(shape, label, width, height, turn, options, remark)
            instance.place = f'shapes[{i}] "{label}"'
            if "difficult" in shape:
                instance.extra = _anylabeling(shape)
            group = shape.get("group_id")
            if label == IGNORE_LABEL or _flag(shape, "crowd") or _flag(shape, "iscrowd"):
                instance.crowd = True
            if group is not None:
                if type(group) is not int:
                    raise RefusedError("B13", f"group_id {group!r}, needs a whole number or null")
                if labels_of_group.setdefault(group, label) != label:
                    remark(WARNING, "B13", f'group {group} also holds "{labels_of_group[group]}"; kept apart')
            found.append((instance, group))
        except RefusedError as error:
            tally.drop(error, name, _place(i, shape))
    return without_copies(join_groups(found, width, height, tally), tally, name)


def _find_image(
    content: dict, folder: str, name: str, images: ImageFolder, options: Options, remark: Callable[..., None]
) -> str:
    """The picture's path; the embedded picture is written out first when there is no other and it is wanted."""
    try:
        return images.find(content.get("imagePath"), folder, remark, os.path.basename(name))
    except RefusedError as error:
        embedded = content.get("imageData")
        if not isinstance(embedded, str) or error.code not in ("B30", "B32"):
            raise
        if options.extract_to is None:
            fix = "--extract-images DIR writes out the image that the label file holds"
            raise RefusedError(error.code, error.text, fix) from error
    try:
        data = base64.b64decode(embedded)
        suffix = {"JPEG": ".jpg", "MPO": ".jpg", "TIFF": ".tif"}
        kind = image_info(data, max_pixels=images.max_pixels).format
    except (ValueError, InputError) as error:
        raise RefusedError("B27", f"imageData holds no readable image: {error}") from error
    stem = os.path.splitext(os.path.relpath(name, options.source))[0]
    target = os.path.join(options.extract_to, stem + suffix.get(kind, "." + kind.lower()))
    if os.path.exists(target):
        with open(target, "rb") as file:
            if file.read() != data:
                raise RefusedError("B28", f"{target}: exists and is another image than the embedded one")
    else:
        with atomic_write(target, durable=False) as file:
            file.write(data)
    return target


def _check_reviewed(content: dict, options: Options) -> None:
    flags = content.get("flags")
    if not options.include_unreviewed and isinstance(flags, dict) and flags.get("reviewed") is False:
        fix = "set its flag `reviewed` in labelme, or convert with --include-unreviewed"
        raise RefusedError(NOT_REVIEWED, "labelled by a model and not yet reviewed by a person", fix)


def _compare_sizes(content: dict, info: ImageInfo, remark) -> int:
    """The orientation by which the points must still be turned (1: none). Raises RefusedError (B26, B27, B28)."""
    width, height = content.get("imageWidth"), content.get("imageHeight")
    turn = 1
    for key, value in (("imageWidth", width), ("imageHeight", height)):
        if value is not None and not (type(value) is int or (type(value) is float and value.is_integer())):
            raise RefusedError("B26", f"{key} {value!r}, needs a whole number")
    if width is not None and height is not None and (width, height) != (info.width, info.height):
        if (width, height) != info.stored_size:
            text = f"says {width} x {height}, the image is {info.width} x {info.height}"
            raise RefusedError("B27", text, "label the right image again, or restore the one that was labelled")
        turn = info.orientation
        remark(WARNING, "B60", f"was labelled on the picture before its EXIF rotation {turn}; points turned upright")
    embedded = content.get("imageData")
    if embedded is not None:
        _compare_embedded(embedded, info, remark)
    return turn


def _compare_embedded(embedded: object, info: ImageInfo, remark) -> None:
    try:
        if not isinstance(embedded, str):
            raise ValueError("no text")
        size = image_size(base64.b64decode(embedded), max_pixels=2 * info.width * info.height + 1)
    except (ValueError, binascii.Error, InputError):
        remark(NOTE, "B27", "imageData holds no readable image; the file beside it is used")
        return
    if size not in ((info.width, info.height), info.stored_size):
        text = f"imageData is {size[0]} x {size[1]}, the image file {info.width} x {info.height}"
        raise RefusedError("B28", text, "restore the image that was labelled")


def _flag(shape: dict, key: str) -> bool:
    flags = shape.get("flags")
    return isinstance(flags, dict) and flags.get(key) is True


def _anylabeling(shape: dict) -> dict | None:
    """X-AnyLabeling's further facts on a shape: that it is difficult, the score of a model."""
    score = shape.get("score")
    kept: dict[str, Any] = {"difficult": 1} if shape["difficult"] is True else {}
    if is_number(score) and math.isfinite(score):
        kept["score"] = score
    return kept or None


def _place(i: int, shape: Any) -> str:
    label = shape.get("label") if isinstance(shape, dict) else None
    return f'shapes[{i}] "{label[:60]}"' if isinstance(label, str) else f"shapes[{i}]"


def _kind(value: Any) -> str:
    return {dict: "an object", list: "a list", str: "a text", type(None): "null"}.get(type(value), f"{value!r:.40}")


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
    """(shape_type, points, mask) of each piece of an annotation."""
    shape = own_shape(annotation)
    if isinstance(shape, dict):
        return [_mask_shape(shape)]
    if shape is None:
        x, y, w, h = annotation["bbox"]
        return [("rectangle", [[x, y], [x + w, y + h]], None)]
    return [("polygon", [list(p) for p in zip(flat[0::2], flat[1::2])], None) for flat in shape]


def _mask_shape(segmentation: dict) -> tuple[str, list[list[float]], str]:
    """A mask shape: its first and last pixel, and the pixels between as a PNG of 0 and 255."""
    crop, (x, y, w, h) = rle.crop(rle.to_runs(segmentation), *segmentation["size"])
    stream = io.BytesIO()
    Image.fromarray(crop.astype(np.uint8) * 255).save(stream, format="PNG")
    return "mask", [[x, y], [x + w - 1, y + h - 1]], base64.b64encode(stream.getvalue()).decode()


def file_bytes(content: Mapping[str, Any]) -> bytes:
    """The bytes of the file, formatted as by labelme itself."""
    return json.dumps(content, ensure_ascii=False, indent=2, allow_nan=False).encode()
