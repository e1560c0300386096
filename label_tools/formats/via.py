"""VIA, the VGG Image Annotator (versions 1 and 2): its projects and exports as JSON, and its exports as CSV.

    {"_via_img_metadata": {"a.jpg1234": {"filename": "a.jpg", "size": 1234, "file_attributes": {},
        "regions": [{"shape_attributes": {"name": "rect", "x": 10, "y": 8, "width": 30, "height": 28},
                     "region_attributes": {"type": "cat"}}]}}}

An export has the inner object alone; in version 1, `regions` is an object of "0", "1", ... The CSV has a line per
region, its attributes as JSON. Shapes: rect, circle, ellipse, polygon; point and polyline have no area. VIA has no
classes: the class is the value of one attribute of the regions. If there are several, the user must choose.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from label_tools.files.strict_reading import TextError, decode, loads
from label_tools.formats.image_records import Described, Drawn, Make, left_out, read_numbers
from label_tools.shapes import geometry, instances
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range
from label_tools.text.errors import InputError
from label_tools.text.findings import WARNING

CSV_HEAD = "filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes"
_IN_JSON = ("region_shape_attributes", "region_attributes")
ONE_CLASS = "object"  # the class of all regions where none has an attribute
CLASS_NAMES = ("class", "label", "name", "type", "category", "object", "class_name")  # what people call it


def is_via(content: Any) -> bool:
    """Whether this JSON content is a project or an export of VIA 1 or 2."""
    if not isinstance(content, dict) or not content:
        return False
    if "_via_img_metadata" in content:
        return True
    first = next(iter(content.values()))
    return isinstance(first, dict) and "filename" in first and "regions" in first


def describe(path: str, attribute: str | None = None) -> Iterator[Described]:
    """The pictures of a JSON or CSV file. attribute: the region attribute that is the class.

    Raises TextError, OSError; InputError: several attributes, and none is chosen as the class.
    """
    data = Path(path).read_bytes()
    entries = _csv_entries(data, path) if path.lower().endswith(".csv") else _json_entries(loads(data, path), path)
    key = attribute or _class_attribute(entries, path)
    for number, (name, regions) in enumerate(entries):
        objects = [
            Drawn(f"regions[{i}]", _label(region, key) if key else ONE_CLASS, _make(region))
            for i, region in enumerate(regions)
        ]
        one = Described([name] if isinstance(name, str) and name else [], objects, place=f'image "{name!s:.80}"')
        if key is None and number == 0:
            text = f'no region has an attribute; all are "{ONE_CLASS}": frcnn rename gives the class its name'
            one.said.append((WARNING, "B26", text))
        yield one


def _json_entries(content: Any, path: str) -> list[tuple[Any, list]]:
    images = content.get("_via_img_metadata", content) if isinstance(content, dict) else None
    if not isinstance(images, dict) or not all(isinstance(e, dict) and "regions" in e for e in images.values()):
        raise TextError("B20", path, "", "no VIA file: every image needs filename and regions")
    entries = []
    for entry in images.values():
        regions = entry["regions"]
        if isinstance(regions, dict):
            regions = list(regions.values())
        if not isinstance(regions, list):
            raise TextError("B20", path, f"{entry.get('filename')!r:.80}", "regions must be a list")
        entries.append((entry.get("filename"), regions))
    return entries


def _csv_entries(data: bytes, path: str) -> list[tuple[Any, list]]:
    text, _ = decode(data, path)
    rows = csv.DictReader(io.StringIO(text.removeprefix("\ufeff").removeprefix("#"), newline=""))
    entries: dict[str, list] = {}
    try:
        if not {"filename", "region_shape_attributes", "region_attributes"} <= set(rows.fieldnames or ()):
            raise TextError("B20", path, "line 1", f"needs VIA's header: {CSV_HEAD}")
        for row in rows:
            place = f"line {rows.line_num}"
            here = entries.setdefault(row["filename"], [])
            shape, attributes = (loads((row[k] or "{}").encode(), f"{path}, {place}") for k in _IN_JSON)
            if shape:  # an image without regions has one line with none
                here.append({"shape_attributes": shape, "region_attributes": attributes})
    except csv.Error as error:
        raise TextError("B20", path, f"line {rows.line_num}", f"no valid CSV: {error}") from error
    return list(entries.items())


def _class_attribute(entries: Iterable[tuple[Any, list]], path: str) -> str | None:
    """The attribute of the regions that is the class; None where no region has one."""
    found: dict[str, None] = {}
    for _, regions in entries:
        for region in regions:
            attributes = region.get("region_attributes") if isinstance(region, dict) else None
            found.update(dict.fromkeys(attributes) if isinstance(attributes, dict) else {})
    if len(found) <= 1:
        return next(iter(found), None)
    usual = [k for k in found if k.casefold() in CLASS_NAMES]
    if len(usual) == 1:
        return usual[0]
    names = ", ".join(f'"{k}"' for k in list(found)[:10])
    raise InputError(f"{path}: the regions have the attributes {names}; --class-attribute NAME says which is the class")


def _label(region: Any, key: str | None) -> object:
    attributes = region.get("region_attributes") if isinstance(region, dict) else None
    value = attributes.get(key) if isinstance(attributes, dict) and key is not None else None
    if isinstance(value, dict):  # a checkbox: {"cat": true}
        ticked = [k for k, v in value.items() if v]
        return ticked[0] if len(ticked) == 1 else None
    return value


def _make(region: Any) -> Make:
    shape: Any = region.get("shape_attributes") if isinstance(region, dict) else None
    kind = shape.get("name") if isinstance(shape, dict) else None
    readers = {"rect": _rect, "circle": _circle, "ellipse": _ellipse, "polygon": _polygon}
    if kind in ("point", "polyline", "line"):
        return left_out(kind)
    if not isinstance(kind, str) or kind not in readers:
        return left_out(f"shape {kind!r:.40}", f"is none of {', '.join(readers)}")
    return partial(readers[kind], shape)


def _values(shape: dict, *keys: str) -> list[float]:
    return read_numbers([shape.get(key) for key in keys], ", ".join(keys))


def _rect(shape: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    x, y, w, h = _values(shape, "x", "y", "width", "height")
    check_range((x, y, x + w, y + h), width, height)
    return instances.from_box(label, (x, y, w, h), width, height, remark)


def _circle(shape: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    cx, cy, radius = _values(shape, "cx", "cy", "r")
    return instances.from_circle(label, cx, cy, radius, width, height, remark)


def _ellipse(shape: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    cx, cy, rx, ry = _values(shape, "cx", "cy", "rx", "ry")
    (angle,) = read_numbers([shape.get("theta") or 0], "theta")  # radians
    return instances.from_ellipse(label, cx, cy, rx, ry, angle, width, height, remark)


def _polygon(shape: dict, label: str, width: int, height: int, remark: Remark) -> Instance:
    xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
    if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
        raise RefusedError("B26", "all_points_x and all_points_y must be lists of one length")
    flat = read_numbers([v for pair in zip(xs, ys) for v in pair], "all_points_x, all_points_y")
    return instances.from_polygon(label, geometry.without_repeats(flat), width, height, remark)
