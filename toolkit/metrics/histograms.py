"""Histograms of scores and overlaps: what a threshold cuts off, and how well boxes fit."""

from __future__ import annotations

import numpy as np

from toolkit.metrics.matching import Matches
from toolkit.metrics.overlap import pairs

SCORE_EDGES = np.linspace(0, 1, 21).round(2)
IOU_EDGES = np.linspace(0.5, 1, 11).round(2)


def histograms(matches: Matches, iou: float, thresholds: np.ndarray) -> dict:
    """{"score": {"edges", "right", "false"}, "iou": {"edges", "count"}}.

    score: all detections that count, at one IoU. iou: of right detections over their class's threshold [K] with the
    object that they found, at IoU 0.5.
    """
    tables, t = matches.tables, matches.at(iou)
    score, class_ = tables.det_score[matches.det], tables.det_class[matches.det]
    right, counted = matches.right[0, t], ~matches.ignored[0, t]
    inside = np.clip(score, 0, 1)
    found = np.flatnonzero(matches.right[0, 0] & (score >= thresholds[class_]))
    return {
        "score": {
            "edges": SCORE_EDGES.tolist(),
            "right": np.histogram(inside[right], SCORE_EDGES)[0].tolist(),
            "false": np.histogram(inside[counted & ~right], SCORE_EDGES)[0].tolist(),
        },
        "iou": {
            "edges": IOU_EDGES.tolist(),
            "count": np.histogram(_overlap_with_found(matches, found), IOU_EDGES)[0].tolist(),
        },
    }


def _overlap_with_found(matches: Matches, rows: np.ndarray) -> np.ndarray:
    """IoU of right detections (rows of `matches`) with the object that each took at IoU 0.5."""
    everything = np.arange(len(matches.tables.gt_class))
    det, gt, iou = pairs(matches.tables, matches.det[rows], everything, 0.5, same_class=True)
    return iou[gt == matches.gt[0][rows][det]]
