"""The original PurdueShapes5 files (gzip over pickle), read by something that cannot run code.

A pickle is a program. This reader's Unpickler refuses every name that the program asks for, so only what the
format itself holds can come out: lists, tuples, dicts, numbers, strings. Then each entry is checked:

    [[[R 1024], [G 1024], [B 1024], [x_min, y_min, x_max, y_max], label], ...], {"rectangle": 0, ...}
"""

from __future__ import annotations

import gzip
import io
import pickle
import zlib
from pathlib import Path

import numpy as np
import torch

from label_tools.text.errors import InputError
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.data.shapes5 import SIDE

MOST_BYTES = 1 << 30  # unpacked: 10,000 images are about 60 MB; a small file must not fill the memory


class _PlainOnly(pickle.Unpickler):
    """Lists, tuples, dicts, numbers, strings, bytes. Anything with a name (class, function) is refused."""

    def __init__(self, data: bytes, name: str) -> None:
        super().__init__(io.BytesIO(data))
        self.name = name

    def find_class(self, module: str, name: str) -> object:
        raise InputError(f"{self.name}: the pickle asks for {module}.{name}; only lists, numbers and strings are read")

    def persistent_load(self, pid: object) -> object:
        raise InputError(f"{self.name}: the pickle points outside of the file; only plain lists are read")


def read(path: Path) -> Samples:
    """Samples of a PurdueShapes5 file; the inclusive boxes become half-open. Raises InputError."""
    content = _plain(path)
    if not isinstance(content, (list, tuple)) or len(content) != 2:
        raise InputError(f"{path}: found no pair of images and label names, as PurdueShapes5 has")
    entries, names = content
    if isinstance(entries, dict):  # DLStudio's writer numbers its images in a dict
        entries = list(entries.values())
    if not isinstance(entries, (list, tuple)) or not entries:
        raise InputError(f"{path}: holds no images")
    if len(entries) * 3 * SIDE * SIDE > MOST_BYTES:  # a few bytes can name the same image again and again
        raise InputError(f"{path}: holds {len(entries):,} images, more than {MOST_BYTES >> 20} MB of pixels")
    classes = _classes(names, path)
    images = np.zeros((len(entries), 3, SIDE, SIDE), np.uint8)
    boxes, labels = np.zeros((len(entries), 4), np.float32), np.zeros(len(entries), np.int64)
    for row, entry in enumerate(entries):
        images[row], boxes[row], labels[row] = _entry(entry, len(classes), f"{path}, image {row}")
    return Samples(
        path.name,
        classes,
        torch.from_numpy(images),
        torch.arange(len(entries)),
        torch.from_numpy(labels),
        torch.from_numpy(boxes),
    )


def _plain(path: Path) -> object:
    try:
        with gzip.open(path, "rb") as file:
            data = file.read(MOST_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: cannot be read as gzip: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > MOST_BYTES:
        raise InputError(f"{path}: unpacks to more than {MOST_BYTES >> 20} MB")
    try:
        return _PlainOnly(data, str(path)).load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle raises almost anything
        raise InputError(f"{path}: damaged pickle: {type(error).__name__}") from None


def _classes(names: object, path: Path) -> tuple[str, ...]:
    if not isinstance(names, dict) or not names or not all(isinstance(n, str) for n in names):
        raise InputError(f"{path}: label names are not a dict of strings")
    numbers = list(names.values())
    if not all(type(v) is int for v in numbers) or sorted(numbers) != list(range(len(names))):
        raise InputError(f"{path}: labels are {_shown(numbers)}, needs 0 to {len(names) - 1}, each once")
    return tuple(sorted(names, key=lambda name: names[name]))


def _entry(entry: object, num_classes: int, where: str) -> tuple[np.ndarray, tuple, int]:
    """-> (pixels [3,32,32], half-open box, label) of one checked [R, G, B, bbox, label]."""
    if not isinstance(entry, (list, tuple)) or len(entry) != 5:
        raise InputError(f"{where}: found no list of five (R, G, B, box, label)")
    *colours, box, label = entry
    for name, values in zip("RGB", colours, strict=True):
        plain = isinstance(values, (list, tuple)) and len(values) == SIDE * SIDE
        if not plain or not all(type(v) is int and 0 <= v <= 255 for v in values):
            raise InputError(f"{where}: {name} is not a list of {SIDE * SIDE} whole numbers 0 to 255")
    if not isinstance(box, (list, tuple)) or len(box) != 4 or not all(type(v) is int for v in box):
        raise InputError(f"{where}: box is not a list of four whole numbers")
    x1, y1, x2, y2 = box
    if not (0 <= x1 <= x2 < SIDE and 0 <= y1 <= y2 < SIDE):
        raise InputError(f"{where}: box {_shown(list(box))} is inverted or outside of {SIDE} x {SIDE} pixels")
    if type(label) is not int or not 0 <= label < num_classes:
        raise InputError(f"{where}: label {_shown(label)}, needs 0 to {num_classes - 1}")
    return np.array(colours, np.uint8).reshape(3, SIDE, SIDE), (x1, y1, x2 + 1, y2 + 1), label


def _shown(value: object) -> str:
    """A value for a message; str() itself fails on numbers of thousands of digits and on lists nested too deeply."""
    try:
        return str(value)[:80]
    except (ValueError, RecursionError):
        return f"a {type(value).__name__} too large to show"
