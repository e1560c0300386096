"""Exercises on the RPN's losses: smooth L1, which anchors count, and the normaliser."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from anchors import losses
from anchors.exercises.task import Case, Mistake, Task, draw_tensor


def smooth_variant(x, sigma, *, kind):
    distance = x.abs()
    change = 1 / sigma**2
    if kind == "inverted":
        return torch.where(distance < change, 0.5 * x * x / sigma**2, distance - 0.5)
    if kind == "no sigma":
        return torch.where(distance < 1, 0.5 * x * x, distance - 0.5)
    if kind == "beta":
        return torch.where(distance < sigma, 0.5 * x * x / sigma, distance - 0.5 * sigma)
    if kind == "line":
        return torch.where(distance < change, 0.5 * sigma**2 * x * x, distance - 0.5)
    if kind == "signed":
        return torch.where(x < change, 0.5 * sigma**2 * x * x, x - 0.5 * change)
    if kind == "l2":
        return 0.5 * sigma**2 * x * x
    right = losses.smooth_l1(x, beta=change)
    return right.sum() if kind == "sum" else right.mean()


SMOOTH = Task(
    name="smooth_l1",
    function="smooth_l1",
    lesson="anchors/losses.py",
    oracle=lambda x, sigma: losses.smooth_l1(x, beta=losses.beta_from_sigma(sigma)),
    edges=[
        Case("parabola", {"x": torch.tensor([0.05]), "sigma": 3.0}),
        Case("line", {"x": torch.tensor([1.0]), "sigma": 3.0}),
        Case("negative", {"x": torch.tensor([-1.0]), "sigma": 3.0}),
        Case("between 1/9 and 1", {"x": torch.tensor([0.5]), "sigma": 3.0}),
        Case("sigma 1", {"x": torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]), "sigma": 1.0}),
        Case("nothing", {"x": torch.zeros(0), "sigma": 3.0}),
    ],
    draw=lambda rng, size: {"x": draw_tensor(rng, (size,), -2, 2, step=1 / 16), "sigma": rng.choice([1.0, 2.0, 3.0])},
    mistakes=[
        Mistake(
            "sigma inverted",
            "0.5 x^2 / sigma^2 and |x| - 0.5, as sometimes printed: with sigma 3 it jumps at 1/9 from +0.0007 to "
            "-0.389 and is negative up to 0.5. Right is 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2.",
            partial(smooth_variant, kind="inverted"),
        ),
        Mistake(
            "missing sigma",
            "the change point is always 1 (sigma 1). With sigma 3 it is 1/9.",
            partial(smooth_variant, kind="no sigma"),
        ),
        Mistake(
            "sigma taken for beta", "the change point is beta = 1 / sigma^2.", partial(smooth_variant, kind="beta")
        ),
        Mistake(
            "the line without sigma",
            "the line is |x| - 0.5 / sigma^2, so that it meets the parabola.",
            partial(smooth_variant, kind="line"),
        ),
        Mistake("no absolute value", "negative x counts like positive x.", partial(smooth_variant, kind="signed")),
        Mistake("parabola everywhere", "beyond 1 / sigma^2 the loss is a line.", partial(smooth_variant, kind="l2")),
        Mistake("summed", "the answer has x's shape; sums come later.", partial(smooth_variant, kind="sum")),
        Mistake("averaged", "the answer has x's shape; means come later.", partial(smooth_variant, kind="mean")),
    ],
)


def rpn_oracle(objectness, deltas, labels, target_deltas, sigma):
    return losses.rpn_loss(objectness, deltas, labels, target_deltas, beta=losses.beta_from_sigma(sigma))


def rpn_variant(
    objectness, deltas, labels, target_deltas, sigma, *, ignore=True, boxes="positives", divide="sampled", smooth=None
):
    smooth = smooth or (lambda x, sigma: losses.smooth_l1(x, beta=1 / sigma**2))
    sampled = labels >= 0 if ignore else torch.ones_like(labels, dtype=torch.bool)
    truth = (labels == 1).to(objectness.dtype)
    if not bool(sampled.any()):
        return torch.tensor(0.0), torch.tensor(0.0)
    cls = F.binary_cross_entropy_with_logits(objectness[sampled], truth[sampled])
    chosen = {"positives": labels == 1, "sampled": labels >= 0}[boxes]
    terms = smooth(deltas[chosen] - target_deltas[chosen], sigma)
    count = {
        "sampled": int((labels >= 0).sum()),
        "positives": max(int((labels == 1).sum()), 1),
        "coordinates": max(terms.numel(), 1),
        "half": 128,
        "nothing": 1,
    }[divide]
    return cls, terms.sum() / count


def draw_rpn(rng, size):
    return {
        "objectness": draw_tensor(rng, (size,), -2, 2),
        "deltas": draw_tensor(rng, (size, 4), -1, 1),
        "labels": torch.tensor([rng.choice([1, 0, -1]) for _ in range(size)]),
        "target_deltas": draw_tensor(rng, (size, 4), -1, 1),
        "sigma": rng.choice([1.0, 3.0]),
    }


RPN_LOSS = Task(
    name="rpn_loss",
    function="rpn_loss",
    lesson="anchors/losses.py",
    oracle=rpn_oracle,
    edges=[
        Case(
            "positive, negative, ignored",
            {
                "objectness": torch.zeros(3),
                "deltas": torch.tensor([[1.0, 0, 0, 0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]]),
                "labels": torch.tensor([1, 0, -1]),
                "target_deltas": torch.zeros(3, 4),
                "sigma": 3.0,
            },
        ),
        Case(
            "no positive",
            {
                "objectness": torch.tensor([2.0, -1.0]),
                "deltas": torch.ones(2, 4),
                "labels": torch.tensor([0, 0]),
                "target_deltas": torch.zeros(2, 4),
                "sigma": 3.0,
            },
        ),
        Case(
            "nothing sampled",
            {
                "objectness": torch.tensor([2.0]),
                "deltas": torch.ones(1, 4),
                "labels": torch.tensor([-1]),
                "target_deltas": torch.zeros(1, 4),
                "sigma": 3.0,
            },
        ),
        Case(
            "no anchor",
            {
                "objectness": torch.zeros(0),
                "deltas": torch.zeros(0, 4),
                "labels": torch.zeros(0, dtype=torch.int64),
                "target_deltas": torch.zeros(0, 4),
                "sigma": 3.0,
            },
        ),
    ],
    draw=draw_rpn,
    mistakes=[
        Mistake(
            "ignored anchors counted",
            "label -1 trains nothing: leave it out (ignore_index=-1 in F.cross_entropy).",
            partial(rpn_variant, ignore=False),
        ),
        Mistake(
            "boxes of negatives trained",
            "p* is 0 for a negative: only positives have a box.",
            partial(rpn_variant, boxes="sampled"),
        ),
        Mistake(
            "divided by the positives",
            "the sum over boxes is divided by the number of sampled anchors. Divided by the positives (18 in the "
            "worked example) and with lambda 10 the box loss weighs 133 times the paper's.",
            partial(rpn_variant, divide="positives"),
        ),
        Mistake(
            "mean over the coordinates",
            "the sum runs over positives and their four deltas, then / sampled.",
            partial(rpn_variant, divide="coordinates"),
        ),
        Mistake(
            "N_reg 128",
            "N_reg is the number of sampled anchors (256 at most), not 128.",
            partial(rpn_variant, divide="half"),
        ),
        Mistake(
            "not divided",
            "this is the sum; divide it by the number of sampled anchors.",
            partial(rpn_variant, divide="nothing"),
        ),
        Mistake(
            "sigma inverted in smooth L1",
            "0.5 x^2 / sigma^2 and |x| - 0.5: see the exercise smooth_l1.",
            partial(rpn_variant, smooth=partial(smooth_variant, kind="inverted")),
        ),
        Mistake(
            "missing sigma",
            "smooth L1 changes at 1 / sigma^2, not at 1.",
            partial(rpn_variant, smooth=partial(smooth_variant, kind="no sigma")),
        ),
    ],
)
