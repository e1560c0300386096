"""Read windows of large TIFF pictures: only the strips or tiles that a window touches are decoded.

The file's directory tells where each strip or tile lies. A strip is decoded by Pillow as a small TIFF of its own, made
in memory with the file's tags, so every compression that Pillow reads is read here, too.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from label_tools.pictures.open_image import ImageError, open_image
from label_tools.text.errors import InputError
from label_tools.text.rule_limits import MAX_PIXELS

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC = 256, 257, 258, 259, 262
_OFFSETS, _ORIENTATION, _SAMPLES, _ROWS, _COUNTS = 273, 274, 277, 278, 279
_PLANES, _PREDICTOR, _COLOURS = 284, 317, 320
_TILE_WIDTH, _TILE_HEIGHT, _TILE_OFFSETS, _TILE_COUNTS = 322, 323, 324, 325
_EXTRA, _FORMAT, _TABLES, _SUBSAMPLING = 338, 339, 347, 530
_TOGETHER = (_BITS, _COMPRESSION, _PHOTOMETRIC, _SAMPLES, _PREDICTOR, _COLOURS, _EXTRA, _FORMAT, _TABLES, _SUBSAMPLING)
_KEPT = 64_000_000  # bytes of decoded strips that are kept: neighbours of a window need them again


class Windows:
    """A TIFF file as an array [H,W,3] uint8 RGB that reads only the requested window: `windows[y1:y2, x1:x2]`.

    Raises ImageError for a file that is no TIFF, is turned (orientation), or holds its colours in planes.
    """

    def __init__(self, path: str | os.PathLike, max_value: float | None = None) -> None:
        self.path, self.max_value = Path(path), max_value
        try:
            with open(path, "rb") as file:
                head = file.read(8)
                tags: Any = ImageFileDirectory_v2(head + file.read(8) if head[2:3] == b"+" else head)  # 43: BigTIFF
                file.seek(tags.next)
                tags.load(file)
            self._tags = {key: tags[key] for key in _TOGETHER if key in tags}
            width, height = int(tags[_WIDTH]), int(tags[_HEIGHT])
            self._prefix = tags.prefix
            self._tiled = _TILE_OFFSETS in tags
            if self._tiled:
                self._piece = int(tags[_TILE_WIDTH]), int(tags[_TILE_HEIGHT])
                self._offsets, self._counts = tags[_TILE_OFFSETS], tags[_TILE_COUNTS]
            else:
                self._piece = width, min(int(tags.get(_ROWS, height)), height)
                self._offsets, self._counts = tags[_OFFSETS], tags[_COUNTS]
                bits = sum(tags.get(_BITS, (1,)))
                if len(self._offsets) == 1 and int(tags.get(_COMPRESSION, 1)) == 1 and bits % 8 == 0:
                    self._cut_up(width * bits // 8, height)
            turned, planes = int(tags.get(_ORIENTATION, 1)), int(tags.get(_PLANES, 1))
        except FileNotFoundError as error:
            raise ImageError("B32", str(path), "no such file") from error
        except Exception as error:  # whatever a damaged directory raises
            raise ImageError("B65", str(path), f"no TIFF that can be read by windows: {error}") from error
        if turned != 1 or planes != 1:
            what = "is turned (orientation)" if turned != 1 else "holds its colours in planes"
            raise ImageError("B66", str(path), f"{what}, and cannot be read by windows; save it as a plain TIFF")
        if self._piece[0] * self._piece[1] > MAX_PIXELS:
            raise ImageError("B66", str(path), f"a strip of {self._piece[0]} x {self._piece[1]} px; save it in tiles")
        self.shape = (height, width, 3)
        self._decoded: OrderedDict[int, np.ndarray] = OrderedDict()

    def _cut_up(self, row: int, height: int) -> None:
        """Split one uncompressed strip, with `row` bytes for each row of pixels, into many of about a megabyte."""
        rows = max(1, min(height, 2**20 // row))
        self._piece = self._piece[0], rows
        starts = range(0, height, rows)
        self._counts = tuple(row * min(rows, height - start) for start in starts)
        self._offsets = tuple(self._offsets[0] + start * row for start in starts)

    def __getitem__(self, key: tuple[slice, slice]) -> np.ndarray:
        height, width, _ = self.shape
        (y1, y2, _), (x1, x2, _) = key[0].indices(height), key[1].indices(width)
        found = np.empty((max(0, y2 - y1), max(0, x2 - x1), 3), dtype=np.uint8)
        across = -(-width // self._piece[0])
        for row in range(y1 // self._piece[1], -(-y2 // self._piece[1])):
            for column in range(x1 // self._piece[0], -(-x2 // self._piece[0])):
                top, left = row * self._piece[1], column * self._piece[0]
                piece = self._decode(row * across + column, min(self._piece[1], height - top))
                a, b = max(y1, top), min(y2, top + piece.shape[0])
                c, d = max(x1, left), min(x2, left + piece.shape[1])
                found[a - y1 : b - y1, c - x1 : d - x1] = piece[a - top : b - top, c - left : d - left]
        return found

    def _decode(self, number: int, rows: int) -> np.ndarray:
        """One strip or tile as [h,w,3] uint8."""
        if number in self._decoded:
            self._decoded.move_to_end(number)
            return self._decoded[number]
        if len(self._offsets) <= number or len(self._counts) <= number:
            raise ImageError("B65", str(self.path), "damaged image: its directory names too few strips")
        with open(self.path, "rb") as file:
            file.seek(self._offsets[number])
            content = file.read(self._counts[number])
        height = self._piece[1] if self._tiled else rows
        try:
            piece = np.asarray(open_image(self._small(content, height), max_value=self.max_value))
        except InputError as error:
            raise ImageError("B65", str(self.path), f"damaged image, strip {number}: {error}") from error
        self._decoded[number] = piece
        while len(self._decoded) > 1 and len(self._decoded) * piece.nbytes > _KEPT:
            self._decoded.popitem(last=False)
        return piece

    def _small(self, content: bytes, height: int) -> bytes:
        """A TIFF of one strip with these encoded pixels."""
        directory: Any = ImageFileDirectory_v2(prefix=self._prefix)
        for key, value in self._tags.items():
            directory[key] = value
        directory[_WIDTH], directory[_HEIGHT], directory[_ROWS] = self._piece[0], height, height
        directory[_OFFSETS], directory[_COUNTS] = 0, len(content)
        out = BytesIO()
        directory.save(out)  # which moves the offset behind what it writes
        return out.getvalue() + content
