"""Exercises on the anchors that train: which are positive, and the sample of them."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from anchors import matching, sampling
from anchors.exercises.task import Case, Mistake, Task, draw_tensor


def match_oracle(iou: Tensor, high_thresh: float, low_thresh: float):
    return matching.match_anchors(iou, high_thresh=high_thresh, low_thresh=low_thresh, low_quality=True)


def match_variant(
    iou,
    high_thresh,
    low_thresh,
    *,
    negatives_last=False,
    forced=True,
    ties=True,
    zero=False,
    strict=False,
    own_target=True,
):
    if iou.shape[0] == 0 or iou.shape[1] == 0:
        nothing = torch.zeros(iou.shape[1], dtype=torch.int64)
        return nothing, nothing.clone()
    best, gt_idxs = iou.max(dim=0)
    labels = torch.full_like(gt_idxs, -1)
    if not negatives_last:
        labels[best < low_thresh] = 0
    labels[best > high_thresh if strict else best >= high_thresh] = 1
    if forced:
        top, where = iou.max(dim=1)
        for gt in range(len(iou)):
            if top[gt] == 0 and not zero:
                continue
            chosen = (iou[gt] == top[gt]).nonzero()[:, 0] if ties else where[gt : gt + 1]
            labels[chosen] = 1
            if not own_target:
                gt_idxs[chosen] = gt
    if negatives_last:
        labels[best < low_thresh] = 0
    return gt_idxs, labels


GOLDEN = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
MATCH = Task(
    name="match",
    function="match_anchors",
    lesson="anchors/matching.py",
    oracle=match_oracle,
    edges=[
        Case("high, middle, low", {"iou": torch.tensor([[0.8, 0.5, 0.1]]), "high_thresh": 0.7, "low_thresh": 0.3}),
        Case("the best is low", {"iou": torch.tensor([[0.1, 0.2]]), "high_thresh": 0.7, "low_thresh": 0.3}),
        Case("two best", {"iou": torch.tensor([[0.5, 0.5, 0.25]]), "high_thresh": 0.75, "low_thresh": 0.25}),
        Case(
            "a gt that no anchor touches", {"iou": torch.tensor([[0.0, 0.0]]), "high_thresh": 0.75, "low_thresh": 0.25}
        ),
        Case(
            "equal to the thresholds",
            {"iou": torch.tensor([[0.75, 0.25, 1.0]]), "high_thresh": 0.75, "low_thresh": 0.25},
        ),
        Case("three gt, four anchors", {"iou": GOLDEN, "high_thresh": 0.7, "low_thresh": 0.3}),
        Case("no gt", {"iou": torch.zeros(0, 3), "high_thresh": 0.75, "low_thresh": 0.25}),
        Case("no anchor", {"iou": torch.zeros(2, 0), "high_thresh": 0.75, "low_thresh": 0.25}),
    ],
    draw=lambda rng, size: {
        "iou": draw_tensor(rng, (rng.randint(1, 1 + size // 3), size), 0, 1, step=0.125),
        "high_thresh": 0.75,
        "low_thresh": 0.25,
    },
    mistakes=[
        Mistake(
            "negatives assigned last",
            "the line that sets 0 comes after the line that makes each gt's best anchor positive, and takes away "
            "every object whose best anchor is below low_thresh (Faster R-CNN 3.1.2 (i) holds there too).",
            partial(match_variant, negatives_last=True),
        ),
        Mistake(
            "no rule (i)",
            "only IoU >= high_thresh is positive. The best anchor of each gt is positive "
            "too; in the worked example (figure 6 of the walkthrough) all 18 positives come from that rule.",
            partial(match_variant, forced=False),
        ),
        Mistake(
            "only one best anchor",
            "argmax finds one anchor of a gt; all that tie with it are too (16 of 18 in the worked example).",
            partial(match_variant, ties=False),
        ),
        Mistake(
            "IoU 0 is the best",
            "a gt that no anchor touches has best IoU 0, and `iou == best` then makes every anchor of IoU 0 positive. "
            "torchvision and the paper's code do that; here such a gt forces nothing.",
            partial(match_variant, zero=True),
        ),
        Mistake(
            "above instead of at least",
            "IoU equal to high_thresh is positive (the paper says above, all code at least).",
            partial(match_variant, strict=True),
        ),
        Mistake(
            "the forcing gt as target",
            "the target of an anchor is its own best gt, not the gt that made it positive.",
            partial(match_variant, own_target=False),
        ),
    ],
)


def sample_oracle(labels: Tensor, num_samples: int, positive_fraction: float):
    return sampling.sample_labels(labels, num_samples=num_samples, positive_fraction=positive_fraction)


def sample_summary(arguments, answer):
    """(positives, negatives) drawn; ValueError where an index is repeated, out of range or of another label."""
    if not isinstance(answer, tuple | list) or len(answer) != 2 or not all(isinstance(part, Tensor) for part in answer):
        raise ValueError("needed a tuple of two index tensors, (positives, negatives)")
    labels = arguments["labels"]
    for part, label, word in zip(answer, (1, 0), ("positives", "negatives")):
        if part.ndim != 1 or part.is_floating_point() or part.dtype == torch.bool:
            raise ValueError(f"{word}: returned shape {list(part.shape)} of {part.dtype}, needed [n] of int64")
        if len(part) and not (int(part.min()) >= 0 and int(part.max()) < len(labels)):
            raise ValueError(f"{word}: returned an index outside 0..{len(labels) - 1}")
        found = labels[part.long()]
        if bool((found != label).any()):
            raise ValueError(f"{word}: returned an anchor whose label is {int(found[found != label][0])}")
        if len(part.unique()) != len(part):
            raise ValueError(f"{word}: returned an anchor twice")
    return len(answer[0]), len(answer[1])


def sample_variant(labels, num_samples, positive_fraction, *, rule):
    positive, negative = (labels == 1).nonzero()[:, 0], (labels == 0).nonzero()[:, 0]
    most = int(num_samples * positive_fraction)
    num_positive = min(len(positive), most)
    num_negative = {
        "halves": min(len(negative), num_samples - most),
        "product": min(len(negative), num_samples * num_positive),
        "equal": min(len(negative), num_positive),
        "no limit": min(len(negative), max(num_samples - len(positive), 0)),
        "one more": min(len(negative), num_samples - num_positive + 1),
    }[rule]
    return positive[: len(positive) if rule == "no limit" else num_positive], negative[:num_negative]


SAMPLE = Task(
    name="sample",
    function="sample_labels",
    lesson="anchors/sampling.py",
    oracle=sample_oracle,
    canonical=sample_summary,
    edges=[
        Case(
            "few positives", {"labels": torch.tensor([1, 0, 0, 0, 0, -1]), "num_samples": 4, "positive_fraction": 0.5}
        ),
        Case(
            "many positives", {"labels": torch.tensor([1, 1, 1, 1, 0, 0]), "num_samples": 4, "positive_fraction": 0.5}
        ),
        Case("no positive", {"labels": torch.tensor([0, 0, -1, -1]), "num_samples": 4, "positive_fraction": 0.5}),
        Case("all ignored", {"labels": torch.tensor([-1, -1]), "num_samples": 4, "positive_fraction": 0.5}),
        Case(
            "18 positives, 256 wanted",
            {"labels": torch.tensor([1] * 18 + [0] * 400 + [-1] * 30), "num_samples": 256, "positive_fraction": 0.5},
        ),
        Case("no anchor", {"labels": torch.zeros(0, dtype=torch.int64), "num_samples": 4, "positive_fraction": 0.5}),
    ],
    draw=lambda rng, size: {
        "labels": torch.tensor([rng.choice([1, 0, 0, -1]) for _ in range(3 * size)]),
        "num_samples": rng.randint(2, 2 * size + 2),
        "positive_fraction": rng.choice([0.25, 0.5]),
    },
    mistakes=[
        Mistake(
            "not filled up",
            "always num_samples * (1 - fraction) negatives, 128 + 128. Where positives are few, negatives "
            "take their place: 18 + 238 in the worked example.",
            partial(sample_variant, rule="halves"),
        ),
        Mistake(
            "times for minus",
            "num_samples * #positives negatives, a slip in a widely copied notebook: it is a minus.",
            partial(sample_variant, rule="product"),
        ),
        Mistake(
            "as many negatives as positives",
            "negatives fill the sample up to num_samples.",
            partial(sample_variant, rule="equal"),
        ),
        Mistake(
            "no limit on positives",
            "at most int(num_samples * positive_fraction) positives.",
            partial(sample_variant, rule="no limit"),
        ),
        Mistake(
            "one too many",
            "num_samples - #positives negatives, not one more.",
            partial(sample_variant, rule="one more"),
        ),
    ],
)
