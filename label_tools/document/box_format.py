"""Boxes that are corners, or fractions of the image, where [x, y, width, height] in pixels is needed (B47, B48).

COCO's own tool takes them and prints a wrong number (0.2 instead of 1.0 for perfect boxes given as corners).
"""

from __future__ import annotations

import numpy as np

from label_tools.text.messages import counted

SLACK = 2.0  # pixels that an honest box may leave its image by
FEW = 10  # boxes: of fewer, more than half must say that they are corners
TINY = 8  # pixels: in an image this small a box of one pixel is nearly a fraction


def other_format(bbox: np.ndarray, size: np.ndarray) -> tuple[str, str] | None:
    """(code, what was found and what to do) when bbox [N,4] can only be meant otherwise; size [N,2] width, height.

    Corners: more than half of the boxes leave their image as x, y, w, h and fit as corners; or all could be corners,
    which honest boxes hardly ever are, and a quarter leave their image.
    """
    known = (size > 0).all(1) & np.isfinite(bbox).all(1)
    if not known.all():
        bbox, size = bbox[known], size[known]
    if not len(bbox):
        return None
    boxes = counted(len(bbox), "box", "boxes")
    fraction = (bbox >= 0).all(1) & (bbox <= 1.001).all(1) & (size > TINY).all(1)
    if fraction.mean() > 0.9 and (bbox[fraction][:, 2:] < 1).any():
        return "B48", (
            f"{int(fraction.sum())} of {boxes} lie within 0..1, as if they were fractions of the image; "
            "needs [x, y, width, height] in pixels: multiply by the image's width and height"
        )
    leaves = ((bbox[:, :2] + bbox[:, 2:]) > size + SLACK).any(1)
    fits = (bbox[:, :2] >= 0).all(1) & (bbox[:, 2:] > bbox[:, :2]).all(1) & (bbox[:, 2:] <= size + SLACK).all(1)
    corners = leaves & fits
    if corners.mean() > 0.5 or (corners.mean() > 0.25 and fits.all() and len(bbox) >= FEW):
        return "B47", (
            f"{int(corners.sum())} of {boxes} leave their image as [x, y, width, height] and fit as corners "
            "[x1, y1, x2, y2]; write bbox as [x, y, x2 - x1, y2 - y1]"
        )
    return None
