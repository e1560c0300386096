"""Match detections to objects by COCO's greedy rule, for every IoU threshold and area range at once.

COCO's rule, for one image and class: detections from the highest score down, at most 100; each takes the
free object of the highest IoU at or over the threshold. Objects that count come before those to ignore
(crowds, and those outside the area range); a crowd is never used up. A detection that took an object to
ignore, or took none and lies outside the area range itself, is neither right nor wrong.

Instead of one image after the other, step r treats the r-th detection of every image and class together. Only
detections with some IoU of 0.5 or more take part: the others can match nothing.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from toolkit.metrics.coco_tables import MAX_DETECTIONS, Tables
from toolkit.metrics.overlap import pairs

IOU_THRESHOLDS = np.linspace(0.5, 0.95, 10)
AREA_NAMES = ("all", "small", "medium", "large")
AREA_RANGES = np.array([[0, 1e10], [0, 32**2], [32**2, 96**2], [96**2, 1e10]])  # closed ranges, square pixels


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
