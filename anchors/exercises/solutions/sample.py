"""Sample 256 anchors."""

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
    positives, negatives = (labels == 1).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    num_positive = min(len(positives), int(num_samples * positive_fraction))
    num_negative = min(len(negatives), num_samples - num_positive)
    return (
        positives[torch.randperm(len(positives))[:num_positive]],
        negatives[torch.randperm(len(negatives))[:num_negative]],
    )
