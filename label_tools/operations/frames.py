"""Choose the frames of a film that are worth labelling: as unlike each other as possible.

Neighbouring frames are nearly equal; a detector learns little from the second. Each becomes a thumbnail; the first
choice is the frame nearest to the mean of all, and each further one the frame that is farthest from those chosen
(farthest-point sampling, Gonzalez 1985).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.files.atomic_write import atomic_write
from label_tools.pictures.films import Film, frame_name
from label_tools.text.errors import InputError

SIDE = 16  # pixels of a thumbnail, in colour
MOST = 4000  # frames that are compared: a film of an hour, one in a second
QUALITY = 95  # of the JPEGs


def choose(thumbnails: np.ndarray, number: int) -> list[int]:
    """Rows of `number` thumbnails [N,D] that are unlike each other, in order; fewer where fewer differ."""
    points = thumbnails.astype(np.float32)
    first = int(((points - points.mean(axis=0)) ** 2).sum(axis=1).argmin())
    chosen = [first]
    distance = ((points - points[first]) ** 2).sum(axis=1)
    while len(chosen) < min(number, len(points)) and distance.max() > 0:
        chosen.append(int(distance.argmax()))
        distance = np.minimum(distance, ((points - points[chosen[-1]]) ** 2).sum(axis=1))
    return sorted(chosen)


def extract(film: Path, out: Path, number: int) -> tuple[list[Path], int]:
    """Write `number` frames of a film into `out` as JPEG. -> (the files, frames of the film).

    Two passes over the film, which hold one frame at a time. Raises InputError for a film that cannot be read, and
    where a file lies in the way.
    """
    from tqdm import tqdm

    if number < 1:
        raise InputError(f"--number: found {number}, needs 1 or more")
    reader = Film(film)
    step = max(1, reader.frames // MOST)
    thumbnails, total = [], 0
    for frame in tqdm(reader, f"{film.name}: looking", reader.frames or None, disable=None):
        total = frame.number + 1
        if frame.number % step == 0:
            small = Image.fromarray(frame.pixels).resize((SIDE, SIDE), Image.Resampling.BOX)
            thumbnails.append(np.asarray(small).reshape(-1))
    wanted = {row * step for row in choose(np.array(thumbnails), number)}
    names = {at: out / frame_name(film.stem, at) for at in sorted(wanted)}
    if there := next((path for path in names.values() if path.exists()), None):
        raise InputError(f"{there}: exists, and is never overwritten; use another --out")
    written = []
    for frame in tqdm(Film(film), f"{film.name}: writing", total, disable=None):
        if frame.number in names:
            with atomic_write(names[frame.number], durable=False) as file:
                Image.fromarray(frame.pixels).save(file, format="JPEG", quality=QUALITY)
            written.append(names[frame.number])
        if len(written) == len(names):
            break
    return written, total
