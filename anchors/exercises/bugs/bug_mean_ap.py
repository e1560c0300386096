"""Find the bug. What does -1 mean in COCO's table?

Check it: frcnn anchors check bug_mean_ap.py
"""

from __future__ import annotations


def mean_ap(ap):
    """COCO's AP from ap [K classes, T IoU thresholds]: the mean of all that exist, a float.

    -1 stands where a class has no object; 0 if nothing exists.
    """
    return float(ap.mean())
