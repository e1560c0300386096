"""Find duplicates: pictures that are the same or look alike. A model must not be tested on what it was trained on.

Two images are *the same* when their decoded pixels are (SHA-256 over size and RGB bytes, so another file
name, other metadata or a lossless re-save change nothing). They *look alike* when two weak measures agree:

- the difference hash (dHash, N. Krawetz 2013): shrink to 9x8 grey, is each pixel brighter than its left
  neighbour? 64 bits; at most `distance` of them may differ;
- the correlation of the two pictures shrunk to 32x32 grey is at least `correlation`.

Measured on 370 photographs: JPEG quality 40, half size, +15 % brightness, +20 % contrast and
grey differ in at most 8 bits and correlate above 0.98; of 34,000 pairs of different photographs one came
within 8 bits, and it correlates at 0.63. A picture without contrast (a blank frame) has no hash worth
comparing and looks like nothing but its exact copies.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures.open_image import open_image

NEAR_DISTANCE = 8  # bits of 64
NEAR_CORRELATION, TURNED_CORRELATION = 0.9, 0.95  # eight times the chances need a stronger sign
FLAT = 2.0  # grey levels: a thumbnail with a smaller standard deviation has no structure to compare
THUMB = 32
_FINE = 72  # pixels, a multiple of 9 and 8: the picture is shrunk to this before it is turned
_TURNS = ("flipped", "upside down", "turned by 180°", "turned by 90°", "turned by 270°", "transposed", "transversed")
_TRANSPOSE = (
    Image.Transpose.FLIP_LEFT_RIGHT,
    Image.Transpose.FLIP_TOP_BOTTOM,
    Image.Transpose.ROTATE_180,
    Image.Transpose.ROTATE_90,
    Image.Transpose.ROTATE_270,
    Image.Transpose.TRANSPOSE,
    Image.Transpose.TRANSVERSE,
)


@dataclass(frozen=True)
class Fingerprint:
    """The fingerprint of an image: 32 bytes for equality, 64 + 1024 bytes for similarity."""

    pixels: str  # SHA-256 of width, height and the decoded RGB bytes
    dhash: int  # 64 bits
    thumb: bytes  # 32x32 grey
    turned: tuple[int, ...]  # the dhash of the picture flipped and turned, in the order of _TURNS


@dataclass(frozen=True)
class Alike:
    """Two images i < j of a list that look alike. bits: of 64 that differ; turn: how j lies to i, "" as it is."""

    i: int
    j: int
    bits: int
    turn: str = ""

    def __str__(self) -> str:
        return f"{self.turn}, {self.bits} of 64 bits differ" if self.turn else f"{self.bits} of 64 bits differ"


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image as `open_image` gives it (EXIF applied)."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    grey = image.convert("L")
    thumb = grey.resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()
    fine = grey.resize((_FINE, _FINE), Image.Resampling.BOX)
    return Fingerprint(digest.hexdigest(), _dhash(grey), thumb, tuple(_dhash(fine.transpose(t)) for t in _TRANSPOSE))


def _dhash(grey: Image.Image) -> int:
    # BOX averages every source pixel, so noise and re-encoding cancel out
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    return int.from_bytes(np.packbits(small[:, 1:] > small[:, :-1]).tobytes(), "big")


def fingerprint_file(path: Path, **opening: Any) -> Fingerprint:
    """The fingerprint of an image file. opening: keywords of `open_image`. InputError when it cannot be opened."""
    return fingerprint(open_image(path, **opening))


def fingerprint_files(paths: Sequence[Path], jobs: int = 1, **opening: Any) -> Iterator[Fingerprint]:
    """Fingerprints in the order of `paths`, worked out in `jobs` processes."""
    one = partial(fingerprint_file, **opening)
    if jobs <= 1 or len(paths) < 2:
        yield from map(one, paths)
        return
    # spawn, because fork is not safe in a process that already has threads (torch, tqdm)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(one, paths, chunksize=16)


def same_pixels(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Indices of images with equal pixels, each group of two or more, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(prints):
        groups.setdefault(one.pixels, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def look_alike(
    prints: Sequence[Fingerprint], distance: int = NEAR_DISTANCE, correlation: float = NEAR_CORRELATION
) -> list[Alike]:
    """Pairs that link all images that look alike (for three alike, two pairs are enough). Copies with the same
    pixels are represented by the first one.

    Every hash is compared with the eight hashes of every other, in blocks: 20,000 images are 1.6e9 comparisons, some
    seconds in numpy. A pair that is tied already is not looked at again, and where most hashes agree (a film of one
    scene, black pictures) correlations are one matrix product, so that neither costs more than photographs.
    """
    first: dict[str, int] = {}
    for index, one in enumerate(prints):
        first.setdefault(one.pixels, index)
    thumbs = np.frombuffer(b"".join(prints[i].thumb for i in first.values()), dtype=np.uint8).reshape(-1, THUMB**2)
    # one without structure correlates with nothing
    good = np.array([thumb.std() >= FLAT for thumb in thumbs], dtype=bool)
    chosen = np.array(list(first.values()), dtype=np.int64)[good]
    patterns = _standardised(thumbs[good])
    hashes = np.array([(prints[i].dhash, *prints[i].turned) for i in chosen.tolist()], dtype=np.uint64).reshape(-1, 8)
    group = np.arange(len(chosen))
    found = []
    for start in range(0, len(chosen), _BLOCK):
        close: list[tuple[int, int, int, int]] = []
        for turn in range(8):
            least = max(correlation, TURNED_CORRELATION) if turn else correlation
            pairs = _close_pairs(start, turn, hashes, patterns, group, distance, least)
            close += [(row, column, turn, bits) for row, column, bits in pairs]
        for row, column, turn, bits in sorted(close):
            if group[column] != group[row]:
                i, j = int(chosen[row]), int(chosen[column])
                found.append(Alike(i, j, bits, _TURNS[turn - 1] if turn else ""))
                group[group == group[column]] = group[row]
    return sorted(found, key=lambda pair: (pair.i, pair.j))


_BLOCK = 256


def _close_pairs(
    start: int,
    turn: int,
    hashes: np.ndarray,
    patterns: np.ndarray,
    group: np.ndarray,
    distance: int,
    correlation: float,
) -> Iterator[tuple[int, int, int]]:
    """(i, j, differing bits) of a block's rows i and all j > i, not yet in one group, by both signs.

    hashes [N,8]: of each picture as it is and in the seven other ways; patterns [N,1024]: `_standardised` thumbnails.
    """
    differing = _popcount(hashes[start : start + _BLOCK, turn, None] ^ hashes[None, start:, 0])
    rows, columns = np.nonzero(differing <= distance)
    keep = (columns > rows) & (group[rows + start] != group[columns + start])
    rows, columns = rows[keep], columns[keep]
    if not len(rows):
        return
    block = patterns[start : start + _BLOCK]
    if turn:  # the same change on the thumbnail
        image = np.arange(THUMB * THUMB, dtype=np.int32).reshape(THUMB, THUMB)
        block = block[:, np.asarray(Image.fromarray(image).transpose(_TRANSPOSE[turn - 1])).ravel()]
    if len(rows) * 20 > differing.size:
        alike = (block @ patterns[start:].T)[rows, columns]
    else:
        some = (slice(k, k + 4096) for k in range(0, len(rows), 4096))
        products = [np.einsum("ij,ij->i", block[rows[k]], patterns[start + columns[k]]) for k in some]
        alike = np.concatenate(products)
    for k in np.flatnonzero(alike >= correlation):
        yield start + int(rows[k]), start + int(columns[k]), int(differing[rows[k], columns[k]])


def _standardised(thumbs: np.ndarray) -> np.ndarray:
    """Thumbnails [N,1024] so that the product of two is Pearson's correlation. All must have contrast."""
    centred = thumbs.astype(np.float32)
    centred -= centred.sum(axis=1, keepdims=True) / THUMB**2
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-6)


_BITS_OF_16 = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def _popcount(values: np.ndarray) -> np.ndarray:
    """Number of set bits of each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy >= 2
        return np.bitwise_count(values)
    return _BITS_OF_16[values[..., None].view(np.uint16)].sum(-1, dtype=np.uint8)


_COPY = re.compile(
    r"(?P<name>.+?)(?:[._](?:jpe?g|png|bmp|webp|tiff?|gif|heic))?\.rf\.[0-9A-Za-z_-]{6,}"  # Roboflow
    r"|(?P<other>.+?)[ _.-](?:aug(?:mented|mentation)?)[ _.-]?\d*"
    r"|(?P<film>.+)_frame\d{6,}",  # of `films.frame_name`: one film
    re.IGNORECASE,
)
_CHANGED = re.compile(
    r"aug(?:mented)?[ _.-]?\d*[ _-](?P<behind>.+)"
    r"|(?P<before>.+?)(?:[ _.-]+(?:[hv]?flip(?:ped)?|mirror(?:ed)?|rot(?:ated?)?|crop(?:ped)?|bright(?:ness)?|dark"
    r"|contrast|nois[ey]|blur(?:red)?|gr[ae]y|hue|jitter|shift(?:ed)?|zoom|copy)(?:[ _.-]?\(?\d+\)?)?)+",
    re.IGNORECASE,
)


def photograph_of(file_name: str, others: Container[str] = ()) -> str | None:
    """The photograph of which a file is a copy by its name, or None: `a/IMG_1_jpg.rf.0f3c9a12.jpg` -> `a/IMG_1`.

    Known are Roboflow's names, NAME_aug3.jpg, and frames of a film, FILM_frame000123.jpg; aug_3_NAME.jpg and
    NAME_hflip_rot90.jpg where NAME is one of `others`, as dark_3.jpg may be a photograph of its own. The photograph
    itself, NAME.jpg, is not a copy by its name.
    """
    path = PurePosixPath(file_name)
    if found := _COPY.fullmatch(path.stem):
        return str(path.with_name(found["name"] or found["other"] or found["film"]))
    changed = _CHANGED.fullmatch(path.stem)
    name = str(path.with_name(changed["behind"] or changed["before"])) if changed else ""
    return name if name in others else None


def copies_by_name(file_names: Sequence[str]) -> list[list[int]]:
    """Indices of files that are copies of one photograph by their names, with the photograph, two or more each."""
    groups: dict[str, list[int]] = {}
    plain = [str(PurePosixPath(name).with_suffix("")) for name in file_names]
    there = set(plain)
    names = [photograph_of(name, there) for name in file_names]
    known = {name for name in names if name}
    for index, (name, own) in enumerate(zip(names, plain, strict=True)):
        if key := name or (own if own in known else None):
            groups.setdefault(key, []).append(index)
    return [group for group in groups.values() if len(group) > 1]
