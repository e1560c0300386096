"""Exercises on losses: smooth L1, the RPN's, the box head's, the mask head's."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anchors.exercises.task import Mistake, Task, draw_tensor
from anchors.losses import beta_from_sigma, detection_loss, rpn_loss, smooth_l1
from anchors.mask import mask_loss

NO_LABEL = torch.zeros(0, dtype=torch.int64)


def smooth_variant(x, sigma, *, kind="right"):
    distance, change = x.abs(), 1 / sigma**2
    parabola, line = 0.5 * sigma**2 * x * x, distance - 0.5 * change
    right = torch.where(distance < change, parabola, line)
    return {
        "right": lambda: right,
        "inverted": lambda: sigma_inverted(x, sigma),
        "no sigma": lambda: smooth_l1(x, beta=1),
        "beta": lambda: smooth_l1(x, beta=sigma),
        "line": lambda: torch.where(distance < change, parabola, distance - 0.5),
        "signed": lambda: torch.where(x < change, parabola, x - 0.5 * change),
        "l2": lambda: parabola,
        "sum": lambda: right.sum(),
        "mean": lambda: right.mean(),
    }[kind]()


def sigma_inverted(x, sigma):
    """A slip that is often copied: 0.5 x^2 / sigma^2 below 1 / sigma^2, and |x| - 0.5."""
    return torch.where(x.abs() < 1 / sigma**2, 0.5 * x * x / sigma**2, x.abs() - 0.5)


SMOOTH = Task(
    name="smooth_l1",
    function="smooth_l1",
    lesson="anchors/losses.py",
    oracle=lambda x, sigma: smooth_l1(x, beta=beta_from_sigma(sigma)),
    variant=smooth_variant,
    edges={
        "parabola": (torch.tensor([0.05]), 3.0),
        "line": (torch.tensor([1.0]), 3.0),
        "negative": (torch.tensor([-1.0]), 3.0),
        "between 1/9 and 1": (torch.tensor([0.5]), 3.0),
        "sigma 1": (torch.tensor([-2.0, -0.5, 0.0, 0.5, 2.0]), 1.0),
        "nothing": (torch.zeros(0), 3.0),
    },
    draw=lambda rng, size: (draw_tensor(rng, (size,), -2, 2, step=1 / 16), rng.choice([1.0, 2.0, 3.0])),
    mistakes={
        "sigma inverted": Mistake(
            "0.5 x^2 / sigma^2 and |x| - 0.5, as sometimes printed: with sigma 3 it jumps at 1/9 from +0.0007 to "
            "-0.389 and is negative up to 0.5. Right is 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2.",
            kind="inverted",
        ),
        "missing sigma": Mistake("the change point is always 1 (sigma 1). With sigma 3 it is 1/9.", kind="no sigma"),
        "sigma taken for beta": Mistake("the change point is beta = 1 / sigma^2.", kind="beta"),
        "the line without sigma": Mistake(
            "the line is |x| - 0.5 / sigma^2, so that it meets the parabola.", kind="line"
        ),
        "no absolute value": Mistake("negative x counts like positive x.", kind="signed"),
        "parabola everywhere": Mistake("beyond 1 / sigma^2 the loss is a line.", kind="l2"),
        "summed": Mistake("the answer has x's shape; sums come later.", kind="sum"),
        "averaged": Mistake("the answer has x's shape; means come later.", kind="mean"),
    },
)


def rpn_variant(
    objectness,
    deltas,
    labels,
    target_deltas,
    sigma,
    *,
    ignore=True,
    boxes="positives",
    divide="sampled",
    smooth="right",
):
    sampled, positive = labels >= 0, labels == 1
    counted = sampled if ignore else torch.ones_like(sampled)
    if not counted.any():
        return torch.tensor(0.0), torch.tensor(0.0)
    cls = F.binary_cross_entropy_with_logits(objectness[counted], positive[counted].float())
    chosen = {"positives": positive, "sampled": sampled}[boxes]
    terms = smooth_variant(deltas[chosen] - target_deltas[chosen], sigma, kind=smooth)
    count = {
        "sampled": int(sampled.sum()),
        "positives": max(int(positive.sum()), 1),
        "coordinates": max(terms.numel(), 1),
        "half": 128,
        "nothing": 1,
    }[divide]
    return cls, terms.sum() / count


def draw_rpn(rng, size):
    objectness, deltas = draw_tensor(rng, (size,), -2, 2), draw_tensor(rng, (size, 4), -1, 1)
    labels = torch.tensor([rng.choice([1, 0, -1]) for _ in range(size)])
    return objectness, deltas, labels, draw_tensor(rng, (size, 4), -1, 1), rng.choice([1.0, 3.0])


RPN_LOSS = Task(
    name="rpn_loss",
    function="rpn_loss",
    lesson="anchors/losses.py",
    oracle=lambda objectness, deltas, labels, target_deltas, sigma: rpn_loss(
        objectness, deltas, labels, target_deltas, beta=beta_from_sigma(sigma)
    ),
    variant=rpn_variant,
    edges={
        "positive, negative, ignored": (
            torch.zeros(3),
            torch.tensor([[1.0, 0, 0, 0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]]),
            torch.tensor([1, 0, -1]),
            torch.zeros(3, 4),
            3.0,
        ),
        "no positive": (torch.tensor([2.0, -1.0]), torch.ones(2, 4), torch.tensor([0, 0]), torch.zeros(2, 4), 3.0),
        "nothing sampled": (torch.tensor([2.0]), torch.ones(1, 4), torch.tensor([-1]), torch.zeros(1, 4), 3.0),
        "no anchor": (torch.zeros(0), torch.zeros(0, 4), NO_LABEL, torch.zeros(0, 4), 3.0),
    },
    draw=draw_rpn,
    mistakes={
        "ignored anchors counted": Mistake(
            "label -1 trains nothing: leave it out (ignore_index=-1 in F.cross_entropy).", ignore=False
        ),
        "boxes of negatives trained": Mistake("p* is 0 for a negative: only positives have a box.", boxes="sampled"),
        "divided by the positives": Mistake(
            "the sum over boxes is divided by the number of sampled anchors. Divided by the positives (18 in the "
            "worked example) and with lambda 10 the box loss weighs 133 times the paper's.",
            divide="positives",
        ),
        "mean over the coordinates": Mistake(
            "the sum runs over positives and their four deltas, then / sampled.", divide="coordinates"
        ),
        "N_reg 128": Mistake("N_reg is the number of sampled anchors (256 at most), not 128.", divide="half"),
        "not divided": Mistake("this is the sum; divide it by the number of sampled anchors.", divide="nothing"),
        "sigma inverted in smooth L1": Mistake(
            "0.5 x^2 / sigma^2 and |x| - 0.5: see the exercise smooth_l1.", smooth="inverted"
        ),
        "missing sigma": Mistake("smooth L1 changes at 1 / sigma^2, not at 1.", smooth="no sigma"),
    },
)


def detection_variant(
    class_logits, box_deltas, labels, target_deltas, sigma, *, which="own", background=False, divide="rois", beta=None
):
    if len(labels) == 0:
        return torch.tensor(0.0), torch.tensor(0.0)
    cls = F.cross_entropy(class_logits, labels)
    sets = box_deltas.reshape(len(labels), -1, 4)
    column = {"own": labels, "first": torch.zeros_like(labels), "one less": (labels - 1).clamp(min=0)}[which]
    chosen = torch.ones_like(labels, dtype=torch.bool) if background else labels > 0
    mine = sets[torch.arange(len(labels)), column][chosen]
    terms = smooth_l1(mine - target_deltas[chosen], beta=1 / sigma**2 if beta is None else beta)
    count = {"rois": len(labels), "foreground": max(int((labels > 0).sum()), 1), "coordinates": max(terms.numel(), 1)}
    return cls, terms.sum() / count[divide]


def draw_detection(rng, size):
    classes = rng.randint(2, 3)
    logits, deltas = draw_tensor(rng, (size, classes), -2, 2), draw_tensor(rng, (size, 4 * classes), -1, 1)
    labels = torch.tensor([rng.randrange(classes) for _ in range(size)])
    return logits, deltas, labels, draw_tensor(rng, (size, 4), -1, 1), rng.choice([1.0, 3.0])


OWN_OFF_BY_1 = torch.tensor([[9.0, 9, 9, 9, 1, 0, 0, 0]])
DETECTION_LOSS = Task(
    name="detection_loss",
    function="detection_loss",
    lesson="anchors/losses.py",
    oracle=lambda class_logits, box_deltas, labels, target_deltas, sigma: detection_loss(
        class_logits, box_deltas, labels, target_deltas, beta=beta_from_sigma(sigma)
    ),
    variant=detection_variant,
    edges={
        "one object": (torch.zeros(1, 2), OWN_OFF_BY_1, torch.tensor([1]), torch.zeros(1, 4), 1.0),
        "background alone": (torch.zeros(2, 3), torch.ones(2, 12), torch.tensor([0, 0]), torch.zeros(2, 4), 1.0),
        "no RoI": (torch.zeros(0, 2), torch.zeros(0, 8), NO_LABEL, torch.zeros(0, 4), 1.0),
    },
    draw=draw_detection,
    mistakes={
        "the first class's box": Mistake(
            "box_deltas holds four numbers for each class: take those of the label.", which="first"
        ),
        "one class off": Mistake(
            "class 0 is background and has its four numbers too: label c is columns 4c to 4c+3.", which="one less"
        ),
        "background has a box": Mistake("only foreground RoIs (label > 0) train boxes.", background=True),
        "divided by the foreground": Mistake("the box loss is divided by all R RoIs.", divide="foreground"),
        "mean over the coordinates": Mistake(
            "the sum over foreground and four deltas is divided by R.", divide="coordinates"
        ),
        "the RPN's sigma": Mistake("smooth L1 changes at 1 / sigma^2 of the argument, not at 1/9.", beta=1 / 9),
        "missing sigma": Mistake("smooth L1 changes at 1 / sigma^2, not at 1.", beta=1.0),
    },
)


def mask_oracle(mask_logits, labels, targets):
    foreground = labels > 0
    return mask_loss(mask_logits[foreground], labels[foreground], targets[foreground])


def mask_variant(mask_logits, labels, targets, *, background=False, loss="own", shift=0, reduce="mean", rounded=False):
    kept = labels >= 0 if background else labels > 0
    logits, own, truth = mask_logits[kept], labels[kept] + shift, targets[kept]
    if not len(own):
        return mask_logits.sum() * 0
    truth = (truth >= 0.5).to(truth.dtype) if rounded else truth
    rows = torch.arange(len(own))
    cells = {
        "own": lambda: F.binary_cross_entropy_with_logits(logits[rows, own], truth, reduction="none"),
        "all": lambda: F.binary_cross_entropy_with_logits(logits, truth[:, None].expand_as(logits), reduction="none"),
        "softmax": lambda: F.binary_cross_entropy(logits.softmax(dim=1)[rows, own], truth, reduction="none"),
        "squared": lambda: (logits[rows, own].sigmoid() - truth) ** 2,
    }[loss]()
    return {
        "mean": cells.mean,
        "sum": cells.sum,
        "all RoIs": lambda: cells.sum() / (len(labels) * truth[0].numel()),
        "object": lambda: cells[truth > 0].mean() if (truth > 0).any() else cells.sum() * 0,
    }[reduce]()


def mask_case(labels, targets, logits):
    """Each RoI has 1 x 2 cells; logits holds, for each RoI, the two cells of each class."""
    maps = torch.tensor(logits, dtype=torch.float32).reshape(len(labels), -1, 1, 2)
    return maps, torch.tensor(labels), torch.tensor(targets, dtype=torch.float32).reshape(len(labels), 1, 2)


def draw_masks(rng, size):
    count, num_classes, side = 1 + size // 2, 2 + size // 4, 1 + size // 4
    logits = draw_tensor(rng, (count, num_classes, side, side + 1), -2, 2)
    labels = torch.tensor([rng.randrange(num_classes) for _ in range(count)])
    return logits, labels, draw_tensor(rng, (count, side, side + 1), 0, 1)


MASK_LOSS = Task(
    name="mask_loss",
    function="mask_loss",
    lesson="anchors/mask.py",
    oracle=mask_oracle,
    variant=mask_variant,
    edges={
        "logits 0": mask_case([1], [[1, 0]], [[0, 0, 0, 0]]),
        "another class is sure": mask_case([1], [[1, 0]], [[8, -8, 0, 0]]),
        "a fraction at the object's edge": mask_case([1], [[1, 0.25]], [[0, 0, 2, -1]]),
        "a background RoI beside it": mask_case([0, 1], [[0, 0], [1, 0]], [[4, 4, 0, 0], [0, 0, 1, 1]]),
        "only background": mask_case([0], [[0, 0]], [[1, 1, 1, 1]]),
        "no RoI": (torch.zeros(0, 2, 2, 2), NO_LABEL, torch.zeros(0, 2, 2)),
    },
    draw=draw_masks,
    mistakes={
        "background has a mask": Mistake(
            "a RoI with label 0 has no object and no mask: leave it out.", background=True
        ),
        "all classes trained": Mistake(
            "only the map of the RoI's own class is trained; the maps of the other classes get no gradient.", loss="all"
        ),
        "softmax over the classes": Mistake(
            "each map has a sigmoid of its own, so that classes do not compete for a pixel (Mask R-CNN, table 2b).",
            loss="softmax",
        ),
        "classes counted from 0": Mistake(
            "map 0 is the background's; the map of class c is number c, not c - 1.", shift=-1
        ),
        "sum": Mistake("the loss is the mean over the foreground RoIs and their cells.", reduce="sum"),
        "divided by all RoIs": Mistake(
            "the mean runs over the foreground RoIs alone, unlike the box loss, which is divided by all.",
            reduce="all RoIs",
        ),
        "only the object's cells": Mistake(
            "cells outside the object count as well: else a mask of 1 everywhere is perfect.", reduce="object"
        ),
        "target rounded": Mistake(
            "the target is RoIAlign's fraction, as in torchvision (Detectron rounds it).", rounded=True
        ),
        "squared error": Mistake("the loss is the binary cross-entropy of the sigmoid.", loss="squared"),
    },
)
