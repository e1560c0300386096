"""A folder of Pascal VOC files (*.xml) -> a Reading, as of LabelMe files and masks."""

from __future__ import annotations

import os
from pathlib import Path

from label_tools.formats import voc
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.pictures.open_image import MAX_PIXELS
from label_tools.readers.reading import Reading, add_unlabeled, read_each
from label_tools.shapes.instances import Tally
from label_tools.text.errors import InputError


def read_voc(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    one_based: bool = False,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> Reading:
    """All VOC files (*.xml) below `source`. Raises InputError.

    image_root: the folder of all images; default: source/JPEGImages where there is one, else `source`.
    """
    source = Path(source)
    usual = (source / name for name in ("JPEGImages", "images"))
    root = Path(image_root) if image_root is not None else next((one for one in usual if one.is_dir()), source)
    for folder in (source, root):
        if not folder.is_dir():
            raise InputError(f"{folder}: no such folder")
    files = walk(source, (".xml",))
    if not files:
        raise InputError(f"{source}: no VOC file (*.xml) in it")
    images = ImageFolder(root, max_pixels=max_pixels, follow_links=follow_links)
    tally = Tally()
    records = read_each(files, lambda path: voc.read_file(path, images, one_based=one_based), tally)
    add_unlabeled(records, images, unlabeled_is_negative, tally)
    return Reading(source, root, records, tally)
