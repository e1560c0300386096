"""Copy-paste: objects of other images at free places of this one. A function of its arguments and rng alone.

With masks an object is cut out along its outline (Ghiasi 2021). Without, it is cut out with a margin around its box,
over which it fades into its new place (after Dwibedi 2017).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from toolkit.data import packed_masks
from toolkit.data.transforms import MIN_SIZE


class Sample(NamedTuple):
    """image [H,W,3] uint8, boxes [N,4] float32 XYXY, labels [N] int64, packed masks [P,H,W] of a network with masks."""

    image: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    masks: np.ndarray | None = None


MOST = 3  # objects for one image
SCALE = (0.5, 1.4)  # of the object's share of its own picture's shorter side
MARGIN = 0.1  # of the object's sides, on every side where its picture goes on
MOST_HIDDEN = 0.1  # of the smaller of two boxes; their IoU is then under it, too
TRIES = 20  # places for one object; without a free one it is left out


def paste(sample: Sample, donors: list[Sample], rng: np.random.Generator) -> Sample:
    """`sample` with one object of each donor, where it has one and there is a free place; inputs stay as they are."""
    image, boxes, labels = sample.image.copy(), sample.boxes, sample.labels
    masks = None if sample.masks is None else [packed_masks.unpack(sample.masks, k) for k in range(len(boxes))]
    height, width = image.shape[:2]
    for donor in donors:
        if not len(donor.boxes):
            continue
        chosen = int(rng.integers(len(donor.boxes)))
        scale = min(width, height) / min(donor.image.shape[:2]) * np.exp(rng.uniform(*np.log(SCALE)))
        patch, share, box = _cut(donor, chosen, scale)
        h, w = patch.shape[:2]
        if h > height or w > width or (box[2:] - box[:2]).min() < MIN_SIZE:
            continue
        for _ in range(TRIES):
            x, y = int(rng.integers(width - w + 1)), int(rng.integers(height - h + 1))
            there = box + np.array([x, y, x, y], np.float32)
            if hidden_share(there, boxes) <= MOST_HIDDEN:
                under = image[y : y + h, x : x + w]
                under[:] = np.round(share * patch + (1 - share) * under).astype(np.uint8)
                boxes = np.concatenate([boxes, there[None]])
                labels = np.append(labels, donor.labels[chosen])
                if masks is not None:
                    own = np.zeros((height, width), np.uint8)
                    own[y : y + h, x : x + w] = share[..., 0] >= 0.5
                    masks = [*(mask & ~own & 1 for mask in masks), own]  # it lies in front of the others
                break
    if masks is None:
        return Sample(image, boxes, labels)
    packed = packed_masks.pack([mask.astype(bool) for mask in masks], height, width)
    seen = packed_masks.tight_boxes(packed, len(masks))
    kept = np.flatnonzero((seen[:, 2:] - seen[:, :2]).min(axis=1, initial=np.inf) >= MIN_SIZE)
    return Sample(image, seen[kept], labels[kept], packed_masks.chosen(packed, kept.tolist()))


def _cut(donor: Sample, chosen: int, scale: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """An object, scaled: pixels [h,w,3], how much each covers what lies below [h,w,1], its box in them [4]."""
    import cv2

    picture, box = donor.image, donor.boxes[chosen]
    margin = MARGIN * (box[2:] - box[:2])
    left, top = np.floor(box[:2] - margin).clip(0).astype(int)
    right, bottom = np.minimum(np.ceil(box[2:] + margin), picture.shape[1::-1]).astype(int)
    sides = np.array([right - left, bottom - top])
    scaled = np.maximum(1, np.ceil(sides * scale - 1e-6)).astype(int)
    way = cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    patch = cv2.resize(picture[top:bottom, left:right], scaled.tolist(), interpolation=way)
    if donor.masks is not None:
        mask = packed_masks.unpack(donor.masks, chosen)[top:bottom, left:right].astype(np.float32)
        share = cv2.resize(mask, scaled.tolist(), interpolation=way)
        box = packed_masks.tight_boxes((share >= 0.5)[None].astype(np.uint8), 1)[0]
        return patch, share[..., None], box
    inside = (box - np.array([left, top] * 2)) * np.tile(scaled / sides, 2)
    x, y = margin * scale
    share = np.minimum.outer(_ramp(patch.shape[0], y), _ramp(patch.shape[1], x))
    return patch, share[..., None], inside.astype(np.float32)


def hidden_share(box: np.ndarray, boxes: np.ndarray) -> float:
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
