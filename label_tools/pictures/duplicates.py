"""Which pictures are the same, and which only look the same: a model must not be tested on what it has seen.

Two images are *the same* when their decoded pixels are (SHA-256 over size and RGB bytes, so another file
name, other metadata or a lossless re-save change nothing). They *look alike* when two weak signs agree:

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
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.pictures.images import open_image

NEAR_DISTANCE = 8  # bits of 64
NEAR_CORRELATION = 0.9
FLAT = 2.0  # grey levels: a thumbnail with a smaller standard deviation has no structure to compare
THUMB = 32


@dataclass(frozen=True)
class Fingerprint:
    """What we keep of an image: 32 bytes for equality, 8 + 1024 bytes for likeness."""

    pixels: str  # SHA-256 of width, height and the decoded RGB bytes
    dhash: int  # 64 bits
    thumb: bytes  # 32x32 grey


def fingerprint(image: Image.Image) -> Fingerprint:
    """The fingerprint of an RGB image as `open_image` gives it (EXIF applied)."""
    digest = hashlib.sha256(f"{image.width}x{image.height}:".encode())
    digest.update(image.tobytes())
    grey = image.convert("L")
    # BOX averages every source pixel, so noise and re-encoding cancel out.
    small = np.asarray(grey.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    bits = np.packbits(small[:, 1:] > small[:, :-1])
    thumb = grey.resize((THUMB, THUMB), Image.Resampling.BOX).tobytes()
    return Fingerprint(digest.hexdigest(), int.from_bytes(bits.tobytes(), "big"), thumb)


def fingerprint_file(path: Path) -> Fingerprint:
    """The fingerprint of an image file. InputError when it cannot be opened."""
    return fingerprint(open_image(path))


def fingerprint_files(paths: Sequence[Path], jobs: int = 1) -> Iterator[Fingerprint]:
    """Fingerprints in the order of `paths`, worked out in `jobs` processes."""
    if jobs <= 1 or len(paths) < 2:
        yield from map(fingerprint_file, paths)
        return
    # spawn, because fork is not safe in a process that already has threads (torch, tqdm)
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        yield from pool.map(fingerprint_file, paths, chunksize=16)


def same_pixels(prints: Sequence[Fingerprint]) -> list[list[int]]:
    """Indices of images with equal pixels, each group of two or more, in order of first appearance."""
    groups: dict[str, list[int]] = {}
    for index, one in enumerate(prints):
        groups.setdefault(one.pixels, []).append(index)
    return [group for group in groups.values() if len(group) > 1]


def look_alike(
    prints: Sequence[Fingerprint],
    distance: int = NEAR_DISTANCE,
    correlation: float = NEAR_CORRELATION,
) -> list[tuple[int, int, int]]:
    """Pairs (i, j, differing bits), i < j, enough to tie together all that looks alike: of three that are alike
    two pairs. Copies with the same pixels are represented by the first one.

    Every hash is compared with every other in blocks: 20,000 images are 2e8 comparisons, a second in numpy. A pair
    that is tied already is not looked at again, so a film of one scene costs no more than 20,000 photographs.
    """
    first: dict[str, int] = {}
    for index, one in enumerate(prints):
        first.setdefault(one.pixels, index)
    thumbs = {i: np.frombuffer(prints[i].thumb, dtype=np.uint8).astype(np.float32) for i in first.values()}
    # a picture without structure correlates with nothing
    chosen = np.array([i for i in first.values() if thumbs[i].std() >= FLAT], dtype=np.int64)
    hashes = np.array([prints[i].dhash for i in chosen.tolist()], dtype=np.uint64)
    group = np.arange(len(chosen))
    pairs = []
    for row, columns, bits in _close_rows(hashes, distance):
        new = group[columns] != group[row]
        for column, differing in zip(columns[new].tolist(), bits[new].tolist()):
            if group[column] == group[row]:
                continue
            i, j = int(chosen[row]), int(chosen[column])
            if _correlate(thumbs[i], thumbs[j]) >= correlation:
                pairs.append((i, j, differing))
                group[group == group[column]] = group[row]
    return sorted(pairs)


def _close_rows(hashes: np.ndarray, distance: int, block: int = 256) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each row i of 64-bit hashes [N]: all j > i that differ in at most `distance` bits, and in how many."""
    for start in range(0, len(hashes), block):
        differing = _popcount(hashes[start : start + block, None] ^ hashes[None, start:])
        for row in range(len(differing)):
            columns = np.flatnonzero(differing[row, row + 1 :] <= distance) + row + 1
            if len(columns):
                yield start + row, start + columns, differing[row, columns]


_BITS_OF_16 = np.array([bin(value).count("1") for value in range(1 << 16)], dtype=np.uint8)


def _popcount(values: np.ndarray) -> np.ndarray:
    """Number of set bits of each uint64."""
    if hasattr(np, "bitwise_count"):  # numpy >= 2
        return np.bitwise_count(values)
    return _BITS_OF_16[values[..., None].view(np.uint16)].sum(-1, dtype=np.uint8)


def _correlate(a: np.ndarray, b: np.ndarray) -> float:
    """Pearson correlation of two thumbnails that have contrast."""
    return float(np.mean((a - a.mean()) * (b - b.mean())) / (a.std() * b.std()))


def join(count: int, links: Iterable[Sequence[int]]) -> list[int]:
    """Put `count` items that `links` tie together into groups; the group of an item is its lowest index.

    `join(4, [(0, 2), (2, 3)])` is `[0, 1, 0, 0]`: ties are followed through (union-find).
    """
    parent = list(range(count))

    def root(item: int) -> int:
        while parent[item] != item:
            parent[item] = parent[parent[item]]
            item = parent[item]
        return item

    for first, *others in links:
        for other in others:
            a, b = sorted((root(first), root(other)))
            parent[b] = a
    return [root(item) for item in range(count)]
