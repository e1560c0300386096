"""A solution of the exercise mean_ap."""

from __future__ import annotations


def mean_ap(ap):
    """COCO's AP from ap [K classes, T IoU thresholds]: the mean of all that exist, a float.

    -1 stands where a class has no object; 0 if nothing exists.
    """
    found = ap[ap >= 0]
    return float(found.mean()) if len(found) else 0.0
