"""Label Studio's own JSON and JSON-MIN: a list of tasks, one picture each. Numbers are percent of the picture.

    [{"data": {"image": "/data/upload/1/90fbb0c7-a.jpg"},
      "annotations": [{"was_cancelled": false, "ground_truth": false, "result": [
        {"type": "rectanglelabels", "original_width": 640, "original_height": 480, "image_rotation": 0,
         "value": {"x": 10, "y": 12, "width": 31, "height": 43, "rotation": 0, "rectanglelabels": ["cat"]}}]}]}]

`rotation` is in degrees, clockwise, about the corner (x, y). An ellipse has x, y, radiusX, radiusY; a polygon its
points; a brush stroke an RLE of RGBA pixels (below), a bitmask a PNG as a data URL. Key points and choices are not
objects.

The RLE is thi.ng's rle-pack of the bytes of an RGBA picture, as a list of bytes read as bits: 32 bits, how many
values; 5 bits + 1, the bits of a value; four times 4 bits + 1, the bits of a length. Then blocks: 1 bit, whether one
value is repeated; 2 bits, which of the four sizes; a length - 1; that one value, or as many values as the length.
"""

from __future__ import annotations

import base64
import math
import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

import numpy as np

from label_tools.files.strict_reading import TextError, loads
from label_tools.formats.image_records import Described, Drawn, Make, left_out, read_numbers
from label_tools.formats.yolo import settled_box
from label_tools.pictures.find_image import UPLOADED
from label_tools.pictures.open_image import open_mask
from label_tools.shapes import geometry, instances, rle
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range
from label_tools.text.errors import InputError
from label_tools.text.findings import NOTE, WARNING

_ENDINGS = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".heic")
_KINDS = ("rectanglelabels", "polygonlabels", "ellipselabels", "brushlabels", "labels")
_MARKS = {"annotations", "predictions", "completions"}
_BITMASK = "imageDataURL"
_PERCENT = 100.0


def is_label_studio(content: Any) -> bool:
    """Whether this JSON content is a list of Label Studio's tasks, complete or JSON-MIN, or one task or annotation."""
    first = next(iter(_tasks(content) or ()), None)
    if not isinstance(first, dict):
        return False
    if isinstance(first.get("data"), dict) and _MARKS & first.keys():
        return True
    return "annotator" in first or any(_is_result(v) for v in first.values())


def _tasks(content: Any) -> list | None:
    """The tasks of an export; of one task, as its API gives it; of an annotation with its task, as it is saved to a
    storage. None: nothing of the kind."""
    if isinstance(content, dict) and isinstance(content.get("result"), list) and isinstance(content.get("task"), dict):
        return [{**content["task"], "annotations": [content]}]
    if isinstance(content, dict):
        return [content] if isinstance(content.get("data"), dict) and _MARKS & content.keys() else content.get("tasks")
    return content if isinstance(content, list) else None


def _is_result(value: Any) -> bool:
    first = value[0] if isinstance(value, list) and value else None
    return isinstance(first, dict) and "original_width" in first


def describe(path: str) -> Iterator[Described]:
    """The pictures of the file's tasks, without those that nobody labelled. Raises TextError, OSError."""
    tasks = _tasks(loads(Path(path).read_bytes(), path))
    if not isinstance(tasks, list) or not all(isinstance(task, dict) for task in tasks):
        raise TextError("B20", path, "", "no Label Studio export: it is a list of tasks")
    for i, task in enumerate(tasks):
        if "completions" in task:  # before version 1.0
            task = {"annotations": task["completions"], **task}
        if task.get("annotations", task) or task.get("predictions"):  # else nobody has opened it yet
            yield _task(task, f"task {task.get('id', i)}")


def _task(task: dict, place: str) -> Described:
    data = task["data"] if isinstance(task.get("data"), dict) else task
    texts = {str(k): v for k, v in data.items() if isinstance(v, str)}
    names = _names(list(texts.values()), task.get("file_upload"))
    names = names or _names([v for k, v in texts.items() if "image" in k or "img" in k], None, any_ending=True)
    one = Described(names, [], place=place)
    results = _results(task, one)
    regions = [r for r in results if isinstance(r, dict) and _shape(r) is not None]
    labelled = [r["id"] for r in regions if "id" in r and _label(r) is not None]
    # <Rectangle> and <Labels> as tags of their own write a region twice, once without its label
    regions = [r for r in regions if _label(r) is not None or r.get("id") not in labelled]
    stated = [[r.get("original_width"), r.get("original_height")] for r in regions]
    sizes = [size for k, size in enumerate(stated) if size != [None, None] and size not in stated[:k]]
    if len(sizes) > 1 or len(names) == 0:
        one.refusal = RefusedError("B26", "more than one image in the task" if names else "names no image")
    elif sizes:
        try:
            width, height = read_numbers(sizes[0], "original_width, original_height")
            one.size = width, height
        except RefusedError as error:
            one.refusal = error
    for k, region in enumerate(regions):
        if region.get("image_rotation") not in (None, 0):
            text = f"was labelled on the picture turned by {region['image_rotation']} degrees"
            one.refusal = RefusedError("B60", text, "turn it back in Label Studio, or save the picture upright")
        one.objects.append(Drawn(f"result[{k}]", _label(region), _make(_shape(region), region)))
    return one


def _results(task: dict, one: Described) -> list:
    """The regions of the annotation to use: the ground truth, else the newest that was not cancelled."""
    annotations = task.get("annotations")
    if annotations is None:  # JSON-MIN
        return [r for v in task.values() if isinstance(v, list) for r in v]
    valid = [a for a in annotations if isinstance(a, dict) and not a.get("was_cancelled")]
    if not valid:
        what = "only predictions of a model" if task.get("predictions") else "only annotations that were cancelled"
        one.refusal = RefusedError("B34", f"{what}, nobody labelled it", "submit it in Label Studio")
        return []
    chosen = max(valid, key=lambda a: (a.get("ground_truth") is True, str(a.get("updated_at") or "")))
    if len(valid) > 1:
        which = "the ground truth" if chosen.get("ground_truth") is True else "the newest"
        one.said.append((WARNING, "B33", f"{len(valid)} annotations of one picture; {which} is taken"))
    result = chosen.get("result")
    return result if isinstance(result, list) else []


def _names(texts: list[str], uploaded: object, *, any_ending: bool = False) -> list[str]:
    """Possible names of the picture: the path after ?d=, the name, the name without the prefix of the upload.

    Of all texts of a task, those count that end as a picture does; any_ending: the text is known to name one.
    """
    found: list[str] = []
    for text in [*texts, *([uploaded] if isinstance(uploaded, str) else [])]:
        parts = urlsplit(text.replace("\\", "/")) if not re.match(r"^[A-Za-z]:", text) else None
        query = parts.query if parts else ""
        path = query[2:] if query.startswith("d=") else (parts.path if parts else text)
        path = unquote(path).replace("\\", "/").lstrip("/")
        if not path or not (any_ending or path.lower().endswith(_ENDINGS)):
            continue
        name = PurePosixPath(path).name
        found += [path, name, UPLOADED.sub("", name)]
    return list(dict.fromkeys(found))


def _shape(region: dict) -> dict | None:
    """x, y, width, ... of a region: under `value`, or in JSON-MIN the region itself."""
    value = region.get("value", region)
    drawn = ("x", "points", "rle", "vertices", _BITMASK)
    if not isinstance(value, dict):
        return None
    return value if any(key in value for key in drawn) or (_label(region) is not None and "text" not in value) else None


def _label(region: dict) -> object:
    value = region.get("value", region)
    for key in (*_KINDS, *(k for k in value if str(k).endswith("labels"))):
        labels = value.get(key)
        if isinstance(labels, list) and labels:
            return labels[0] if len(labels) == 1 else labels
    return None


def _make(value: dict | None, region: dict) -> Make:
    assert value is not None  # as chosen by _shape
    for key, reader in ((_BITMASK, _bitmask), ("rle", _brush), ("points", _polygon), ("radiusX", _ellipse)):
        if key in value:
            return partial(reader, value)
    if "width" in value and "height" in value and not str(region.get("type", "")).startswith("keypoint"):
        return partial(_rectangle, value)
    return left_out(str(region.get("type") or "a point"))


def _percent(value: dict, *keys: str) -> list[float]:
    return [v / _PERCENT for v in read_numbers([value.get(key) for key in keys], ", ".join(keys))]


def _rectangle(value: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    x, y, w, h = _percent(value, "x", "y", "width", "height")
    box = (x * width, y * height, w * width, h * height)
    check_range((box[0], box[1], box[0] + box[2], box[1] + box[3]), width, height)
    (degrees,) = read_numbers([value.get("rotation") or 0], "rotation")
    if degrees:
        angle = math.radians(degrees)  # about the corner: the centre turns around it
        dx, dy = box[2] / 2, box[3] / 2
        cx = box[0] + dx * math.cos(angle) - dy * math.sin(angle)
        cy = box[1] + dx * math.sin(angle) + dy * math.cos(angle)
        return instances.from_polygon(label, geometry.turned_box(cx, cy, box[2], box[3], angle), width, height, remark)
    return instances.from_box(label, settled_box(box, width, height), width, height, remark)


def _ellipse(value: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    cx, cy, rx, ry = _percent(value, "x", "y", "radiusX", "radiusY")
    (degrees,) = read_numbers([value.get("rotation") or 0], "rotation")
    in_pixels = (cx * width, cy * height, rx * width, ry * height)
    return instances.from_ellipse(label, *in_pixels, math.radians(degrees), width, height, remark)


def _polygon(value: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    points = value["points"]
    if not isinstance(points, list) or not all(isinstance(p, list) and len(p) == 2 for p in points):
        raise RefusedError("B26", f"points {points!r:.60}, needs a list of [x, y]")
    if value.get("closed") is False:
        raise RefusedError("B14", "polygon that was not closed has no area", "close it in Label Studio")
    flat = read_numbers([v for p in points for v in p], "points")
    pixels = [v / _PERCENT * (width, height)[k % 2] for k, v in enumerate(flat)]
    return instances.from_polygon(label, geometry.without_repeats(pixels), width, height, remark)


def _brush(value: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    if value.get("format") not in (None, "rle"):
        raise RefusedError("B15", f"brush of the format {value['format']!r:.40}, needs rle")
    pixels = decode_rle(value["rle"], height * width * 4)
    alpha = pixels.reshape(height, width, 4)[:, :, 3]
    if len(np.unique(alpha)) > 2:
        remark(NOTE, "B83", "brush with soft edges; half covered and more is the object")
    return instances.from_runs(label, rle.encode(alpha >= 128 if alpha.max() > 1 else alpha > 0), width, height, remark)


def _bitmask(value: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    """Read a bitmask: black pixels on a transparent ground, as a PNG in a data URL."""
    try:
        data = base64.b64decode(str(value[_BITMASK]).partition(",")[2])
        pixels = open_mask(data, max_pixels=4 * width * height)[0]
    except (ValueError, InputError) as error:
        raise RefusedError("B15", f"{_BITMASK} holds no readable picture: {error}") from error
    if pixels.shape[:2] != (height, width):
        raise RefusedError(
            "B15", f"bitmask of {pixels.shape[1]} x {pixels.shape[0]}, the picture is {width} x {height}"
        )
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels = pixels[:, :, -1]
    elif pixels.ndim == 3:
        pixels = pixels.max(axis=2)
    return instances.from_runs(label, rle.encode(pixels > 0), width, height, remark)


def decode_rle(data: object, size: int) -> np.ndarray:
    """The values of an rle-pack as uint8 [size]. Raises RefusedError (B15): no bytes, another size, cut off."""
    if not isinstance(data, list) or not all(type(v) is int and 0 <= v < 256 for v in data):
        raise RefusedError("B15", "rle must be a list of bytes")
    bits = int.from_bytes(bytes(data), "big")
    left = 8 * len(data)
    text = format(bits, f"0{left}b") if left else ""
    at = 0

    def take(count: int) -> int:
        nonlocal at
        if at + count > left:
            raise RefusedError("B15", "rle is cut off")
        at += count
        return int(text[at - count : at], 2)

    number, word = take(32), take(5) + 1
    sizes = [take(4) + 1 for _ in range(4)]
    if number != size or word != 8:
        raise RefusedError("B15", f"rle of {number} values of {word} bits, the picture needs {size} of 8")
    values = np.zeros(size, dtype=np.uint8)
    i = 0
    while i < size:
        repeated = take(1)
        j = i + 1 + take(sizes[take(2)])
        if j > size:
            raise RefusedError("B15", "rle runs over the end of the picture")
        if repeated:
            values[i:j] = take(word)
        else:
            for k in range(i, j):
                values[k] = take(word)
        i = j
    return values
