"""Copy-paste by boxes: objects of other images at free places of this one. A function of its arguments and rng alone.

There are no masks: an object takes a margin of its surroundings along and fades into its new place over it (after
Ghiasi 2021 and Dwibedi 2017, who cut along masks).
"""

from __future__ import annotations

import numpy as np

from toolkit.data.transforms import MIN_SIZE

Sample = tuple[np.ndarray, np.ndarray, np.ndarray]  # image [H,W,3] uint8, boxes [N,4] float32 XYXY, labels [N] int64

MOST = 3  # objects for one image
SCALE = (0.5, 1.4)  # of the object's share of its own picture's shorter side
MARGIN = 0.1  # of the object's sides, on every side where its picture goes on
MOST_HIDDEN = 0.1  # of the smaller of two boxes; their IoU is then under it, too
TRIES = 20  # places for one object; without a free one it is left out


def paste(sample: Sample, donors: list[Sample], rng: np.random.Generator) -> Sample:
    """`sample` with one object of each donor, where it has one and there is a free place; inputs stay as they are."""
    image, boxes, labels = sample[0].copy(), sample[1], sample[2]
    height, width = image.shape[:2]
    for picture, own, kinds in donors:
        if not len(own):
            continue
        chosen = int(rng.integers(len(own)))
        scale = min(width, height) / min(picture.shape[:2]) * np.exp(rng.uniform(*np.log(SCALE)))
        patch, box, margin = _cut(picture, own[chosen], scale)
        h, w = patch.shape[:2]
        if h > height or w > width or (box[2:] - box[:2]).min() < MIN_SIZE:
            continue
        for _ in range(TRIES):
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            there = box + np.array([x, y, x, y], np.float32)
            if _hidden(there, boxes) <= MOST_HIDDEN:
                share = np.minimum.outer(_ramp(h, margin[1]), _ramp(w, margin[0]))[..., None]
                under = image[y : y + h, x : x + w]
                under[:] = np.round(share * patch + (1 - share) * under).astype(np.uint8)
                boxes = np.concatenate([boxes, there[None]])
                labels = np.append(labels, kinds[chosen])
                break
    return image, boxes, labels


def _cut(picture: np.ndarray, box: np.ndarray, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The object with its margin, scaled: pixels, its box in them [4], width of the margin (x, y)."""
    import cv2

    margin = MARGIN * (box[2:] - box[:2])
    left, top = np.floor(box[:2] - margin).clip(0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + margin), picture.shape[1::-1]).astype(int)
    sides = np.array([right - left, bottom - top])
    scaled = np.maximum(1, np.ceil(sides * scale - 1e-6)).astype(int)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    patch = cv2.resize(picture[top:bottom, left:right], scaled.tolist(), interpolation=way)
    inside = (box - np.array([left, top] * 2)) * np.tile(scaled / sides, 2)
    return patch, inside.astype(np.float32), margin * scale


def _hidden(box: np.ndarray, boxes: np.ndarray) -> float:
    """The largest overlap of box [4] with any of boxes [N,4], as a share of the smaller of the two. No boxes: 0."""
    if not len(boxes):
        return 0.0
    overlap = (np.minimum(box[2:], boxes[:, 2:]) - np.maximum(box[:2], boxes[:, :2])).clip(0).prod(axis=1)
    smaller = np.minimum((box[2:] - box[:2]).prod(), (boxes[:, 2:] - boxes[:, :2]).prod(axis=1))
    return float((overlap / smaller).max())


def _ramp(length: int, margin: float) -> np.ndarray:
    """[length] from almost 0 at both ends to 1 at `margin` pixels from them."""
    from_end = np.minimum(np.arange(length), np.arange(length)[::-1]) + 0.5
    return np.minimum(1.0, from_end / max(margin, 0.5))
