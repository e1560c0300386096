"""The final detections."""

from __future__ import annotations

import torch

from anchors.deltas import decode
from anchors.nms import batched_nms


def postprocess(
    class_logits: torch.Tensor,
    box_deltas: torch.Tensor,
    rois: torch.Tensor,
    image_size: tuple[int, int],
    score_thresh: float,
    nms_thresh: float,
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Detections of one image: (boxes [D,4] XYXY, labels [D] int64, scores [D]), best first.

        scores = softmax of class_logits [R,K+1]; class 0 is background and never detected
        box of class c = decode(the four deltas of c in box_deltas [R,4(K+1)], rois [R,4], weights (10, 10, 5, 5)),
                         clipped to image_size = (height, width)
        drop scores <= score_thresh -> NMS within each class at nms_thresh -> all of them by falling score

    anchors.deltas.decode gives [R,K+1,4]; anchors.nms.batched_nms(boxes, scores, labels, nms_thresh) is the last step.

    By hand: probabilities (1/8, 3/8, 4/8) and threshold 0.05: labels [2, 1], scores [0.5, 0.375].
    """
    height, width = image_size
    probability = class_logits.softmax(dim=1)
    roi_idxs, labels = (probability[:, 1:] > score_thresh).nonzero(as_tuple=True)
    labels = labels + 1
    boxes = decode(box_deltas, rois, (10, 10, 5, 5))[roi_idxs, labels]
    boxes[:, 0::2] = boxes[:, 0::2].clamp(0, width)
    boxes[:, 1::2] = boxes[:, 1::2].clamp(0, height)
    scores = probability[roi_idxs, labels]
    keep = batched_nms(boxes, scores, labels, nms_thresh)
    return boxes[keep], labels[keep], scores[keep]
