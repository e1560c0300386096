"""Losses between two boxes: 1 - IoU and its three successors. XYXY in one unit, [N,4] and [N,4] -> [N].

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

import torch
from torch import Tensor

KINDS = ("iou", "giou", "diou", "ciou")
_EPS = 1e-7


def box_loss(kind: str, boxes: Tensor, truth: Tensor) -> Tensor:
    """The loss `kind` of each of `boxes` [N,4] with its own `truth` [N,4] -> [N]."""
    inter, union = _inter_union(boxes, truth)
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


def _inter_union(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    sides = torch.minimum(a[:, 2:], b[:, 2:]) - torch.maximum(a[:, :2], b[:, :2])
    inter = torch.where((sides > 0).all(1), sides.prod(1), 0.0)
    return inter, _area(a) + _area(b) - inter


def _area(boxes: Tensor) -> Tensor:
    return (boxes[:, 2:] - boxes[:, :2]).clamp(min=0).prod(1)


def _slant(boxes: Tensor) -> Tensor:
    """atan(width / height) of each box."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).unbind(1)
    return torch.atan(width / torch.where(height == 0, _EPS, height))
