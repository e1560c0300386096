"""Repair the images and categories of a COCO document: ids, file names, sizes, class names, classes given twice."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Callable, Collection
from typing import Any

from label_tools.document.coco_values import short, whole
from label_tools.document.repairs_found import Examined, key_of
from label_tools.text.clean_label import clean_label
from label_tools.text.findings import ERROR, NOTE, WARNING

LARGEST_IMAGE_SIDE = 1_000_000
Size = Callable[[str], tuple[int, int] | None]  # file_name -> width and height of the picture, None: it is not there


def images_of(items: list, size: Size | None, found: Examined) -> dict[Any, dict | None]:
    """{id as it is compared: image in our dialect, or None for one that is left out}."""
    images: dict[Any, dict | None] = {}
    first_id: dict[Any, int] = {}
    first_name: dict[str, int] = {}
    text_id: tuple[str, str] | None = None  # the first: its place, what is said of it
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
            text_id = text_id or (place, f"id {short(key)} is a text; images numbered")
        elif type(item["id"]) is not int:
            found.say(WARNING, "B49", place, f"id {item['id']!r} read as {key}")
        if is_too_long(file_name):
            found.say(ERROR, "B38", place, f"file_name {short(file_name)} is longer than any file's name; left out")
            images[key] = None
            continue
        sides = _size(item, file_name, size, place, found)
        whole_numbers = all(type(item.get(name)) is int for name in ("id", "width", "height"))
        if file_name is item["file_name"] and whole_numbers and sides == (item["width"], item["height"]):
            images[key] = item  # shared with the document that was given: never changed below
        else:
            images[key] = sides and {**item, "id": key, "file_name": file_name, "width": sides[0], "height": sides[1]}
    if text_id:  # all of them are numbered, so that none stands between
        found.say(WARNING, "B49", *text_id)
        found.image_ids = {key: number for number, key in enumerate(images, start=1)}
        for key, image in images.items():
            if image is not None:
                images[key] = {**image, "id": found.image_ids[key]}
    return images


def is_too_long(file_name: str) -> bool:
    """Whether a path is too long for any disk: a part over 255 bytes, or 4096 in all."""
    parts = file_name.encode(errors="replace").split(b"/")
    return max(map(len, parts)) > 255 or sum(map(len, parts)) + len(parts) > 3000  # the folder before it counts, too


def _size(item: dict, file_name: str, size: Size | None, place: str, found: Examined) -> tuple[int, int] | None:
    """Width and height; None where neither the document nor the picture gives them, which leaves the image out."""
    width, height = whole(item.get("width")), whole(item.get("height"))
    if width and height and min(width, height) > 0 and max(width, height) <= LARGEST_IMAGE_SIDE:
        return width, height
    stated = f"{short(item.get('width'))} x {short(item.get('height'))}"
    unsaid = all(item.get(side) in (None, -1, 0) for side in ("width", "height"))
    if unsaid and size is not None and (sides := size(file_name)) is not None:
        text = f'"{file_name}" has size {stated}; taken from the picture: {sides[0]} x {sides[1]}'
        found.say(WARNING, "B52", place, text)
        return sides
    if unsaid and size is not None:
        found.say(ERROR, "B52", place, f'"{file_name}" has size {stated}, and the picture is not there; left out')
    else:
        needs = f"needs two whole numbers from 1 to {LARGEST_IMAGE_SIDE}"
        found.refuse("B26", f'{place} "{file_name}"', f"size {stated}, {needs}")
    return None


def categories_of(items: list, annotations: list, found: Examined) -> dict[Any, dict]:
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
    """Report a category without objects that only groups the others, as Roboflow's category 0 does."""
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
