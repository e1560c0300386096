"""The losses of a baseline for a batch: a weighted sum written as a person would, `25*ce + l1`, `bce + 4*mse + ce`.

    ce                      cross-entropy of the class
    bce                     binary cross-entropy of presence, over all images
    mse l1 smooth_l1        mean over the four numbers of the box in the network's own code (see `network_outputs`)
    iou giou diou ciou      of the boxes in pixels

A grid detector has one of two losses over its cells (see `grid_cells`). The assignment's, `grid_document`, is
BCE(p) + MSE(x, y, w, h) + BCE(c), each over ALL cells: boxes and classes of empty cells are in it, too, as zeros.
`grid` counts both only where there is an object. Of the seven outputs of a cell the last is in neither loss; class 1 is
where output 5 is over 0.

Class and box count only where there is an object; every term is divided by the number of images of the batch.
Since the sum of two losses has the sum of their gradients, one backward pass over it does what the documents do
with two and `retain_graph=True`.

Losses between two boxes: 1 - IoU and its three successors. XYXY in one unit, [N,4] and [N,4] -> [N].

    iou     1 - IoU                                        flat, no gradient, where boxes do not touch
    giou    + |hull - union| / |hull|                      hull: the smallest box around both (Rezatofighi 2019)
    diou    + d^2 / c^2                                    d: between centres, c: diagonal of the hull (Zheng 2020)
    ciou    + d^2 / c^2 + alpha v                          v = 4/pi^2 (atan w*/h* - atan w/h)^2,
                                                           alpha = v / (1 - IoU + v), a constant to the gradient

HW5Net's report adds GIoU's hull term to CIoU (its Eq. 2) and leaves alpha free; neither is CIoU.
Nothing in HW5Net keeps x1 < x2. An inverted box has no area and no slant here, the hull goes around its corners in
their right order, and each inverted side adds its length as a share of the hull's (a constant to the gradient): GIoU,
DIoU and CIoU are at least 1, and the gradient turns the box over. Without that share it does not, and a whole run can
stay at IoU 0: a box inverted in both directions has the centre and the slant of an upright one. torchvision
multiplies two negative sides to an area, and its GIoU of such a box falls to -2.2 and below: a network could learn to
hide there. For all other boxes numbers and gradients are torchvision's (its eps too), except that a height of exactly
0 gives no NaN.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from anchors.losses import smooth_l1
from label_tools.text.errors import InputError
from toolkit.single_object import network_outputs
from toolkit.single_object.data.samples import One
from toolkit.single_object.network_outputs import Answer

KINDS = ("iou", "giou", "diou", "ciou")
_EPS = 1e-7
SMOOTH_L1_BETA = 1 / 9  # torchvision's, in both stages of its detectors
_ELEMENTS = {
    "mse": lambda a, b: (a - b).square(),
    "l1": lambda a, b: (a - b).abs(),
    "smooth_l1": lambda a, b: smooth_l1(a - b, beta=SMOOTH_L1_BETA),
}
TERMS = ("ce", "bce", *_ELEMENTS, *KINDS)
GRID_LOSSES = ("grid_document", "grid")
GRID_TERMS = ("bce", "mse", "class")


@dataclass(frozen=True)
class WeightedSum:
    """Terms and their weights. `terms(...)` gives each loss already weighted; their sum is the loss."""

    weights: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> WeightedSum:
        """From `25*ce + l1`. InputError names a term that is unknown, repeated or without a numeric weight."""
        weights: dict[str, float] = {}
        for part in text.split("+"):
            found = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?([a-z0-9_]+)\s*", part)
            if not found or found[2] not in TERMS:
                raise InputError(
                    f"--loss {text!r}: found {part.strip()!r}, needs terms like 25*ce + l1 out of {', '.join(TERMS)}"
                )
            if found[2] in weights:
                raise InputError(f"--loss {text!r}: {found[2]} stands in it twice")
            weights[found[2]] = float(found[1] or 1)
        return cls(weights)

    def terms(self, answer: Answer, truth: One, code: str, size: tuple[int, int]) -> dict[str, Tensor]:
        """{term: weighted loss} of a batch. Asserts that the network has what the terms ask for."""
        share = truth.present.to(answer.logits.dtype)
        return {
            name: weight * self._one(name, answer, truth, code, size, share) for name, weight in self.weights.items()
        }

    def _one(self, name: str, answer: Answer, truth: One, code: str, size: tuple[int, int], share: Tensor) -> Tensor:
        if name == "bce":
            assert answer.presence is not None, "this network has no presence output; leave bce out of --loss"
            return functional.binary_cross_entropy_with_logits(answer.presence, share)
        if name == "ce":
            each = functional.cross_entropy(answer.logits, truth.labels, reduction="none")
        elif name in _ELEMENTS:
            each = _ELEMENTS[name](answer.values, network_outputs.encode(truth.boxes, code, size)).mean(1)
        else:
            # an absent object's box has no area; any real box stands in, its loss is not counted
            boxes = truth.boxes.where(truth.present[:, None], truth.boxes.new_tensor([0, 0, 1, 1]))
            each = box_loss(name, network_outputs.decode(answer.values, code, size), boxes)
        return (each * share).mean()


def grid_terms(name: str, outputs: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """{"bce", "mse", "class"} losses of a batch: outputs [B,2,3,7], targets [B,2,3,6]."""
    presence = functional.binary_cross_entropy_with_logits(outputs[..., 0], targets[..., 0])
    squares = (outputs[..., 1:5] - targets[..., 1:5]).square().mean(-1)
    classes = functional.binary_cross_entropy_with_logits(outputs[..., 5], targets[..., 5], reduction="none")
    if name == "grid_document":
        return {"bce": presence, "mse": squares.mean(), "class": classes.mean()}
    objects = targets[..., 0]
    count = objects.sum().clamp(min=1)
    return {"bce": presence, "mse": (squares * objects).sum() / count, "class": (classes * objects).sum() / count}


def box_loss(kind: str, boxes: Tensor, truth: Tensor) -> Tensor:
    """The loss `kind` of each of `boxes` [N,4] with its own `truth` [N,4] -> [N]."""
    inter, union = inter_union(boxes, truth)
    iou = inter / (union + _EPS)
    if kind == "iou":
        return 1 - iou
    low = torch.minimum(torch.minimum(boxes[:, :2], boxes[:, 2:]), truth[:, :2])
    high = torch.maximum(torch.maximum(boxes[:, :2], boxes[:, 2:]), truth[:, 2:])
    inverted = ((boxes[:, :2] - boxes[:, 2:]).clamp(min=0) / (high - low + _EPS).detach()).sum(1)
    if kind == "giou":
        hull = (high - low).prod(1)
        return 1 - iou + (hull - union) / (hull + _EPS) + inverted
    if kind not in KINDS:
        raise ValueError(f"box loss {kind!r}, needs one of {', '.join(KINDS)}")
    diagonal = (high - low).square().sum(1) + _EPS
    between = ((boxes[:, :2] + boxes[:, 2:]) / 2 - (truth[:, :2] + truth[:, 2:]) / 2).square().sum(1)
    loss = 1 - iou + between / diagonal + inverted
    if kind == "diou":
        return loss
    v = 4 / math.pi**2 * (_slant(truth) - _slant(boxes)).square()
    v = torch.where(inverted > 0, 0.0, v)  # which has no slant; its v would pull it further apart
    with torch.no_grad():
        alpha = v / (1 - iou + v + _EPS)
    return loss + alpha * v


def inter_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Areas that each a [N,4] shares with its own b [N,4], and that both cover; an inverted box has none."""
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    inter = torch.where((sides > 0).all(1), sides.prod(1), 0.0)
    return inter, _area(a) + _area(b) - inter


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _slant(boxes: Tensor) -> Tensor:
    """atan(width / height) of each box."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    return torch.atan(width / torch.where(height == 0, _EPS, height))
