"""IoU between boxes, or masks, of the same key (image, or image and class): only the pairs that overlap enough."""

from __future__ import annotations

import itertools

import numpy as np
from numpy.typing import ArrayLike

from label_tools.shapes import rle
from toolkit.metrics.coco_tables import Tables

PAIRS_AT_ONCE = 2_000_000  # bounds the memory: about 150 MB of temporaries
MASKS_AT_ONCE = 256  # detections whose runs lie decoded in memory at a time, beside the objects of their image


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


def iou_table(a: ArrayLike, b: ArrayLike) -> np.ndarray:
    """IoU [N,M] of every one of a with every one of b, bbox [x,y,w,h]."""
    a, b = (np.array(one, float).reshape(-1, 4) for one in (a, b))
    return iou_of(np.repeat(a, len(b), 0), np.tile(b, (len(a), 1))).reshape(len(a), len(b))


def pairs(
    tables: Tables, det: np.ndarray, gt: np.ndarray, least: float, *, same_class: bool
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Every pair of one image, with same_class also of one class, whose IoU is `least` or more.

    det, gt: rows of tables.det_*, tables.gt_*; gt ascending. -> place in `det` [P], row of tables.gt_* [P], iou [P], in
    the order of `pairs_over`. By masks where the tables have them, else by boxes.
    """
    det_key, gt_key = tables.det_image[det], tables.gt_image[gt]
    if same_class:
        classes = len(tables.class_names)
        det_key, gt_key = det_key * classes + tables.det_class[det], gt_key * classes + tables.gt_class[gt]
    crowd = tables.gt_is_crowd[gt]
    if tables.gt_mask is None or tables.det_mask is None:
        place, g, iou = pairs_over(det_key, tables.det_bbox[det], gt_key, tables.gt_bbox[gt], crowd, least)
    else:
        masks = [tables.det_mask[d] for d in det], [tables.gt_mask[g] for g in gt]
        place, g, iou = masks_over(det_key, masks[0], gt_key, masks[1], crowd, least)
    return place, gt[g], iou


def masks_over(
    det_key: np.ndarray,
    det_mask: list[dict],
    gt_key: np.ndarray,
    gt_mask: list[dict],
    gt_is_crowd: np.ndarray,
    least: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """`pairs_over` with masks, as RLE."""
    by_det, by_gt = np.argsort(det_key, kind="stable"), np.argsort(gt_key, kind="stable")
    keys = np.intersect1d(det_key, gt_key)
    bounds = [
        (np.searchsorted(sorted_key, keys, side="left"), np.searchsorted(sorted_key, keys, side="right"))
        for sorted_key in (det_key[by_det], gt_key[by_gt])
    ]
    found = [(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))]
    for begin, end, gt_begin, gt_end in zip(*bounds[0], *bounds[1]):
        gt = by_gt[gt_begin:gt_end]
        masks = [gt_mask[g] for g in gt]
        for start in range(begin, end, MASKS_AT_ONCE):
            det = by_det[start : min(start + MASKS_AT_ONCE, end)]
            iou = rle.ious([det_mask[d] for d in det], masks, gt_is_crowd[gt])
            row, column = np.nonzero(iou >= least)
            found.append((det[row], gt[column], iou[row, column]))
    return _best_first(*(np.concatenate(part) for part in zip(*found)))


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
    return _best_first(*(np.concatenate(part) for part in zip(*found)))


def _best_first(det: np.ndarray, gt: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    order = np.lexsort((-gt, -iou, det))
    return det[order], gt[order], iou[order]


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
