"""Exercise 8: 256 of them.

Check it: frcnn anchors check 08_sample.py
"""

from __future__ import annotations

import torch


def sample_labels(
    labels: torch.Tensor, num_samples: int, positive_fraction: float
) -> tuple[torch.Tensor, torch.Tensor]:
    """Indices (positives, negatives), two int64 tensors, drawn by chance from labels [N] (1, 0, or -1: never).

        positives: as many as there are, but at most int(num_samples * positive_fraction)
        negatives: fill up to num_samples, as far as there are any

    No index twice.

    By hand: 18 positives and 7,690 negatives, 256 wanted, fraction 0.5: 18 + 238.
    """
    raise NotImplementedError("not written yet")
