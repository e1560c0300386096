"""Image records, which every format is read into, and the tally of what was read, kept and left out.

`ImageRecord` is one image with its objects, `Tally` the account of a file or a folder. Most formats parse a file into
`Described` pictures with `Drawn` objects; `to_record` then finds the picture, compares the sizes, reads the labels,
builds, checks and counts the objects, the same way for all of them.
"""

from __future__ import annotations

import math
import os
from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field

from label_tools.files.strict_reading import TextError
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import ImageInfo
from label_tools.shapes import instances
from label_tools.shapes.instances import Instance, RefusedError, Remark
from label_tools.text.clean_label import clean_label
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.rule_limits import LEAST_IMAGE_SIDE, MOST_IMAGE_ASPECT


@dataclass(slots=True)
class ImageRecord:
    """One image, sizes after EXIF rotation, and its objects. file_name starts from the image root, with slashes.

    source: the annotation file, as the user would type it."""

    file_name: str
    width: int
    height: int
    instances: list[Instance]
    source: str


@dataclass(slots=True)
class Tally:
    """objects_in = objects that became instances + merged + the sum of dropped. Findings say why, one by one."""

    objects_in: int = 0
    merged: int = 0
    dropped: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    skipped: Counter[str] = field(default_factory=Counter)  # files and images, by reason; no objects
    refused_images: list[str] = field(default_factory=list)  # paths: they have labels, and are not without objects

    def add(self, other: Tally) -> None:
        self.objects_in += other.objects_in
        self.merged += other.merged
        if other.dropped:  # a Counter's += looks at every entry, even for nothing
            self.dropped.update(other.dropped)
        if other.skipped:
            self.skipped.update(other.skipped)
        self.findings += other.findings
        self.refused_images += other.refused_images

    def remarks(self, file: str, place: str = "") -> Remark:
        """A function that adds remarks on `place` in `file` as findings."""
        return lambda level, code, text: self.findings.append(Finding(code, level, file, place, text))

    def unreadable(self, error: TextError | OSError, file: str) -> None:
        """Record that a label file cannot be read."""
        self.skipped["label files that cannot be read"] += 1
        if isinstance(error, TextError):
            self.findings.append(Finding(error.code, ERROR, file, error.place, error.text))
        else:
            self.findings.append(Finding("B39", ERROR, file, "", f"cannot be read: {error.strerror or error}"))

    def drop(self, error: RefusedError, file: str, place: str, count: int = 1, level: str = ERROR) -> None:
        """Record `count` objects as left out, for one reason. level: NOTE if that is the rule and no loss."""
        if count:
            self.dropped[error.code] += count
        self.findings.append(Finding(error.code, level, file, place, error.text, error.fix))

    def drop_image(self, error: RefusedError, file: str, place: str, count: int) -> None:
        """Record an image as left out, with its `count` objects."""
        self.skipped["images left out"] += 1
        self.drop(error, file, place, count)


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
        record = new_record(images, image, info, f"{path}, {one.place}" if one.place else path, remark)
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


def new_record(images: ImageFolder, path: str, info: ImageInfo, source: str, remark: Remark) -> ImageRecord:
    """An image's record, without objects yet. Raises RefusedError: too small (B69), its name is not text (B38)."""
    width, height = info.width, info.height
    if min(width, height) < LEAST_IMAGE_SIDE:
        raise RefusedError("B69", f"image of {width} x {height} pixels, needs {LEAST_IMAGE_SIDE} or more each way")
    if max(width, height) > MOST_IMAGE_ASPECT * min(width, height):
        remark(NOTE, "B69", f"image of {width} x {height} pixels: very long, objects will be tiny when it is resized")
    return ImageRecord(images.file_name(path), width, height, [], source)


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


def join_groups(
    found: Iterable[tuple[Instance, Hashable | None]], width: int, height: int, tally: Tally
) -> list[Instance]:
    """The objects (instance, its group), pieces of one label and group as one; group None: an object of its own."""
    pieces: dict[Hashable, list[Instance]] = {}
    for one, group in found:
        key = id(one) if group is None else (one.label, group)
        tally.merged += key in pieces
        pieces.setdefault(key, []).append(one)
    return [instances.join(some, width, height) for some in pieces.values()]


def without_copies(objects: list[Instance], tally: Tally, file: str) -> list[Instance]:
    """`objects` without those that repeat an earlier one exactly (B12)."""
    seen: dict[tuple, Instance] = {}
    kept = []
    for one in objects:
        # the box tells nearly all objects apart; only equal boxes compare their whole outline
        other = seen.setdefault((one.label, one.bbox), one)
        if other is not one and other.polygons == one.polygons and other.rle == one.rle:
            tally.dropped["B12"] += 1
            text = f"the same object as {other.place}, drawn twice; the second one is left out"
            tally.findings.append(Finding("B12", WARNING, file, one.place, text))
        else:
            kept.append(one)
    return kept
