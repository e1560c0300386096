"""digit_grid: one to four handwritten zeros and ones in clutter, 1 x 48 x 60, for the 2 x 3 grid detectors.

Numbers of digits as in the assignment's detection data: 78, 17, 4 and 1 of a hundred pictures hold one, two,
three, four. Digits do not overlap by more than a tenth; two may still have their centres in the same cell.
"""

from __future__ import annotations

import numpy as np
import torch

from toolkit.single_object.data import digit_pictures as pictures
from toolkit.single_object.data.samples import Samples

CLASSES = ("0", "1")
_NUMBERS = (0.78, 0.17, 0.04, 0.01)


def draw(count: int, *, seed: int, part: str) -> Samples:
    """`count` pictures from the handwriting of part "train" or "val". Same arguments, same pixels."""
    random = np.random.default_rng([23, seed, part == "val"])
    source, digits = pictures.handwriting(part)
    source, digits = source[digits < 2], digits[digits < 2]
    images = np.zeros((count, 1, pictures.HEIGHT, pictures.WIDTH), np.uint8)
    owner, labels, boxes = [], [], []
    for row in range(count):
        canvas = pictures.clutter(random, strokes=5)
        taken: list[tuple] = []
        for _ in range(1 + int(random.choice(4, p=_NUMBERS))):
            which = int(random.integers(len(source)))
            box = _lay(canvas, pictures.written(source[which], random), random, taken)
            if box:
                taken.append(box)
                owner.append(row)
                labels.append(int(digits[which]))
        boxes += taken
        images[row, 0] = canvas
    return Samples(
        "digit_grid",
        CLASSES,
        torch.from_numpy(images),
        torch.tensor(owner, dtype=torch.int64),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(boxes).float().reshape(-1, 4),
    )


def _lay(canvas: np.ndarray, digit: np.ndarray, random: np.random.Generator, taken: list[tuple]) -> tuple | None:
    """Paste where it hardly covers the others; None when twenty places were all taken."""
    for _ in range(20):
        before = canvas.copy()
        box = pictures.paste(canvas, digit, random)
        if all(_share(box, other) <= 0.1 for other in taken):
            return box
        canvas[:] = before
    return None


def _share(a: tuple, b: tuple) -> float:
    """Area of the overlap as a share of the smaller box."""
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    return width * height / min((a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1]))
