"""Calibration: of detections with a score near 0.8, about 8 of 10 should be right.

Expected calibration error: the gap between mean score and share of right detections, in ten bins of equal width,
weighed by the number of detections. Right means COCO's match at the stated IoU; ignored detections do not count.
The error depends on the score floor, because a detector gives many detections of low score: it is stated.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.matching import Matches

BINS = 10


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
