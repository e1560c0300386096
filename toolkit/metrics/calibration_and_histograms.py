"""Scores and overlaps in bins: calibration of the scores, and histograms of scores and IoU.

Calibrated means: of detections with a score near 0.8, about 8 of 10 are right. The expected calibration error is the
gap between the mean score and the share of right detections, in ten bins of equal width, weighted by the number of
detections. Right means COCO's match at the stated IoU; ignored detections do not count. The error depends on the score
floor, because a detector gives many detections of low score: it is stated.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.iou_and_matching import Matches, pairs

BINS = 10
SCORE_EDGES = np.linspace(0, 1, 21).round(2)
IOU_EDGES = np.linspace(0.5, 1, 11).round(2)


def calibration(matches: Matches, iou: float = 0.5, floor: float = 0.05) -> dict | None:
    """{"error", "max_error", "bins": [{"low", "high", "num", "score", "right"}]}; None: scores are not probabilities.

    Detections under `floor` are left out.
    """
    t = matches.at(iou)
    evaluated = ~matches.ignored[0, t]
    score = matches.tables.det_score[matches.det][evaluated]
    right = matches.right[0, t][evaluated]
    if len(score) and (score.min() < 0 or score.max() > 1):
        return None
    right, score = right[score >= floor], score[score >= floor]
    place = np.minimum((score * BINS).astype(int), BINS - 1)
    num = np.bincount(place, minlength=BINS)
    mean_score = np.bincount(place, score, BINS) / np.maximum(num, 1)
    share_right = np.bincount(place, right, BINS) / np.maximum(num, 1)
    gap = np.abs(mean_score - share_right)
    bins = [
        {
            "low": b / BINS,
            "high": (b + 1) / BINS,
            "num": int(num[b]),
            "score": float(mean_score[b]) if num[b] else None,
            "right": float(share_right[b]) if num[b] else None,
        }
        for b in range(BINS)
    ]
    return {
        "error": float((gap * num).sum() / num.sum()) if num.sum() else None,
        "max_error": float(gap[num > 0].max()) if num.sum() else None,
        "bins": bins,
        "iou": iou,
        "floor": floor,
        "num_detections": int(num.sum()),
    }


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
