"""Decode deltas into boxes."""

from __future__ import annotations

import math

import torch


def decode(deltas: torch.Tensor, anchors: torch.Tensor) -> torch.Tensor:
    """The boxes [N,4] XYXY that deltas [N,4] make of anchors [N,4], row by row: encode, backwards.

        x = ax + dx * aw        w = aw * exp(dw)        (x, y): the box's centre
        y = ay + dy * ah        h = ah * exp(dh)

    Before exp, dw and dh stop at ln(1000 / 16) = 4.135 (from above only), so that nothing overflows.

    By hand: (0.5, 0, ln 2, 0) makes [0,0,20,20] of [0,0,10,20].
    """
    dx, dy, dw, dh = deltas.unbind(1)
    dw, dh = dw.clamp(max=math.log(1000 / 16)), dh.clamp(max=math.log(1000 / 16))
    aw, ah = (anchors[:, 2:] - anchors[:, :2]).unbind(1)
    x, y = anchors[:, 0] + aw / 2 + dx * aw, anchors[:, 1] + ah / 2 + dy * ah
    w, h = aw * dw.exp(), ah * dh.exp()
    return torch.stack((x - w / 2, y - h / 2, x + w / 2, y + h / 2), dim=1)
