"""Rules for objects that are wrong only when compared: the same thing labelled twice, a box beside its outline,
classes without objects or with names nearly alike, boxes too small.

They run on a document as `repair.examine` leaves it, which reports what is wrong with single annotations.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from itertools import chain

import numpy as np

from label_tools.document import coco_file
from label_tools.document.repair_images_and_categories import grouping_class
from label_tools.readers.classes import alike_finding
from label_tools.shapes import geometry
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.messages import counted

PAIRS_AT_ONCE = 100_000  # of boxes: some 10 MB
OUTLINES_AT_ONCE = 20_000
NEAR_IOU = 0.9  # two boxes that overlap more are one thing labelled twice
BOX_SLACK = 1.5  # pixels between a box and its outline; a raster's "+1" stays below
SMALL_SIDE = 8.0  # pixels: a quarter of torchvision's smallest anchor (32)
AREA_FACTOR = 1.5  # an area beyond 1.5 boxes or below the outline / 1.5 is that of something else


Places = Mapping[int, tuple[str, str]]
Where = Callable[[dict], tuple[str, str]]  # annotation -> file, place in it


def object_findings(document: dict, name: str, places: Places | None = None) -> Iterator[Finding]:
    """Findings about all objects of a document.

    places: annotation id -> (file, place), where the objects do not stand in the document itself but in files
    that it was made from.
    """
    where: Where = _in_document(document, name) if places is None else lambda annotation: places[annotation["id"]]
    yield from near_duplicates(document, where)
    yield from contradictions(document, name, where)
    yield from statistics(document, name)
    if places is None:  # else it was converted from files, and the conversion has reported them
        yield from alike_names(document, name)


def _in_document(document: dict, name: str) -> Where:
    """(the document's name, where an annotation stands in it).

    Whoever edits the COCO file needs the id; whoever edits the VOC or LabelMe file that it was made from needs the
    object's number there (the same unless an earlier one was left out) and where its corner lies.
    """

    @cache
    def of_image() -> dict[int, tuple[str, list[int]]]:
        """Image id -> file name, ids of its annotations in order."""
        objects = coco_file.by_image(document)
        return {i["id"]: (i["file_name"], [a["id"] for a in objects[i["id"]]]) for i in document["images"]}

    def where(annotation: dict) -> tuple[str, str]:
        x, y = annotation["bbox"][:2]
        file, ids = of_image()[annotation["image_id"]]
        at = f"object[{ids.index(annotation['id'])}], at {x:g}, {y:g}"  # as the converters count
        return name, f"annotation {annotation['id']} of {file} ({at})"

    return where


def near_duplicates(document: dict, where: Where) -> Iterator[Finding]:
    """B12: two boxes of one image with an IoU of NEAR_IOU or more."""
    names = {category["id"]: category["name"] for category in document["categories"]}
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    for i, j, iou in _near_pairs(objects):
        one, two = names[objects[i]["category_id"]], names[objects[j]["category_id"]]
        file, place = where(objects[j])
        _, other = where(objects[i])
        text = f'"{two}" covers the same place as "{one}", {other} (IoU {iou:.2f})'
        fix = "delete one" if one == two else "one object in two classes? keep the right one"
        yield Finding("B12", WARNING, file, place, text, fix)


def _near_pairs(objects: list[dict]) -> list[tuple[int, int, float]]:
    """(i, j, IoU) of objects of one image with an IoU of NEAR_IOU or more, i < j."""
    order = np.argsort([a["image_id"] for a in objects], kind="stable")
    images = np.array([objects[k]["image_id"] for k in order])
    _, first, number = np.unique(images, return_index=True, return_counts=True)
    boxes = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4)
    pairs = []
    for many in np.unique(number[number > 1]):  # images with equally many objects are compared together
        starts = first[number == many]
        step = max(1, PAIRS_AT_ONCE // many**2)
        for at in range(0, len(starts), step):
            rows = order[starts[at : at + step, None] + np.arange(many)]
            overlap = pairwise_iou(boxes[rows])
            found = np.nonzero(np.triu(overlap >= NEAR_IOU, 1))
            pairs += [(int(rows[g, i]), int(rows[g, j]), float(overlap[g, i, j])) for g, i, j in zip(*found)]
    return sorted(pairs)


def pairwise_iou(boxes: np.ndarray) -> np.ndarray:
    """IoU of every box with every other, [..., N,4] x, y, w, h -> [..., N,N]."""
    low, high = boxes[..., :2], boxes[..., :2] + boxes[..., 2:]
    sides = np.minimum(high[..., :, None, :], high[..., None, :, :])
    sides -= np.maximum(low[..., :, None, :], low[..., None, :, :])
    shared = np.clip(sides, 0, None).prod(-1)
    areas = boxes[..., 2] * boxes[..., 3]
    return shared / (areas[..., :, None] + areas[..., None, :] - shared)


def contradictions(document: dict, name: str, where: Where) -> Iterator[Finding]:
    """B16: a box that is not that of its polygons. B50: an area that can be neither the outline's nor the box's."""
    outlined = [a for a in document["annotations"] if isinstance(a["segmentation"], list) and a["segmentation"]]
    wider = []  # for each outline, how much wider and higher its box is
    for start in range(0, len(outlined), OUTLINES_AT_ONCE):
        some = outlined[start : start + OUTLINES_AT_ONCE]
        box, area = np.array([a["bbox"] for a in some], float), np.array([a["area"] for a in some], float)
        low, sides = _around(some)
        wider.append(box[:, 2:] - sides)
        gap = np.maximum(abs(box[:, :2] - low), abs(box[:, :2] + box[:, 2:] - low - sides)).max(1)
        fits = (sides.prod(1) / AREA_FACTOR <= area) & (area <= box[:, 2:].prod(1) * AREA_FACTOR)
        for k in np.flatnonzero((gap > BOX_SLACK) | ~fits):  # no outline covers more than its box
            _, _, w, h = some[k]["bbox"]
            # pieces may overlap: their sum may be too much
            inside = max(map(geometry.polygon_area, some[k]["segmentation"]))
            if gap[k] > BOX_SLACK:
                text = f"bbox and segmentation are {gap[k]:.1f} pixels apart"
                yield Finding("B16", WARNING, *where(some[k]), text, "convert again from the labels")
            if not inside / AREA_FACTOR <= area[k] <= w * h * AREA_FACTOR:
                text = f"area {area[k]:g}, but an outline covers {inside:g} and the box {w * h:g}"
                yield Finding("B50", NOTE, *where(some[k]), text, "the size classes of the evaluation go by area")
    yield from _hidden_one(np.concatenate(wider or [np.zeros((0, 2))]), name)


def _around(outlined: list[dict]) -> tuple[np.ndarray, np.ndarray]:
    """(left and top, width and height) [N,2] of all points of each annotation's polygons."""
    numbers = chain.from_iterable(chain.from_iterable(a["segmentation"] for a in outlined))
    points = np.fromiter(numbers, np.float64).reshape(-1, 2)
    ends = np.cumsum([sum(map(len, a["segmentation"])) // 2 for a in outlined])
    first = np.append(0, ends[:-1])
    low = np.minimum.reduceat(points, first)
    return low, np.maximum.reduceat(points, first) - low


def _hidden_one(excess: np.ndarray, name: str) -> Iterator[Finding]:
    """B16: all boxes of a document count both border pixels, as those of labelme's own conversion script do."""
    if len(excess) < 3:
        return
    median = np.median(excess, axis=0)
    if (median >= 0.5).all() and np.mean(((excess > 0) & (excess < 2.01)).all(axis=1)) >= 0.8:
        text = f"boxes are larger than their outlines, by {median[0]:.2g} x {median[1]:.2g} pixels in the median"
        fix = "a hidden +1: width is right - left; convert again from the labels"
        yield Finding("B16", WARNING, name, "annotations", text, fix)


def statistics(document: dict, name: str) -> Iterator[Finding]:
    """B54, B17: no object at all, classes without one, boxes too small to learn."""
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    if not objects:
        yield Finding("B54", ERROR, name, "annotations", "no object at all: nothing can be learned from this file")
        return
    counts = Counter(a["category_id"] for a in objects)
    group = grouping_class(document["categories"])  # the reader has named it
    unused = [f'"{c["name"]}"' for c in document["categories"] if not counts[c["id"]] and c is not group]
    if unused:
        classes = counted(len(document["categories"]), "class", "classes")
        text = f"no object of {len(unused)} of {classes}: {', '.join(unused)}"
        yield Finding("B54", WARNING, name, "categories", text, "label some, or remove them")
    small = sum(min(a["bbox"][2:]) < SMALL_SIDE for a in objects)
    if small:
        text = f"{small} of {counted(len(objects), 'box', 'boxes')} under {SMALL_SIDE:g} pixels wide or high"
        yield Finding("B17", NOTE, name, "annotations", text, "a larger --image-size lets the model see them")


def alike_names(document: dict, name: str) -> Iterator[Finding]:
    """B36: classes with objects whose names are nearly alike."""
    names = {category["id"]: category["name"] for category in document["categories"]}
    counts = Counter(names[a["category_id"]] for a in document["annotations"] if not a["iscrowd"])
    yield from alike_finding(counts, name, "categories", annotations=shlex.quote(name))
