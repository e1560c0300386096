"""Keep the outlines of a set as flat bytes, and pack the masks of one image eight to a byte.

A set's outlines stay what the file holds (polygons or run lengths); masks are made for one image at a time. In a
packed array [P,H,W] uint8 object k is bit k % 8 of plane k // 8: an eighth of the memory, and whatever moves whole
pixels (flip, turn, nearest resize) moves eight masks at once.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from label_tools.shapes import rle

if TYPE_CHECKING:
    import torch

BITS = 8


@dataclass(frozen=True)
class Outlines:
    """Outline of every object of an `Index`, in its order: JSON as UTF-8 bytes in one buffer; nothing: the box."""

    text: np.ndarray  # uint8
    ends: np.ndarray  # [M] int64

    def of(self, row: int) -> Any:
        """Polygons or RLE as COCO holds them; None where the box stands for the outline."""
        content = self.text[self.ends[row - 1] if row else 0 : self.ends[row]].tobytes()
        return json.loads(content) if content else None

    def packed(self, rows: Iterable[int], boxes: np.ndarray, height: int, width: int) -> np.ndarray:
        """Masks [P,H,W] of the objects `rows` of one image, with their boxes [N,4] XYXY. As COCO fills outlines."""
        return pack([mask_of(self.of(row), box, height, width) for row, box in zip(rows, boxes)], height, width)


def outlines_of(annotations: Sequence[dict[str, Any]]) -> Outlines:
    """From annotations in the order of an index."""
    texts = [json.dumps(a["segmentation"]).encode() if a.get("segmentation") else b"" for a in annotations]
    ends = np.cumsum([len(text) for text in texts], dtype=np.int64)
    return Outlines(np.frombuffer(b"".join(texts), dtype=np.uint8), ends)


def mask_of(outline: Any, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """bool [H,W] of polygons or RLE; of None: the pixels of the box XYXY."""
    if outline is None:
        x1, y1, x2, y2 = np.round(box).astype(int)
        mask = np.zeros((height, width), dtype=bool)
        mask[y1 : max(y2, y1 + 1), x1 : max(x2, x1 + 1)] = True
        return mask
    runs = rle.to_runs(outline) if isinstance(outline, dict) else rle.rasterize(outline, height, width)
    return rle.decode(runs, height, width)


def pack(masks: Sequence[np.ndarray], height: int, width: int) -> np.ndarray:
    """bool [H,W] each -> [P,H,W] uint8."""
    packed = np.zeros((-(-len(masks) // BITS), height, width), dtype=np.uint8)
    for number, mask in enumerate(masks):
        packed[number // BITS] |= mask.astype(np.uint8) << number % BITS
    return packed


def unpack(packed: Any, number: int) -> Any:
    """Mask `number` of [P,H,W] as 0 and 1, [H,W] uint8. numpy or torch."""
    return packed[number // BITS] >> number % BITS & 1


def tight_boxes(packed: np.ndarray, count: int) -> np.ndarray:
    """[N,4] float32 XYXY around the pixels of each mask; zeros where there is none."""
    boxes = np.zeros((count, 4), dtype=np.float32)
    for number in range(count):
        mask = unpack(packed, number)
        columns, rows = np.flatnonzero(mask.any(axis=0)), np.flatnonzero(mask.any(axis=1))
        if len(rows):
            boxes[number] = columns[0], rows[0], columns[-1] + 1, rows[-1] + 1
    return boxes


def chosen(packed: np.ndarray, numbers: Sequence[int]) -> np.ndarray:
    """The packed masks `numbers`, in that order."""
    return pack([unpack(packed, number).astype(bool) for number in numbers], *packed.shape[1:])


def pasted(probabilities: torch.Tensor, box: torch.Tensor, height: int, width: int) -> dict[str, Any]:
    """RLE of a mask [S,S] of probabilities inside its box XYXY: where it is over .5, as torchvision pastes masks.

    One mask at a time and only its box: a hundred whole masks of a photograph are gigabytes.
    """
    import torch
    from torch.nn import functional

    side = probabilities.shape[-1]
    bordered = functional.pad(probabilities, (1, 1, 1, 1))  # a cell of zeros all around, and the box larger to match
    centre, half = (box[:2] + box[2:]) * 0.5, (box[2:] - box[:2]) * 0.5 * ((side + 2) / side)
    x1, y1, x2, y2 = torch.cat([centre - half, centre + half]).to(torch.int64).tolist()
    sides = (max(y2 - y1 + 1, 1), max(x2 - x1 + 1, 1))
    mask = functional.interpolate(bordered[None, None], size=sides, mode="bilinear", align_corners=False)[0, 0]
    return rle.to_rle(rle.from_crop((mask > 0.5).numpy(), x1, y1, height, width), height, width)
