"""What a COCO document of any maker must satisfy, and what is repaired on the way (rows B40 to B52 and B01 to B18).

`normalise` returns a new document; the one it was given is left as it was.
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Callable
from typing import Any

from label_tools.shapes import geometry, rle
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.limits import LARGEST_COORDINATE, LARGEST_FACTOR, LEAST_LEFT, LEAST_SIDE, MOST_ASPECT, SLACK
from label_tools.text.messages import counted

_LARGEST_IMAGE_SIDE = 1_000_000
Report = Callable[[str, str, str, str, str], None]  # level, code, place, text, mend


class _LeaveOutError(Exception):
    """This annotation or image cannot be used: code, text, mend."""


def normalise(document: dict[str, Any], name: str, findings: list[Finding]) -> dict[str, Any]:
    """The document in our dialect. Adds a finding for every repair (warning) and for all left out (error).

    Raises InputError for what makes the whole document ambiguous: an image, a file name, a category id or a
    category name given twice, an annotation of an unknown category, boxes that are no [x, y, w, h] in pixels.
    """

    def report(level: str, code: str, place: str, text: str, mend: str = "") -> None:
        findings.append(Finding(code, level, name, place, text, mend))

    info = document.get("info")
    images = _images(document["images"], name, report)
    categories = _categories(document["categories"], name, report)
    refuse_other_box_formats(document, images, name)
    annotations = _annotations(document["annotations"], images, categories, name, report)
    known = {
        "info": info if isinstance(info, dict) else {},
        "images": list(images.values()),
        "annotations": annotations,
        "categories": list(categories.values()),
    }
    return {**{k: v for k, v in document.items() if k not in known}, **known}


def _images(items: list, name: str, report: Report) -> dict[int, dict]:
    images: dict[int, dict] = {}
    names: dict[str, int] = {}
    for i, item in enumerate(items):
        place = f"images[{i}]"
        if not isinstance(item, dict):
            raise InputError(f"{name}, {place}: {type(item).__name__} found, needs an object")
        image_id = _whole(item.get("id"))
        if image_id is None:
            raise InputError(f"{name}, {place}: id {item.get('id')!r}, needs a whole number")
        if image_id in images or str(item.get("file_name")) in names:
            what = f"id {image_id}" if image_id in images else f'file_name "{item.get("file_name")}"'
            other = list(images).index(image_id if image_id in images else names[str(item.get("file_name"))])
            raise InputError(f"{name}, {place}: {what} is already that of images[{other}]")
        file_name = item.get("file_name")
        width, height = _whole(item.get("width")), _whole(item.get("height"))
        if not isinstance(file_name, str) or not file_name:
            raise InputError(f"{name}, {place}: file_name {file_name!r}, needs a relative path")
        if not width or not height or min(width, height) < 0 or max(width, height) > _LARGEST_IMAGE_SIDE:
            raise InputError(
                f'{name}, {place} "{file_name}": size {item.get("width")!r} x {item.get("height")!r}, '
                f"needs two whole numbers from 1 to {_LARGEST_IMAGE_SIDE}"
            )
        if "\\" in file_name:
            report(WARNING, "B29", place, f'backslashes in file_name "{file_name}" read as slashes', "")
            file_name = file_name.replace("\\", "/")
        if type(item.get("id")) is not int:
            report(WARNING, "B49", place, f"id {item['id']!r} read as {image_id}", "")
        names[file_name] = image_id
        images[image_id] = {**item, "id": image_id, "file_name": file_name, "width": width, "height": height}
    return images


def _categories(items: list, name: str, report: Report) -> dict[int, dict]:
    categories: dict[int, dict] = {}
    names: set[str] = set()
    for i, item in enumerate(items):
        place = f"categories[{i}]"
        if not isinstance(item, dict) or (category_id := _whole(item.get("id"))) is None:
            raise InputError(f"{name}, {place}: needs an object with a whole number as id")
        if not isinstance(item.get("name"), str) or not item["name"].strip():
            raise InputError(f"{name}, {place}: name {item.get('name')!r}, needs a text")
        clean = unicodedata.normalize("NFC", item["name"].strip())
        if clean != item["name"]:
            report(WARNING, "B36", place, f'name "{item["name"]}" read as "{clean}"', "")
        if category_id in categories or clean in names:
            what = f"id {category_id}" if category_id in categories else f'name "{clean}"'
            raise InputError(f"{name}, {place}: the {what} is given twice; every class needs one id and one name")
        names.add(clean)
        categories[category_id] = {**item, "id": category_id, "name": clean}
    return categories


def refuse_other_box_formats(document: dict, images: dict[int, dict], name: str) -> None:
    """Raise InputError when the boxes look like [x1, y1, x2, y2] (B47) or like fractions of the image (B48)."""
    total = beyond = corners = within_one = under_one = 0
    for item in document["annotations"]:
        box = item.get("bbox") if isinstance(item, dict) else None
        image = images.get(_whole(item.get("image_id"))) if isinstance(item, dict) else None
        if image is None or not _is_numbers(box, 4) or not all(abs(v) < 1e300 for v in box):  # False for NaN
            continue
        x, y, w, h = box
        total += 1
        if x + w > image["width"] + 1 or y + h > image["height"] + 1:
            beyond += 1
            corners += 0 <= x < w <= image["width"] + 1 and 0 <= y < h <= image["height"] + 1
        within_one += 0 <= x <= 1 and 0 <= y <= 1 and 0 < w <= 1 and 0 < h <= 1
        under_one += min(w, h) < 1
    if total and corners > total / 2:
        boxes = counted(total, "box", "boxes")
        raise InputError(
            f"{name}: {beyond} of {boxes} leave their image as [x, y, width, height] and {corners} of them fit "
            "as [x1, y1, x2, y2]; write bbox as [x, y, x2 - x1, y2 - y1]"
        )
    if total and within_one == total and under_one:
        raise InputError(
            f"{name}: all {total} boxes lie within 0..1, as if they were fractions of the image; write them in pixels"
        )


def _annotations(
    items: list, images: dict[int, dict], categories: dict[int, dict], name: str, report: Report
) -> list[dict]:
    kept: list[dict] = []
    seen: dict[tuple, int] = {}
    ids: set[int] = set()
    renumber: tuple[str, int | None, str] | None = None  # the first that needs it: place, id, what is wrong
    for i, item in enumerate(items):
        place = f"annotations[{i}]"
        try:
            result = _annotation(
                item,
                images,
                categories,
                f"{name}, {place}",
                lambda *a, p=place: report(a[0], a[1], p, *a[2:]),
            )
        except _LeaveOutError as error:
            code, text, mend = error.args
            report(ERROR, code, place, text, mend)
            continue
        key = (result["image_id"], result["category_id"], result["iscrowd"], *result["bbox"])
        twin = seen.setdefault(key, len(kept))
        if twin < len(kept) and kept[twin].get("segmentation") == result.get("segmentation"):
            report(WARNING, "B12", place, "the same object, class and box as an earlier annotation; left out", "")
            continue
        annotation_id = _whole(item.get("id"))
        if annotation_id is None or annotation_id <= 0 or annotation_id in ids:
            why = "is that of an earlier one" if annotation_id in ids else "is no whole number above 0"
            renumber = renumber or (place, annotation_id, f"id {item.get('id')!r} {why}")
        else:
            ids.add(annotation_id)
        kept.append(result)
    if renumber:
        place, number, text = renumber
        code = "B41" if number == 0 else "B40"
        report(WARNING, code, place, f"{text}; all annotations renumbered from 1", "")
        for number, annotation in enumerate(kept, start=1):
            annotation["id"] = number
    return kept


def _annotation(
    item: Any, images: dict[int, dict], categories: dict[int, dict], where: str, report: Callable[..., None]
) -> dict:
    """One annotation in our dialect. Raises _LeaveOutError; InputError for an unknown category."""
    if not isinstance(item, dict):
        raise _LeaveOutError("B26", f"{type(item).__name__} found, needs an object", "")
    image_id, category_id = _whole(item.get("image_id")), _whole(item.get("category_id"))
    if image_id not in images:
        raise _LeaveOutError("B43", f"image_id {item.get('image_id')!r} is no image of this file", "")
    if category_id not in categories:
        raise InputError(f"{where}: category_id {item.get('category_id')!r} is no category of this file")
    if type(item["image_id"]) is not int or type(item["category_id"]) is not int:
        report(WARNING, "B49", "image_id or category_id is no whole number; read as one", "")
    image = images[image_id]
    crowd = item.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise _LeaveOutError("B51", f"iscrowd {crowd!r}, needs 0 or 1", "")
    segmentation, mask_area, mask_box = _segmentation(item.get("segmentation"), image, report)
    box = item.get("bbox")
    if box is None and mask_box is not None:
        report(WARNING, "B50", "no bbox; taken from the segmentation", "")
        box = list(mask_box)
    box, clipped = _box(box, image, report)
    if clipped and isinstance(segmentation, list):
        pieces = [geometry.clip_polygon(p, image["width"], image["height"]) for p in segmentation]
        segmentation = [p for p in pieces if len(p) >= 6]
        mask_area = sum(map(geometry.polygon_area, segmentation)) if segmentation else None
    area = item.get("area")
    if not _is_number(area) or not 0 < area < 1e300 or clipped:  # False for NaN; a whole number may be beyond floats
        area = mask_area if mask_area else box[2] * box[3]
        if not clipped:
            report(WARNING, "B50", f"area {_short(item.get('area'))}; computed as {area:g}", "")
    return {
        **item,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": area,
        "iscrowd": int(crowd),
        "segmentation": segmentation,
    }


def _box(box: Any, image: dict, report: Callable[..., None]) -> tuple[list, bool]:
    """The box within the image, and whether that cut something off. Raises _LeaveOutError."""
    if not _is_numbers(box, 4):
        raise _LeaveOutError("B26", f"bbox {_short(box)}, needs four numbers", "")
    try:
        finite = all(map(math.isfinite, box))
    except OverflowError as error:  # a whole number of hundreds of digits
        raise _LeaveOutError("B07", f"bbox {_short(box)} is beyond all range", "") from error
    if not finite:
        raise _LeaveOutError("B06", f"bbox {_short(box)} is not finite", "")
    x, y, w, h = box
    limit = max(LARGEST_FACTOR * max(image["width"], image["height"]), 1)
    if any(abs(v) > LARGEST_COORDINATE or abs(v) > limit for v in (x, y, w, h, x + w, y + h)):
        raise _LeaveOutError("B07", f"bbox {_short(box)} lies far outside {image['width']} x {image['height']}", "")
    if w < 0 or h < 0:
        report(WARNING, "B02", f"bbox {_short(box)} has a negative extent; read with its corners sorted", "")
        x, y, w, h = min(x, x + w), min(y, y + h), abs(w), abs(h)
    if w == 0 or h == 0:
        raise _LeaveOutError("B01", f"bbox {_short(box)} has no extent", "draw it again or delete it")
    left = geometry.clip_box((x, y, w, h), image["width"], image["height"])
    clipped = max(left[0] - x, left[1] - y, x + w - left[0] - left[2], y + h - left[1] - left[3]) > 0
    cut = 1 - left[2] * left[3] / (w * h)
    if left[2] <= 0 or left[3] <= 0:
        raise _LeaveOutError("B04", f"bbox {_short(box)} lies outside {image['width']} x {image['height']}", "")
    if cut > 1 - LEAST_LEFT:
        raise _LeaveOutError("B05", f"bbox {_short(box)}: {cut:.0%} of it lies outside the image", "")
    if min(left[2], left[3]) < LEAST_SIDE - 1e-6:
        raise _LeaveOutError("B17", f"bbox {_short(box)} is under {LEAST_SIDE:g} pixel in the image", "")
    if max(left[2], left[3]) > MOST_ASPECT * min(left[2], left[3]):
        report(NOTE, "B18", f"bbox {_short(box)} is more than {MOST_ASPECT} times as long as wide", "")
    if not clipped:
        return [x, y, w, h], False
    if max(x + w - image["width"], y + h - image["height"], -x, -y) > SLACK:
        report(WARNING, "B05", f"bbox {_short(box)} hangs over the image's edge; clipped", "")
    return list(left), True


def _segmentation(value: Any, image: dict, report: Callable[..., None]) -> tuple[Any, float | None, tuple | None]:
    """(segmentation in our form, its area, its box). Raises _LeaveOutError for a malformed one."""
    if value is None or value == []:
        return [], None, None
    if isinstance(value, dict):
        try:
            runs = rle.to_runs(value)
        except rle.RleError as error:
            raise _LeaveOutError("B51", f"segmentation: {error}", "") from error
        height, width = value["size"]
        if (width, height) != (image["width"], image["height"]):
            text = f"segmentation is {width} x {height}, the image {image['width']} x {image['height']}"
            raise _LeaveOutError("B51", text, "")
        return rle.to_rle(runs, height, width), float(rle.area(runs)), rle.box(runs, height)
    if isinstance(value, list) and _is_numbers(value, len(value)):
        if len(value) < 6 or len(value) % 2:
            raise _LeaveOutError("B09", f"segmentation is one list of {counted(len(value), 'number')}", "")
        report(WARNING, "B09", "segmentation is one list of numbers; read as one polygon", "")
        value = [value]
    if not isinstance(value, list):
        raise _LeaveOutError("B26", f"segmentation is a {type(value).__name__}", "")
    for k, piece in enumerate(value):
        if not isinstance(piece, list) or not _is_numbers(piece, len(piece)):
            raise _LeaveOutError("B26", f"segmentation[{k}] is no list of numbers", "")
        if len(piece) % 2:
            raise _LeaveOutError("B09", f"segmentation[{k}] has an odd number of coordinates", "")
        if len(piece) < 6:
            points = counted(len(piece) // 2, "point")
            raise _LeaveOutError("B08", f"segmentation[{k}] has {points}, needs 3 or more", "")
        try:
            if not all(math.isfinite(v) for v in piece):
                raise _LeaveOutError("B06", f"segmentation[{k}] has a coordinate that is not finite", "")
        except OverflowError as error:
            raise _LeaveOutError("B07", f"segmentation[{k}] has a coordinate out of range", "") from error
        if any(abs(v) > LARGEST_COORDINATE for v in piece):
            raise _LeaveOutError("B07", f"segmentation[{k}] has a coordinate out of range", "")
    area = sum(map(geometry.polygon_area, value))
    return value, area or None, geometry.union_box([geometry.polygon_box(p) for p in value])


def _whole(value: Any) -> int | None:
    """`value` as an int where it can only mean one: 7, 7.0, "7"."""
    if type(value) is int:
        return value
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return int(value)
    if isinstance(value, str) and len(value) <= 18 and value.strip().lstrip("-").isdecimal():
        try:
            return int(value)
        except ValueError:
            return None
    return None


def _is_number(value: Any) -> bool:
    return type(value) is float or type(value) is int


def _is_numbers(value: Any, count: int) -> bool:
    return isinstance(value, list) and len(value) == count and all(map(_is_number, value))


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 80 else text[:77] + "..."
