"""Convert COCO's bbox [x, y, w, h] to corners XYXY and back."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np


def corners(bboxes: Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """[N,4] float64 XYXY of N bboxes."""
    boxes = np.array(bboxes, dtype=np.float64).reshape(-1, 4)
    boxes[:, 2:] += boxes[:, :2]
    return boxes


def bbox(box: Sequence[float]) -> list[float]:
    """[x, y, w, h] of one XYXY box."""
    x1, y1, x2, y2 = box
    return [x1, y1, x2 - x1, y2 - y1]
