"""Turn parsed label files into image records: find each picture, compare sizes, build its objects.

A format's own file reads its syntax into `Described` pictures with `Drawn` objects. Finding the picture, comparing
sizes, reading labels, the checks of each object and the book-keeping are the same for all of them, and are here.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from label_tools.files.strict_reading import TextError
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import ImageInfo
from label_tools.shapes.instances import (
    ImageRecord,
    Instance,
    RefusedError,
    Remark,
    Tally,
    check_image_shape,
    join_groups,
    without_copies,
)
from label_tools.text.clean_label import clean_label
from label_tools.text.findings import ERROR, NOTE, WARNING

Make = Callable[[str, int, int, Remark], Instance]  # label, width and height of the picture


@dataclass(slots=True)
class Drawn:
    """One object as the file describes it. make: builds its shape from the picture's size; may raise RefusedError.

    group: pieces of one label and one group are one object; None: it is an object of its own.
    """

    place: str
    label: object
    make: Make
    extra: dict | None = None
    group: Hashable | None = None


@dataclass(slots=True)
class Described:
    """One picture as the file describes it. names: possible names, the best first. size: (width, height) or None.

    place: where in the file. said: findings on the picture: (level, code, text). refusal: why it cannot be used.
    fix: what to do where there is no such picture; "": as for every format.
    """

    names: Sequence[str]
    objects: list[Drawn]
    size: tuple[float, float] | None = None
    place: str = ""
    said: list[tuple[str, str, str]] = field(default_factory=list)
    refusal: RefusedError | None = None
    fix: str = ""


def read_pictures(
    describe: Callable[[str], Iterable[Described]], path: str, images: ImageFolder
) -> tuple[list[ImageRecord], Tally]:
    """The records of the file at `path`, by `describe(path)`. What cannot be used is in the tally.

    Raises InputError only where `describe` finds that the whole run cannot go on.
    """
    tally = Tally()
    records = []
    try:
        for one in describe(path):
            record = to_record(one, path, images, tally)
            if record is not None:
                records.append(record)
    except (TextError, OSError) as error:
        tally.unreadable(error, path)
    return records, tally


def to_record(one: Described, path: str, images: ImageFolder, tally: Tally) -> ImageRecord | None:
    """The picture with its objects; None where it was left out, and the tally says why."""
    remark = tally.remarks(path, one.place)
    tally.objects_in += len(one.objects)
    for finding in one.said:
        remark(*finding)
    try:
        if one.refusal is not None:
            raise one.refusal
        folder, own = os.path.split(os.path.abspath(path))
        # a file about one picture may carry the picture's name
        image = images.find_any(one.names, folder, remark, "" if one.place else own)
        tally.refused_images.append(image)  # until all has gone well
        info = images.info(image)
        compare_size(one.size, info)
        check_image_shape(info.width, info.height, remark)
        source = f"{path}, {one.place}" if one.place else path
        record = ImageRecord(images.file_name(image), info.width, info.height, [], source)
        tally.refused_images.pop()
    except RefusedError as error:
        if error.code == "B32" and one.fix:
            error = RefusedError(error.code, error.text, one.fix)
        unlabelled = error.code == "B34"  # no loss: nobody has labelled it yet
        tally.skipped["images that nobody labelled" if unlabelled else "images left out"] += 1
        tally.drop(error, path, one.place, len(one.objects), level=NOTE if unlabelled else ERROR)
        return None
    found = [(_read(drawn, record, path, one.place, tally), drawn.group) for drawn in one.objects]
    objects = [(instance, group) for instance, group in found if instance is not None]
    record.instances = without_copies(join_groups(objects, record.width, record.height, tally), tally, path)
    return record


def compare_size(stated: tuple[float, float] | None, info: ImageInfo) -> None:
    """Raise RefusedError (B52, B60) where a file states another size than the image has; 0 x 0 states none."""
    if stated is None or tuple(stated) == (0, 0) or tuple(stated) == (info.width, info.height):
        return
    if tuple(stated) == info.stored_size:
        text = f"boxes belong to the picture before its EXIF rotation {info.orientation}"
        raise RefusedError("B60", text, "label the upright picture again")
    text = f"says {stated[0]:g} x {stated[1]:g}, the image is {info.width} x {info.height}"
    raise RefusedError("B52", text, "label the right image again, or restore the one that was labelled")


def _read(drawn: Drawn, record: ImageRecord, path: str, of: str, tally: Tally) -> Instance | None:
    place = f"{of}, {drawn.place}" if of else drawn.place
    try:
        label = read_label(drawn.label, tally.remarks(path, place))
        place = f'{place} "{label[:60]}"'
        instance = drawn.make(label, record.width, record.height, tally.remarks(path, place))
        instance.place = place
        instance.extra = drawn.extra or instance.extra
        return instance
    except RefusedError as error:
        tally.drop(error, path, place)
        return None


def read_label(label: object, remark: Remark) -> str:
    """An object's label without blanks around it, in Unicode's composed form. Raises RefusedError (B26, B37)."""
    if label is None:
        raise RefusedError("B26", "no label, needs the name of its class")
    if not isinstance(label, str):
        raise RefusedError("B26", f"label {label!r}, needs a text")
    clean, problem = clean_label(label)
    if problem:
        raise RefusedError("B37", problem)
    if clean != label:
        remark(WARNING, "B36", f'label "{label}" read as "{clean}"')
    return clean


def read_numbers(values: Sequence[object], what: str) -> list[float]:
    """`values`, numbers or texts that are numbers, as floats. Raises RefusedError (B26, B06)."""
    numbers = []
    for value in values:
        try:
            if isinstance(value, bool) or (isinstance(value, str) and "_" in value):
                raise ValueError
            numbers.append(float(value))  # type: ignore[arg-type]
        except (TypeError, ValueError, OverflowError) as error:
            raise RefusedError("B26", f"{what} needs numbers, found {value!r:.40}") from error
    if not all(map(math.isfinite, numbers)):
        raise RefusedError("B06", f"{what} {numbers!r:.80} is not finite")
    return numbers


def left_out(kind: str, why: str = "has no area") -> Make:
    """A `make` that refuses a shape that is no object: a point, a line, key points (B14)."""

    def make(*_: object) -> Instance:
        raise RefusedError("B14", f"{kind} {why}")

    return make


def sorted_box(x1: float, y1: float, x2: float, y2: float, remark: Remark) -> tuple[float, float, float, float]:
    """x, y, width, height between two corners; corners in the wrong order are sorted, with a warning (B02)."""
    if x2 < x1 or y2 < y1:
        remark(WARNING, "B02", "the second corner lies before the first; read with its corners sorted")
    return min(x1, x2), min(y1, y2), abs(x2 - x1), abs(y2 - y1)
