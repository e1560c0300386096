"""Proposals: the RPN's deltas and scores become a few good boxes.

    decode every anchor by its deltas
    clip to the image
    drop boxes with a side below min_size
    keep the num_pre_nms best by score
    NMS
    keep the num_post_nms best by score

Worked example, training: 22,500 anchors -> 12,000 -> NMS at 0.7 -> 2,000, of which 128 train the head
(sampling.sample_rois). At test: 6,000 -> 300, all of them to the head.

Limits: everything dropped: no proposal, [0,4]. Scores only rank: probabilities and logits give the same proposals. No
gradient flows back: for the head the boxes are data; the RPN learns by its own loss.

Place: Faster R-CNN 3.3 (proposal_layer in the paper's code: min_size 16 pixels at the network's input scale).

Where others differ: the paper's code drops small boxes before it keeps the best; torchvision after
(`filter_first=False`), with min_size 0.001 and, for each level, 2,000 before NMS in training and 1,000 at test.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_number, check_pair, check_scores, check_tensor
from anchors.boxes import clip_boxes, remove_small_boxes
from anchors.deltas import decode
from anchors.fast.nms import nms


class Candidates(NamedTuple):
    """Before NMS, best first: boxes [C,4] XYXY, scores [C], anchor_idxs [C] int64 (the anchor of each)."""

    boxes: Tensor
    scores: Tensor
    anchor_idxs: Tensor


@torch.no_grad()
def candidates(
    anchors: Tensor,
    deltas: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    *,
    num_pre_nms: int,
    min_size: float,
    filter_first: bool = True,
) -> Candidates:
    """Decode anchors [R,4] by deltas [R,4], clip to (height, width), drop small ones, take the best.

    Equal scores: the lower index first.
    """
    check_boxes(anchors, "anchors", order="strict")
    check_tensor(deltas, "deltas", (len(anchors), 4))
    check_scores(scores, len(anchors), "anchors")
    check_pair(image_size, "image_size")
    check_count(num_pre_nms, "num_pre_nms")
    check_number(min_size, "min_size")

    order = scores.argsort(descending=True, stable=True)
    if not filter_first:
        order = order[:num_pre_nms]
    boxes = clip_boxes(decode(deltas[order], anchors[order]).squeeze(1), image_size)
    large = remove_small_boxes(boxes, min_size)
    if filter_first:
        large = large[:num_pre_nms]
    order = order[large]
    return Candidates(boxes[large], scores[order], order)


@torch.no_grad()
def propose(
    anchors: Tensor,
    deltas: Tensor,
    scores: Tensor,
    image_size: tuple[int, int],
    *,
    num_pre_nms: int,
    num_post_nms: int,
    nms_thresh: float,
    min_size: float,
    filter_first: bool = True,
) -> tuple[Tensor, Tensor]:
    """Proposals [P,4] XYXY inside the image and their scores [P], best first, P <= num_post_nms. Detached.

    anchors [R,4], deltas [R,4], scores [R] of one image of (height, width). (Faster R-CNN 3.3)
    """
    check_count(num_post_nms, "num_post_nms")
    found = candidates(
        anchors,
        deltas,
        scores,
        image_size,
        num_pre_nms=num_pre_nms,
        min_size=min_size,
        filter_first=filter_first,
    )
    keep = nms(found.boxes, found.scores, nms_thresh, max_keep=num_post_nms)
    return found.boxes[keep], found.scores[keep]


__test__ = {
    "tiny numbers": """
    Three anchors with deltas 0. The second overlaps the first (IoU 0.82), the third leaves the image except
    for 4 pixels.

    >>> anchors = torch.tensor([[0.0, 0, 20, 20], [2.0, 0, 22, 20], [36.0, 0, 56, 20]])
    >>> boxes, scores = propose(anchors, torch.zeros(3, 4), torch.tensor([0.9, 0.8, 0.7]), (40, 40),
    ...     num_pre_nms=100, num_post_nms=10, nms_thresh=0.7, min_size=1)
    >>> boxes
    tensor([[ 0.,  0., 20., 20.],
            [36.,  0., 40., 20.]])

    With the paper's 16 pixels the third one is too thin.

    >>> propose(anchors, torch.zeros(3, 4), torch.tensor([0.9, 0.8, 0.7]), (40, 40),
    ...     num_pre_nms=100, num_post_nms=10, nms_thresh=0.7, min_size=16)
    (tensor([[ 0.,  0., 20., 20.]]), tensor([0.9000]))
    """
}
