"""Pascal VOC: one XML file per image, boxes by their corners. Reading and writing.

    <annotation><folder/><filename>a.jpg</filename><size><width/><height/><depth/></size>
      <object><name>cat</name><difficult>0</difficult><truncated>0</truncated>
        <bndbox><xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>

The numbers have two meanings in practice. Most programs today (labelImg, CVAT, ...) write corners from 0, so that the
width is xmax - xmin: that is the default here, in both directions. Pascal VOC's own files count pixels from 1 and
name the last one: with one_based, x = xmin - 1 and width = xmax - xmin + 1.

Turned boxes are read as their outline: roLabelImg's <robndbox>, CVAT's attribute `rotation`. So are the outlines of
LabelMe on the web, which CVAT writes, too ("LabelMe 3.0"): <polygon><pt><x/><y/></pt>, <imagesize>, <deleted>.
"""

from __future__ import annotations

import math
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from label_tools.document.coco_values import number_in
from label_tools.files.strict_reading import TextError, parse_xml
from label_tools.formats.image_records import Described, Drawn, ImageRecord, Tally, read_numbers, sorted_box, to_record
from label_tools.pictures.find_image import ImageFolder
from label_tools.shapes import geometry, instances
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range
from label_tools.text.findings import NOTE, WARNING, Finding


def read_file(path: str, images: ImageFolder, *, one_based: bool = False) -> tuple[ImageRecord | None, Tally]:
    """Read one XML file. No record: it was skipped or refused; the tally says why. Never raises for its content."""
    tally = Tally()
    try:
        root = parse_xml(path)
    except (TextError, OSError) as error:
        tally.unreadable(error, path)
        return None, tally
    if root.tag != "annotation":
        tally.skipped["XML files that are not VOC's"] += 1
        tally.findings.append(Finding("B21", NOTE, path, "", f"<{root.tag[:40]}> is not a VOC annotation, skipped"))
        return None, tally
    return to_record(_described(root, one_based, Path(path).stem), path, images, tally), tally


def _described(root: ElementTree.Element, one_based: bool, stem: str) -> Described:
    name = (root.findtext("filename") or "").strip()
    sides = (("size/width", "imagesize/ncols"), ("size/height", "imagesize/nrows"))
    width, height = (number_in(root.findtext(voc) or root.findtext(web) or "") for voc, web in sides)
    path = PurePosixPath((root.findtext("path") or "").strip().replace("\\", "/")).name  # labelImg: where it lay
    names = list(dict.fromkeys(filter(None, (name or stem, path))))
    one = Described(names, [], None if width is None or height is None else (width, height))
    if not name:
        one.said.append((WARNING, "B26", f'no <filename>; the picture called "{stem}" is taken'))
    for i, element in enumerate(root.iterfind("object")):
        if (element.findtext("deleted") or "").strip() == "1":
            continue
        difficult = (element.findtext("difficult") or "0").strip() == "1"
        extra = {"difficult": 1} if difficult else None
        one.objects.append(Drawn(f"object[{i}]", element.findtext("name"), partial(_read, element, one_based), extra))
    return one


def _read(
    element: ElementTree.Element, one_based: bool, label: str, width: int, height: int, remark: Remark
) -> Instance:
    turned = element.find("robndbox")
    if turned is not None and element.find("bndbox") is None:
        return _turned(turned, label, width, height, remark)
    if element.find("bndbox") is None and (points := element.findall("polygon/pt")):
        flat = read_numbers([point.findtext(axis) for point in points for axis in ("x", "y")], "polygon")
        return instances.from_polygon(label, geometry.without_repeats(flat), width, height, remark)
    if element.find("segm") is not None:
        raise RefusedError("B14", "a mask of LabelMe on the web, which is not read")
    keys = ("xmin", "ymin", "xmax", "ymax")
    corners = read_numbers([element.findtext(f"bndbox/{key}") for key in keys], "bndbox (xmin, ymin, xmax, ymax)")
    check_range(corners, width, height)
    x1, y1, x2, y2 = corners
    x, y, w, h = sorted_box(x1, y1, x2, y2, remark)
    if one_based:
        x, y, w, h = x - 1, y - 1, w + 1, h + 1
    if angle := _rotation(element):
        text = f"turned by {math.degrees(angle):g} degrees; read as its outline, the box is around that"
        remark(NOTE, "B57", text)
        flat = geometry.turned_box(x + w / 2, y + h / 2, w, h, angle)
        return instances.from_polygon(label, flat, width, height, remark)
    return instances.from_box(label, (x, y, w, h), width, height, remark)


def _turned(box: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    """Read roLabelImg's rotated box: centre, extent, and the angle in radians, clockwise on the screen."""
    keys = ("cx", "cy", "w", "h", "angle")
    cx, cy, w, h, angle = read_numbers([box.findtext(key) for key in keys], "robndbox (cx, cy, w, h, angle)")
    check_range((cx, cy, w, h), width, height)
    if w <= 0 or h <= 0:
        raise RefusedError("B01", f"box of {w:g} x {h:g} has no extent", "draw it again or delete it")
    return instances.from_polygon(label, geometry.turned_box(cx, cy, w, h, angle), width, height, remark)


def _rotation(element: ElementTree.Element) -> float:
    """The angle in radians that CVAT's VOC export gives as an attribute `rotation` in degrees; else 0."""
    for attribute in element.iterfind("attributes/attribute"):
        if attribute.findtext("name") == "rotation":
            return math.radians(number_in(attribute.findtext("value") or "") or 0.0)
    return 0.0


def file_text(image: dict, objects: list[tuple[str, dict]], *, decimals: int = 0, one_based: bool = False) -> str:
    """The XML of one image of a COCO document; objects: (class name, annotation), in order.

    decimals: of the corners. 0, the default, is what every reader of VOC takes, and moves an edge by at most half a
    pixel. Crowd regions are written as difficult objects, which is how VOC leaves something unjudged.
    """
    path = Path(image["file_name"])
    lines = [
        "<annotation>",
        f"  <folder>{escape(path.parent.name)}</folder>",
        f"  <filename>{escape(path.as_posix())}</filename>",
        "  <size>",
        f"    <width>{image['width']}</width>",
        f"    <height>{image['height']}</height>",
        "    <depth>3</depth>",
        "  </size>",
        "  <segmented>0</segmented>",
    ]
    for name, annotation in objects:
        corners = corners_of(annotation["bbox"], image, decimals, one_based)
        difficult = int(bool(annotation.get("difficult") or annotation.get("iscrowd")))
        lines += [
            "  <object>",
            f"    <name>{escape(name)}</name>",
            "    <pose>Unspecified</pose>",
            "    <truncated>0</truncated>",
            f"    <difficult>{difficult}</difficult>",
            "    <bndbox>",
            *(f"      <{key}>{v}</{key}>" for key, v in zip(("xmin", "ymin", "xmax", "ymax"), corners)),
            "    </bndbox>",
            "  </object>",
        ]
    return "\n".join([*lines, "</annotation>", ""])


def corners_of(bbox: list[Any], image: dict, decimals: int, one_based: bool) -> list[str]:
    """Format xmin, ymin, xmax, ymax. A box stays in the image, at least one unit of the last decimal wide."""
    unit = 10.0**-decimals
    texts = []
    for start, extent, side in ((bbox[0], bbox[2], image["width"]), (bbox[1], bbox[3], image["height"])):
        low, high = round(start, decimals), round(start + extent, decimals)
        if high - low < unit:  # rounding closed a thin box
            low = min(low, side - unit)
            high = low + unit
        texts.append((low + (1 if one_based else 0), high))
    (x1, x2), (y1, y2) = texts
    return [f"{v:.{decimals}f}" for v in (x1, y1, x2, y2)]
