"""Rules across the parts of a data set (train.json, val.json, test.json): equal classes, no picture in two parts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

from label_tools.pictures.duplicates import Fingerprint, copies_by_name, look_alike, same_pixels
from label_tools.text.findings import ERROR, WARNING, Finding
from label_tools.text.messages import counted


def classes_of_parts(documents: dict[str, dict]) -> Iterator[Finding]:
    """Compare the classes of several documents {name: document}; the first is the training set."""
    names = list(documents)
    classes = {name: [c["name"] for c in _by_id(documents[name])] for name in names}
    ids = {name: [(c["id"], c["name"]) for c in _by_id(documents[name])] for name in names}
    for other in names[1:]:
        if ids[other] != ids[names[0]]:
            text = f"categories {classes[other]} are not those of {names[0]} {classes[names[0]]}"
            yield Finding("B54", ERROR, other, "categories", text, "split one file, so that ids agree")
            continue
        seen, held = _held(documents[names[0]]), _held(documents[other])
        for name in sorted(held - seen):
            text = f'holds "{name}", of which {names[0]} has no object: the model cannot learn it'
            yield Finding("B54", WARNING, other, "categories", text, "split again, or label more")


def files_in_two_parts(roots: dict[str, tuple[Path, dict]]) -> Iterator[Finding]:
    """B53 without opening an image: one file, or copies of one photograph by their names, in two parts.

    roots: document name -> (image root, document).
    """
    first: dict[str, str] = {}
    for name, (root, document) in roots.items():
        for image in document["images"]:
            path = os.path.realpath(root / image["file_name"])
            if first.setdefault(path, name) != name:
                text = f"{image['file_name']} is an image of {first[path]} too"
                yield Finding("B53", ERROR, name, f"image {image['id']}", text, "an image belongs to one part")
    files = [(name, image["file_name"]) for name, (_, document) in roots.items() for image in document["images"]]
    # a part may be a folder of its own: the names count, not the folders
    copies = copies_by_name([PurePosixPath(file).name for _, file in files])
    torn = [[files[k] for k in group] for group in copies if len({files[k][0] for k in group}) > 1]
    if torn:
        shown = ", ".join(f"{file} ({name})" for name, file in torn[0][:3])
        text = f"{counted(len(torn), 'photograph')} with copies in two parts, by their names; the first: {shown}"
        yield Finding("B53", WARNING, torn[0][0][0], "images", text, "split again; it keeps copies together")


def pictures_in_two_parts(prints: dict[str, Sequence[tuple[str, Fingerprint]]]) -> Iterator[Finding]:
    """B53: one picture in two parts. prints: document name -> (file name, fingerprint) of its images."""
    where = [(name, file) for name, items in prints.items() for file, _ in items]
    every = [one for items in prints.values() for _, one in items]
    for group in same_pixels(every):
        if len({where[index][0] for index in group}) > 1:
            listed = ", ".join(f"{where[index][1]} ({where[index][0]})" for index in group)
            text = f"the same picture in two parts: {listed}"
            yield Finding("B53", ERROR, where[group[0]][0], "images", text, "split again; it keeps copies together")
    for pair in look_alike(every):
        (part, file), (other, like) = where[pair.i], where[pair.j]
        if part != other:
            text = f"{file} looks like {like} of {other} ({pair})"
            yield Finding("B53", WARNING, part, "images", text, "split again; it keeps look-alikes together")


def _by_id(document: dict) -> list[dict]:
    return sorted(document["categories"], key=lambda category: category["id"])


def _held(document: dict) -> set[str]:
    names = {category["id"]: category["name"] for category in document["categories"]}
    return {names[a["category_id"]] for a in document["annotations"] if not a["iscrowd"]}
