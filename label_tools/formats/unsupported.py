"""Recognise label files of unsupported formats, and say in one sentence how to export them in a supported one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from label_tools.document.coco_values import number_in
from label_tools.pictures.own_output import is_ours

_PICTURES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff")
WAYS_OUT = {
    "CreateML": "in Roboflow choose the export `COCO`, in another program COCO, YOLO or Pascal VOC",
    "Supervisely": "run its app `Export to COCO` or `Convert Supervisely to Pascal VOC` and convert that",
    "Datumaro": "in CVAT choose the export `COCO 1.0` or `CVAT for images 1.1`; `datum convert -f coco` makes it, too",
    "a CVAT backup": "in CVAT choose `Export task dataset` and `CVAT for images 1.1` or `COCO 1.0`",
    "Label Studio's CSV": "choose the export `JSON` in Label Studio",
    "ISAT": "choose the export `COCO` in ISAT",
    "Cityscapes": "mmdetection's tools/dataset_converters/cityscapes.py makes COCO of it",
    "BDD100K": "convert it to COCO with its own `bdd100k.label.to_coco`",
    "a CSV table of boxes": "choose the export `COCO`, `YOLO` or `Pascal VOC` of the program that wrote it",
    "COCO without objects": "it holds captions, labels of whole images or panoptic segments; see instances_*.json",
    "DOTA": "convert it to YOLO's oriented boxes (class and eight fractions) or to COCO",
    "KITTI": "convert it to YOLO or COCO with the program that you label with",
    "MOT": "its tracks are no labels of single pictures; export COCO or `CVAT for video 1.1` where they were drawn",
    "TFRecord": "choose the export `COCO`, `YOLO` or `Pascal VOC` of the program that wrote it",
    "VoTT": "choose its export `Pascal VOC`",
    "VIA 3": "open it in VIA 2, or export it there as COCO",
    "Labelbox NDJSON": "export it with Labelbox's own converter to COCO",
    "Darwin (V7)": "choose the export `COCO` in V7",
    "detections": "they are what a detector found and no labels; `frcnn evaluate --detections` reads them",
}


def foreign_json(content: Any) -> str | None:
    """The program in WAYS_OUT that wrote this JSON content; None: none of them."""
    if isinstance(content, list):
        first = content[0] if content and isinstance(content[0], dict) else {}
        if is_ours(content):
            return "detections"
        if {"shapes", "tracks"} <= first.keys():
            return "a CVAT backup"
        if isinstance(first.get("labels"), list) and any("box2d" in m for m in first["labels"] if isinstance(m, dict)):
            return "BDD100K"
        marks = first.get("annotations", first.get("annotation"))
        mark = marks[0] if isinstance(marks, list) and marks and isinstance(marks[0], dict) else {}
        named = {"image", "imagefilename"} & first.keys()
        return "CreateML" if named and ("coordinates" in mark or marks == []) else None
    if not isinstance(content, dict):
        return None
    objects = content.get("objects")
    if isinstance(objects, list) and {"imgHeight", "imgWidth"} <= content.keys():
        return "Cityscapes"
    if isinstance(objects, list) and isinstance(content.get("info"), dict):
        return "ISAT"
    if isinstance(content.get("items"), list) and isinstance(content.get("categories"), dict):
        return "Datumaro"
    if isinstance(objects, list) and isinstance(content.get("size"), dict):
        return "Supervisely"
    classes = content.get("classes")
    if isinstance(classes, list) and classes and isinstance(classes[0], dict) and "title" in classes[0]:
        return "Supervisely"  # its meta.json
    if {"project", "attribute", "file", "metadata", "view"} <= content.keys():
        return "VIA 3"
    if {"assets", "tags"} <= content.keys() or {"asset", "regions"} <= content.keys():
        return "VoTT"
    if {"data_row", "projects"} <= content.keys():
        return "Labelbox NDJSON"
    if isinstance(content.get("item"), dict) and "annotations" in content:
        return "Darwin (V7)"
    return None


def foreign_csv(head: str) -> str | None:
    """The program in WAYS_OUT that wrote a CSV file with the first line `head`, header or row; None: no boxes."""
    cells = [c.strip().strip('"') for c in re.split(r"[,;\t]", head)]
    columns = {re.sub(r"[\W_]", "", c.casefold()) for c in cells}
    if {"annotationid", "annotator"} <= columns:
        return "Label Studio's CSV"
    pictures = sum(c.lower().endswith(_PICTURES) for c in cells)
    if pictures == 1 and sum(number_in(c) is not None for c in cells) >= 4:
        return "a CSV table of boxes"
    boxes = [{"xmin", "ymin", "xmax", "ymax"}, {"x1", "y1", "x2", "y2"}, {"x", "y", "width", "height"}]
    boxes += [{"x1", "y1", "w", "h"}, {"x", "y", "w", "h"}, {"bbox"}, {"upperleftcornerx", "lowerrightcornerx"}]
    boxes += [{"left", "top", "width", "height"}, {"left", "top", "right", "bottom"}, {"bboxx", "bboxy"}]
    boxes += [{"xcenter", "ycenter"}, {"cx", "cy"}]
    named = {"filename", "image", "imageid", "imagename", "imagepath", "path", "file", "filepath", "img"} & columns
    return "a CSV table of boxes" if named and any(b <= columns for b in boxes) else None


def foreign_txt(row: Sequence[str]) -> str | None:
    """The program in WAYS_OUT that writes lines like this one, as words; None: none of them."""
    if len(row) in (15, 16) and number_in(row[0]) is None and None not in map(number_in, row[1:]):
        return "KITTI"
    if len(row) == 1 and len(cells := row[0].split(",")) >= 7 and None not in map(number_in, cells):
        return "MOT"
    return None
