"""Rules for what all objects of a COCO document together give away: unused classes, boxes too small."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Iterator

from label_tools.document.category_rules import grouping_class
from label_tools.readers.alike_names import alike_finding
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.messages import counted

SMALL_SIDE = 8.0  # pixels: a quarter of torchvision's smallest anchor (32)


def statistics(document: dict, name: str) -> Iterator[Finding]:
    """Notes on a document as `coco.read` gives it."""
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
