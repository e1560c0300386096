"""Unity Perception: pictures that a game engine made, with their labels. SOLO, and the older captures_*.json.

SOLO, one step{n}.frame_data.json a frame, the pictures beside it:

    {"frame": 0, "captures": [{"@type": "type.unity.com/unity.solo.RGBCamera", "filename": "step0.camera.png",
      "dimension": [640, 480], "annotations": [
        {"@type": ".../unity.solo.BoundingBox2DAnnotation",
         "values": [{"instanceId": 1, "labelName": "Crate", "origin": [10, 8], "dimension": [30, 28]}]},
        {"@type": ".../unity.solo.InstanceSegmentationAnnotation", "filename": "step0.camera.instance.png",
         "instances": [{"instanceId": 1, "labelName": "Crate", "color": [255, 0, 0, 255]}]}]}]}

The older form has many captures a file, paths from the root of the set, and masks whose colours name an instance:

    {"version": "0.0.1", "captures": [{"filename": "RGB1/rgb_2.png", "annotations": [
        {"annotation_definition": "id", "values": [{"label_name": "Crate", "instance_id": 1, "x":, "y":, "width":,
         "height":}]},
        {"annotation_definition": "id", "filename": "InstanceSegmentation1/Instance_2.png",
         "values": [{"instance_id": 1, "color": {"r": 255, "g": 0, "b": 0, "a": 255}}]}]}]}

An instance is read as its mask, or as its box if it has no mask. Semantic masks, key points and 3D boxes are reported
and left out.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document.coco_file import is_inside
from label_tools.files.strict_reading import TextError, loads
from label_tools.formats.image_records import Described, Drawn, read_numbers
from label_tools.formats.masks import intervals_by_id
from label_tools.pictures.open_image import ImageError, open_mask
from label_tools.shapes import rle
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range, from_box, from_runs
from label_tools.text.findings import NOTE

_BOX, _MASK = "BoundingBox2DAnnotation", "InstanceSegmentationAnnotation"
_NO_PICTURE = (".pcd", ".ply", ".bin", ".json", ".wav")  # of a lidar, a microphone


def is_unity(content: Any) -> bool:
    """Whether this JSON content is a frame of SOLO or a captures_*.json."""
    captures = content.get("captures") if isinstance(content, dict) else None
    return isinstance(captures, list) and ("frame" in content or "version" in content or "step" in content)


def describe(path: str) -> Iterator[Described]:
    """The pictures of a frame_data.json or captures_*.json. Raises TextError, OSError."""
    content = loads(Path(path).read_bytes(), path)
    _columns.cache_clear()  # a mask may have changed since another file was read
    if not is_unity(content):
        raise TextError("B20", path, "", "no frame of Unity Perception: it has a list of captures")
    for i, capture in enumerate(content["captures"]):
        name = str(capture.get("filename") or "") if isinstance(capture, dict) else ""
        if name and not name.lower().endswith(_NO_PICTURE):  # other sensors have none, or a cloud of points
            yield _capture(capture, f"captures[{i}]", path)


def _capture(capture: dict, place: str, path: str) -> Described:
    name = str(capture["filename"])
    one = Described(_places(name, path), [], place=place)
    annotations = [a for a in capture.get("annotations") or [] if isinstance(a, dict)]
    if (dimension := capture.get("dimension")) is not None:
        try:
            width, height = read_numbers(dimension if isinstance(dimension, list) else [dimension], "dimension")
            one.size = width, height
        except (RefusedError, ValueError):
            one.refusal = RefusedError("B26", f"dimension {dimension!r:.60}, needs [width, height]")
    boxes, colors, names = _values(annotations)
    other = [str(a.get("@type", "")).rpartition(".")[2] for a in annotations if "@type" in a]
    if unused := sorted({kind for kind in other if kind and kind not in (_BOX, _MASK)}):
        one.said.append((NOTE, "B14", f"left out: {', '.join(unused)}"))
    for instance, (color, mask) in colors.items():
        make = partial(_mask, color, mask, path)
        one.objects.append(Drawn(f"instance {instance}", names.get(instance), make))
    for instance, box in boxes.items():
        if instance not in colors:
            one.objects.append(Drawn(f"instance {instance}", names.get(instance), partial(_box, box)))
    return one


def _values(annotations: list[dict]) -> tuple[dict, dict, dict]:
    """({instance: [x, y, w, h]}, {instance: (its colour, the mask's file)}, {instance: its label})."""
    boxes: dict[Any, list] = {}
    colors: dict[Any, tuple[Any, str]] = {}
    names: dict[Any, object] = {}
    for annotation in annotations:
        values = annotation.get("values") or annotation.get("instances") or []
        for value in values if isinstance(values, list) else []:
            if not isinstance(value, dict):
                continue
            instance = str(value.get("instanceId", value.get("instance_id")))
            label = value.get("labelName", value.get("label_name"))
            if label is not None:
                names.setdefault(instance, label)
            color = value.get("color")
            if isinstance(value.get("origin"), list) and isinstance(value.get("dimension"), list):
                if len(value["origin"]) == 2:  # three: a box in space
                    boxes[instance] = [*value["origin"], *value["dimension"]]
            elif {"x", "y", "width", "height"} <= value.keys():
                boxes[instance] = [value[k] for k in ("x", "y", "width", "height")]
            elif color is not None and annotation.get("filename"):
                rgb = [color.get(k) for k in "rgb"] if isinstance(color, dict) else color
                colors[instance] = rgb, str(annotation["filename"])
    return boxes, colors, names


def _places(name: str, path: str) -> list[str]:
    """A file named beside `path` (SOLO) or from the set's root, the folder above (captures), the likelier first."""
    above = f"../{name}"
    return [name, above] if os.path.exists(os.path.join(os.path.dirname(path), name)) else [above, name]


def _box(values: list, label: str, width: int, height: int, remark: Remark) -> Instance:
    if len(values) != 4:
        raise RefusedError("B26", f"origin and dimension {values!r:.60}, need two numbers each")
    x, y, w, h = read_numbers(values, "box")
    check_range((x, y, x + w, y + h), width, height)
    return from_box(label, (x, y, w, h), width, height, remark)


def _mask(color: Any, name: str, path: str, label: str, width: int, height: int, remark: Remark) -> Instance:
    """The pixels of one colour in the instance mask `name` of the label file at `path`."""
    if not isinstance(color, list) or len(color) < 3:
        raise RefusedError("B26", f"color {color!r:.60}, needs [r, g, b, a]")
    red, green, blue = (int(v) for v in read_numbers(color[:3], "color"))
    if not is_inside(name):
        raise RefusedError("B31", f'mask "{name}" leads out of the folder')
    file = os.path.join(os.path.dirname(path), _places(name, path)[0])
    try:
        shape, columns = _columns(file)
    except ImageError as error:
        raise RefusedError(error.code, f"mask {name}: {error.text}") from error
    if shape != (height, width):
        raise RefusedError("B80", f"mask {name} is {shape[1]} x {shape[0]}, its image {width} x {height}")
    starts, ends = columns.get(red << 16 | green << 8 | blue, ((), ()))
    if not len(starts):
        raise RefusedError("B86", f"mask {name} has no pixel of the colour {red} {green} {blue}")
    return from_runs(label, rle.from_intervals(starts, ends, height * width), width, height, remark)


@lru_cache(maxsize=1)
def _columns(file: str) -> tuple[tuple[int, int], dict]:
    """(height and width, {colour as a number: its pixels as intervals}) of a mask; kept for the next of its objects."""
    values, _, _ = open_mask(file)
    if values.ndim != 3:
        raise ImageError("B87", file, "grey; an instance mask of Unity has a colour for each instance")
    rgb = values[:, :, :3].astype(np.int32)
    return values.shape[:2], intervals_by_id(rgb[:, :, 0] << 16 | rgb[:, :, 1] << 8 | rgb[:, :, 2])
