"""Find the bug. Of what is recall a share?

Check it: frcnn anchors check bug_recall.py
"""

from __future__ import annotations


def recall(tp, fp, fn):
    """The share of the objects that were found, a float; 0 where there is nothing to find."""
    return tp / (tp + fp) if tp + fp else 0.0
