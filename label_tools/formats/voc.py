"""Pascal VOC: one XML file per image, boxes by their corners. Reading and writing.

    <annotation><folder/><filename>a.jpg</filename><size><width/><height/><depth/></size>
      <object><name>cat</name><difficult>0</difficult><truncated>0</truncated>
        <bndbox><xmin/><ymin/><xmax/><ymax/></bndbox></object></annotation>

Two meanings of the numbers are about. Most programs of today (labelImg, CVAT, ...) write corners from 0, so that the
width is xmax - xmin: that is the default here, in both directions. Pascal VOC's own files count pixels from 1 and
name the last one: with one_based, x = xmin - 1 and width = xmax - xmin + 1.
"""

from __future__ import annotations

import math
import os
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError
from xml.sax.saxutils import escape

from label_tools.formats.labelme import check_image_shape, read_label
from label_tools.pictures.image_paths import ImageFolder
from label_tools.shapes.instances import ImageRecord, RefusedError, Remark, Tally, check_range, from_box, without_copies
from label_tools.text.findings import NOTE, WARNING, Finding

_LARGEST_FILE = 50_000_000  # bytes; an annotation file has thousands


def read_file(path: str, images: ImageFolder, *, one_based: bool = False) -> tuple[ImageRecord | None, Tally]:
    """One XML file. No record: it was skipped or refused; the tally says why. Never raises for its content."""
    tally = Tally()
    try:
        root = _parse(path)
    except RefusedError as error:
        tally.skipped["label files that cannot be read"] += 1
        tally.drop(error, path, "", 0)
        return None, tally
    if root.tag != "annotation":
        tally.skipped["XML files that are not VOC's"] += 1
        tally.findings.append(Finding("B21", NOTE, path, "", f"<{root.tag[:40]}> is no VOC annotation, skipped"))
        return None, tally
    objects = root.findall("object")
    tally.objects_in += len(objects)

    def remark(level: str, code: str, text: str) -> None:
        tally.findings.append(Finding(code, level, path, "", text))

    try:
        image = _find_image(root, path, images, remark)
        tally.refused_images.append(image)  # until all has gone well
        info = images.info(image)
        stated = tuple(_number(root.findtext(f"size/{side}")) for side in ("width", "height"))
        if None not in stated and stated != (0, 0) and stated != (info.width, info.height):
            if stated == info.stored_size:
                text = f"boxes belong to the picture before its EXIF rotation {info.orientation}"
                raise RefusedError("B60", text, "label the upright picture again")
            text = f"says {stated[0]:g} x {stated[1]:g}, the image is {info.width} x {info.height}"
            raise RefusedError("B52", text, "label the right image again, or restore the one that was labelled")
        check_image_shape(info.width, info.height, remark)
        record = ImageRecord(images.file_name(image), info.width, info.height, [], path)
        tally.refused_images.clear()
    except RefusedError as error:
        tally.skipped["images left out"] += 1
        tally.drop(error, path, "", len(objects))
        return None, tally
    for i, element in enumerate(objects):
        _read_object(element, f"object[{i}]", record, path, one_based, tally)
    record.instances = without_copies(record.instances, tally, path)
    return record, tally


def _read_object(
    element: ElementTree.Element, place: str, record: ImageRecord, path: str, one_based: bool, tally: Tally
) -> None:
    def remark(level: str, code: str, text: str) -> None:
        tally.findings.append(Finding(code, level, path, place, text))

    try:
        label = read_label({"label": element.findtext("name")}, remark)
        place = f'{place} "{label[:60]}"'
        corners = [_number(element.findtext(f"bndbox/{key}")) for key in ("xmin", "ymin", "xmax", "ymax")]
        if any(v is None for v in corners):
            raise RefusedError("B26", "bndbox needs the numbers xmin, ymin, xmax, ymax")
        if not all(map(math.isfinite, corners)):
            raise RefusedError("B06", f"bndbox {corners} is not finite")
        check_range(corners, record.width, record.height)
        x1, y1, x2, y2 = corners
        if x2 < x1 or y2 < y1:
            remark(WARNING, "B02", "xmin is beyond xmax, or ymin beyond ymax; read with its corners sorted")
            x1, x2, y1, y2 = min(x1, x2), max(x1, x2), min(y1, y2), max(y1, y2)
        if one_based:
            x1, y1 = x1 - 1, y1 - 1
        instance = from_box(label, (x1, y1, x2 - x1, y2 - y1), record.width, record.height, remark)
        instance.place = place
        if (element.findtext("difficult") or "0").strip() == "1":
            instance.extra = {"difficult": 1}
        record.instances.append(instance)
    except RefusedError as error:
        tally.drop(error, path, place)


def _parse(path: str) -> ElementTree.Element:
    try:
        with open(path, "rb") as file:
            data = file.read(_LARGEST_FILE + 1)
    except OSError as error:
        raise RefusedError("B39", f"cannot be read: {error.strerror or error}") from error
    if len(data) > _LARGEST_FILE:
        raise RefusedError("B20", f"more than {_LARGEST_FILE} bytes, no annotation is that long")
    head = data.replace(b"\0", b"")  # UTF-16 too
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise RefusedError("B20", "declares a document type or entities, which VOC files do not need")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ExpatError) as error:
        raise RefusedError("B20", f"no valid XML: {error}" if data.strip() else "the file is empty") from error
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that Python does not know
        raise RefusedError("B20", f"no valid XML: {error}") from error


def _find_image(root: ElementTree.Element, path: str, images: ImageFolder, remark: Remark) -> str:
    """The picture beside the file, or in the folder of images, that <filename> or the file's own name means."""
    name = (root.findtext("filename") or "").strip()
    if not name:
        raise RefusedError("B26", "no <filename>")
    folder = os.path.dirname(os.path.abspath(path))
    return images.find_named(name, folder, remark)


def _number(text: str | None) -> float | None:
    try:
        return float(text) if text is not None and "_" not in text else None
    except ValueError:
        return None


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
    """xmin, ymin, xmax, ymax as texts. A box stays at least one unit of the last decimal wide, and in the image."""
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
