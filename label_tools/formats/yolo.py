"""YOLO: one text file per image, a line per object, in fractions of the image. Reading and writing.

    class cx cy w h                   a box
    class x1 y1 x2 y2 x3 y3 ...       an outline, three points or more (an oriented box has four)
    class cx cy w h x1 y1 [v1] ...    pose, where the YAML has `kpt_shape`: the box is read, the key points are not

`class` counts from 0 and means a line of classes.txt or obj.names, or stands with its name in a YAML file (`names`, a
list or a mapping, whose numbers may have gaps). Fractions are those of the upright picture. What a detector writes
(a confidence behind the box, perhaps a track) and DOTA's files are known by their form and refused by name.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from label_tools.document.coco_values import number_in
from label_tools.files.strict_reading import read_lines
from label_tools.formats.image_records import ImageRecord, Tally, new_record, without_copies
from label_tools.pictures.find_image import ImageFolder
from label_tools.shapes import instances
from label_tools.shapes.instances import RefusedError, check_range
from label_tools.text.clean_label import clean_label
from label_tools.text.errors import InputError
from label_tools.text.messages import counted

_ROUNDING = 1e-4  # pixels beyond an edge that the rounding of fractions explains
_DECIMALS = 9  # of a fraction: a millionth of a pixel in an image of a thousand
NAME_FILES = ("classes.txt", "obj.names", "labels/classes.txt")  # a class a line, counted from 0


@dataclass(frozen=True, slots=True)
class Classes:
    """The classes of a data set: number -> name, in the order of the numbers.

    key_points: count of numbers behind a line's box, by kpt_shape. file: the source file, for messages.
    """

    names: Mapping[int, str]
    key_points: int = 0
    file: str = ""


def read_file(path: str, image: str, images: ImageFolder, classes: Classes) -> tuple[ImageRecord | None, Tally]:
    """Read the label file at `path` of the picture `image`. No record: it was refused; the tally says why.

    Raises InputError for errors that all other files share: an unknown class, detections, DOTA.
    """
    tally = Tally()
    try:
        lines = read_lines(path)
    except InputError as error:
        tally.skipped["label files that cannot be read"] += 1
        text = str(error).removeprefix(f"{path}, ").removeprefix(f"{path}: ")
        tally.drop(RefusedError(getattr(error, "code", "B39"), text), path, "", 0)
        tally.refused_images.append(image)
        return None, tally
    rows = [(number, line.split()) for number, line in enumerate(lines, start=1) if line.strip()]
    if rows:
        _refuse_others([row for _, row in rows], f"{path}, line {rows[0][0]}", classes)
    tally.objects_in += len(rows)
    try:
        images.check_links(image, image)
        record = new_record(images, image, images.info(image), path, tally.remarks(path))
    except RefusedError as error:
        tally.drop_image(error, path, "", len(rows))
        tally.refused_images.append(image)
        return None, tally
    for number, row in rows:
        _read_row(row, number, record, classes, path, tally)
    record.instances = without_copies(record.instances, tally, path)
    return record, tally


def is_detections(row: Sequence[str]) -> bool:
    """Whether a line is a detector's output: a confidence behind the box, perhaps a track number."""
    track = len(row) == 7 and row[6].isdecimal() and int(row[6]) > 1  # as the last ordinate it would be no fraction
    return (len(row) == 6 and _is_numbers(row)) or track


def _is_pose(row: Sequence[str]) -> bool:
    """Whether every third number behind a box is 0, 1 or 2, and one is 2, which no fraction of an outline is."""
    seen = [float(v) for v in row[7::3]] if is_labels(row) and len(row) >= 8 and (len(row) - 5) % 3 == 0 else []
    return 2.0 in seen and set(seen) <= {0.0, 1.0, 2.0}


def is_dota(row: Sequence[str]) -> bool:
    """Whether a line is one of DOTA: eight numbers in pixels, a class name, whether it is difficult."""
    return len(row) in (9, 10) and _is_numbers(row[:8]) and not _is_numbers(row[8:9])


def is_labels(row: Sequence[str]) -> bool:
    """Whether a line can be one of a YOLO label file."""
    return len(row) >= 5 and row[0].removesuffix(".0").isdecimal() and _is_numbers(row)


def _is_numbers(texts: Sequence[str]) -> bool:
    return bool(texts) and None not in map(number_in, texts)


def _refuse_others(rows: list[list[str]], where: str, classes: Classes) -> None:
    row = rows[0]
    if is_dota(row) or row[0].startswith(("imagesource:", "gsd:")):
        raise InputError(
            f"{where}: a file of DOTA (eight numbers in pixels, a class name), which is not read; "
            f"convert it to YOLO's oriented boxes (class and eight fractions) or to COCO"
        )
    if classes.key_points:
        return
    if is_detections(row):
        what = "a confidence" if len(row) == 6 else "a confidence and a track"
        raise InputError(
            f"{where}: {len(row)} numbers, a box and {what}: what a detector found, and no labels; if a person has "
            f"checked them all, cut each line behind its fifth number"
        )
    if _is_pose(row):
        count = (len(row) - 5) // 3
        raise InputError(
            f"{where}: a box and {count} key points that are seen or not (0, 1, 2), as of a pose set; "
            f"`kpt_shape: [{count}, 3]` in data.yaml says so, and the boxes are read"
        )
    if all(is_labels(row) and len(row) >= 8 and len(row) % 2 == 0 for row in rows):
        raise InputError(
            f"{where}: {len(row)} numbers, an outline and a confidence: what a detector found, and no labels; if a "
            f"person has checked them all, cut off the last number of each line"
        )


def _read_row(row: list[str], number: int, record: ImageRecord, classes: Classes, path: str, tally: Tally) -> None:
    place = f"line {number}"
    try:
        values = _numbers(row)
        index = values[0]
        if index != int(index) or index < 0:
            raise RefusedError("B26", f"class {row[0]}, needs a whole number from 0 on")
        label = classes.names.get(int(index))
        if label is None:
            raise InputError(f"{path}, {place}: class {int(index)}, but there {_known(classes.names)}")
        place = f'{place} "{label[:60]}"'
        remark = tally.remarks(path, place)
        width, height = record.width, record.height
        fractions = values[1:]
        if classes.key_points and len(fractions) != 4:
            if len(fractions) != 4 + classes.key_points:
                needed = f"5 (a box) or {5 + classes.key_points} by kpt_shape in {classes.file}"
                raise RefusedError("B09", f"{counted(len(row), 'number')}, needs {needed}")
            fractions = fractions[:4]
        if max(map(abs, fractions)) > 10:
            raise RefusedError("B07", f"{max(fractions, key=abs):g} is not a fraction of the image; YOLO needs 0 to 1")
        if len(fractions) == 4:
            cx, cy, w, h = fractions
            if w <= 0 or h <= 0:
                raise RefusedError("B01", f"box of {w:g} x {h:g} has no extent")
            box = ((cx - w / 2) * width, (cy - h / 2) * height, w * width, h * height)
            check_range(box, width, height)
            instance = instances.from_box(label, settled_box(box, width, height), width, height, remark)
        else:
            if len(fractions) < 6 or len(fractions) % 2:
                text = f"{len(row)} numbers, needs 5 (a box) or an odd number from 7 on (an outline)"
                raise RefusedError("B09", text)
            flat = [v * (width, height)[k % 2] for k, v in enumerate(fractions)]
            instance = instances.from_polygon(label, flat, width, height, remark)
        instance.place = place
        record.instances.append(instance)
    except RefusedError as error:
        tally.drop(error, path, place)


def settled_box(box: tuple[float, float, float, float], width: int, height: int) -> tuple[float, float, float, float]:
    """Move a box's edges onto the image's edge where only the rounding of fractions separates them."""
    x1, y1, x2, y2 = box[0], box[1], box[0] + box[2], box[1] + box[3]
    x1, x2 = _settle(x1, width), _settle(x2, width)
    y1, y2 = _settle(y1, height), _settle(y2, height)
    return x1, y1, x2 - x1, y2 - y1


def _settle(value: float, side: int) -> float:
    return 0.0 if -_ROUNDING < value < 0.0 else float(side) if side < value < side + _ROUNDING else value


def _numbers(row: list[str]) -> list[float]:
    try:
        values = [float(v) for v in row if "_" not in v]
    except ValueError as error:
        if len(row) >= 5 and _is_numbers(row[-4:]) and not _is_numbers(row[:1]):
            text = f'class "{row[0][:40]}" is a name, YOLO needs its number: its line in classes.txt, counted from 0'
            raise RefusedError("B26", text) from error
        raise RefusedError("B26", f"{' '.join(row)[:60]!r}, needs numbers") from error
    if len(values) != len(row) or len(values) < 5:
        raise RefusedError("B26", f"{' '.join(row)[:60]!r}, needs `class cx cy w h`")
    if not all(map(math.isfinite, values)):
        raise RefusedError("B06", f"{' '.join(row)[:60]!r} is not finite")
    return values


def _known(names: Mapping[int, str]) -> str:
    if sorted(names) == list(range(len(names))):
        return f"{'is' if len(names) == 1 else 'are'} {counted(len(names), 'class name')}, counted from 0"
    return f"are {counted(len(names), 'class name')}, numbered from {min(names)} to {max(names)} with gaps"


def read_classes(source: Path) -> Classes:
    """The classes by the set's own files: classes.txt, obj.names, labels/classes.txt, or its one YAML with `names`.

    A YAML also says what a line of a pose file holds. Raises InputError.
    """
    found = {path: content for path in _yaml_files(source) if (content := _yaml_top(path)).get("names") is not None}
    if len(found) > 1 and len({str(_yaml_names(c, p)) for p, c in found.items()}) > 1:
        listed = ", ".join(p.name for p in found)
        raise InputError(f"{source}: {listed} have different `names`; --labels FILE gives the class names")
    path, content = next(iter(found.items()), (None, {}))
    lists = [source / name for name in NAME_FILES if (source / name).is_file()][:1]
    if lists or (path is None and (lists := _lists_elsewhere(source))):
        names, where = dict(enumerate(_listed(lists[0]))), lists[0]
        if other := next((one for one in lists[1:] if _listed(one) != _listed(where)), None):
            raise InputError(f"{where} and {other} have different class names; --labels FILE gives them")
    elif path is None and source.parent != source and any("names" in _yaml_top(p) for p in _yaml_files(source.parent)):
        return read_classes(source.parent)  # one part of a set
    else:
        if path is None and (others := _yaml_files(source)):
            raise InputError(f"{others[0]}: no list `names` in it; --labels FILE gives the class names")
        if path is None:
            deeper = sorted({p.parent for end in ("yaml", "yml") for p in source.glob(f"*/*.{end}")})
            hint = f"; a set of its own lies in {' and in '.join(map(str, deeper))}" if deeper else ""
            raise InputError(
                f"{source}: no classes.txt and no YAML with `names` in it{hint}; --labels FILE gives the class names"
            )
        names, where = _yaml_names(content, path), path
    key_points = _key_points(content.get("kpt_shape"), path)
    return Classes(checked_names(names, where), key_points, str(path or where))


def _lists_elsewhere(source: Path) -> list[Path]:
    """Lists of class names where some programs put them: data/coin.names of darknet, labels/train/classes.txt of
    labelImg, classes.txt beside a folder of labels."""
    below = (*source.glob("*.names"), *source.glob("*/*.names"), *source.glob("**/classes.txt"))
    return sorted(below) or [p for name in NAME_FILES[:2] if (p := source.parent / name).is_file()]


def _listed(path: Path) -> list[str]:
    return "\n".join(line.strip() for line in read_lines(path)).rstrip("\n").split("\n")


def _yaml_files(source: Path) -> list[Path]:
    return sorted(p for p in source.iterdir() if p.suffix.lower() in (".yaml", ".yml") and p.is_file())


def _yaml_top(path: Path) -> dict:
    """The keys of a YAML mapping and their nodes, whose scalars are the text as written; {} for any other content.

    YAML 1.1's own values would turn the classes 02146, no and 12:30 into 1126, false and 750.
    """
    import yaml

    try:
        root = yaml.compose("\n".join(read_lines(path)), Loader=yaml.SafeLoader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: no valid YAML: {' '.join(str(error).split())}") from error
    pairs = root.value if isinstance(root, yaml.MappingNode) else []
    return {key.value: value for key, value in pairs if isinstance(key, yaml.ScalarNode)}


def _yaml_names(content: dict, path: Path) -> dict[int, str]:
    import yaml

    node = content["names"]
    if isinstance(node, yaml.SequenceNode):
        pairs = list(enumerate(node.value))
    elif isinstance(node, yaml.MappingNode):
        pairs = []
        for key, value in node.value:
            if not str(key.value).isdecimal():
                raise InputError(f"{path}: the number {key.value!r:.40} of `names`, needs whole numbers from 0 on")
            pairs.append((int(key.value), value))
        if len({number for number, _ in pairs}) < len(pairs):
            raise InputError(f"{path}: a number of `names` is given twice")
    else:
        raise InputError(f"{path}: `names` must be a list, or a mapping from numbers to names")
    if any(not isinstance(value, yaml.ScalarNode) for _, value in pairs):
        raise InputError(f"{path}: every entry of `names` must be one name")
    return {number: value.value for number, value in sorted(pairs, key=lambda p: p[0])}


def _key_points(node: object, path: Path | None) -> int:
    if node is None:
        return 0
    numbers = [getattr(n, "value", "") for n in value] if isinstance(value := getattr(node, "value", ""), list) else []
    if len(numbers) != 2 or not all(str(n).isdecimal() for n in numbers):
        raise InputError(f"{path}: kpt_shape needs two whole numbers, as [17, 3]")
    return int(numbers[0]) * int(numbers[1])


def checked_names(names: Mapping[int, str], path: Path) -> dict[int, str]:
    """The names without blanks around them. Raises InputError: one that is not a line of text, one twice, none."""
    clean: dict[int, str] = {}
    seen: set[str] = set()
    for number, name in names.items():
        text, problem = clean_label(name)
        if problem:
            raise InputError(f"{path}: class {number}: {problem}")
        if text in seen:
            raise InputError(f'{path}: class {number}: the name "{text}" is given twice')
        seen.add(text)
        clean[number] = text
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


def label_places(relative: str) -> list[str]:
    """Possible paths of a picture's label file, the likelier first; both relative to the set's folder.

    images/train/a.jpg -> labels/train/a.txt; train/images/a.jpg -> train/labels/a.txt; a.jpg -> labels/a.txt, a.txt.
    """
    stem = os.path.splitext(relative)[0].replace(os.sep, "/")
    parts = stem.split("/")
    swapped = [k for k, part in enumerate(parts[:-1]) if part.lower() == "images"]
    if swapped:
        parts[swapped[-1]] = "labels"
    else:
        parts = ["labels", *parts]
    return ["/".join(parts) + ".txt", f"{stem}.txt"]
