"""A solution of the exercise recall."""

from __future__ import annotations


def recall(tp, fp, fn):
    """The share of the objects that were found, a float; 0 where there is nothing to find."""
    return tp / (tp + fn) if tp + fn else 0.0
