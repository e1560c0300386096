"""Find the bug. 50 images for training and 39 for the test?

Check it: frcnn anchors check bug_split.py
"""

from __future__ import annotations

import torch


def split(indices, num_train):
    """(training, test): two int64 tensors; num_train of the shuffled indices for training, the rest for the test."""
    return torch.tensor(indices[:-num_train]), torch.tensor(indices[-num_train:])
