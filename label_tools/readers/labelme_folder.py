"""A folder of LabelMe files, and of folders of them -> a Reading."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from label_tools.files.pause_gc import collector_paused
from label_tools.formats.labelme import check_image_shape, read_file
from label_tools.formats.labelme_shapes import Options
from label_tools.pictures.drawings import is_drawing
from label_tools.pictures.find_image import ImageFolder, walk
from label_tools.pictures.open_image import MAX_PIXELS, SUFFIXES
from label_tools.readers.to_coco import Reading
from label_tools.shapes.instances import ImageRecord, RefusedError, Tally
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, Finding

Progress = Callable[[Iterable, int], Iterable]  # tqdm-like: wraps an iterable of known length
UNLABELED = "images without labels (--unlabeled-is-negative uses them as images without objects)"


def read_folder(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    extract_images: str | os.PathLike | None = None,
    options: Options | None = None,
    unlabeled_is_negative: bool = False,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
    progress: Progress | None = None,
) -> Reading:
    """All LabelMe files below `source` (or the one file that it is), sorted by the name of their image.

    image_root: the folder that file_name starts from and that no image may lie outside; default: `source`.
    extract_images: write images that are only embedded in their label file to this folder; the image root then is
    the folder that holds both.
    unlabeled_is_negative: images without a label file are images without objects; else they are counted only.
    Raises InputError when there is nothing to read.
    """
    source = Path(source)
    if source.is_file():
        files, source = [(str(source.parent), source.name)], source.parent
        alone = True
    elif source.is_dir():
        files, alone = walk(source, (".json",)), False
    else:
        raise InputError(f"{source}: no such file or folder")
    root = Path(image_root) if image_root is not None else source
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; --image-root is the folder of the images")
    if not files:
        raise InputError(f"{source}: no LabelMe file (*.json) in it")
    paths = [os.path.join(folder, name) for folder, name in files]
    options = options or Options()
    if extract_images is not None:
        target = os.path.abspath(extract_images)
        options = replace(options, extract_to=target, source=str(source))
        root = Path(os.path.commonpath([os.path.abspath(root), target]))
    images = ImageFolder(root, max_pixels=max_pixels, follow_links=follow_links)
    tally, records = Tally(), []
    with collector_paused():
        for path in progress(paths, len(paths)) if progress else paths:
            record, one = read_file(os.path.abspath(path), path, images, options)
            tally.add(one)
            if record is not None:
                records.append(record)
            elif one.findings:  # a file of our own has none
                tally.refused_images.append(path)
    if not records and not tally.findings:  # all of them are files of our own
        raise InputError(f"{source}: no LabelMe file (*.json) in it")
    if not alone:
        add_unlabeled(records, images, unlabeled_is_negative, tally)
    return Reading(source, root, records, tally)


def add_unlabeled(records: list[ImageRecord], images: ImageFolder, as_negatives: bool, tally: Tally) -> None:
    """Count the images of the root that nobody labelled; or take them as images without objects (B34).

    A picture that `draw` made is none of them, nor is an image whose labels were refused: it is known not to be without
    objects. Where the label file could not even be read, its image is the one of the same name.
    """
    labelled = {record.file_name for record in records}
    refused = {os.path.abspath(path) for path in tally.refused_images}
    refused_stems = {os.path.splitext(path)[0] for path in refused}
    for folder, name in walk(images.root, SUFFIXES):
        path = os.path.join(folder, name)
        try:
            file_name = images.file_name(path)
            if file_name in labelled or path in refused or os.path.splitext(path)[0] in refused_stems:
                continue
            if is_drawing(path):
                continue
            if not as_negatives:
                tally.skipped[UNLABELED] += 1
                continue
            images.check_links(path, name)
            info = images.info(path)
            check_image_shape(info.width, info.height, lambda *_: None)
            records.append(ImageRecord(file_name, info.width, info.height, [], path))
        except RefusedError as error:
            tally.skipped["images left out"] += 1
            tally.findings.append(Finding(error.code, ERROR, path, "", error.text, error.fix))
