"""IoU of boxes or masks, and the matching of detections to objects by COCO's greedy rule.

The IoU is computed between detections and objects of one image, or of one image and class, and only pairs that overlap
enough are kept. COCO's rule, for one image and class: detections from the highest score down, at most 100; each takes
the free object of the highest IoU at or over the threshold. Objects that count come before those to ignore (crowds, and
those outside the area range); a crowd is never used up. A detection that took an object to ignore, or took none and
lies outside the area range itself, is neither right nor wrong.

All IoU thresholds and area ranges are matched at once, and instead of one image after the other, step r treats the r-th
detection of every image and class together. Only detections with some IoU of 0.5 or more take part: the others can
match nothing.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from label_tools.shapes import rle
from toolkit.metrics.coco_tables import MAX_DETECTIONS, Tables

PAIRS_AT_ONCE = 2_000_000  # bounds the memory: about 150 MB of temporaries
MASKS_AT_ONCE = 256  # detections whose runs lie decoded in memory at a time, beside the objects of their image
IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # closed ranges, square pixels


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


@dataclass(frozen=True)
class Matches:
    """A area ranges, T IoU thresholds, D kept detections, G objects.

    Detections are sorted by class, then from the highest score down; `first` [K+1] bounds the classes.
    """

    tables: Tables
    iou_thresholds: np.ndarray  # [T]
    det: np.ndarray  # [D] rows of tables.det_*
    first: np.ndarray  # [K+1]
    rank: np.ndarray  # [D] place among the detections of its image and class, from 0
    right: np.ndarray  # [A,T,D] bool: found an object that counts
    ignored: np.ndarray  # [A,T,D] bool: neither right nor wrong
    gt: np.ndarray  # [T,D] row of the object it took in area range "all", -1 for none
    gt_ignored: np.ndarray  # [A,G] bool

    def rows_of(self, class_index: int) -> slice:
        return slice(self.first[class_index], self.first[class_index + 1])

    def at(self, iou: float) -> int:
        """The place of an IoU threshold."""
        t = int(np.argmin(np.abs(self.iou_thresholds - iou)))
        if abs(self.iou_thresholds[t] - iou) > 1e-9:
            raise ValueError(f"no matches at IoU {iou}; there are {self.iou_thresholds}")
        return t

    def num_objects(self) -> np.ndarray:
        """[A,K] objects that count."""
        classes = len(self.tables.class_names)
        return np.stack([np.bincount(self.tables.gt_class[~row], minlength=classes) for row in self.gt_ignored])


def match(tables: Tables, iou_thresholds: np.ndarray = IOU_THRESHOLDS, max_detections: int = MAX_DETECTIONS) -> Matches:
    """Match all detections of `tables`. The same result as pycocotools' evaluateImg, many times as fast."""
    num_classes = len(tables.class_names)
    det_key = tables.det_image * num_classes + tables.det_class
    by_score = np.lexsort((tables.det_image, -tables.det_score, tables.det_class))
    rank = _rank_in_group(det_key[by_score])
    det, rank = by_score[rank < max_detections], rank[rank < max_detections]
    first = np.searchsorted(tables.det_class[det], np.arange(num_classes + 1))

    thresholds = np.minimum(iou_thresholds, 1 - 1e-10)
    outside = (tables.gt_area < AREA_RANGES[:, :1]) | (tables.gt_area > AREA_RANGES[:, 1:])
    gt_ignored = outside | tables.gt_is_crowd
    every = np.arange(len(tables.gt_class))
    pair_det, pair_gt, pair_iou = pairs(tables, det, every, thresholds.min(), same_class=True)
    taken = _greedy(det_key[det], pair_det, pair_gt, pair_iou, thresholds, gt_ignored, tables.gt_is_crowd)

    matched = taken >= 0
    took_ignored = np.zeros_like(matched)
    for a in range(len(AREA_RANGES)):
        took_ignored[a] = matched[a] & np.append(gt_ignored[a], False)[taken[a]]
    det_area = tables.det_area[det]
    det_outside = (det_area < AREA_RANGES[:, :1]) | (det_area > AREA_RANGES[:, 1:])
    ignored = took_ignored | (~matched & det_outside[:, None, :])
    return Matches(tables, iou_thresholds, det, first, rank, matched & ~took_ignored, ignored, taken[0], gt_ignored)


def _rank_in_group(key: np.ndarray) -> np.ndarray:
    """[N] keys in order of appearance -> how often the same key came before."""
    order = np.argsort(key, kind="stable")
    sorted_key = key[order]
    starts = np.flatnonzero(np.r_[True, sorted_key[1:] != sorted_key[:-1]]) if len(key) else np.zeros(0, int)
    length = np.diff(np.r_[starts, len(key)])
    rank = np.empty(len(key), np.int64)
    rank[order] = np.arange(len(key)) - np.repeat(starts, length)
    return rank


def _greedy(
    det_key: np.ndarray,
    pair_det: np.ndarray,
    pair_gt: np.ndarray,
    pair_iou: np.ndarray,
    thresholds: np.ndarray,
    gt_ignored: np.ndarray,
    gt_is_crowd: np.ndarray,
) -> np.ndarray:
    """[A,T,D] row of the object that each detection takes, -1 for none."""
    num_areas, num_thresholds, num_gt = len(gt_ignored), len(thresholds), gt_ignored.shape[1]
    taken = np.full((num_areas, num_thresholds, len(det_key)), -1, np.int32)
    relevant, begin, count = np.unique(pair_det, return_index=True, return_counts=True)
    if not len(relevant):
        return taken
    step = _rank_in_group(det_key[relevant])
    by_step = np.argsort(step, kind="stable")
    edges = np.searchsorted(step[by_step], np.arange(step.max() + 2))
    # object num_gt is a dummy that is never free: it fills the rows of detections with fewer candidates
    free = np.ones((num_gt + 1, num_areas, num_thresholds), bool)
    free[num_gt] = False
    counts = np.append(~gt_ignored, np.zeros((num_areas, 1), bool), axis=1).T[:, :, None]  # [G+1,A,1]
    crowd = np.append(gt_is_crowd, False)
    for r in range(len(edges) - 1):
        rows = by_step[edges[r] : edges[r + 1]]
        column = np.arange(count[rows].max())
        real = column < count[rows, None]
        pair = np.where(real, begin[rows, None] + column, 0)
        gt = np.where(real, pair_gt[pair], num_gt)  # [B,C], best IoU first
        can = free[gt] & (pair_iou[pair][:, :, None, None] >= thresholds)  # [B,C,A,T]
        preferred = can & counts[gt]
        has_preferred = preferred.any(1)
        choice = np.where(has_preferred, preferred.argmax(1), can.argmax(1))  # [B,A,T]
        found = has_preferred | can.any(1)
        chosen = np.take_along_axis(gt[:, :, None, None], choice[:, None], axis=1)[:, 0]
        b, a, t = np.nonzero(found)
        winner = chosen[b, a, t]
        taken[a, t, relevant[rows[b]]] = winner
        free[winner, a, t] = crowd[winner]
    return taken
