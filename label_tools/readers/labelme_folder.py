"""Read a folder of LabelMe files into a Reading."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from label_tools.formats.image_records import Tally
from label_tools.formats.labelme import read_file
from label_tools.formats.labelme_shapes import Options
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.readers.reading import Reading, add_unlabeled, image_folder, read_each
from label_tools.text.errors import InputError
from label_tools.text.rule_limits import MAX_PIXELS


def read_labelme(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    extract_images: str | os.PathLike | None = None,
    options: Options | None = None,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """Read all LabelMe files below `source`, or the file `source`, sorted by the names of their images.

    image_root: the folder that file_name starts from and that no image may lie outside; default: `source`.
    extract_images: write images that are only embedded in their label file to this folder; the image root then is
    the folder that holds both.
    unlabeled_is_negative: images without a label file are images without objects; else they are counted only.
    Raises InputError when there is nothing to read.
    """
    source = Path(source)
    alone = source.is_file()
    if alone:
        paths, source = [str(source)], source.parent
    elif source.is_dir():
        paths = walk(source, (".json",))
    else:
        raise InputError(f"{source}: no such file or folder")
    root = image_folder(source, image_root)
    options = options or Options()
    if extract_images is not None:
        target = os.path.abspath(extract_images)
        options = replace(options, extract_to=target, source=str(source))
        root = Path(os.path.commonpath([os.path.abspath(root), target]))
    images = ImageFolder(root, max_pixels=max_pixels, follow_links=follow_links)
    tally = Tally()
    records = read_each(paths, lambda path: read_file(os.path.abspath(path), path, images, options), tally)
    if not records and not tally.findings:  # none at all, or all of them are files of our own
        raise InputError(f"{source}: no LabelMe file (*.json) in it")
    if not alone:
        add_unlabeled(records, images, unlabeled_is_negative, tally)
    return Reading(source, root, records, tally)
