"""IoU between boxes of the same key (image, or image and class): only the pairs that overlap enough."""

from __future__ import annotations

import itertools

import numpy as np

PAIRS_AT_ONCE = 2_000_000  # bounds the memory: about 150 MB of temporaries


def iou_of(a: np.ndarray, b: np.ndarray, b_is_crowd: np.ndarray | None = None) -> np.ndarray:
    """IoU of a[i] with b[i], bbox [N,4] as [x,y,w,h] -> [N]. Over a crowd b: the part of a that lies in b.

    The same float64 operations in the same order as COCO's C code, so that equal stays equal.
    """
    width = np.minimum(a[:, 2] + a[:, 0], b[:, 2] + b[:, 0]) - np.maximum(a[:, 0], b[:, 0])
    height = np.minimum(a[:, 3] + a[:, 1], b[:, 3] + b[:, 1]) - np.maximum(a[:, 1], b[:, 1])
    meet = (width > 0) & (height > 0)
    area_a = a[:, 2] * a[:, 3]
    inside = width * height
    union = area_a + b[:, 2] * b[:, 3] - inside
    if b_is_crowd is not None:
        union = np.where(b_is_crowd, area_a, union)
    return np.divide(inside, union, out=np.zeros(len(a)), where=meet & (union > 0))


def pairs_over(
    det_key: np.ndarray,
    det_bbox: np.ndarray,
    gt_key: np.ndarray,
    gt_bbox: np.ndarray,
    gt_is_crowd: np.ndarray,
    least: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every (detection, object) of equal key whose IoU is `least` or more -> det [P], gt [P], iou [P].

    Ordered by detection, then by IoU from best to worst; of two equal IoUs the later object comes first,
    which is the one that COCO's matching keeps.
    """
    order = np.argsort(gt_key, kind="stable")
    sorted_key = gt_key[order]
    first = np.searchsorted(sorted_key, det_key, side="left")
    count = np.searchsorted(sorted_key, det_key, side="right") - first
    found = []
    for begin, end in _chunks(count):
        n = count[begin:end]
        det = np.repeat(np.arange(begin, end), n)
        offset = np.arange(len(det)) - np.repeat(np.cumsum(n) - n, n)
        gt = order[np.repeat(first[begin:end], n) + offset]
        iou = iou_of(det_bbox[det], gt_bbox[gt], gt_is_crowd[gt])
        keep = iou >= least
        found.append((det[keep], gt[keep], iou[keep]))
    if not found:
        return np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0)
    det, gt, iou = (np.concatenate(part) for part in zip(*found))
    best_first = np.lexsort((-gt, -iou, det))
    return det[best_first], gt[best_first], iou[best_first]


def _chunks(count: np.ndarray) -> list[tuple[int, int]]:
    """Ranges of detections with at most PAIRS_AT_ONCE pairs each (one detection may exceed it)."""
    if not len(count):
        return []
    total = np.cumsum(count)
    edges = [0]
    while edges[-1] < len(count):
        done = total[edges[-1] - 1] if edges[-1] else 0
        edges.append(max(edges[-1] + 1, int(np.searchsorted(total, done + PAIRS_AT_ONCE, side="right"))))
    return list(itertools.pairwise(edges))
