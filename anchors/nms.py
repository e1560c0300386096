"""Non-maximum suppression: of many boxes on one object, the best.

    sort by score, highest first keep the first box; drop every later box whose IoU with it is above
    iou_thresh; go on with the next one left

Limits: threshold 1 keeps everything (no IoU is above 1), threshold 0 keeps boxes that do not overlap at
all. An IoU equal to the threshold stays. Equal scores: the lower index wins. Two equal boxes without area
have IoU 0/0: both stay.

Place: Faster R-CNN 3.3 (.7, on proposals), and once more on the final detections, class by class.

Two versions with one result. `nms_plain` is the sentence above, one kept box at a time. `nms` does the same
in chunks: a chunk of candidates is first thinned by the boxes kept so far, then solved inside by repeating

    keep[j] = no i < j with keep[i] and IoU(i, j) > thresh            from keep = all, until nothing changes

Box j is right after as many rounds as the longest chain of suppressors above it, so the rounds end, and
what they end in has only one solution: the greedy one. Usually a handful suffices. `max_keep` stops as soon
as enough boxes are kept: of 12,000 proposals the first 2,000 are wanted, and nobody needs the rest.

Where others differ: the lecture's NMS adds 1 to widths, its IoU does not. torchvision on a GPU may order
ties otherwise. The IoU is float32, the threshold is not: float32(.3) is a little above .3, so torchvision
suppresses an IoU of .3 at .3 though Python's `iou > .3` on a tensor says no. We compare as torchvision
does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from anchors.arguments import check_boxes, check_count, check_labels, check_number, check_scores
from anchors.boxes import pairwise_iou, upcast

CHUNK = 256


def _checked(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None) -> tuple[Tensor, Tensor]:
    boxes = check_boxes(boxes, "boxes", order="weak")
    check_scores(scores, "scores", len(boxes), "boxes")
    check_number(iou_thresh, "iou_thresh", 0, 1)
    if max_keep is not None:
        check_count(max_keep, "max_keep")
    return upcast(boxes.detach()), scores.detach().argsort(descending=True, stable=True)


def _thresh_in(dtype: torch.dtype, thresh: float) -> float:
    """The largest number of this dtype not above thresh: iou > it exactly when double(iou) > thresh."""
    rounded = torch.tensor(thresh, dtype=dtype)
    if float(rounded) > thresh:
        rounded = torch.nextafter(rounded, torch.tensor(-1.0, dtype=dtype))
    return float(rounded)


def nms_plain(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """`nms`, to read: one kept box at a time."""
    boxes, order = _checked(boxes, scores, iou_thresh, max_keep)
    iou_thresh = _thresh_in(boxes.dtype, iou_thresh)
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    keep = []
    while len(order) and (max_keep is None or len(keep) < max_keep):
        best, rest = order[:1], order[1:]
        keep.append(best)
        iou = pairwise_iou(boxes[best], boxes[rest], areas[best], areas[rest])[0]
        order = rest[~(iou > iou_thresh)]  # not `<=`: 0/0 is NaN, and such a box stays
    return torch.cat(keep) if keep else order[:0]


def nms(boxes: Tensor, scores: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """Indices [K] int64 of the kept boxes [N,4] XYXY by falling score [N]; at most max_keep of them.

    Inverted boxes, NaN, unequal lengths, a threshold outside [0, 1]: ValueError. (Faster R-CNN 3.3)
    """
    boxes, order = _checked(boxes, scores, iou_thresh, max_keep)
    iou_thresh = _thresh_in(boxes.dtype, iou_thresh)
    boxes = boxes[order]
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    wanted = len(boxes) if max_keep is None else max_keep
    kept = order.new_empty(0)
    for start in range(0, len(boxes), CHUNK):
        if len(kept) >= wanted:
            break
        chunk = torch.arange(start, min(start + CHUNK, len(boxes)), device=boxes.device)
        if len(kept):
            iou = pairwise_iou(boxes[kept], boxes[chunk], areas[kept], areas[chunk])
            chunk = chunk[~(iou > iou_thresh).any(dim=0)]
        kept = torch.cat((kept, chunk[_survivors(boxes[chunk], areas[chunk], iou_thresh)]))
    return order[kept[:wanted]]


def _survivors(boxes: Tensor, areas: Tensor, iou_thresh: float) -> Tensor:
    """Greedy NMS within a sorted chunk, as a mask: repeat the suppression until nothing changes."""
    suppresses = (pairwise_iou(boxes, boxes, areas, areas) > iou_thresh).float().triu_(diagonal=1)
    keep = boxes.new_ones(len(boxes), dtype=torch.float32)
    while True:
        again = (keep @ suppresses == 0).float()
        if torch.equal(again, keep):
            return keep.bool()
        keep = again


def batched_nms(boxes: Tensor, scores: Tensor, idxs: Tensor, iou_thresh: float, max_keep: int | None = None) -> Tensor:
    """`nms` separately for each value of idxs [N] (a class, a level): indices [K] int64 by falling score.

    torchvision shifts the classes apart and runs once when boxes are few: quicker on a GPU, but the shift
    eats float32 digits and fails on negative coordinates. Here each class has its own run.
    """
    check_scores(scores, "scores", len(boxes) if isinstance(boxes, Tensor) else 0, "boxes")
    check_labels(idxs, "idxs", len(scores), "boxes")
    groups = [(idxs == value).nonzero().squeeze(1) for value in idxs.unique()]
    if len(groups) <= 1:
        return nms(boxes, scores, iou_thresh, max_keep)
    kept = torch.cat([group[nms(boxes[group], scores[group], iou_thresh, max_keep)] for group in groups])
    kept = kept.sort().values  # by index, so that the stable sort below lets the lower index win ties
    kept = kept[scores[kept].argsort(descending=True, stable=True)]
    return kept if max_keep is None else kept[:max_keep]


__test__ = {
    "tiny numbers": """
    Box 1 overlaps the better box 0 with IoU 90 / 110 = .82; box 2 stands alone.

    >>> boxes = torch.tensor([[0.0, 0, 10, 10], [1.0, 0, 11, 10], [20.0, 0, 30, 10]])
    >>> scores = torch.tensor([0.9, 0.8, 0.7])
    >>> nms(boxes, scores, 0.5)
    tensor([0, 2])
    >>> nms(boxes, scores, 0.9)
    tensor([0, 1, 2])
    >>> batched_nms(boxes, scores, torch.tensor([1, 2, 1]), 0.5)
    tensor([0, 1, 2])

    A chain: 0 suppresses 1, 1 would suppress 2 but is gone, so 2 stays.

    >>> chain = torch.tensor([[0.0, 0, 10, 10], [3.0, 0, 13, 10], [6.0, 0, 16, 10]])
    >>> nms(chain, scores, 0.5), nms_plain(chain, scores, 0.5)
    (tensor([0, 2]), tensor([0, 2]))
    """
}
