"""Convert a folder or file of labels: a Conversion with the COCO document, `document(out)`, and `write(out)`."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from label_tools.readers.coco_folder import read_coco
from label_tools.readers.labelme_folder import read_labelme
from label_tools.readers.masks_folder import read_masks
from label_tools.readers.program_folder import PROGRAMS, read_program, read_voc
from label_tools.readers.reading import Reading
from label_tools.readers.to_coco import Conversion, to_conversion
from label_tools.readers.which_format import detect
from label_tools.readers.yolo_folder import read_yolo
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown

READERS: dict[str, Callable[..., Reading]] = {
    "labelme": read_labelme,
    "masks": read_masks,
    "voc": read_voc,
    "yolo": read_yolo,
    "coco": read_coco,
    **{program: partial(read_program, program) for program in PROGRAMS},
}


def convert(
    source: str | os.PathLike,
    format: str | None = None,
    *,
    labels: Sequence[str] | None = None,
    merge_case: bool = False,
    strict: bool = False,
    **reading: Any,
) -> Conversion:
    """A folder or file of labels as a Conversion: `.findings`, `.document(out)`, `.write(out)`.

    format: a key of READERS; None: found out from the files. labels: the classes in their order; None: those that the
    set states, else those that are found, by alphabet. For YOLO, and masks of classes, they are the names by number.
    merge_case: labels that differ only in upper and lower case are one class. strict: refuse repairs and losses.
    reading: further keywords of the reader. Raises InputError: nothing to convert, an unknown format, unknown labels.
    """
    if format is None:
        found = detect(source)
        format, source, reading = found.format, found.source, {**found.options, **reading}
        stated = reading.pop("labels", None)
        labels = stated if labels is None else labels
    if format not in READERS:
        raise InputError(unknown("format", format, READERS))
    if format in ("yolo", "masks"):
        reading["labels"] = labels
    merge_case = merge_case and format != "yolo"  # classes are numbers there
    read = READERS[format](source, **reading)
    return to_conversion(read, labels=read.names if labels is None else labels, merge_case=merge_case, strict=strict)
