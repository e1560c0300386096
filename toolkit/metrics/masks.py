"""Read masks of detections, check them against their image, and make tables with overlaps and areas of the masks.

A mask is held as COCO's compressed run lengths and decoded for one image at a time.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from label_tools.document import annotation_rules
from label_tools.shapes import rle
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.metrics.coco_tables import Tables


def has_masks(detections: list) -> bool:
    """Whether any detection has a segmentation; an empty one is none."""
    return any(isinstance(d, dict) and "segmentation" in d and _given(d["segmentation"]) for d in detections)


def _given(value: object) -> bool:
    return value is not None and not (isinstance(value, (list, dict, str)) and not value)


def with_runs(document: dict, detections: list, where: str) -> tuple[list, list[str]]:
    """(detections with every segmentation as compressed RLE of its image's size, its pixels as "area", and a bbox; what
    is to be said).

    detections: with the ids of `document`; segmentation is RLE, compressed or not, or polygons. A missing bbox is that
    of the mask. Detections without any mask come back as they are.
    Raises InputError, naming the first detection without a mask among others that have one, or with a bad one.
    """
    if not has_masks(detections):
        return detections, []
    images = {image["id"]: image for image in document["images"]}
    found, no_box, empty = [], 0, 0
    for n, detection in enumerate(detections):
        image = images.get(detection["image_id"])
        if image is None:
            raise InputError(f"{where}[{n}]: image_id {detection['image_id']!r} not in the annotations file")
        runs = _runs(detection.get("segmentation"), image, f"{where}[{n}]", detections)
        mask, area = rle.to_rle(runs, image["height"], image["width"]), rle.area(runs)
        one = {**detection, "segmentation": mask, "area": area}
        if not detection.get("bbox"):
            one["bbox"] = list(rle.box(runs, image["height"]))
            no_box += 1
        empty += area == 0
        found.append(one)
    notes = []
    if no_box:
        notes.append(f"{where}: {counted(no_box, 'detection')} without a bbox; the box around the mask is taken")
    if empty:
        notes.append(f"{where}: {counted(empty, 'mask')} without a pixel; wrong wherever they are, as in COCO")
    return found, notes


def _runs(value: object, image: dict, place: str, detections: list) -> np.ndarray:
    if not _given(value):
        number = sum(_given(d.get("segmentation")) for d in detections)
        raise InputError(
            f"{place}: no segmentation, but {number} of {len(detections)} detections have one; needs all or none"
        )
    if not isinstance(value, (dict, list)):
        raise InputError(f"{place}: segmentation is a {type(value).__name__}, needs RLE or a list of polygons")
    height, width = image["height"], image["width"]
    try:
        rle.check_size([height, width])
        if isinstance(value, dict):
            return rle.without_empty(annotation_rules.run_lengths(value, image))
        polygons = annotation_rules.outline(value, image, lambda *_: None)
        return rle.rasterize(polygons, height, width)
    except RefusedError as error:
        raise InputError(f"{place}: {error.text}") from None
    except rle.RleError as error:
        raise InputError(f"{place}: segmentation: {error} ({image['file_name']})") from None


def by_masks(tables: Tables, document: dict, detections: list) -> Tables:
    """`tables` with the masks of the annotations, which all have an outline, and of the detections (`with_runs`)."""
    images = {image["id"]: image for image in document["images"]}
    annotations = [document["annotations"][row] for row in tables.gt_row]
    found = [detections[row] for row in tables.det_row]
    return replace(
        tables,
        gt_mask=[_annotated(annotation, images[annotation["image_id"]]) for annotation in annotations],
        det_mask=[detection["segmentation"] for detection in found],
        det_area=np.array([detection["area"] for detection in found], float),
    )


def _annotated(annotation: dict, image: dict) -> dict:
    value, height, width = annotation["segmentation"], image["height"], image["width"]
    try:
        runs = rle.without_empty(rle.to_runs(value)) if isinstance(value, dict) else rle.rasterize(value, height, width)
    except rle.RleError as error:
        raise InputError(f"annotation {annotation.get('id')} ({image['file_name']}): segmentation: {error}") from None
    return rle.to_rle(runs, height, width)


def tables_by_masks(tables: Tables, document: dict, detections: list) -> tuple[Tables | None, str]:
    """(tables by masks, ""), or (None, why there are none); the reason is "" where no detection has a mask."""
    if not has_masks(detections):
        return None, ""
    annotations = document["annotations"]
    bare = [annotation for annotation in annotations if not annotation.get("segmentation")]
    if bare:
        return None, (
            f"the detections have masks, but {len(bare)} of {counted(len(annotations), 'annotation')} have no outline, "
            f"the first with id {bare[0].get('id')}: evaluated by boxes alone"
        )
    return by_masks(tables, document, detections), ""
