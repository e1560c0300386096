"""Deltas: a box written as a correction of another box.

    dx = wx * (gx - ax) / aw        dw = ww * ln(gw / aw)
    dy = wy * (gy - ay) / ah        dh = wh * ln(gh / ah)

and back:

    gx = ax + aw * dx / wx          gw = aw * exp(dw / ww)
    gy = ay + ah * dy / wy          gh = ah * exp(dh / wh)

g is the target (centre gx, gy, sides gw, gh), a the anchor or proposal, (wx, wy, ww, wh) the weights.

Limits: a box relative to itself is (0, 0, 0, 0). Deltas do not change when both boxes are moved or scaled together, so
a small and a large object give numbers of one size. exp never gives a negative side, but grows fast: decode limits dw
and dh to ln(1000 / 16) = 4.135, a factor of 62.5, so that a bad prediction cannot overflow. A true ratio above that
does not survive encode and decode.

Place: R-CNN appendix C, Faster R-CNN Eq. 2. The head's weights (10, 10, 5, 5) are Fast R-CNN's division of the targets
by their standard deviations (0.1, 0.1, 0.2, 0.2), written as a product.

Where others differ: the limit is Detectron's, not the paper's (`max_log_ratio=None` leaves it out). Some texts give the
head's targets as corners [x1, y1, x2, y2]; they are deltas, relative to the PROPOSAL, one set for each class.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_real, check_weights

RPN_WEIGHTS = (1.0, 1.0, 1.0, 1.0)
HEAD_WEIGHTS = (10.0, 10.0, 5.0, 5.0)
MAX_LOG_RATIO = math.log(1000 / 16)


def _centres_and_sides(boxes: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    x1, y1, x2, y2 = boxes.unbind(1)
    w, h = x2 - x1, y2 - y1
    return x1 + 0.5 * w, y1 + 0.5 * h, w, h


def encode(gt_boxes: Tensor, anchors: Tensor, weights: Sequence[float] = RPN_WEIGHTS) -> Tensor:
    """Deltas [N,4] that move anchors [N,4] onto gt_boxes [N,4], row by row. XYXY, pixels.

    A box without width or height has no logarithm: ValueError. (Faster R-CNN Eq. 2)
    """
    check_boxes(gt_boxes, "gt_boxes", order="strict")
    check_boxes(anchors, "anchors", order="strict")
    if len(gt_boxes) != len(anchors):
        raise ValueError(f"gt_boxes: found {len(gt_boxes)} rows, needed {len(anchors)}, one for each of anchors")
    wx, wy, ww, wh = check_weights(weights)
    gx, gy, gw, gh = _centres_and_sides(gt_boxes)
    ax, ay, aw, ah = _centres_and_sides(anchors)
    return torch.stack(
        (wx * (gx - ax) / aw, wy * (gy - ay) / ah, ww * torch.log(gw / aw), wh * torch.log(gh / ah)), dim=1
    )


def decode(
    deltas: Tensor,
    anchors: Tensor,
    weights: Sequence[float] = RPN_WEIGHTS,
    *,
    max_log_ratio: float | None = MAX_LOG_RATIO,
) -> Tensor:
    """Boxes [N,K,4]: anchors [N,4] moved by deltas [N,4K], K sets of four, one for each class."""
    check_boxes(anchors, "anchors", order="weak")
    if not isinstance(deltas, Tensor) or deltas.ndim != 2 or deltas.shape[1] % 4:
        found = list(deltas.shape) if isinstance(deltas, Tensor) else type(deltas).__name__
        raise ValueError(f"deltas: found {found}, needed shape [N, 4K]")
    if len(deltas) != len(anchors):
        raise ValueError(f"deltas: found {len(deltas)} rows, needed {len(anchors)}, one for each of anchors")
    check_real(deltas, "deltas")
    wx, wy, ww, wh = check_weights(weights)
    dx, dy, dw, dh = deltas.reshape(len(deltas), deltas.shape[1] // 4, 4).unbind(2)
    dx, dy, dw, dh = dx / wx, dy / wy, dw / ww, dh / wh
    if max_log_ratio is not None:
        dw, dh = dw.clamp(max=max_log_ratio), dh.clamp(max=max_log_ratio)
    ax, ay, aw, ah = (value[:, None] for value in _centres_and_sides(anchors.to(deltas.dtype)))
    x, y = dx * aw + ax, dy * ah + ay
    half_w, half_h = 0.5 * (dw.exp() * aw), 0.5 * (dh.exp() * ah)
    return torch.stack((x - half_w, y - half_h, x + half_w, y + half_h), dim=2)


__test__ = {
    "tiny numbers": """
    The anchor is 10 wide and 20 high with its centre at (5, 10); the object is twice as wide, its centre 5
    to the right: dx = 5 / 10, dw = ln 2.

    >>> anchor = torch.tensor([[0.0, 0.0, 10.0, 20.0]])
    >>> encode(torch.tensor([[0.0, 0.0, 20.0, 20.0]]), anchor)
    tensor([[0.5000, 0.0000, 0.6931, 0.0000]])
    >>> decode(torch.tensor([[0.5, 0.0, math.log(2), 0.0]]), anchor)
    tensor([[[ 0.,  0., 20., 20.]]])
    >>> encode(anchor, anchor, HEAD_WEIGHTS)
    tensor([[0., 0., 0., 0.]])
    """
}
