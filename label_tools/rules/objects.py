"""Rules for objects that each look fine and together do not: the same thing labelled twice, a box beside its outline.

They run on a document as `coco.read` gives it; what is wrong with a single annotation the reader has said.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

import numpy as np

from label_tools.shapes import geometry
from label_tools.text.findings import NOTE, WARNING, Finding

PAIRS_AT_ONCE = 1_000_000  # of boxes: some 100 MB
NEAR_IOU = 0.9  # two boxes that overlap more are one thing labelled twice
BOX_SLACK = 1.5  # pixels between a box and its outline; a raster's "+1" stays below
AREA_FACTOR = 1.5  # an area beyond 1.5 boxes or below the outline / 1.5 is that of something else


Places = Mapping[int, tuple[str, str]]


def objects(document: dict, name: str, places: Places | None = None) -> Iterator[Finding]:
    """Findings about pairs of objects, and about boxes and areas that contradict their outline.

    places: annotation id -> (file, place), where the objects do not stand in the document itself but in files
    that it was made from.
    """
    places = _Places(document, name) if places is None else places
    yield from near_duplicates(document, places)
    yield from contradictions(document, name, places)


class _Places(dict):
    """Annotation id -> (file, place), made when it is asked for.

    The id is for who edits the COCO file. Who edits the VOC or LabelMe file that it was made from needs the object's
    number there (the same unless an earlier one was left out) and where its corner lies.
    """

    def __init__(self, document: dict, name: str) -> None:
        super().__init__()
        self._document, self._name = document, name

    def __missing__(self, annotation_id: int) -> tuple[str, str]:
        files = {image["id"]: image["file_name"] for image in self._document["images"]}
        count: Counter[int] = Counter()
        for a in self._document["annotations"]:
            x, y = a["bbox"][:2]
            where = f"object[{count[a['image_id']]}], at {x:g}, {y:g}"  # as the converters count
            self[a["id"]] = self._name, f"annotation {a['id']} of {files[a['image_id']]} ({where})"
            count[a["image_id"]] += 1
        return self[annotation_id]


def near_duplicates(document: dict, places: Places) -> Iterator[Finding]:
    """B12: two boxes of one image with an IoU of NEAR_IOU or more."""
    names = {category["id"]: category["name"] for category in document["categories"]}
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    for i, j, iou in _near_pairs(objects):
        one, two = names[objects[i]["category_id"]], names[objects[j]["category_id"]]
        file, place = places[objects[j]["id"]]
        _, other = places[objects[i]["id"]]
        text = f'"{two}" covers the same place as "{one}", {other} (IoU {iou:.2f})'
        fix = "delete one" if one == two else "one object in two classes? keep the right one"
        yield Finding("B12", WARNING, file, place, text, fix)


def _near_pairs(objects: list[dict]) -> list[tuple[int, int, float]]:
    """(i, j, IoU) of objects of one image with an IoU of NEAR_IOU or more, i < j."""
    by_image: dict[int, list[int]] = {}
    for index, one in enumerate(objects):
        by_image.setdefault(one["image_id"], []).append(index)
    alike: dict[int, list[list[int]]] = {}  # images with equally many objects are compared together
    for indices in by_image.values():
        alike.setdefault(len(indices), []).append(indices)
    boxes = np.array([a["bbox"] for a in objects], dtype=np.float64).reshape(-1, 4)
    pairs = []
    for number, groups in alike.items():
        step = max(1, PAIRS_AT_ONCE // number**2)
        for start in range(0, len(groups) if number > 1 else 0, step):
            rows = np.array(groups[start : start + step])
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


def contradictions(document: dict, name: str, places: Places) -> Iterator[Finding]:
    """B16: a box that is not that of its polygons. B50: an area that can be neither the outline's nor the box's."""
    wider = []
    for annotation in document["annotations"]:
        polygons = annotation["segmentation"]
        if not isinstance(polygons, list) or not polygons:
            continue
        x, y, w, h = annotation["bbox"]
        left, top, width, height = geometry.union_box([geometry.polygon_box(p) for p in polygons])
        wider.append((w - width, h - height))
        gap = max(abs(x - left), abs(y - top), abs(x + w - left - width), abs(y + h - top - height))
        area = annotation["area"]
        if gap <= BOX_SLACK and width * height / AREA_FACTOR <= area <= w * h * AREA_FACTOR:
            continue  # no outline covers more than its box
        file, place = places[annotation["id"]]
        if gap > BOX_SLACK:
            text = f"bbox and segmentation are {gap:.1f} pixels apart"
            yield Finding("B16", WARNING, file, place, text, "convert again from the labels")
        inside = max(map(geometry.polygon_area, polygons))  # pieces may overlap: their sum may be too much
        if not inside / AREA_FACTOR <= area <= w * h * AREA_FACTOR:
            text = f"area {area:g}, but an outline covers {inside:g} and the box {w * h:g}"
            yield Finding("B50", NOTE, file, place, text, "the size classes of the evaluation go by area")
    yield from _hidden_one(wider, name)


def _hidden_one(wider: list[tuple[float, float]], name: str) -> Iterator[Finding]:
    """B16: a whole document whose boxes count both border pixels, as the script that labelme brings makes them."""
    if len(wider) < 3:
        return
    excess = np.array(wider)
    median = np.median(excess, axis=0)
    if (median >= 0.5).all() and np.mean(((excess > 0) & (excess < 2.01)).all(axis=1)) >= 0.8:
        text = f"boxes are larger than their outlines, by {median[0]:.2g} x {median[1]:.2g} pixels in the median"
        fix = "a hidden +1: width is right - left; convert again from the labels"
        yield Finding("B16", WARNING, name, "annotations", text, fix)
