"""Exercise 12: 22,500 anchors become 2,000 proposals.

Check it: frcnn anchors check 12_propose.py
"""

from __future__ import annotations

import torch


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
    raise NotImplementedError("not written yet")
