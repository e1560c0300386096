"""22,500 anchors become 2,000 proposals."""

from __future__ import annotations

import torch

from anchors.deltas import decode
from anchors.nms import nms


def propose(
    anchors: torch.Tensor,
    deltas: torch.Tensor,
    scores: torch.Tensor,
    image_size: tuple[int, int],
    num_pre_nms: int,
    num_post_nms: int,
    nms_thresh: float,
    min_size: float,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Proposals: (boxes [P,4] XYXY, scores [P]), best first, of one image of image_size = (height, width).

        decode anchors [R,4] by deltas [R,4] -> clip to the image -> drop boxes with a side below min_size
        -> the best num_pre_nms by score [R] -> NMS at nms_thresh -> the best num_post_nms

    decode and nms may be your own, or anchors.deltas.decode (which returns [R,1,4] here) and anchors.nms.nms.

    By hand: one anchor [36,0,56,20] with deltas 0 in a 40 x 40 image becomes [36,0,40,20]; min_size 16 drops it.
    """
    height, width = image_size
    boxes = decode(deltas, anchors)[:, 0]
    x1, x2 = boxes[:, 0].clamp(0, width), boxes[:, 2].clamp(0, width)
    y1, y2 = boxes[:, 1].clamp(0, height), boxes[:, 3].clamp(0, height)
    boxes = torch.stack((x1, y1, x2, y2), dim=1)
    large = ((x2 - x1 >= min_size) & (y2 - y1 >= min_size)).nonzero()[:, 0]
    order = large[scores[large].argsort(descending=True, stable=True)][:num_pre_nms]
    keep = order[nms(boxes[order], scores[order], nms_thresh)[:num_post_nms]]
    return boxes[keep], scores[keep]
