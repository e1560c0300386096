"""Place the name tags of objects in a picture so that they cover neither each other nor the objects.

A tag goes above, below, beside or inside its box, wherever it takes least from any object. Where there is no such place
the tags of the whole picture shrink; those that still have none shrink to their short text (a score, an id) or are
left out, and a legend below the picture explains the colours.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from label_tools.pictures.fonts import Letters, shorten
from label_tools.pictures.palette import Colour, ink

Box = tuple[float, float, float, float]
SMALLEST = 9  # pixels of a letter that can still be read
_MOST_COVERED = 0.12  # of an object, by one tag
_LITTLE_COVERED = 0.02


@dataclass(frozen=True, slots=True)
class Tag:
    """The text of one object. box: XYXY in pixels of the picture. short: what is left of it in a crowd. kind: what the
    legend says of its colour."""

    box: Box
    text: str
    colour: Colour
    short: str = ""
    kind: str = ""


def write_tags(picture: Image.Image, tags: Sequence[Tag]) -> bool:
    """Write the tags onto the picture. Returns whether all of them stand there with their whole text."""
    tags = sorted((tag for tag in tags if tag.text), key=lambda tag: (tag.box[1], tag.box[0]))
    full = round(max(10, min(26, max(picture.size) / 48)))
    placed: list[tuple[Tag, str, Box]] = []
    size, whole = full, False
    for size in dict.fromkeys((full, max(SMALLEST, round(0.75 * full)), max(SMALLEST, round(0.55 * full)))):
        placed = _places(tags, Letters(size, bold=True), picture.size)
        whole = len(placed) == len(tags) and all(text != tag.short or tag.short == tag.text for tag, text, _ in placed)
        if whole:
            break
    draw, letters = ImageDraw.Draw(picture), Letters(size, bold=True)
    for tag, text, place in placed:
        draw.rounded_rectangle(place, radius=size / 4, fill=tag.colour, outline=(0, 0, 0))
        letters.write(picture, ((place[0] + place[2]) / 2, (place[1] + place[3]) / 2), text, ink(tag.colour), "mm")
    return whole


def with_legend(picture: Image.Image, kinds: Sequence[tuple[str, Colour]]) -> Image.Image:
    """The picture with a strip below it that names each colour."""
    strip = legend(kinds, picture.width, size=round(max(11, min(20, max(picture.size) / 60))))
    whole = Image.new("RGB", (picture.width, picture.height + strip.height), (250, 250, 250))
    whole.paste(picture, (0, 0))
    whole.paste(strip, (0, picture.height))
    return whole


def legend(kinds: Sequence[tuple[str, Colour]], width: int, size: int = 14) -> Image.Image:
    """Draw a legend: a chip for each (text, colour), in as many lines as needed at this width."""
    letters = Letters(size, bold=True)
    high, line = round(1.6 * size), 2 * size
    places, x, y = [], 0.0, 0
    for text, colour in kinds:
        text = shorten(text, letters, width - 20)
        wide = letters.getlength(text) + size
        if x and x + wide > width - 1:
            x, y = 0.0, y + line
        places.append((x, y, wide, text, colour))
        x += wide + 6
    strip = Image.new("RGB", (width, y + line), (250, 250, 250))
    draw = ImageDraw.Draw(strip)
    for x, y, wide, text, colour in places:
        draw.rounded_rectangle((x, y, x + wide, y + high), radius=size / 3, fill=colour, outline=(60, 60, 60))
        letters.write(strip, (x + wide / 2, y + high / 2), text, ink(colour), "mm")
    return strip


def _places(tags: Sequence[Tag], letters: Letters, size: tuple[int, int]) -> list[tuple[Tag, str, Box]]:
    """Place the tags: [(tag, its text, XYXY of its chip)] of those that fit."""
    boxes = np.array([tag.box for tag in tags], dtype=float).reshape(-1, 4)
    taken = np.empty((0, 4))
    placed = []
    for tag in tags:
        for text in dict.fromkeys((tag.text, tag.short)):
            if not text:
                continue
            text = shorten(text, letters, size[0] - 8)
            chip = (letters.getlength(text) + 0.6 * letters.size, 1.35 * letters.size)
            place = free_place(tag.box, chip, size, taken, boxes)
            if place is None and len(tags) == 1:  # an object as large as the picture; its name matters more
                place = _candidates(tag.box, chip, size)[2]
            if place is not None:
                corners = (place[0], place[1], place[0] + chip[0], place[1] + chip[1])
                taken = np.vstack([taken, corners])
                placed.append((tag, text, corners))
                break
    return placed


def free_place(
    box: Sequence[float], chip: tuple[float, float], size: tuple[int, int], taken: np.ndarray, objects: np.ndarray
) -> tuple[float, float] | None:
    """The upper left corner of a chip (width, height) for the object `box` (XYXY), inside the picture; None: no place.

    It overlaps no chip of `taken` [N,4] and covers at most a small part of each of `objects` [M,4]; of such places the
    first that covers next to nothing, else the one that covers least.
    """
    corners = np.array(_candidates(box, chip, size))
    chips = np.hstack([corners, corners + chip])
    free = (_overlaps(chips, taken) <= 0).all(axis=1)
    areas = np.maximum((objects[:, 2] - objects[:, 0]) * (objects[:, 3] - objects[:, 1]), 1.0)
    covered = (_overlaps(chips, objects) / areas).max(axis=1, initial=0.0)
    covered[~free] = np.inf
    little = np.flatnonzero(covered <= _LITTLE_COVERED)
    best = int(little[0]) if len(little) else int(covered.argmin())
    return (float(corners[best, 0]), float(corners[best, 1])) if covered[best] <= _MOST_COVERED else None


def _candidates(box: Sequence[float], chip: tuple[float, float], size: tuple[int, int]) -> list[tuple[float, float]]:
    """Candidate places: above, below, inside, beside the box, then a line farther away; all moved into the picture."""
    x1, y1, x2, y2 = box
    wide, high = chip
    rows = [y1, (y1 + y2 - high) / 2, y2 - high]
    places = [(x, y1 - high) for x in (x1, x2 - wide, (x1 + x2 - wide) / 2)]
    places += [(x, y2) for x in (x1, x2 - wide, (x1 + x2 - wide) / 2)]
    places += [(x1, y1), (x2 - wide, y1), (x1, y2 - high), (x2 - wide, y2 - high)]
    places += [(x2, y) for y in rows] + [(x1 - wide, y) for y in rows]
    places += [(x, y) for y in (y1 - 2 * high, y2 + high) for x in (x1, x2 - wide)]
    right, bottom = max(size[0] - wide - 1, 0), max(size[1] - high - 1, 0)
    return [(min(max(x, 0), right), min(max(y, 0), bottom)) for x, y in places]


def _overlaps(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Areas [N,M] in which boxes [N,4] and [M,4] (XYXY) overlap."""
    wide = np.minimum(a[:, None, 2], b[None, :, 2]) - np.maximum(a[:, None, 0], b[None, :, 0])
    high = np.minimum(a[:, None, 3], b[None, :, 3]) - np.maximum(a[:, None, 1], b[None, :, 1])
    return np.maximum(wide, 0) * np.maximum(high, 0)
