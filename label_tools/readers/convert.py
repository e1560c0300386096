"""A folder or file of labels -> a Conversion: `document(out)` is the COCO document, `write(out)` puts it on disk."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from label_tools.pictures.open_image import MAX_PIXELS
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown


def convert_labelme(
    source: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    options=None,
    **reading,
):
    """A folder of LabelMe files as a Conversion.

    labels: the classes in their order; None: those that are found, by alphabet. options: `labelme.Options`.
    reading: the keywords of `labelme_folder.read_folder` (image_root, unlabeled_is_negative, ...).
    Raises InputError when there is nothing to convert, or under the rules that stop a run.
    """
    from label_tools.readers.labelme_folder import read_folder
    from label_tools.readers.to_coco import convert

    read = read_folder(source, options=options, **reading)
    return convert(read, labels=labels, merge_case=merge_case, strict=strict)


def convert_masks(
    source: str | os.PathLike,
    *,
    mode: str,
    class_name: str = "",
    labels: Sequence[str] | None = None,
    colors: dict | None = None,
    void: int | None = None,
    components: bool = False,
    max_pixels: int = MAX_PIXELS,
    merge_case: bool = False,
    strict: bool = False,
    **reading,
):
    """A folder of photographs and masks as a Conversion.

    mode: "instance", "class" or "binary", see `masks`. labels: the classes in their order; in class mode the k-th of
    them is the value k. reading: the keywords of `masks_folder.read_folder` (images, masks, ...).
    """
    from label_tools.formats.masks import MODES, MaskOptions
    from label_tools.readers.classes import NO_CLASSES
    from label_tools.readers.masks_folder import read_folder
    from label_tools.readers.to_coco import convert

    if mode not in MODES:
        raise InputError(f"mode {mode!r}, needs one of {', '.join(MODES)}")
    names = dict(enumerate([n for n in labels or () if n not in NO_CLASSES], start=1)) if mode == "class" else {}
    if mode == "class" and not names and not colors:
        raise InputError("--mode class needs --labels FILE (the k-th label is the value k) or --colors FILE")
    options = MaskOptions(mode, class_name, names, colors or {}, void, components, max_pixels)
    return convert(read_folder(source, options, **reading), labels=labels, merge_case=merge_case, strict=strict)


def convert_voc(
    source: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    **reading,
):
    """A folder of VOC files as a Conversion. reading: the keywords of `other_folders.read_voc`."""
    from label_tools.readers.to_coco import convert
    from label_tools.readers.voc_folder import read_voc

    return convert(read_voc(source, **reading), labels=labels, merge_case=merge_case, strict=strict)


def convert_yolo(source: str | os.PathLike, *, labels: Sequence[str] | None = None, strict: bool = False, **reading):
    """A folder of YOLO files as a Conversion. labels: the class names by number; default: classes.txt or data.yaml.

    reading: the keywords of `readers.yolo.read_yolo`.
    """
    from label_tools.readers.to_coco import convert
    from label_tools.readers.yolo_folder import read_yolo

    read, names = read_yolo(source, names=labels, **reading)
    return convert(read, labels=names, strict=strict)


def convert_coco(
    source: str | os.PathLike,
    *,
    files: Sequence[str | os.PathLike] = (),
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    **reading,
):
    """Any COCO file as a Conversion: repaired, ids from 1. labels: the classes in their new order; default: as it is.

    files: several files in the folder `source`, such as train/_annotations.coco.json and valid/..., which are read as
    one set. reading: the keywords of `readers.others.read_coco`.
    """
    from label_tools.readers.coco_folder import read_coco, read_coco_files
    from label_tools.readers.to_coco import convert

    read, names = read_coco_files(source, files, **reading) if files else read_coco(source, **reading)
    return convert(read, labels=names if labels is None else labels, merge_case=merge_case, strict=strict)


def convert_program(
    program: str,
    source: str | os.PathLike,
    *,
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    **reading,
):
    """Files of CVAT, Label Studio, VIA or Unity Perception as a Conversion. program: a key of `programs.PROGRAMS`.

    reading: the keywords of `programs.read_program`.
    """
    from label_tools.readers.program_folder import read_program
    from label_tools.readers.to_coco import convert

    read = read_program(program, source, **reading)
    return convert(read, labels=labels, merge_case=merge_case, strict=strict)


CONVERTERS: dict[str, Callable[..., Any]] = {
    "labelme": convert_labelme,
    "masks": convert_masks,
    "voc": convert_voc,
    "yolo": convert_yolo,
    "coco": convert_coco,
    "cvat": partial(convert_program, "cvat"),
    "labelstudio": partial(convert_program, "labelstudio"),
    "via": partial(convert_program, "via"),
    "unity": partial(convert_program, "unity"),
}


def convert(source: str | os.PathLike, format: str | None = None, *, labels: Sequence[str] | None = None, **options):
    """A folder or file of labels as a Conversion: `.findings`, `.document(out)`, `.write(out)`.

    format: one of CONVERTERS; None: found out from the files. labels: the classes in their order.
    options: the keywords of the format's own function. Raises InputError: nothing to convert, an unknown format.
    """
    if format is None:
        from label_tools.readers.which_format import detect

        found = detect(source)
        format, options = found.format, {**found.options, **options}
        source, found_labels = found.source, options.pop("labels", None)
        labels = found_labels if labels is None else labels
    if format not in CONVERTERS:
        raise InputError(unknown("format", format, CONVERTERS))
    return CONVERTERS[format](source, labels=labels, **options)
