"""Postprocess: the head's logits and deltas become detections.

    probability = softmax(logits)                     over num_classes, class 0 is background
    box of class c = decode(deltas of c, RoI)         clipped to the image
    drop where probability <= score_thresh, and tiny boxes
    NMS within each class
    keep the max_detections best of all classes

Limits: one RoI can give several detections, of different classes. Background is never one. No RoI: no detection.

Place: Fast R-CNN 2.4 and its code: score above 0.05, NMS at 0.3 within a class, 100 in an image (torchvision: NMS at
0.5).

Where others differ: torchvision also drops sides below 0.01 pixel; the paper's code keeps them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_number, check_pair, check_real, check_tensor
from anchors.boxes import clip_boxes, remove_small_boxes
from anchors.deltas import decode
from anchors.nms import batched_nms


class Detections(NamedTuple):
    """Best first: boxes [D,4] XYXY, labels [D] int64 in 1..K, scores [D] in 0..1, roi_idxs [D] (the RoI of each)."""

    boxes: Tensor
    labels: Tensor
    scores: Tensor
    roi_idxs: Tensor


@torch.no_grad()
def postprocess(
    class_logits: Tensor,
    box_deltas: Tensor,
    rois: Tensor,
    image_size: tuple[int, int],
    *,
    score_thresh: float,
    nms_thresh: float,
    max_detections: int,
    weights: Sequence[float],
    min_size: float = 0.01,
) -> Detections:
    """class_logits [R,num_classes], box_deltas [R,4*num_classes], rois [R,4] of one image -> Detections.

    image_size is (height, width). weights are those that encoded the head's targets.
    """
    class_logits = check_tensor(class_logits, "class_logits", ("R", "num_classes"))
    check_real(class_logits, "class_logits")
    num_rois, num_classes = class_logits.shape
    check_tensor(box_deltas, "box_deltas", (num_rois, 4 * num_classes))
    check_boxes(rois, "rois", order="weak")
    if len(rois) != num_rois:
        raise ValueError(f"rois: found {len(rois)} rows, needed {num_rois}, one for each of class_logits")
    check_number(score_thresh, "score_thresh", 0, 1)
    check_count(max_detections, "max_detections")
    check_pair(image_size, "image_size")

    scores = class_logits.softmax(dim=1)[:, 1:]
    boxes = decode(box_deltas, rois, weights)[:, 1:]
    roi_idxs, classes = (scores > score_thresh).nonzero(as_tuple=True)  # row by row: RoI slow, class fast
    boxes = clip_boxes(boxes[roi_idxs, classes], image_size)
    large = remove_small_boxes(boxes, min_size)
    roi_idxs, classes, boxes = roi_idxs[large], classes[large], boxes[large]
    scores = scores[roi_idxs, classes]
    keep = batched_nms(boxes, scores, classes, nms_thresh, max_detections)
    return Detections(boxes[keep], classes[keep] + 1, scores[keep], roi_idxs[keep])


__test__ = {
    "tiny numbers": """
    One RoI, two classes: softmax(0, ln 3, ln 4) = 1/8, 3/8, 4/8. Both classes are above 0.05: two detections.

    >>> logits = torch.tensor([[0.0, 3.0, 4.0]]).clamp(min=1).log()
    >>> found = postprocess(logits, torch.zeros(1, 12), torch.tensor([[5.0, 5, 50, 20]]), (30, 40),
    ...     score_thresh=0.05, nms_thresh=0.5, max_detections=100, weights=(10, 10, 5, 5))
    >>> found.labels, found.scores
    (tensor([2, 1]), tensor([0.5000, 0.3750]))
    >>> found.boxes[0]
    tensor([ 5.,  5., 40., 20.])
    """
}
