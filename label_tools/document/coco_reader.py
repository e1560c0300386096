"""The one reader of COCO documents, of any maker: what is one image, class and object, what is repaired, what refused.

`examine` applies every rule and finds everything; `normalise` is the same for those who need a document or an error.
What has one meaning is repaired and told; what has several refuses the whole document (rows B40 to B59, B01 to B18).
The document that was given is left as it was.
"""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from label_tools.document.annotation_rules import annotation, is_plain
from label_tools.document.box_format import other_format
from label_tools.document.values import are_numbers, is_too_long, short, whole
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.labels import clean_label
from label_tools.text.messages import counted
from label_tools.text.pause_gc import collector_paused

LARGEST_IMAGE_SIDE = 1_000_000
_OF_TWINS = ("image_id", "category_id", "iscrowd", "bbox", "segmentation")
MANY_CROWDS = 0.1  # share of the objects; COCO's own sets have a hundredth
Size = Callable[[str], tuple[int, int] | None]  # file_name -> width and height of the picture, None: it is not there


class DocumentError(InputError):
    """A document with more than one meaning. code: the row of `bad_input.py`."""

    def __init__(self, finding: Finding) -> None:
        where = f"{finding.file}, {finding.place}" if finding.place else finding.file
        super().__init__(f"{where}: {finding.text}" + (f"; {finding.fix}" if finding.fix else ""))
        self.code = finding.code


@dataclass
class Examined:
    """A COCO document after every rule.

    document: in our dialect; None where it has several meanings. fatal: why, every reason.
    image_ids, category_ids: the ids of the document's maker -> ours, where they are not the same.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    document: dict[str, Any] | None = None
    fatal: list[Finding] = field(default_factory=list)
    image_ids: dict[Any, int] = field(default_factory=dict)
    category_ids: dict[Any, int] = field(default_factory=dict)

    def usable(self) -> dict[str, Any]:
        """The document; DocumentError with the first reason where it has several meanings."""
        if self.document is None:
            raise DocumentError(self.fatal[0])
        return self.document

    def say(self, level: str, code: str, place: str, text: str, fix: str = "") -> None:
        self.findings.append(Finding(code, level, self.name, place, text, fix))

    def refuse(self, code: str, place: str, text: str, fix: str = "") -> None:
        self.say(ERROR, code, place, text, fix)
        self.fatal.append(self.findings[-1])


def normalise(
    document: dict[str, Any],
    name: str,
    findings: list[Finding],
    size: Size | None = None,
    *,
    crowd_as_object: bool = False,
) -> dict[str, Any]:
    """The document in our dialect. Adds a finding for every repair (warning) and for all left out (error).

    size: gives the sizes that the document lacks. Raises DocumentError where the document has several meanings.
    """
    found = examine(document, name, size, crowd_as_object=crowd_as_object)
    if found.document is None:
        raise DocumentError(found.fatal[0])
    findings += found.findings
    return found.document


@collector_paused()
def examine(
    document: dict[str, Any],
    name: str,
    size: Size | None = None,
    *,
    crowd_as_object: bool = False,
    clip: bool = True,
) -> Examined:
    """Apply every rule.

    crowd_as_object: annotations with iscrowd 1 are objects (but our own ignore regions). clip=False: boxes that hang
    over the image's edge stay as written, as COCO's own evaluation takes them; the verdict is the same.
    """
    found = Examined(name)
    images = _images(document["images"], size, found)
    categories = _categories(document["categories"], document["annotations"], found)
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


def key_of(value: Any) -> Any:
    """An id as it is compared: 7, 7.0 and "7" are 7; other texts stay; None: this is not an id."""
    if type(value) is int:
        return value
    number = whole(value)
    return number if number is not None else value if isinstance(value, str) and value else None


def _images(items: list, size: Size | None, found: Examined) -> dict[Any, dict | None]:
    """{id as it is compared: image in our dialect, or None for one that is left out}."""
    images: dict[Any, dict | None] = {}
    first_id: dict[Any, int] = {}
    first_name: dict[str, int] = {}
    text_id = ""
    for i, item in enumerate(items):
        place = f"images[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str) or not item["file_name"]:
            found.refuse("B26", place, "needs an object with id, file_name, width and height")
            continue
        file_name, key = item["file_name"], key_of(item.get("id"))
        if key is None:
            found.refuse("B26", place, f"id {short(item.get('id'))}, needs a whole number or a text")
            continue
        if "\\" in file_name:
            found.say(WARNING, "B29", place, f'backslashes in file_name "{file_name}" read as slashes')
            file_name = file_name.replace("\\", "/")
        if key in first_id and items[first_id[key]] == item:
            found.say(WARNING, "B42", place, f"the same as images[{first_id[key]}]; read once")
            continue
        for what, value, first in (("id", key, first_id), ("file_name", file_name, first_name)):
            if first.setdefault(value, i) != i:
                text = f"{what} {short(value)} is already that of images[{first[value]}]"
                found.refuse("B42", place, text, "delete one of the two, its annotations too")
        if isinstance(key, str):
            text_id = text_id or f"{place}: id {short(key)}"
        elif type(item["id"]) is not int:
            found.say(WARNING, "B49", place, f"id {item['id']!r} read as {key}")
        if is_too_long(file_name):
            found.say(ERROR, "B38", place, f"file_name {short(file_name)} is longer than any file's name; left out")
            images[key] = None
            continue
        sides = _size(item, file_name, size, place, found)
        if file_name is item["file_name"] and type(item["id"]) is int and _written_size(item) == sides:
            images[key] = item  # shared with the document that was given: never changed below
        else:
            images[key] = sides and {**item, "id": key, "file_name": file_name, "width": sides[0], "height": sides[1]}
    if text_id:  # all of them are numbered, so that none stands between
        found.say(WARNING, "B49", text_id.partition(":")[0], f"{text_id.partition(': ')[2]} is a text; images numbered")
        found.image_ids = {key: number for number, key in enumerate(images, start=1)}
        for key, image in images.items():
            if image is not None:
                images[key] = {**image, "id": found.image_ids[key]}
    return images


def _written_size(item: dict) -> tuple[int, int] | str:
    """Width and height where both stand there as whole numbers."""
    width, height = item.get("width"), item.get("height")
    return (width, height) if type(width) is int and type(height) is int else "other"


def _size(item: dict, file_name: str, size: Size | None, place: str, found: Examined) -> tuple[int, int] | None:
    """Width and height; None where neither the document nor the picture gives them, which leaves the image out."""
    width, height = whole(item.get("width")), whole(item.get("height"))
    if width and height and min(width, height) > 0 and max(width, height) <= LARGEST_IMAGE_SIDE:
        return width, height
    says = f'"{file_name}" has size {short(item.get("width"))} x {short(item.get("height"))}'
    unsaid = all(item.get(side) in (None, -1, 0) for side in ("width", "height"))
    if unsaid and size is not None and (sides := size(file_name)) is not None:
        found.say(WARNING, "B52", place, f"{says}; taken from the picture: {sides[0]} x {sides[1]}")
        return sides
    needs = f"needs two whole numbers from 1 to {LARGEST_IMAGE_SIDE}"
    where = ", and the picture is not there" if unsaid and size is not None else ""
    if where:
        found.say(ERROR, "B52", place, f"{says}{where}; left out")
    else:
        found.refuse("B26", f'{place} "{file_name}"', f"size {says.partition(' has size ')[2]}, {needs}")
    return None


def _categories(items: list, annotations: list, found: Examined) -> dict[Any, dict]:
    """{id as it is compared: category in our dialect}."""
    categories: dict[Any, dict] = {}
    by_name: dict[str, Any] = {}
    spelling: dict[str, str] = {}
    text_id = ""
    if not items:
        found.refuse("B44", "categories", "no category at all, needs one or more")
    used: Counter | None = None
    for i, item in enumerate(items):
        place = f"categories[{i}]"
        key = key_of(item.get("id")) if isinstance(item, dict) else None
        if key is None or not isinstance(item.get("name"), str) or not item["name"].strip():
            found.refuse("B26", place, "needs an object with id and name")
            continue
        clean, wrong = clean_label(item["name"])
        if wrong:
            found.refuse("B37", place, wrong, "rename the class")
            continue
        if clean != item["name"]:
            found.say(WARNING, "B36", place, f"name {short(item['name'])} read as {short(clean)}")
        if categories.get(key, {}).get("name") == clean:
            found.say(WARNING, "B44", place, f"id {short(item['id'])}, name {short(clean)} a second time; read once")
            continue
        if key in categories:
            fix = "every class needs one id and one name"
            found.refuse("B44", place, f"the id {short(item['id'])} is already that of another category", fix)
            continue
        if clean in by_name:
            if used is None:
                used = Counter(key_of(a.get("category_id")) for a in annotations if isinstance(a, dict))
            other = by_name[clean]
            if used[key] and used[other]:
                text = f"the name {short(clean)} is already that of id {short(other)}"
                found.refuse("B44", place, text, "every class needs one id and one name")
                continue
            unused = key if not used[key] else other
            text = f"the name {short(clean)} stands twice; id {short(unused)}, which no annotation has, is left out"
            found.say(WARNING, "B44", place, text)
            if unused == key:
                continue
            del categories[other]
        elif spelling.setdefault(clean.casefold(), clean) != clean:
            other = spelling[clean.casefold()]
            text = f'"{clean}" beside "{other}": perhaps one class in two spellings'
            change = " ".join(map(shlex.quote, (found.name, f"{clean}={other}")))
            found.say(WARNING, "B36", place, text, f"make it one: frcnn rename {change} --out NEW.json")
        by_name[clean] = key
        text_id = text_id or (place if isinstance(key, str) else "")
        categories[key] = {**item, "id": key, "name": clean}
    _say_roots(categories, annotations, found)
    if text_id:
        found.say(WARNING, "B49", text_id, "ids of categories are texts; categories numbered")
        found.category_ids = {key: number for number, key in enumerate(categories, start=1)}
        for key, category in categories.items():
            category["id"] = found.category_ids[key]
    return categories


def _say_roots(categories: dict[Any, dict], annotations: list, found: Examined) -> None:
    """Name a category without objects that only groups the others, as Roboflow's category 0 does."""
    group = grouping_class(categories.values())
    if group is None or any(isinstance(a, dict) and key_of(a.get("category_id")) == group["id"] for a in annotations):
        return
    name = group["name"]
    text = f'"{name}" groups the others (it is their supercategory) and has no object, but counts as a class'
    fix = f"drop it: frcnn rename {shlex.quote(found.name)} {shlex.quote(name + '=')} --out NEW.json"
    found.say(NOTE, "B44", f'categories "{name}"', text, fix)


def grouping_class(categories: Collection[dict]) -> dict | None:
    """The category that is the supercategory of all others; None where there is none."""
    above = {c.get("supercategory") for c in categories}
    for one in categories if len(categories) > 1 else ():
        if one["name"] in above and all(c is one or c.get("supercategory") == one["name"] for c in categories):
            return one
    return None


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


def _say_crowds(annotations: list[dict], found: Examined) -> None:
    """Say that crowds are neither learned nor counted, where there are so many that they may be meant as objects."""
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
    """Whether the same object was kept before. While annotations come image by image, those of one image tell."""

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
    """Whether an id was given before. While they rise, the last one tells."""

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
                    remark(
                        WARNING,
                        "B43",
                        f'category_id is missing or null; read as the only class, "{categories[only]["name"]}"',
                    )
                    category_key = only
                if category_key not in categories:
                    lost.setdefault(category_key, []).append(i)
                    continue
                for name, key in (("image_id", image_key), ("category_id", category_key)):
                    if type(key) is int and type(item.get(name)) is not int and item.get(name) is not None:
                        remark(WARNING, "B49", f"{name} {item[name]!r} read as {key}")
                image = images[image_key]
                if image is None:
                    continue  # said with the image
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
