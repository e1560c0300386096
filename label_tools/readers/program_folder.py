"""Read a folder of a labelling program's files into a Reading: CVAT, Label Studio, VIA, Unity, Pascal VOC."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from label_tools.files.strict_reading import loads, parse_xml
from label_tools.formats import cvat, label_studio, unity, via, voc
from label_tools.formats.image_records import Described, Tally, read_pictures
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.readers.reading import Reading, add_unlabeled, image_folder, read_each, with_bar
from label_tools.text.errors import InputError
from label_tools.text.rule_limits import MAX_PIXELS


@dataclass(frozen=True)
class Program:
    """title: for messages. endings: of its label files. is_its: whether a JSON content or XML root is one of them.

    others: other pictures, such as Unity's masks, lie among the photographs; unlabelled ones are not counted.
    """

    title: str
    endings: tuple[str, ...]
    is_its: Callable[[Any], bool]
    describe: Callable[..., Iterable[Described]]
    others: bool = False


PROGRAMS = {
    "cvat": Program("CVAT XML 1.1", (".xml",), cvat.is_cvat, cvat.describe),
    "labelstudio": Program("Label Studio JSON", (".json",), label_studio.is_label_studio, label_studio.describe),
    "via": Program("VIA JSON or CSV", (".json", ".csv"), via.is_via, via.describe),
    "unity": Program("Unity Perception", (".json",), unity.is_unity, unity.describe, others=True),
}


def read_program(
    program: str,
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    class_attribute: str | None = None,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Read the file `source`, or all files of a program below the folder `source`. program: a key of PROGRAMS.

    image_root: default: the folder `images` beside the file or in the folder where there is one, else that folder.
    class_attribute: VIA: the region attribute that is the class. Raises InputError.
    """
    chosen = PROGRAMS[program]
    source = Path(source)
    files = _files(source, chosen)
    folder = source if source.is_dir() else source.parent
    root = image_folder(folder, image_root, ("images",))
    describe = partial(chosen.describe, attribute=class_attribute) if class_attribute else chosen.describe
    images = ImageFolder(root, max_pixels=max_pixels, follow_links=follow_links)
    records, tally = [], Tally()
    for path in with_bar(files):
        some, one = read_pictures(describe, path, images)
        tally.add(one)
        records += some
    if not chosen.others:
        add_unlabeled(records, images, unlabeled_is_negative, tally)
    return Reading(folder, root, records, tally)


def read_voc(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    one_based: bool = False,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Read all VOC files (*.xml) below `source`. Raises InputError.

    image_root: the folder of all images; default: source/JPEGImages where there is one, else `source`.
    """
    source = Path(source)
    if not source.is_dir():
        raise InputError(f"{source}: no such folder")
    root = image_folder(source, image_root, ("JPEGImages", "images"))
    files = walk(source, (".xml",))
    if not files:
        raise InputError(f"{source}: no VOC file (*.xml) in it")
    images = ImageFolder(root, max_pixels=max_pixels, follow_links=follow_links)
    tally = Tally()
    records = read_each(files, lambda path: voc.read_file(path, images, one_based=one_based), tally)
    add_unlabeled(records, images, unlabeled_is_negative, tally)
    return Reading(source, root, records, tally)


def _files(source: Path, program: Program) -> list[str]:
    if source.is_file():
        return [str(source)]
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder")
    files = [path for path in walk(source, program.endings) if _is_its(path, program)]
    if not files:
        raise InputError(f"{source}: no file of {program.title} in it")
    return files


def _is_its(path: str, program: Program) -> bool:
    """Whether a file is one of the program's; True for an unreadable one, so that the error is reported."""
    try:
        if path.lower().endswith(".csv"):
            with open(path, "rb") as file:
                return file.readline().decode("utf-8", "replace").lstrip("\ufeff#").strip() == via.CSV_HEAD
        return program.is_its(
            parse_xml(path) if path.lower().endswith(".xml") else loads(Path(path).read_bytes(), path)
        )
    except (OSError, InputError):
        return True
