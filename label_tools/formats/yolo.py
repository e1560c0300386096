"""YOLO: one text file per image, a line per object, in fractions of the image. Reading and writing.

    SRC/images/train/a.jpg  SRC/labels/train/a.txt        class cx cy w h           a box
    SRC/classes.txt or SRC/data.yaml (names)              class x1 y1 x2 y2 ...     an outline, three points or more

`class` counts from 0 and means a line of classes.txt, an entry of `names` in data.yaml, or a line of --labels.
Fractions are those of the upright picture.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

from label_tools.formats.labelme import check_image_shape, clean_label
from label_tools.pictures.image_paths import ImageFolder
from label_tools.shapes.instances import (
    ImageRecord,
    RefusedError,
    Tally,
    check_range,
    from_box,
    from_polygon,
    without_copies,
)
from label_tools.text.errors import InputError
from label_tools.text.findings import Finding
from label_tools.text.messages import counted
from label_tools.text.strict_json import decode

_DECIMALS = 9  # of a fraction: a millionth of a pixel in an image of a thousand


def read_file(path: str, image: str, images: ImageFolder, names: Sequence[str]) -> tuple[ImageRecord | None, Tally]:
    """The label file at `path` of the picture `image`. No record: it was refused; the tally says why."""
    tally = Tally()

    def remark(level: str, code: str, text: str) -> None:
        tally.findings.append(Finding(code, level, path, "", text))

    try:
        lines = read_lines(path)
    except InputError as error:
        tally.skipped["label files that cannot be read"] += 1
        text = str(error).removeprefix(f"{path}, ").removeprefix(f"{path}: ")
        tally.drop(RefusedError(getattr(error, "code", "B39"), text), path, "", 0)
        return None, tally
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    tally.objects_in += len(rows)
    try:
        images.check_links(image, image)
        info = images.info(image)
        check_image_shape(info.width, info.height, remark)
        record = ImageRecord(images.file_name(image), info.width, info.height, [], path)
    except RefusedError as error:
        tally.skipped["images left out"] += 1
        tally.drop(error, path, "", len(rows))
        return None, tally
    for number, row in rows:
        _read_row(row, number, record, names, path, tally)
    record.instances = without_copies(record.instances, tally, path)
    return record, tally


def _read_row(row: list[str], number: int, record: ImageRecord, names: Sequence[str], path: str, tally: Tally) -> None:
    place = f"line {number}"

    def remark(level: str, code: str, text: str) -> None:
        tally.findings.append(Finding(code, level, path, place, text))

    try:
        values = _numbers(row)
        index = values[0]
        if index != int(index) or index < 0:
            raise RefusedError("B26", f"class {row[0]}, needs a whole number from 0 on")
        if index >= len(names):
            known = counted(len(names), "class name")
            raise InputError(f"{path}, {place}: class {int(index)}, but there are {known}, counted from 0")
        label = names[int(index)]
        place = f'{place} "{label[:60]}"'
        width, height = record.width, record.height
        fractions = values[1:]
        if max(map(abs, fractions)) > 10:
            raise RefusedError("B07", f"{max(fractions, key=abs):g} is no fraction of the image; YOLO needs 0 to 1")
        if len(fractions) == 4:
            cx, cy, w, h = fractions
            if w <= 0 or h <= 0:
                raise RefusedError("B01", f"box of {w:g} x {h:g} has no extent")
            box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
            check_range(box, width, height)
            instance = from_box(label, settled_box(box, width, height), width, height, remark)
        else:
            if len(fractions) < 6 or len(fractions) % 2:
                text = f"{len(row)} numbers, needs 5 (a box) or an odd number from 7 on (an outline)"
                raise RefusedError("B09", text)
            flat = [v * (width, height)[k % 2] for k, v in enumerate(fractions)]
            instance = from_polygon(label, flat, width, height, remark)
        instance.place = place
        record.instances.append(instance)
    except RefusedError as error:
        tally.drop(error, path, place)


def settled_box(box: tuple[float, float, float, float], width: int, height: int) -> tuple[float, ...]:
    """A box whose edges, if they miss the image's edge only by rounding of the fractions, lie on it."""
    x1, y1, x2, y2 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    slack = 1e-4
    x1, x2 = (_settle(v, width, slack) for v in (x1, x2))
    y1, y2 = (_settle(v, height, slack) for v in (y1, y2))
    return x1, y1, x2 - x1, y2 - y1


def _settle(value: float, side: int, slack: float) -> float:
    return 0.0 if -slack < value < 0.0 else float(side) if side < value < side + slack else value


def _numbers(row: list[str]) -> list[float]:
    try:
        values = [float(v) for v in row if "_" not in v]
    except ValueError as error:
        raise RefusedError("B26", f"{' '.join(row)[:60]!r}, needs numbers") from error
    if len(values) != len(row) or len(values) < 5:
        raise RefusedError("B26", f"{' '.join(row)[:60]!r}, needs `class cx cy w h`")
    if not all(map(math.isfinite, values)):
        raise RefusedError("B06", f"{' '.join(row)[:60]!r} is not finite")
    return values


def read_lines(path: str) -> list[str]:
    """The lines of a text file. Raises InputError: not readable, no text."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    text, _ = decode(data, path)
    return text.splitlines()


def read_names(source: Path) -> list[str]:
    """The class names in source/classes.txt, obj.names or data.yaml. Raises InputError when there are none."""
    for name in ("classes.txt", "obj.names"):
        if (source / name).is_file():
            lines = [line.strip() for line in read_lines(str(source / name))]
            while lines and not lines[-1]:
                lines.pop()
            return _checked(lines, source / name)
    for name in ("data.yaml", "data.yml", "dataset.yaml"):
        if (source / name).is_file():
            return _checked(_yaml_names(source / name), source / name)
    raise InputError(f"{source}: no classes.txt and no data.yaml in it; --labels FILE gives the class names")


def _yaml_names(path: Path) -> list[str]:
    import yaml

    try:
        content = yaml.safe_load("\n".join(read_lines(str(path))))
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    names = content.get("names") if isinstance(content, dict) else None
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: the numbers of `names` must be 0 to {len(names) - 1}")
        names = [names[i] for i in range(len(names))]
    if not isinstance(names, list) or not names:
        raise InputError(f"{path}: no list `names` in it")
    return [str(name) for name in names]


def _checked(names: list[str], path: Path) -> list[str]:
    clean = []
    for number, name in enumerate(names):
        text, problem = clean_label(name)
        if problem:
            raise InputError(f"{path}: class {number}: {problem}")
        if text in clean:
            raise InputError(f'{path}: class {number}: the name "{text}" is given twice')
        clean.append(text)
    if not clean:
        raise InputError(f"{path}: no class name in it")
    return clean


def file_text(image: dict, objects: list[tuple[int, dict]], *, outlines: bool = False) -> str:
    """The lines of one image of a COCO document; objects: (class number from 0, annotation), in order.

    outlines: objects of exactly one polygon are written as that polygon, the rest and everything else as boxes.
    """
    lines = []
    for index, annotation in objects:
        polygons = annotation.get("segmentation")
        if outlines and isinstance(polygons, list) and len(polygons) == 1:
            values = [v / (image["width"], image["height"])[k % 2] for k, v in enumerate(polygons[0])]
        else:
            x, y, w, h = annotation["bbox"]
            width, height = image["width"], image["height"]
            values = [(x + w / 2) / width, (y + h / 2) / height, w / width, h / height]
        lines.append(" ".join([str(index), *(f"{v:.{_DECIMALS}f}" for v in values)]))
    return "".join(line + "\n" for line in lines)


def label_path(image: str, image_root: str) -> str:
    """Where the labels of a picture below `image_root` lie, relative to the folder of labels."""
    return os.path.splitext(os.path.relpath(image, image_root))[0] + ".txt"
