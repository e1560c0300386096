"""Read a COCO document from any program: repair what has one meaning, refuse the rest.

Every repair is reported; a value with several meanings refuses the whole document (rows B40 to B59, B01 to B18).
The given document is not changed.
"""

from __future__ import annotations

import math
import shlex
from typing import Any

import numpy as np

from label_tools.document.coco_values import are_numbers, short, whole
from label_tools.document.repair_annotation import annotation, is_plain
from label_tools.document.repair_images_and_categories import Size, categories_of, images_of
from label_tools.document.repairs_found import Examined, key_of
from label_tools.files.pause_gc import collector_paused
from label_tools.shapes.instances import RefusedError
from label_tools.text.findings import ERROR, NOTE, WARNING
from label_tools.text.messages import counted

_OF_TWINS = ("image_id", "category_id", "iscrowd", "bbox", "segmentation")
SLACK = 2.0  # pixels that an honest box may leave its image by
FEW = 10  # boxes; of fewer, more than half must look like corners
TINY = 8  # pixels: in an image this small a box of one pixel is nearly a fraction
MANY_CROWDS = 0.1  # share of the objects; COCO's own sets have a hundredth


@collector_paused()
def examine(
    document: dict[str, Any], name: str, size: Size | None = None, *, crowd_as_object: bool = False, clip: bool = True
) -> Examined:
    """Apply every rule; `.usable()` is the document in our dialect, or an error.

    size: gives the sizes that the document lacks. crowd_as_object: annotations with iscrowd 1 are objects (but our own
    ignore regions). clip=False: boxes that hang over the image's edge stay as written, as COCO's own evaluation takes
    them; the verdict is the same.
    """
    found = Examined(name)
    images = images_of(document["images"], size, found)
    categories = categories_of(document["categories"], document["annotations"], found)
    kept_images = {key: image for key, image in images.items() if image is not None}
    wrong = _box_format(document["annotations"], kept_images)
    if wrong:
        found.refuse(wrong[0], "", wrong[1])
        return found
    annotations = _annotations(document["annotations"], images, categories, found, crowd_as_object, clip)
    if found.fatal:
        return found
    _say_crowds(annotations, found)
    known = {
        "info": document["info"] if isinstance(document.get("info"), dict) else {},
        "images": list(kept_images.values()),
        "annotations": annotations,
        "categories": list({c["id"]: c for c in categories.values()}.values()),
    }
    found.document = {**{k: v for k, v in document.items() if k not in known}, **known}
    return found


def _box_format(items: list, images: dict[Any, dict]) -> tuple[str, str] | None:
    """(code, text) of boxes that look like [x1, y1, x2, y2] (B47) or like fractions of the image (B48)."""
    boxes, sizes = [], []
    sides = {key: (image["width"], image["height"]) for key, image in images.items()}
    for item in items:
        if not isinstance(item, dict):
            continue
        box, key = item.get("bbox"), item.get("image_id")
        size = sides.get(key if type(key) is int else key_of(key))
        if size is not None and are_numbers(box, 4) and min(box) > -1e300 and max(box) < 1e300:
            boxes.append(box)
            sizes.append(size)
    return other_format(np.array(boxes, float).reshape(-1, 4), np.array(sizes, np.int32).reshape(-1, 2))


def other_format(bbox: np.ndarray, size: np.ndarray) -> tuple[str, str] | None:
    """(code, what was found and what to do) when bbox [N,4] can only be meant otherwise; size [N,2] width, height.

    COCO's own tool takes such boxes and prints a wrong number (0.2 instead of 1.0 for perfect boxes given as corners).

    Corners: more than half of the boxes leave their image as x, y, w, h and fit as corners; or all could be corners,
    which honest boxes hardly ever are, and a quarter leave their image.
    """
    known = (size > 0).all(1) & np.isfinite(bbox).all(1)
    if not known.all():
        bbox, size = bbox[known], size[known]
    if not len(bbox):
        return None
    boxes = counted(len(bbox), "box", "boxes")
    fraction = (bbox >= 0).all(1) & (bbox <= 1.001).all(1) & (size > TINY).all(1)
    if fraction.mean() > 0.9 and (bbox[fraction][:, 2:] < 1).any():
        return "B48", (
            f"{int(fraction.sum())} of {boxes} lie within 0..1, as if they were fractions of the image; "
            "needs [x, y, width, height] in pixels: multiply by the image's width and height"
        )
    leaves = ((bbox[:, :2] + bbox[:, 2:]) > size + SLACK).any(1)
    fits = (bbox[:, :2] >= 0).all(1) & (bbox[:, 2:] > bbox[:, :2]).all(1) & (bbox[:, 2:] <= size + SLACK).all(1)
    corners = leaves & fits
    if corners.mean() > 0.5 or (corners.mean() > 0.25 and fits.all() and len(bbox) >= FEW):
        return "B47", (
            f"{int(corners.sum())} of {boxes} leave their image as [x, y, width, height] and fit as corners "
            "[x1, y1, x2, y2]; write bbox as [x, y, x2 - x1, y2 - y1]"
        )
    return None


def _say_crowds(annotations: list[dict], found: Examined) -> None:
    """Warn that crowds are neither learned nor counted, if there are so many that they may be meant as objects."""
    crowds = sum(a["iscrowd"] and a.get("label") != "__ignore__" for a in annotations)
    if crowds and crowds >= MANY_CROWDS * len(annotations):
        text = f"{crowds} of {counted(len(annotations), 'object')} have iscrowd 1: not learned, not counted in AP"
        command = f"frcnn convert coco {shlex.quote(found.name)} --crowd-as-object --out NEW.json"
        fix = f"if they are objects (CVAT's brush and SAM tools mark them so): {command}"
        found.say(NOTE, "B58", "annotations", text, fix)


def _is_plain(item: Any, images: dict[Any, dict | None], categories: dict[Any, dict], crowd_as_object: bool) -> bool:
    """Whether an annotation is in our dialect already, its ids and all."""
    if type(item) is not dict or type(item.get("id")) is not int:
        return False
    image_key, category_key = item.get("image_id"), item.get("category_id")
    if type(image_key) is not int or type(category_key) is not int:
        return False
    image, category = images.get(image_key), categories.get(category_key)
    if image is None or category is None or image["id"] != image_key or category["id"] != category_key:
        return False
    return is_plain(item, image["width"], image["height"]) and not (crowd_as_object and item["iscrowd"])


class _Twins:
    """Detect repeated objects. While annotations are sorted by image, only one image's are remembered."""

    def __init__(self, kept: list[dict]) -> None:
        self.kept = kept
        self.image = -math.inf
        self.mixed = False
        self.seen: dict[int, int] = {}  # hash of image, class and box -> place in `kept`

    def have(self, one: dict) -> bool:
        if not self.mixed and one["image_id"] != self.image:
            self.mixed = one["image_id"] < self.image
            self.image = one["image_id"]
            earlier = enumerate(self.kept) if self.mixed else ()
            self.seen = {}
            for place, other in earlier:
                self.seen.setdefault(self._hash(other), place)
        place = self.seen.setdefault(self._hash(one), len(self.kept))
        return place < len(self.kept) and all(self.kept[place].get(k) == one.get(k) for k in _OF_TWINS)

    @staticmethod
    def _hash(one: dict) -> int:
        return hash((one["image_id"], one["category_id"], one["iscrowd"], *one["bbox"]))


class _Ids:
    """Detect repeated ids. While ids rise, only the last one is remembered."""

    def __init__(self, kept: list[dict]) -> None:
        self.kept = kept
        self.last = 0
        self.ids: set[int] | None = None

    def have(self, number: int) -> bool:
        if self.ids is None and number > self.last:
            self.last = number
            return False
        if self.ids is None:
            numbers = (whole(one.get("id")) for one in self.kept)
            self.ids = {one for one in numbers if one is not None and one > 0}
        had = number in self.ids
        self.ids.add(number)
        return had


def _annotations(
    items: list,
    images: dict[Any, dict | None],
    categories: dict[Any, dict],
    found: Examined,
    crowd_as_object: bool,
    clip: bool,
) -> list[dict]:
    kept: list[dict] = []
    twins, ids = _Twins(kept), _Ids(kept)
    lost: dict[Any, list[int]] = {}  # unknown category -> its annotations
    renumber: tuple[str, str, str] | None = None  # of the first that needs it: code, place, what is wrong
    only = next(iter(categories)) if len(categories) == 1 else None
    i = 0

    def remark(level: str, code: str, text: str) -> None:
        found.say(level, code, f"annotations[{i}]", text)

    for i, item in enumerate(items):
        if type(item) is dict and "segmentation" not in item:
            item = {**item, "segmentation": []}
        if _is_plain(item, images, categories, crowd_as_object):
            result = item  # shared with the document that was given: never changed below
        else:
            try:
                if not isinstance(item, dict):
                    raise RefusedError("B26", f"{type(item).__name__} found, needs an object")
                image_key, category_key = key_of(item.get("image_id")), key_of(item.get("category_id"))
                if image_key not in images:
                    raise RefusedError("B43", f"image_id {short(item.get('image_id'))} is not an image of this file")
                if category_key is None and item.get("category_id") is None:
                    if only is None:
                        raise RefusedError("B43", "category_id is missing or null, and there are several categories")
                    name = categories[only]["name"]
                    remark(WARNING, "B43", f'category_id is missing or null; read as the only class, "{name}"')
                    category_key = only
                if category_key not in categories:
                    lost.setdefault(category_key, []).append(i)
                    continue
                for name, key in (("image_id", image_key), ("category_id", category_key)):
                    if type(key) is int and type(item.get(name)) is not int and item.get(name) is not None:
                        remark(WARNING, "B49", f"{name} {item[name]!r} read as {key}")
                image = images[image_key]
                if image is None:
                    continue  # reported with its image
                if crowd_as_object and item.get("label") != "__ignore__":
                    item = {**item, "iscrowd": 0}
                result = annotation(item, image, categories[category_key]["id"], remark, clip)
            except RefusedError as error:
                found.say(ERROR, error.code, f"annotations[{i}]", error.text, error.fix)
                continue
        if twins.have(result):
            remark(WARNING, "B12", "the same object, class and box as an earlier annotation; left out")
            continue
        number = whole(item.get("id"))
        used = number is not None and number > 0 and ids.have(number)
        if number is None or number <= 0 or used:
            why = "is that of an earlier one" if used else "is not a whole number above 0"
            place = f"annotations[{i}]"
            renumber = renumber or ("B41" if number == 0 else "B40", place, f"id {short(item.get('id'))} {why}")
        elif result is not item:
            result["id"] = number
        kept.append(result)
    for category, where in lost.items():
        text = f"category_id {category!r} of {counted(len(where), 'annotation')} is not a category of this file"
        found.refuse("B43", f"annotations[{where[0]}]", text, "add the category, or correct the id")
    if renumber:
        code, place, text = renumber
        found.say(WARNING, code, place, f"{text}; all annotations renumbered from 1")
        kept = [{**one, "id": number} for number, one in enumerate(kept, start=1)]
    return kept
