"""digits: one handwritten digit, or none, in clutter. 1 x 48 x 60, after the assignment's localisation data.

Every eleventh picture on average has no digit. The documents' splits are 59,400 / 6,600 / 11,000 pictures.
"""

from __future__ import annotations

import numpy as np
import torch

from toolkit.single_object.data import digit_pictures as pictures
from toolkit.single_object.data.samples import Samples

CLASSES = tuple("0123456789")
_EMPTY = 1 / 11


def draw(count: int, *, seed: int, part: str) -> Samples:
    """`count` pictures from the handwriting of part "train" or "val". Same arguments, same pixels."""
    random = np.random.default_rng([48, seed, part == "val"])
    source, digits = pictures.handwriting(part)
    images = np.zeros((count, 1, pictures.HEIGHT, pictures.WIDTH), np.uint8)
    owner, labels, boxes = [], [], []
    for row in range(count):
        canvas = pictures.clutter(random, strokes=5)
        if random.random() >= _EMPTY:
            which = int(random.integers(len(source)))
            boxes.append(pictures.paste(canvas, pictures.written(source[which], random), random))
            owner.append(row)
            labels.append(int(digits[which]))
        images[row, 0] = canvas
    return Samples(
        "digits",
        CLASSES,
        torch.from_numpy(images),
        torch.tensor(owner, dtype=torch.int64),
        torch.tensor(labels, dtype=torch.int64),
        torch.tensor(boxes).float().reshape(-1, 4),
    )
