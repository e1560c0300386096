"""Read a large COCO file in pieces, so that its whole text and its decoded objects are never in memory together.

Needs msgspec, and files that it certainly reads as Python does; for any other file `opened` gives None or a
piece raises `NotInPiecesError`, and the caller reads the file as a whole, which also reports the errors.
`columns` reads a file that needs no repair as arrays, without a Python object for each annotation. The rules are those
of `repair`, applied to whole columns; a file with any finding, even a note, is left to `repair`.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from label_tools.document import repair
from label_tools.document.repair_annotation import is_plain_outline
from label_tools.document.repair_images_and_categories import LARGEST_IMAGE_SIDE, grouping_class, is_too_long
from label_tools.files import fast_json
from label_tools.files.marked_folders import check_settled
from label_tools.files.pause_gc import collector_paused
from label_tools.text.rule_limits import LEAST_SIDE, MOST_ASPECT

LEAST = 32 * 2**20  # bytes; a smaller file is read as a whole
PIECE = 4 * 2**20
_TAIL = 2**16  # where the end of a piece is looked for first
_BETWEEN_OBJECTS = re.compile(rb"\}[ \t\r\n]*,[ \t\r\n]*(?=\{)")
_BEFORE_VALUE = re.compile(rb'[ \t\r\n]*[{,][ \t\r\n]*"[A-Za-z_]+"[ \t\r\n]*:[ \t\r\n]*')


class NotInPiecesError(ValueError):
    """The file must be read as a whole."""


class Sections:
    """The values of the object in an open file, each decoded when it is asked for. places: {key: its text's place}."""

    def __init__(self, file: BinaryIO, places: Mapping[str, slice]) -> None:
        self.file, self.places = file, places

    def text(self, key: str) -> bytes:
        place = self.places[key]
        self.file.seek(place.start)
        return self.file.read(place.stop - place.start)

    def value(self, key: str) -> Any:
        """Decode a small value as a whole."""
        return _decoded(b"[" + self.text(key) + b"]")[0]

    def pieces(self, key: str) -> Iterator[list[dict[str, Any]]]:
        """The objects of a list, some thousands at a time."""
        place = self.places[key]
        done, text = place.start, b""
        while done < place.stop:
            self.file.seek(done)
            more = self.file.read(min(PIECE, place.stop - done))
            if not more:
                raise NotInPiecesError(key)
            done, text = done + len(more), text + more
            if done == place.stop:
                yield _objects(text)
                return
            # if the text cut here parses as a list, the cut lies between two objects, not within one
            cuts = list(_BETWEEN_OBJECTS.finditer(text, max(0, len(text) - _TAIL)))
            if cuts:
                yield _objects(text[: cuts[-1].start() + 1] + b"]")
                text = b"[" + text[cuts[-1].end() :]


def _decoded(text: bytes) -> list:
    value = fast_json.decode(text)
    if type(value) is not list:
        raise NotInPiecesError
    return value


def _objects(text: bytes) -> list[dict[str, Any]]:
    objects = _decoded(text)
    if not all(type(one) is dict for one in objects):
        raise NotInPiecesError
    return objects


@contextmanager
def opened(path: Path) -> Iterator[Sections | None]:
    """The parts of a large file that holds one object, no key twice; None for any other. Raises OSError."""
    with open(path, "rb") as file:
        places = _places(file.read()) if os.fstat(file.fileno()).st_size >= LEAST else None
        yield Sections(file, places) if places is not None else None


def _places(data: bytes) -> dict[str, slice] | None:
    """{key: where the text of its value lies}"""
    values = fast_json.raw_values(data)
    if values is None:
        return None
    begin, end, places = np.frombuffer(data, np.uint8).ctypes.data, 0, {}
    for key, raw in values.items():
        start = np.frombuffer(raw, np.uint8).ctypes.data - begin
        if not _BEFORE_VALUE.fullmatch(data, end, start):  # there was another value of this name, or an unusual name
            return None
        end = start + len(memoryview(raw))
        places[key] = slice(start, end)
    return places


_KNOWN = ("info", "licenses", "images", "annotations", "categories")
Tell = Callable[[list[dict]], None]


@dataclass(frozen=True)
class Columns:
    """N images and M annotations in the order of the file; image: row of its image."""

    info: dict[str, Any]
    categories: list[dict[str, Any]]
    first_names: list[str]  # of some images
    image_ids: np.ndarray  # [N] int64
    sizes: np.ndarray  # [N,2] int32 height, width
    names: np.ndarray  # all file names as one buffer of UTF-8 bytes
    name_ends: np.ndarray  # [N]
    image: np.ndarray  # [M]
    category_ids: np.ndarray  # [M]
    bbox: np.ndarray  # [M,4] float64 x, y, w, h
    crowd: np.ndarray  # [M] bool


def columns(path: Path, begin: Tell, of_images: Tell, of_annotations: Tell) -> Columns | None:
    """Read the columns of a large file without findings; None for any other file, also an unreadable one.

    begin: told of the categories; then of_images and of_annotations of pieces of their lists. Raises InputError for a
    file whose folder is half written.
    """
    check_settled(path)
    with suppress(OSError, NotInPiecesError), collector_paused(), opened(path) as sections:
        if sections is None or not {"images", "annotations", "categories"} <= set(sections.places) <= set(_KNOWN):
            return None
        info = sections.value("info") if "info" in sections.places else {}
        categories = sections.value("categories")
        _demand(type(info) is dict and type(categories) is list)
        given = {"images": [], "annotations": [], "categories": categories}
        found = repair.examine(given, str(path))
        _demand(not found.findings and grouping_class(categories) is None)
        _demand(
            found.usable()["categories"] == categories
            and all(type(c["id"]) is int and abs(c["id"]) < 2**62 for c in categories)
        )
        begin(categories)
        images = _images(sections, of_images)
        return Columns(
            info, categories, *images, *_annotations(sections, categories, images[1], images[2], of_annotations)
        )
    return None


def _demand(condition: Any) -> None:
    if not condition:
        raise NotInPiecesError


def _types(values: Any) -> set[type]:
    return set(map(type, values))


def _images(sections: Sections, tell: Tell) -> tuple[list[str], np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    first: list[str] = []
    ids, sizes, names, ends, hashes = [], [], [], [], []
    for piece in sections.pieces("images"):
        _demand(piece)
        tell(piece)
        got: list[list[Any]] = [[one.get(key) for one in piece] for key in ("id", "height", "width", "file_name")]
        _demand(_types(chain(*got[:3])) == {int} and _types(got[3]) == {str})
        _demand(all(got[3]) and not any("\\" in name or is_too_long(name) for name in got[3]))
        _demand(min(got[0]) > -(2**62) and max(got[0]) < 2**62)
        _demand(min(chain(*got[1:3])) > 0 and max(chain(*got[1:3])) <= LARGEST_IMAGE_SIDE)
        texts = [name.encode() for name in got[3]]
        ids.append(np.array(got[0], np.int64))
        sizes.append(np.array(got[1:3], np.int32).T)
        ends.append(np.fromiter(map(len, texts), np.int64, len(texts)))
        names.append(np.frombuffer(b"".join(texts), np.uint8))
        hashes.append(np.fromiter(map(hash, texts), np.int64, len(texts)))
        first = first or got[3][:3]
    _demand(ids)
    all_ids = np.concatenate(ids)
    _demand(_all_differ(all_ids) and _all_differ(np.concatenate(hashes)))
    return first, all_ids, np.concatenate(sizes), np.concatenate(names), np.cumsum(np.concatenate(ends))


def _all_differ(values: np.ndarray) -> bool:
    ordered = np.sort(values)
    return not (ordered[1:] == ordered[:-1]).any()


def _annotations(
    sections: Sections, categories: list[dict], image_ids: np.ndarray, sizes: np.ndarray, tell: Tell
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    order = np.argsort(image_ids, kind="stable")
    ordered, classes = image_ids[order], np.array(sorted(c["id"] for c in categories))
    parts: list[tuple[np.ndarray, ...]] = []
    for piece in sections.pieces("annotations"):
        _demand(piece)
        tell(piece)
        parts.append(_columns_of(piece, ordered, order, classes, sizes))
    _demand(parts)
    ids, image, category, bbox, crowd = map(np.concatenate, zip(*parts, strict=True))
    parts.clear()
    _demand(_all_differ(ids) and _all_differ(_hash([image, category, crowd, *bbox.T.view(np.int64)])))
    _demand(repair.other_format(bbox, sizes[image][:, ::-1]) is None)
    _demand(crowd.sum() < repair.MANY_CROWDS * len(crowd))
    return image, category, bbox, crowd


def _columns_of(
    piece: list[dict], ordered: np.ndarray, order: np.ndarray, classes: np.ndarray, sizes: np.ndarray
) -> tuple[np.ndarray, ...]:
    """(ids, rows of images, category ids, boxes, crowd) of annotations, all plain."""
    keys = ("id", "image_id", "category_id", "iscrowd", "area", "bbox", "segmentation")
    values: list[list[Any]] = [[one.get(key) for one in piece] for key in keys]
    ids, images, categories, crowds, areas, boxes, outlines = values
    _demand(_types(chain(ids, images, categories, crowds)) == {int} and _types(chain(boxes, outlines)) == {list})
    _demand(_types(chain(areas, *boxes)) <= {int, float} and set(map(len, boxes)) == {4})
    _demand(min(crowds) >= 0 and max(crowds) <= 1 and min(ids) > 0 and max(ids) < 2**62)
    _demand(min(areas) > 0 and max(areas) < 1e300 and not any("attributes" in one for one in piece))
    _demand(max(map(abs, chain(images, categories))) < 2**62)
    image, category, area = np.array(images), np.array(categories), np.array(areas, float)
    place = np.searchsorted(ordered, image).clip(max=len(ordered) - 1)
    _demand((ordered[place] == image).all() and np.isin(category, classes).all() and not np.isnan(area).any())
    row = order[place]
    try:
        bbox = np.array(boxes, float)
    except OverflowError:
        raise NotInPiecesError from None
    (x, y, w, h), (height, width) = bbox.T, sizes[row].T
    inside = (x >= 0) & (y >= 0) & (w >= LEAST_SIDE) & (h >= LEAST_SIDE) & (x + w <= width) & (y + h <= height)
    _demand((inside & (w <= MOST_ASPECT * h) & (h <= MOST_ASPECT * w)).all())  # False for NaN
    _demand(all(is_plain_outline(outline, box) for outline, box in zip(outlines, boxes, strict=True) if outline))
    return np.array(ids), row, category, bbox, np.array(crowds, bool)


def _hash(columns: list[np.ndarray]) -> np.ndarray:
    """[M] a number for each row; equal for equal rows, and hardly ever for others."""
    result = np.zeros(len(columns[0]), np.uint64)
    for column in columns:
        result = (result ^ (result >> np.uint64(29)) ^ column.astype(np.int64).view(np.uint64)) * np.uint64(
            0x9E3779B97F4A7C15
        )
    return result
