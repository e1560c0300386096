"""A Reading: the images and findings of any reader, and the code that the readers share."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from label_tools.files.pause_gc import collector_paused
from label_tools.formats.image_records import ImageRecord, Tally, new_record
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.pictures.open_image import SUFFIXES
from label_tools.pictures.own_output import is_drawing
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError

UNLABELED = "images without labels (--unlabeled-is-negative uses them as images without objects)"


@dataclass
class Reading:
    """The result of a reader: the images, sorted by file name, and the account so far."""

    source: Path
    image_root: Path
    records: list[ImageRecord]
    tally: Tally
    names: list[str] | None = None  # the classes in their order, where the set states them
    opening: dict[str, Any] = field(default_factory=dict)  # `coco_file.opening` of a COCO file that was read

    def __post_init__(self) -> None:
        self.records.sort(key=lambda record: record.file_name.split("/"))


def image_folder(source: Path, given: str | os.PathLike | None, usual: Sequence[str] = ()) -> Path:
    """The folder of the images: as given, else one of a usual name in `source`, else `source`. Raises InputError."""
    inside = (source / name for name in usual if (source / name).is_dir())
    folder = Path(given) if given is not None else next(inside, source)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; --image-root DIR names the folder of the images")
    return folder


def with_bar(items: Iterable) -> Iterable:
    """Iterate with a progress bar, if stderr is a terminal."""
    from tqdm import tqdm

    return tqdm(items, "reading", disable=None, leave=False)


@collector_paused()
def read_each(
    paths: Sequence[str], read: Callable[[str], tuple[ImageRecord | None, Tally]], tally: Tally
) -> list[ImageRecord]:
    """Read label files of one picture each by `read(path)`; files without a record are counted in the tally."""
    records = []
    for path in with_bar(paths):
        record, one = read(path)
        tally.add(one)
        if record is not None:
            records.append(record)
        elif one.findings:  # a file of our own has none
            tally.refused_images.append(path)
    return records


def add_unlabeled(records: list[ImageRecord], images: ImageFolder, as_negatives: bool, tally: Tally) -> None:
    """Count the unlabelled images of the root, or add them as images without objects (B34).

    Drawings by `draw` do not count, nor do images whose labels were refused: they are known to have
    objects. An unreadable label file stands for the image of the same name.
    """
    labelled = {record.file_name for record in records}
    refused = {os.path.abspath(path) for path in tally.refused_images}
    refused_stems = {os.path.splitext(path)[0] for path in refused}
    for path in walk(images.root, SUFFIXES):
        try:
            if images.file_name(path) in labelled or path in refused or os.path.splitext(path)[0] in refused_stems:
                continue
            if is_drawing(path):
                continue
            if not as_negatives:
                tally.skipped[UNLABELED] += 1
                continue
            images.check_links(path, os.path.basename(path))
            records.append(new_record(images, path, images.info(path), path, lambda *_: None))
        except RefusedError as error:
            tally.drop_image(error, path, "", 0)
