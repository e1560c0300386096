"""The split that a set already has, so that it is kept: folders train, val, test; Pascal VOC's lists; a COCO file each."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable
from pathlib import Path, PurePath

from label_tools.shapes.instances import ImageRecord
from label_tools.text.errors import InputError

PARTS = ("train", "val", "test")
_NAME = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:\d{4})?")
_FILE = re.compile(rf"(?:^|[_-]){_NAME.pattern}$")
_LISTS = ("ImageSets/Main", "ImageSets", "ImageSets/Segmentation")


def part_named(name: str) -> str | None:
    """"train", "val" or "test", where a folder's name means one: train2017, valid, Validation, testing, ..."""
    match = _NAME.fullmatch(name.lower())
    return match[1] if match else None


def given_parts(source: Path, records: Iterable[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """{"train": its images, ...} of the set's own split, in the order of PARTS; {} where it has none.

    An image belongs to the part whose name a folder on its path has, or the COCO file that names it; else to the one
    whose list in ImageSets has it. It is a split where every image has its part and there are two parts or more.
    """
    lists = _lists(source)
    parts: dict[str, list[ImageRecord]] = {name: [] for name in PARTS}
    for record in records:
        part = _of_folders(record, source) or lists.get(PurePath(record.file_name).stem)
        if part is None:
            return {}
        parts[part].append(record)
    kept = {name: some for name, some in parts.items() if some}
    return kept if len(kept) > 1 else {}


def _of_folders(record: ImageRecord, source: Path) -> str | None:
    """The part by the innermost folder or COCO file that has the name of one."""
    folders = PurePath(record.file_name).parts[:-1]
    label = PurePath(os.path.relpath(record.source.partition(", ")[0], source))
    match = _FILE.search(label.stem.lower()) if label.suffix.lower() == ".json" else None
    names = [*label.parts[:-1], *folders]
    return next((p for name in reversed(names) if (p := part_named(name))), match[1] if match else None)


def _lists(source: Path) -> dict[str, str]:
    """Stem of an image -> its part, by Pascal VOC's lists. A stem in two parts has none."""
    part_of: dict[str, str] = {}
    for folder in _LISTS:
        for part in PARTS:
            file = source / folder / f"{part}.txt"
            if not file.is_file():
                continue
            try:
                lines = file.read_text(encoding="utf-8-sig").splitlines()
            except (OSError, UnicodeDecodeError) as error:
                raise InputError(f"{file}: cannot be read: {error}") from error
            for line in lines:
                stem = line.split()[0] if line.split() else ""
                if stem and part_of.setdefault(stem, part) != part:
                    part_of[stem] = ""
        if part_of:
            break
    return {stem: part for stem, part in part_of.items() if part}
