"""Confusion matrix of the classes, at one IoU and one score threshold per class; background is the last row and column.

Two passes: first COCO's own matches, so that the diagonal agrees with precision and recall at this threshold;
then what is left of detections and objects is paired by the best IoU, whatever the classes.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.matching import Matches
from toolkit.metrics.overlap import pairs


def confusion(matches: Matches, thresholds: np.ndarray, iou: float = 0.5) -> np.ndarray:
    """[K+1,K+1] counts; row: true class, column: predicted class. thresholds [K]: the score a class needs.

    [k,K]: objects of class k that were missed; [K,k]: detections of class k on background.
    """
    tables = matches.tables
    num_classes = len(tables.class_names)
    t = matches.at(iou)
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    kept = tables.det_score[matches.det] >= thresholds[tables.det_class[matches.det]]
    right = kept & matches.right[0, t]
    gt_free = ~matches.gt_ignored[0]
    np.add.at(counts, (tables.gt_class[matches.gt[t][right]],) * 2, 1)
    gt_free[matches.gt[t][right]] = False

    left = matches.det[kept & ~right & ~matches.ignored[0, t]]
    pair_det, pair_gt, pair_iou = pairs(
        tables, left, np.arange(len(tables.gt_class)), min(iou, 1 - 1e-10), same_class=False
    )
    det_free = np.ones(len(left), bool)
    for p in np.argsort(-pair_iou, kind="stable"):
        d, g = pair_det[p], pair_gt[p]
        if det_free[d] and gt_free[g]:
            det_free[d] = gt_free[g] = False
            counts[tables.gt_class[g], tables.det_class[left[d]]] += 1
    on_crowd = np.zeros(len(left), bool)
    on_crowd[pair_det[tables.gt_is_crowd[pair_gt]]] = True
    background = left[det_free & ~on_crowd]
    counts[num_classes, :num_classes] += np.bincount(tables.det_class[background], minlength=num_classes)
    counts[:num_classes, num_classes] += np.bincount(tables.gt_class[gt_free], minlength=num_classes)
    return counts
