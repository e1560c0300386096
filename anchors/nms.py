"""Non-maximum suppression (NMS): many boxes lie on one object, keep the best.

    sort the boxes by score, highest first
    repeat until no box is left:
        keep the first box
        drop every box whose IoU with it is above iou_thresh

Limits: threshold 1 keeps everything (no IoU is above 1); threshold 0 keeps only boxes that do not overlap. An IoU equal
to the threshold is not above it: the box stays. Of equal scores the lower index wins. Two equal boxes without area have
IoU 0/0, which is not above anything: both stay.

Place: Faster R-CNN 3.3 (threshold 0.7, on proposals), and once more on the final detections, class by class.

Where others differ: code that counts pixels adds 1 to widths here, and then its NMS and its IoU disagree. torchvision
on a GPU may order ties differently.
The IoU is a float32 and the threshold a Python float: float32(0.3) is a little above 0.3, so an IoU of 0.3 is above a
threshold of 0.3, though `iou > 0.3` on a tensor (which rounds 0.3 to float32 first) says no. We compare as torchvision
does.

`anchors/fast/nms.py` gives the same result in chunks, at torchvision's speed; the detector uses that one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_labels, check_number, check_scores
from anchors.boxes import pairwise_iou, upcast


def nms(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """Indices [K] int64 of the kept boxes [N,4] XYXY, by falling score [N]; at most max_keep of them.

    Inverted boxes, NaN, unequal lengths, a threshold outside [0, 1]: ValueError. (Faster R-CNN 3.3)
    """
    boxes, order = checked_and_sorted(boxes, scores, iou_thresh, max_keep)
    iou_thresh = thresh_in(boxes.dtype, iou_thresh)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep: list[Tensor] = []
    while len(order) and (max_keep is None or len(keep) < max_keep):
        best, rest = order[:1], order[1:]
        keep.append(best)
        iou = pairwise_iou(boxes[best], boxes[rest], areas[best], areas[rest])[0]
        order = rest[~(iou > iou_thresh)]  # not `<=`: 0/0 is NaN, and such a box stays
    return torch.cat(keep) if keep else order[:0]


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """`nms` separately for each value of idxs [N] (a class, a level): indices [K] int64 by falling score.

    torchvision shifts the classes apart and runs once when there are few boxes: faster on a GPU, but the shift costs
    float32 digits and fails on negative coordinates. Here each class has a run of its own.
    """
    check_scores(scores, len(boxes) if isinstance(boxes, Tensor) else 0, "boxes")
    check_labels(idxs, "idxs", len(scores), "boxes")
    groups = [(idxs == value).nonzero().squeeze(1) for value in idxs.unique()]
    if len(groups) <= 1:
        return nms(boxes, scores, iou_thresh, max_keep)
    kept = torch.cat([group[nms(boxes[group], scores[group], iou_thresh, max_keep)] for group in groups])
    kept = kept.sort().values  # by index, so that the stable sort below lets the lower index win ties
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return kept if max_keep is None else kept[:max_keep]


def checked_and_sorted(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None) -> tuple[Tensor, Tensor]:
    """Check the arguments of `nms`; the boxes [N,4] in float32 or float64, and their order [N] by falling score."""
    boxes = check_boxes(boxes, "boxes", order="weak")
    check_scores(scores, len(boxes), "boxes")
    check_number(iou_thresh, "iou_thresh", 0, 1)
    if max_keep is not None:
        check_count(max_keep, "max_keep")
    return upcast(boxes.detach()), scores.detach().argsort(descending=True, stable=True)


def thresh_in(dtype: torch.dtype, thresh: float) -> float:
    """The largest number of this dtype not above thresh: iou > it exactly when double(iou) > thresh."""
    rounded = torch.tensor(thresh, dtype=dtype)
    if float(rounded) > thresh:
        rounded = torch.nextafter(rounded, torch.tensor(-1.0, dtype=dtype))
    return float(rounded)


__test__ = {
    "tiny numbers": """
    Box 1 overlaps the better box 0 with IoU 90 / 110 = 0.82; box 2 stands alone.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [20.0, 0, 30, 10]])
    >>> scores = torch.tensor([0.9, 0.8, 0.7])
    >>> nms(boxes, scores, 0.5)
    tensor([0, 2])
    >>> nms(boxes, scores, 0.9)
    tensor([0, 1, 2])
    >>> batched_nms(boxes, scores, torch.tensor([1, 2, 1]), 0.5)
    tensor([0, 1, 2])

    A chain: 0 suppresses 1; 1 would suppress 2 but is gone, so 2 stays.

    >>> chain = torch.tensor([[0.0, 0, 10, 10], [3.0, 0, 13, 10], [6.0, 0, 16, 10]])
    >>> nms(chain, scores, 0.5)
    tensor([0, 2])
    """
}
