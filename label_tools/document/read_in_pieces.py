"""Read a large COCO file in pieces, so that its whole text and its decoded objects are never in memory together.

Needs msgspec, and files that it certainly reads as Python does; for any other file `opened` gives None or a
piece raises `NotInPiecesError`, and the caller reads the file as a whole, which also reports the errors.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from label_tools.files import fast_json

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
