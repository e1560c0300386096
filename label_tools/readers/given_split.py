"""Find the split that a data set already has: folders train, val, test; VOC's lists; one COCO file for each part."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath, PurePosixPath

from label_tools.document.stratified_split import PARTS
from label_tools.files.strict_reading import read_lines
from label_tools.formats.image_records import ImageRecord
from label_tools.pictures.open_image import SUFFIXES

_NAME = re.compile(r"(train|val|test)(?:ing|id|idation)?(?:\d{4})?")
_FILE = re.compile(rf"(?:^|[_-]){_NAME.pattern}$")
_LISTS = ("ImageSets/Main", "ImageSets", "ImageSets/Segmentation", ".", "data")


def part_named(name: str) -> str | None:
    """The part ("train", "val" or "test") that a folder's name means: train2017, valid, Validation, testing, ..."""
    match = _NAME.fullmatch(name.lower())
    return match[1] if match else None


def part_of_folders(folders: Sequence[str]) -> str | None:
    """The part named by the innermost of these folders that names one."""
    return next((part for name in reversed(folders) if (part := part_named(name))), None)


def given_parts(source: Path, records: Iterable[ImageRecord]) -> dict[str, list[ImageRecord]]:
    """{"train": its images, ...} of the set's own split, in the order of PARTS; {} where it has none.

    An image belongs to the part whose name a folder on its path has, or the COCO file that names it; else to the one
    whose list has it (ImageSets/Main/train.txt, train.txt). It is a split only if every image has a part and there are
    two parts or more.
    """
    lists = _lists(source)
    parts: dict[str, list[ImageRecord]] = {name: [] for name in PARTS}
    for record in records:
        part = _of_folders(record, source) or lists.get(_stem(record.file_name))
        if part is None:
            return {}
        parts[part].append(record)
    kept = {name: some for name, some in parts.items() if some}
    return kept if len(kept) > 1 else {}


def part_of_file(path: Path, source: Path) -> str | None:
    """The part that a COCO file below `source` is, by its name or its folder: instances_val2017.json, valid/x.json."""
    label = PurePath(os.path.relpath(path, source))
    match = _FILE.search(label.stem.lower())
    return match[1] if match else part_of_folders(label.parts[:-1])


def parts_in(folder: Path) -> dict[str, Path]:
    """{part: its COCO file} in a folder of the usual layouts; {} where there is none.

    train.json, val.json, test.json as `split` writes them; train/_annotations.coco.json (Roboflow);
    annotations/instances_train2017.json (COCO, CVAT).
    """
    files = {part: file for part in PARTS if (file := folder / f"{part}.json").is_file()}
    for pattern in () if "train" in files else ("*/_annotations.coco.json", "annotations/instances_*.json"):
        found = [(part_of_file(file, folder), file) for file in sorted(folder.glob(pattern))]
        of_part = {part: file for part, file in found if part is not None}
        if "train" in of_part and len(of_part) == len(found):
            return {part: of_part[part] for part in PARTS if part in of_part}
    return files


def _of_folders(record: ImageRecord, source: Path) -> str | None:
    """The part by the innermost folder named after one, of the image, else of the label file; or by the name of a file
    of many images, as COCO's are. A LabelMe file is called as its image is, which may be dog_train.jpg."""
    if part := part_of_folders(PurePath(record.file_name).parts[:-1]):
        return part
    name, of_many, _ = record.source.partition(", image")
    file = Path(name)
    is_named = of_many and file.suffix.lower() == ".json"
    return part_of_file(file if is_named else file.parent / "x", source)


def _stem(path: str) -> str:
    name = PurePosixPath(path.replace("\\", "/")).name
    return os.path.splitext(name)[0] if name.lower().endswith(SUFFIXES) else name


def _lists(source: Path) -> dict[str, str]:
    """Stem of an image -> its part, by Pascal VOC's lists, or those of YOLO and darknet, which have a path a line. A
    stem in two parts has none."""
    part_of: dict[str, str] = {}
    for folder in _LISTS:
        for file in sorted((source / folder).glob("*.txt")):
            part = part_named(file.stem)
            if part is None:
                continue
            for line in read_lines(file):
                stem = line.strip() if line.strip().lower().endswith(SUFFIXES) else line.partition(" ")[0].strip()
                stem = _stem(stem)
                if stem and part_of.setdefault(stem, part) != part:
                    part_of[stem] = ""
        if part_of:
            break
    return {stem: part for stem, part in part_of.items() if part}
