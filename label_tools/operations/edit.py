"""Edit COCO files: merge them, rename and join classes, matched by name; new ids from 1. No input is overwritten."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from label_tools.document import coco_file
from label_tools.files.marked_folders import one_file
from label_tools.files.strict_reading import parse, read_text
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError


@dataclass(frozen=True)
class Edited:
    """A new document and the account: objects in = objects out + dropped + repeated."""

    document: dict
    objects_in: int  # an ignore region, which the file holds once per class, counts once
    dropped: int  # of classes that were dropped, or of a second file that disagrees about an image
    repeated: int  # the same object in two files or twice in one, kept once

    @property
    def objects_out(self) -> int:
        return self.objects_in - self.dropped - self.repeated


def read_pairs(pairs: Sequence[str]) -> dict[str, str | None]:
    """{old: new} of words `old=new`, {old: None} of `old=`. Raises InputError."""
    mapping: dict[str, str | None] = {}
    for pair in pairs:
        old, equals, new = pair.partition("=")
        if not equals or not old.strip():
            raise InputError(f"{pair!r}: needs OLD=NEW, for example hexnut=hex_nut, or OLD= to drop a class")
        _enter(mapping, old.strip(), new.strip() or None, "rename")
    return mapping


def read_mapping(path: Path) -> dict[str, str | None]:
    """Class name -> new name, or None to drop it. Lines `old=new`, `#` begins a comment; or a JSON object."""
    mapping: dict[str, str | None] = {}
    text = read_text(path)
    if text.lstrip().startswith("{"):
        for old, new in parse(text, os.fspath(path)).items():
            if new is not None and (not isinstance(new, str) or not new.strip()):
                raise InputError(f'{path}, "{old}": {new!r}, needs a class name or null')
            _enter(mapping, old.strip(), new and new.strip(), os.fspath(path))
    else:
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.partition("#")[0].strip()
            old, equals, new = line.partition("=")
            if line and (not equals or not old.strip()):
                raise InputError(f"{path}, line {number}: {line!r}, needs old=new, or old= to drop the class")
            if line:
                _enter(mapping, old.strip(), new.strip() or None, f"{path}, line {number}")
    if not mapping:
        raise InputError(f"{path}: no mapping in it, needs lines old=new")
    return mapping


def _enter(mapping: dict[str, str | None], old: str, new: str | None, where: str) -> None:
    if old in mapping:
        raise InputError(f'{where}: "{old}" is mapped twice')
    mapping[old] = new


def remap_file(path: Path, mapping: Mapping[str, str | None], out: Path, *, drop_others: bool = False) -> Edited:
    """`remap` of a COCO file, with the image root as it is seen from `out`."""
    document = coco_file.read(path, sizes=sizes_below)
    edited = remap(document, mapping, drop_others=drop_others, name=str(path))
    moved = coco_file.with_image_root(edited.document, coco_file.image_root(document, path), out.parent)
    return replace(edited, document=moved)


def write_edited(edited: Edited, out: Path, inputs: Sequence[Path]) -> None:
    """Write the new document. Raises InputError where `out` is an input, or a file that no such command wrote."""
    with one_file(out, "edit", inputs=inputs) as made:
        coco_file.write(edited.document, made)


def remap(
    document: dict, mapping: Mapping[str, str | None], *, drop_others: bool = False, name: str = "document"
) -> Edited:
    """Rename classes: equal new names become one class, None drops a class with its objects.

    All names change at once, so {a: b, b: a} swaps. All images stay, also those left without objects.
    Raises InputError: a name that is not a class of the document, nothing left.
    """
    old_names = {c["id"]: c["name"] for c in sorted(document["categories"], key=lambda c: c["id"])}
    unknown = [old for old in mapping if old not in old_names.values()]
    if unknown:
        raise InputError(f'{name}: no class "{unknown[0]}"; it has {", ".join(old_names.values())}')
    new_names = {i: mapping.get(old, None if drop_others else old) for i, old in old_names.items()}
    classes = list(dict.fromkeys(new for new in new_names.values() if new is not None))
    if not classes:
        raise InputError(f"{name}: no class would be left")
    ids = {new: number for number, new in enumerate(classes, start=1)}
    folded = coco_file.ignore_regions_once(document["annotations"])
    kept, dropped, repeated = [], 0, 0
    seen: set[str] = set()
    for annotation in folded:
        if not coco_file.is_ignore_region(annotation):
            new = new_names[annotation["category_id"]]
            if new is None:
                dropped += 1
                continue
            annotation = {**annotation, "category_id": ids[new]}
        key = _said(annotation)
        if key in seen:  # one object in two classes that are one now
            repeated += 1
            continue
        seen.add(key)
        kept.append(annotation)
    by_id = {c["id"]: c for c in document["categories"]}
    first = {new: by_id[i] for i, new in reversed(new_names.items()) if new is not None}  # of those that are one now
    categories = [{**first[new], "id": number, "name": new} for new, number in ids.items()]
    result = {**document, "annotations": _unfold(kept, list(ids.values())), "categories": categories}
    return Edited(result, len(folded), dropped, repeated)


def _unfold(annotations: Sequence[dict], category_ids: Sequence[int]) -> list[dict]:
    """Repeat ignore regions for each class again, as COCO's evaluation needs them; ids from 1."""
    result: list[dict] = []
    for annotation in annotations:
        ids = category_ids if coco_file.is_ignore_region(annotation) else [annotation["category_id"]]
        result += [{**annotation, "category_id": one, "id": len(result) + k} for k, one in enumerate(ids, 1)]
    return result


def _said(annotation: dict) -> str:
    """An annotation without its own id, to compare it with others of its image."""
    return repr(sorted((key, value) for key, value in annotation.items() if key != "id"))


def merge_files(paths: Sequence[Path], out: Path, same_image: str = "refuse") -> Edited:
    """Merge documents into one, to be written to `out`. Images are equal if they are the same file.

    file_name starts from the deepest folder that holds all image roots. Raises InputError: fewer than two files,
    two spellings of one class, one image with different objects, two white levels.
    """
    if len(paths) < 2:
        raise InputError(f"merge needs two files or more, got {len(paths)}")
    documents = [coco_file.read(path, sizes=sizes_below) for path in paths]
    roots = [Path(os.path.abspath(coco_file.image_root(d, path))) for d, path in zip(documents, paths)]
    try:
        common = Path(os.path.commonpath(roots))
    except ValueError as error:  # Windows: another drive
        raise InputError(f"{', '.join(map(str, roots))}: no folder holds all images") from error
    merged = _Merge(same_image)
    for path, document, root in zip(paths, documents, roots):
        merged.add(str(path), document, root, root.relative_to(common))
    opening = coco_file.joined_opening((path, coco_file.opening(d, str(path))) for d, path in zip(documents, paths))
    return merged.result({**opening, "image_root": coco_file.relative(common, os.path.abspath(out.parent))})


class _Merge:
    """A merge in progress. Images are identified by their real path, so links and .. make no second one."""

    def __init__(self, same_image: str) -> None:
        self.same_image = same_image
        self.images: list[dict] = []
        self.annotations: list[list[dict]] = []  # per image
        self.ids: dict[str, int] = {}  # class name -> id
        self.categories: list[dict] = []
        self.first: dict[str, tuple[int, str]] = {}  # real path -> index of the image, file that brought it
        self.count = self.dropped = self.repeated = 0

    def add(self, name: str, document: dict, root: Path, prefix: Path) -> None:
        new_ids = {c["id"]: self._category(c, name) for c in document["categories"]}

        def new_id(annotation: dict) -> int:  # an ignore region is of no class
            return 0 if coco_file.is_ignore_region(annotation) else new_ids[annotation["category_id"]]

        folded = coco_file.ignore_regions_once(document["annotations"])
        renamed = [{**a, "category_id": new_id(a)} for a in folded]
        of_image = coco_file.by_image({**document, "annotations": renamed})
        self.count += len(folded)
        for image in document["images"]:
            objects = [{**a, "image_id": 0} for a in of_image.get(image["id"], [])]
            path = os.path.realpath(root / image["file_name"])
            if path in self.first:
                self._again(name, image, objects, *self.first[path])
                continue
            self.first[path] = len(self.images), name
            file_name = (PurePosixPath(prefix.as_posix()) / image["file_name"]).as_posix()
            self.images.append({**image, "file_name": file_name})
            self.annotations.append(objects)

    def _category(self, category: dict, name: str) -> int:
        for known in self.ids:
            if known != category["name"] and known.casefold() == category["name"].casefold():
                pair = shlex.quote(f"{category['name']}={known}")
                fix = f"first: frcnn rename {shlex.quote(name)} {pair} --out NEW.json"
                raise InputError(f'{name}: class "{category["name"]}" beside "{known}" of another file; {fix}')
        if category["name"] not in self.ids:
            self.ids[category["name"]] = len(self.ids) + 1
            self.categories.append({**category, "id": len(self.ids)})
        return self.ids[category["name"]]

    def _again(self, name: str, image: dict, objects: list[dict], index: int, other: str) -> None:
        """Handle an image whose file is already in the merged document."""
        before = self.annotations[index]
        known = {_said(a) for a in before}
        new = [a for a in objects if _said(a) not in known]
        if (new or len(objects) != len(before)) and self.same_image == "refuse":
            raise InputError(
                f"{name}: image {image['file_name']} is in {other} too, with other objects ({len(before)} there, "
                f"{len(objects)} here); choose --same-image first or --same-image join"
            )
        self.repeated += len(objects) - len(new)
        if self.same_image == "join":
            before.extend(new)
        else:
            self.dropped += len(new)

    def result(self, info: dict) -> Edited:
        order = sorted(range(len(self.images)), key=lambda i: self.images[i]["file_name"])
        images = [{**self.images[i], "id": number} for number, i in enumerate(order, start=1)]
        annotations = [
            {**annotation, "image_id": number}
            for number, i in enumerate(order, 1)
            for annotation in self.annotations[i]
        ]
        document = {
            "info": info,
            "images": images,
            "annotations": _unfold(annotations, list(self.ids.values())),
            "categories": self.categories,
        }
        return Edited(document, self.count, self.dropped, self.repeated)
