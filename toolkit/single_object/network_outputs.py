"""Outputs of every network in one form: class logits, the box as four numbers, presence where there is one; and
predictions from them, in pixels.

Each document chose its own four numbers, its box code:

pixels      x1, y1, x2, y2 in pixels, half-open                                     (ResNet-34 post)
inclusive   the same with x2 - 1 and y2 - 1: the last pixel that is covered         (LOADnet2)
corners     x1, y1, x2, y2 as shares of width and height                            (HW5Net, LoadHead)
centre      centre x, centre y, width, height as shares                             (digit networks)
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toolkit.data.boxes import bbox

CODES = ("pixels", "inclusive", "corners", "centre")
LEAST_SIDE = 1.01  # pixels; an untrained network's boxes of one pixel look like fractions of the image to the evaluator


class Answer(NamedTuple):
    logits: Tensor  # [B,K]
    values: Tensor  # [B,4] in the network's code
    presence: Tensor | None = None  # [B] logit


def read(output: Any, form: str) -> Answer:
    """Output of a network as its document lays it out -> Answer.

    pair: (logits, box) or (logits, box, presence); presence_box_class: [B,1+4+K]; box_class: [B,4+K].
    """
    if form == "pair":  # losses are computed in float32 whatever the network's precision
        parts: list[Any] = [None if part is None else part.float() for part in output]
        return Answer(*parts)
    output = output.float()
    if form == "presence_box_class":
        return Answer(output[:, 5:], output[:, 1:5], output[:, 0])
    if form == "box_class":
        return Answer(output[:, 4:], output[:, :4])
    raise ValueError(f"form {form!r}, needs pair, presence_box_class or box_class")


@dataclass(frozen=True)
class Prediction:
    """Answers to N images: `presence` is a probability (1 for networks without that output)."""

    presence: Tensor  # [N]
    labels: Tensor  # [N]
    confidence: Tensor  # [N] probability of the label
    raw_boxes: Tensor  # [N,4] XYXY pixels as the network gave them, perhaps inverted or outside
    boxes: Tensor  # [N,4] clipped and never inverted

    @property
    def found(self) -> Tensor:
        """[N] bool: the network says that there is an object."""
        return self.presence > 0.5

    def detections(self) -> list[dict]:
        """COCO results, at most one an image."""
        scores = (self.presence * self.confidence).tolist()
        return coco_results(zip(range(len(scores)), self.labels.tolist(), scores, self.boxes.tolist(), strict=True))


def coco_results(found: Iterable[tuple[int, int, float, list[float]]]) -> list[dict]:
    """COCO results of (row of the image, label, score, box XYXY); image ids count from 1, and a box of a pixel or less,
    which can be no object, is left out."""
    return [
        {"image_id": row + 1, "category_id": label + 1, "score": score, "bbox": bbox(box)}
        for row, label, score, box in found
        if min(box[2] - box[0], box[3] - box[1]) > LEAST_SIDE
    ]


def predict(answer: Answer, code: str, size: tuple[int, int]) -> Prediction:
    """Answers [N] -> Prediction in pixels of an image of `size` (height, width)."""
    confidence, labels = answer.logits.softmax(1).max(1)
    raw = decode(answer.values, code, size)
    presence = torch.ones(len(labels)) if answer.presence is None else answer.presence.sigmoid()
    return Prediction(presence, labels, confidence, raw, usable(raw, size))


def encode(boxes: Tensor, code: str, size: tuple[int, int]) -> Tensor:
    """[N,4] XYXY half-open pixels of an image of `size` (height, width) -> [N,4] in `code`."""
    if code == "pixels":
        return boxes
    if code == "inclusive":
        return boxes - boxes.new_tensor([0, 0, 1, 1])
    shares = boxes / _edges(boxes, size)
    if code == "corners":
        return shares
    if code == "centre":
        return torch.cat(((shares[:, :2] + shares[:, 2:]) / 2, shares[:, 2:] - shares[:, :2]), 1)
    raise ValueError(f"code {code!r}, needs one of {', '.join(CODES)}")


def decode(values: Tensor, code: str, size: tuple[int, int]) -> Tensor:
    """Inverse of `encode`. What a network says may be inverted or lie outside: nothing is corrected here."""
    if code == "pixels":
        return values
    if code == "inclusive":
        return values + values.new_tensor([0, 0, 1, 1])
    if code == "centre":
        half = values[:, 2:] / 2
        values = torch.cat((values[:, :2] - half, values[:, :2] + half), 1)
    elif code != "corners":
        raise ValueError(f"code {code!r}, needs one of {', '.join(CODES)}")
    return values * _edges(values, size)


def usable(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Boxes [N,4] clipped into the image; an inverted or non-finite one loses its area (IoU 0 with everything)."""
    corners = boxes.nan_to_num(nan=0.0).clamp(min=0).minimum(_edges(boxes, size))
    return torch.cat((corners[:, :2], torch.maximum(corners[:, :2], corners[:, 2:])), 1)


def inverted(boxes: Tensor) -> Tensor:
    """[N] bool: width or height is zero, negative, or no number."""
    return ~(boxes[:, 2:] > boxes[:, :2]).all(1)


def _edges(like: Tensor, size: tuple[int, int]) -> Tensor:
    height, width = size
    return like.new_tensor([width, height, width, height])
