"""Boxes that are corners, or fractions of the image, where [x, y, width, height] in pixels is needed.

COCO's own tool takes them and prints a wrong number (0.2 instead of 1.0 for perfect boxes given as corners).
"""

from __future__ import annotations

import numpy as np

from label_tools.text.errors import InputError

SLACK = 2.0  # pixels that an honest box may leave its image by


def refuse_wrong_format(bbox: np.ndarray, size: np.ndarray, where: str) -> None:
    """InputError with a hint when most of bbox [N,4] can only be meant otherwise; size [N,2]: the image's."""
    known = (size > 0).all(1)
    bbox, size = bbox[known], size[known]
    if not len(bbox):
        return
    fraction = (bbox >= 0).all(1) & (bbox <= 1.001).all(1) & (size > 8).all(1)
    if fraction.mean() > 0.9:
        raise InputError(
            f"{where}: {int(fraction.sum())} of {len(bbox)} boxes lie within 0..1, which looks like fractions "
            "of the image; needs [x, y, width, height] in pixels: multiply by the image's width and height"
        )
    leaves = ((bbox[:, :2] + bbox[:, 2:]) > size + SLACK).any(1)
    fits_as_corners = (bbox[:, 2:] > bbox[:, :2]).all(1) & (bbox[:, 2:] <= size + SLACK).all(1)
    corners = leaves & fits_as_corners
    if corners.mean() > 0.5 or (corners.mean() > 0.1 and (fits_as_corners.mean() > 0.99) and len(bbox) >= 10):
        raise InputError(
            f"{where}: {int(corners.sum())} of {len(bbox)} boxes leave their image as [x, y, width, height] but "
            "fit as corners [x1, y1, x2, y2]; needs [x, y, width, height]: subtract x1 and y1"
        )
