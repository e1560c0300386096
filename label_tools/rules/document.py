"""Rules for a COCO document as a whole: what makes it ambiguous, and what all its objects together give away.

`ambiguities` finds every fault for which the reader refuses the whole file (it stops at the first; here all are
listed). `statistics` looks at the document after reading: classes without objects, boxes too small to learn.
"""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from label_tools.document.coco_rules import refuse_other_box_formats
from label_tools.readers.alike_names import alike_finding
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.messages import counted

SMALL_SIDE = 8.0  # pixels: a quarter of torchvision's smallest anchor (32)


def ambiguities(document: dict, name: str) -> Iterator[Finding]:
    """Duplicate images, categories or names, annotations of unknown categories, boxes in another format."""
    yield from _images(document["images"], name)
    known = yield from _categories(document["categories"], name)
    lost: dict[object, list[int]] = {}
    for i, item in enumerate(document["annotations"]):
        if isinstance(item, dict) and _key(item.get("category_id")) not in known:
            lost.setdefault(_key(item.get("category_id")), []).append(i)
    for category, where in lost.items():
        text = f"category_id {category!r} of {counted(len(where), 'annotation')} is no category of this file"
        yield Finding("B43", ERROR, name, f"annotations[{where[0]}]", text, "add the category, or mend the id")
    images = {_key(i.get("id")): i for i in document["images"] if isinstance(i, dict) and _has_size(i)}
    try:
        refuse_other_box_formats(document, images, name)
    except InputError as error:
        text = str(error).removeprefix(f"{name}: ")
        yield Finding("B47" if "x1, y1, x2, y2" in text else "B48", ERROR, name, "", text)


def _images(items: list, name: str) -> Iterator[Finding]:
    first_id: dict[object, int] = {}
    first_name: dict[object, int] = {}
    for i, item in enumerate(items):
        place = f"images[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str) or "id" not in item:
            yield Finding("B26", ERROR, name, place, "needs an object with id, file_name, width and height")
            continue
        if not _has_size(item):
            size = f"size {item.get('width')!r} x {item.get('height')!r}, needs two whole numbers above 0"
            yield Finding("B26", ERROR, name, f'{place} "{item["file_name"]}"', size)
        for key, first, what in (
            (_key(item["id"]), first_id, f"id {item['id']!r}"),
            (item["file_name"], first_name, f'file_name "{item["file_name"]}"'),
        ):
            if first.setdefault(key, i) != i:
                mend = "delete one of the two, its annotations too"
                yield Finding("B42", ERROR, name, place, f"{what} is already that of images[{first[key]}]", mend)


def _categories(items: list, name: str) -> Iterator[Finding]:
    """Findings; returns the keys of the known category ids."""
    first_id: dict[object, int] = {}
    first_name: dict[str, int] = {}
    spelling: dict[str, str] = {}
    for i, item in enumerate(items):
        place = f"categories[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("name"), str) or "id" not in item:
            yield Finding("B26", ERROR, name, place, "needs an object with id and name")
            continue
        clean = item["name"].strip()
        for key, first, what in (
            (_key(item["id"]), first_id, f"id {item['id']!r}"),
            (clean, first_name, f'name "{clean}"'),
        ):
            if first.setdefault(key, i) != i:
                text = f"the {what} is already that of categories[{first[key]}]"
                yield Finding("B44", ERROR, name, place, text, "every class needs one id and one name")
        other = spelling.setdefault(clean.casefold(), clean)
        if other != clean:
            text = f'"{clean}" beside "{other}": the same class in two spellings?'
            yield Finding("B36", WARNING, name, place, text, f"merge them: frcnn rename {clean}={other}")
    if not items:
        yield Finding("B44", ERROR, name, "categories", "no category at all, needs one or more")
    return set(first_id)


def statistics(document: dict, name: str) -> Iterator[Finding]:
    """Notes on a document as `coco.read` gives it."""
    objects = [a for a in document["annotations"] if not a["iscrowd"]]
    if not objects:
        yield Finding("B54", ERROR, name, "annotations", "no object at all: nothing can be learned from this file")
        return
    counts = Counter(a["category_id"] for a in objects)
    unused = [f'"{c["name"]}"' for c in document["categories"] if not counts[c["id"]]]
    if unused:
        classes = counted(len(document["categories"]), "class", "classes")
        text = f"no object of {len(unused)} of {classes}: {', '.join(unused)}"
        yield Finding("B54", WARNING, name, "categories", text, "label some, or remove them")
    small = sum(min(a["bbox"][2:]) < SMALL_SIDE for a in objects)
    if small:
        text = f"{small} of {counted(len(objects), 'box', 'boxes')} under {SMALL_SIDE:g} pixels wide or high"
        yield Finding("B17", NOTE, name, "annotations", text, "a larger --min-size lets the model see them")


def alike_names(document: dict, name: str) -> Iterator[Finding]:
    """B36: classes with objects whose names are nearly alike."""
    names = {category["id"]: category["name"] for category in document["categories"]}
    counts = Counter(names[a["category_id"]] for a in document["annotations"] if not a["iscrowd"])
    yield from alike_finding(counts, name, "categories", annotations=shlex.quote(name))


def _has_size(image: dict) -> bool:
    return all(type(image.get(key)) is int and image[key] > 0 for key in ("width", "height"))


def _key(value: object) -> object:
    """An id as the reader understands it: 7, 7.0 and "7" are one."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and len(value) <= 18 and value.strip().lstrip("-").isdecimal():
        return int(value)
    return value if isinstance(value, int | str | float | None) else repr(value)
