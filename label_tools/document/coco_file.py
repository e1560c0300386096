"""Read and write COCO files in the one dialect of COCO's object detection format that all other code expects.

    {"info": {"image_root": "images"},
     "images":      [{"id": 1, "file_name": "a.jpg", "width": 640, "height": 480}],
     "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "area": 12.0,
                      "iscrowd": 0, "segmentation": [[x1, y1, x2, y2, ...]] or {"size": [h, w], "counts": "..."}}],
     "categories":  [{"id": 1, "name": "cat"}]}

- Ids count from 1: COCO's evaluators silently lose a match with an annotation of id 0.
- bbox is [x, y, width, height] in pixels, a pixel's left edge being its index; width = right - left, no "+1".
- Sizes and coordinates are those of the picture after EXIF rotation.
- `image_root` leads from the folder of the file to the folder that `file_name` starts from.
- The same document always gives the same bytes: sorted keys, one image or annotation a line, no clock.

`read` also takes documents of other programs: what has one safe meaning is repaired, the rest is reported.
"""

from __future__ import annotations

import json
import logging
import os
import shlex
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import chain
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from label_tools.document import large_file
from label_tools.document.coco_values import is_number, short
from label_tools.document.repair import examine
from label_tools.document.repair_images_and_categories import Size
from label_tools.files import links
from label_tools.files.atomic_write import atomic_write
from label_tools.files.fast_json import numbers
from label_tools.files.marked_folders import check_settled
from label_tools.files.pause_gc import collector_paused
from label_tools.files.strict_reading import TextError, loads
from label_tools.shapes import rle
from label_tools.shapes.geometry import rectangle
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, WARNING, Finding, one_a_rule
from label_tools.text.messages import near_paths

log = logging.getLogger(__name__)
Document = dict[str, Any]
FILE_NAME = "annotations.json"  # in a folder that is given in the place of a file
OTHER_NAMES = ("_annotations.coco.json", "annotations/instances_default.json")  # Roboflow's and CVAT's
_LOOKED_AT = 3  # images, to find the folder of all


def read(
    path: str | os.PathLike,
    findings: list[Finding] | None = None,
    *,
    sizes: Callable[[Path], Size] | None = None,
    images: Path | None = None,
) -> Document:
    """The document in `path`, in the dialect above.

    Repaired without asking, because only one meaning is possible: ids that are strings, 0 or used twice,
    missing area or iscrowd, boxes that hang over the image's edge. Annotations that cannot be used (no such
    image, NaN, no extent, ...) are left out and added to `findings` as errors; without a list to add them to
    they raise InputError, so that nothing is lost silently, and repairs are logged. Ids of images and categories stay.
    sizes: `open_image.sizes_below`, for files that lack them; images: in place of the file's own image root.

    Raises InputError when the file is not a COCO document, or repeats an image, a category or a name.
    """
    path = Path(path)
    raw = read_raw(path)
    size = sizes(images or image_root(raw, path)) if sizes else None
    found = examine(raw, os.fspath(path), size)
    document = found.usable()
    if findings is not None:
        findings.extend(found.findings)
    elif bad := [f for f in found.findings if f.level == ERROR]:
        more = f" (and {len(bad) - 1} more)" if len(bad) > 1 else ""
        raise InputError(
            f"{bad[0].file}, {bad[0].place}: {bad[0].text}{more}; "
            f"`frcnn check {shlex.quote(str(path))} --fix --out OUT.json` writes a copy without them"
        )
    else:
        for line in one_a_rule(f for f in found.findings if f.level == WARNING or f.code in ("B44", "B58")):
            log.warning(line)
    return document


def read_raw(path: str | os.PathLike) -> Document:
    """Read the JSON object in `path` and check only that it has the three lists. Raises InputError."""
    path = Path(path)
    check_settled(path)
    try:
        document = _in_pieces(path)
        data = b"" if document else path.read_bytes()
    except FileNotFoundError as error:
        needed = "a COCO file (`frcnn convert` makes one)"
        raise InputError(f"{path}: no such file, {needed} is needed{near_paths(path)}") from error
    except IsADirectoryError as error:
        raise InputError(f"{path}: is a folder, a COCO file is needed") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    if document is None:
        try:
            with collector_paused():
                document = loads(data, os.fspath(path))
        except TextError as error:
            if error.place != "line 1 column 1" or not data.strip():
                raise
            begins = data.strip()[:20].decode(errors="replace").splitlines()[0]
            raise InputError(f"{path}: is no JSON, it begins with {begins!r}; a COCO file is needed") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: a JSON {type(document).__name__} at the top, a COCO file is an object")
    for key in ("images", "annotations", "categories"):
        if not isinstance(document.get(key), list):
            raise InputError(f'{path}: no list "{key}"; a COCO file has images, annotations and categories')
    return document


def _in_pieces(path: Path) -> Document | None:
    """Read the object of a large file in pieces; None if it must be read as a whole. Raises OSError."""
    with collector_paused(), suppress(large_file.NotInPiecesError), large_file.opened(path) as sections:
        if sections is not None:
            lists = [key for key in sections.places if key in ("images", "annotations")]
            return {
                key: list(chain.from_iterable(sections.pieces(key))) if key in lists else sections.value(key)
                for key in sections.places
            }
    return None


def file_of(path: str | os.PathLike) -> Path:
    """The COCO file meant by `path`: the file itself, or the folder's file with a usual name.

    Raises InputError for a folder without one.
    """
    path = Path(path)
    if not path.is_dir():
        return path
    inside = files_in(path)
    if not inside:
        raise InputError(f"{path}: no {FILE_NAME} in it; make it first: frcnn convert {shlex.quote(str(path))}")
    return inside[0]


def files_in(folder: Path) -> list[Path]:
    """The COCO files of a folder that have one of the usual names, ours first."""
    return [file for name in (FILE_NAME, *OTHER_NAMES) if (file := folder / name).is_file()]


def write(document: Mapping[str, Any], path: str | os.PathLike) -> None:
    """Write `document` to `path`, whole or not at all; the same document gives the same bytes.

    images, annotations and categories need not all be in memory at once, any iterable will do; an annotation may come
    as the line that it is to be (`annotation_line`). Raises InputError.
    """
    content = {"info": {}, **document}
    try:
        with atomic_write(path) as file:
            file.write(b"{")
            for number, key in enumerate(sorted(content)):
                file.write((b",\n" if number else b"\n") + _json(key) + b": ")
                if key in ("images", "annotations", "categories"):
                    _write_list(file, content[key])
                else:
                    file.write(_json(content[key]))
            file.write(b"\n}\n")
    except UnicodeEncodeError as error:
        raise InputError(f"{path}: a name that is not valid text ({error.reason}) cannot be written") from error
    except ValueError as error:
        raise InputError(f"{path}: a number that is not finite cannot be written") from error


def copy_large(source: Path, path: Path, image_root: str) -> None:
    """Copy a large file that is in our dialect (`large_file`), with another image root. Raises InputError."""
    with large_file.opened(source) as sections, atomic_write(path) as file:
        if sections is None:
            raise InputError(f"{source}: has changed while it was read; start again")
        info = sections.value("info") if "info" in sections.places else {}
        for number, key in enumerate(sorted({*sections.places, "info"})):
            file.write((b",\n" if number else b"{\n") + _json(key) + b": ")
            file.write(_json({**info, "image_root": image_root}) if key == "info" else sections.text(key))
        file.write(b"\n}\n")


def annotation_line(
    annotation_id: int,
    image_id: int,
    category_id: int,
    bbox: Sequence[float],
    area: float,
    iscrowd: int,
    polygons: list[list[float]],
) -> str:
    """Format an annotation's line as `write` would, in a fraction of the time. All numbers must be finite.

    A test compares the two.
    """
    return (
        f'{{"area": {area!r}, "bbox": {numbers(list(bbox))}, "category_id": {category_id}, "id": {annotation_id}, '
        f'"image_id": {image_id}, "iscrowd": {iscrowd}, "segmentation": {numbers(polygons)}}}'
    )


def image_root(document: Document, annotations_path: str | os.PathLike) -> Path:
    """The folder that `file_name` starts from: `info.image_root`, seen from the folder of the COCO file.

    If the file does not state it: its own folder, or the one of the usual layouts that holds the first images.
    """
    info, path = document.get("info"), Path(annotations_path)
    root = info.get("image_root") if isinstance(info, dict) else None
    if root is None:
        names = first_names(document)
        likely = (place for place in _likely_roots(path) if any(os.path.isfile(path.parent / place / n) for n in names))
        root = next(likely, ".")
    if not isinstance(root, str) or "\0" in root:
        raise InputError(f"{annotations_path}, info.image_root: {root!r} is not a path")
    if PureWindowsPath(root).anchor and not links.followed():  # a folder of this machine, in a file from anywhere
        raise InputError(f'{annotations_path}, info.image_root: "{root}" is absolute; {links.REMEDY}')
    return Path(os.path.normpath(path.parent / root))


def with_image_root(document: Document, root: str | os.PathLike, folder: str | os.PathLike) -> Document:
    """The document as it is to be written in `folder`, its images below `root`."""
    return {**document, "info": {**document.get("info", {}), "image_root": relative(root, folder)}}


def relative(path: str | os.PathLike, folder: str | os.PathLike) -> str:
    """`path` seen from `folder`, with slashes."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError as error:  # Windows: another drive
        raise InputError(f"{path} and {folder}: no relative path from one to the other") from error


def first_names(document: Document) -> list[str]:
    """File names of a few images, used to find the folder of all."""
    first = [i.get("file_name") for i in document.get("images", [])[:_LOOKED_AT] if isinstance(i, dict)]
    return [name for name in first if isinstance(name, str) and is_inside(name)]


def _likely_roots(path: Path) -> Iterator[str]:
    """For annotations/instances_train2017.json: annotations, images, images/train2017, train2017, or beside it."""
    part = path.stem.removeprefix("instances_")
    for base in (".", ".."):
        for below in ("", "images", f"images/{part}", part):
            yield f"{base}/{below}"


def opening(document: Document, name: str = "info") -> dict[str, Any]:
    """The document's settings for opening its pictures, as keywords of `open_image`.

    `info.max_value`: the white level of pictures of more than 8 bits; `info.max_pixels`: the largest one allowed.
    """
    info = document["info"] if isinstance(document.get("info"), dict) else {}
    stated = {key: info[key] for key in ("max_value", "max_pixels") if info.get(key) is not None}
    for key, value in stated.items():
        if not is_number(value) or not 1 <= value < 2**40:
            raise InputError(f"{name}, info.{key}: found {short(value)}, needs a number from 1 on")
    return stated


def joined_opening(openings: Iterable[tuple[object, dict[str, Any]]]) -> dict[str, Any]:
    """The settings of several documents (name, its `opening`) that become one; InputError for two white levels."""
    joined: dict[str, Any] = {}
    first: object = ""
    for name, stated in openings:
        if (white := stated.get("max_value")) is not None:
            if joined.setdefault("max_value", white) != white:
                text = f"info.max_value {white:g}, and {joined['max_value']:g} in {first}"
                raise InputError(f"{name}, {text}: one file has one white level")
            first = first or name
        if (limit := stated.get("max_pixels")) is not None:
            joined["max_pixels"] = max(limit, joined.get("max_pixels", limit))
    return joined


def image_path(document: Document, annotations_path: str | os.PathLike, image: dict) -> Path:
    """The path of the picture of `image` (an entry of document["images"]). Raises InputError if outside the root."""
    name = image["file_name"]
    if not is_inside(name):
        raise InputError(f'{annotations_path}, image {image["id"]}: file_name "{name}" leads out of the image root')
    return image_root(document, annotations_path) / name


def is_inside(file_name: str) -> bool:
    """Whether a file_name stays below the folder it starts from, by its text alone."""
    if file_name[:1] in ("", "/") or "\0" in file_name or "\\" in file_name:
        return False
    if ".." not in file_name:
        return bool(file_name.strip("./"))
    return ".." not in PurePosixPath(file_name).parts


def is_ignore_region(annotation: Mapping[str, Any]) -> bool:
    """Whether an annotation is an ignore region (nothing in it is evaluated), of which there is one copy per class."""
    return annotation.get("label") == "__ignore__" and annotation.get("iscrowd") == 1


def ignore_regions_once(annotations: Iterable[Any]) -> list[Any]:
    """The annotations, each ignore region once instead of once per class."""
    kept, seen = [], set()
    for annotation in annotations:
        if is_ignore_region(annotation):
            key = repr((annotation.get("image_id"), annotation["bbox"], annotation.get("segmentation")))
            if key in seen:
                continue
            seen.add(key)
        kept.append(annotation)
    return kept


def own_shape(annotation: Mapping[str, Any]) -> dict | list | None:
    """An annotation's RLE or polygons; None where it is a box alone: without outline or pixel, or with its corners."""
    shape = annotation.get("segmentation")
    if isinstance(shape, dict):
        return shape if rle.area(rle.to_runs(shape)) else None
    return None if not shape or [list(p) for p in shape] == [rectangle(annotation["bbox"])] else shape


def by_image(document: Document) -> dict[int, list[dict]]:
    """{image id: its annotations}, of all images."""
    found: dict[int, list[dict]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        found[annotation["image_id"]].append(annotation)
    return found


def class_names(document: Document) -> list[str]:
    """The names of the categories, in the order of their ids."""
    return [c["name"] for c in sorted(document["categories"], key=lambda c: c["id"])]


_ENCODER = json.JSONEncoder(sort_keys=True, ensure_ascii=False, allow_nan=False)


def _json(value: object) -> bytes:
    return _ENCODER.encode(value).encode()


def _write_list(file, items: Iterable[dict | str]) -> None:
    file.write(b"[")
    first = True
    for item in items:
        file.write((b"\n  " if first else b",\n  ") + (item.encode() if isinstance(item, str) else _json(item)))
        first = False
    file.write(b"]" if first else b"\n ]")
