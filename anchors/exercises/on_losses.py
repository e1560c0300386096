"""Exercises on losses: smooth L1, and those of the RPN, the box head and the mask head."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from anchors.exercises.task import Task, draw_tensor
from anchors.losses import beta_from_sigma, detection_loss, rpn_loss, smooth_l1
from anchors.mask import mask_loss

NO_LABEL = torch.zeros(0, dtype=torch.int64)


def smooth_variant(x, sigma, *, mistake=""):
    distance, change = x.abs(), 1 / sigma**2
    parabola = 0.5 * sigma**2 * x * x
    right = torch.where(distance < change, parabola, distance - 0.5 * change)
    return {
        "sigma inverted": lambda: sigma_inverted(x, sigma),
        "missing sigma": lambda: smooth_l1(x, beta=1),
        "sigma taken for beta": lambda: smooth_l1(x, beta=sigma),
        "the line without sigma": lambda: torch.where(distance < change, parabola, distance - 0.5),
        "no absolute value": lambda: torch.where(x < change, parabola, x - 0.5 * change),
        "parabola everywhere": lambda: parabola,
        "summed": lambda: right.sum(),
        "averaged": lambda: right.mean(),
    }.get(mistake, lambda: right)()


def sigma_inverted(x, sigma):
    """Smooth L1 with a mistake that is often copied: 0.5 x^2 / sigma^2 below 1 / sigma^2, and |x| - 0.5."""
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
        "sigma inverted": (
            "The formula here is 0.5 x^2 / sigma^2 and |x| - 0.5, as sometimes printed: with sigma 3 it jumps at 1/9 "
            "from +0.0007 to -0.389 and is negative up to 0.5. Right is 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2."
        ),
        "missing sigma": "The change point is always 1 (sigma 1). With sigma 3 it is 1/9.",
        "sigma taken for beta": "The change point is beta = 1 / sigma^2.",
        "the line without sigma": "The line is |x| - 0.5 / sigma^2, so that it meets the parabola.",
        "no absolute value": "Negative x counts like positive x.",
        "parabola everywhere": "Beyond 1 / sigma^2 the loss is a line.",
        "summed": "The answer has x's shape; sums come later.",
        "averaged": "The answer has x's shape; means come later.",
    },
)


def rpn_variant(objectness, deltas, labels, target_deltas, sigma, *, mistake=""):
    sampled, positive = labels >= 0, labels == 1
    counted = torch.ones_like(sampled) if mistake == "ignored anchors counted" else sampled
    if not counted.any():
        return torch.tensor(0.0), torch.tensor(0.0)
    cls = F.binary_cross_entropy_with_logits(objectness[counted], positive[counted].float())
    chosen = sampled if mistake == "boxes of negatives trained" else positive
    slip = "sigma inverted" if mistake == "sigma inverted in smooth L1" else mistake
    terms = smooth_variant(deltas[chosen] - target_deltas[chosen], sigma, mistake=slip)
    count = {
        "divided by the positives": max(int(positive.sum()), 1),
        "mean over the coordinates": max(terms.numel(), 1),
        "N_reg 128": 128,
        "not divided": 1,
    }.get(mistake, int(sampled.sum()))
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
        "ignored anchors counted": "Label -1 trains nothing: leave it out (ignore_index=-1 in F.cross_entropy).",
        "boxes of negatives trained": "p* is 0 for a negative: only positives have a box.",
        "divided by the positives": (
            "The sum over boxes is divided by the number of sampled anchors. Divided by the positives (18 in the "
            "worked example) and with lambda 10 the box loss weighs 133 times the paper's."
        ),
        "mean over the coordinates": "The sum runs over positives and their four deltas, then / sampled.",
        "N_reg 128": "N_reg is the number of sampled anchors (256 at most), not 128.",
        "not divided": "This is the sum: divide it by the number of sampled anchors.",
        "sigma inverted in smooth L1": "Smooth L1 is 0.5 x^2 / sigma^2 and |x| - 0.5 here: see the exercise smooth_l1.",
        "missing sigma": "Smooth L1 changes at 1 / sigma^2, not at 1.",
    },
)


def detection_variant(class_logits, box_deltas, labels, target_deltas, sigma, *, mistake=""):
    if len(labels) == 0:
        return torch.tensor(0.0), torch.tensor(0.0)
    foreground = labels > 0
    chosen = torch.ones_like(foreground) if mistake == "background has a box" else foreground
    own = {"the first class's box": 0 * labels, "one class off": (labels - 1).clamp(min=0)}.get(mistake, labels)
    deltas = box_deltas.reshape(len(labels), -1, 4)[torch.arange(len(labels)), own]
    beta = {"the RPN's sigma": 1 / 9, "missing sigma": 1}.get(mistake, 1 / sigma**2)
    terms = smooth_l1(deltas[chosen] - target_deltas[chosen], beta=beta)
    count = {
        "divided by the foreground": max(int(foreground.sum()), 1),
        "mean over the coordinates": max(terms.numel(), 1),
    }.get(mistake, len(labels))
    return F.cross_entropy(class_logits, labels), terms.sum() / count


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
        "the first class's box": "box_deltas holds four numbers for each class: take those of the label.",
        "one class off": "Class 0 is background and has its four numbers too: label c is columns 4c to 4c+3.",
        "background has a box": "Only foreground RoIs (label > 0) train boxes.",
        "divided by the foreground": "The box loss is divided by all R RoIs.",
        "mean over the coordinates": "The sum over foreground and four deltas is divided by R.",
        "the RPN's sigma": "Smooth L1 changes at 1 / sigma^2 of the argument, not at 1/9.",
        "missing sigma": "Smooth L1 changes at 1 / sigma^2, not at 1.",
    },
)


def mask_oracle(mask_logits, labels, targets):
    foreground = labels > 0
    return mask_loss(mask_logits[foreground], labels[foreground], targets[foreground])


def mask_variant(mask_logits, labels, targets, *, mistake=""):
    kept = labels >= 0 if mistake == "background has a mask" else labels > 0
    logits, own, truth = mask_logits[kept], labels[kept], targets[kept]
    if not len(own):
        return mask_logits.sum() * 0
    if mistake == "classes counted from 0":
        own = own - 1
    if mistake == "target rounded":
        truth = (truth >= 0.5).float()
    mine = logits[torch.arange(len(own)), own]
    cells = F.binary_cross_entropy_with_logits(mine, truth, reduction="none")
    if mistake == "all classes trained":
        cells = F.binary_cross_entropy_with_logits(logits, truth[:, None].expand_as(logits), reduction="none")
    if mistake == "softmax over the classes":
        chance = logits.softmax(dim=1)[torch.arange(len(own)), own]
        cells = F.binary_cross_entropy(chance, truth, reduction="none")
    if mistake == "squared error":
        cells = (mine.sigmoid() - truth) ** 2
    if mistake == "only the object's cells":
        cells = cells[truth > 0] if (truth > 0).any() else 0 * cells
    if mistake == "divided by all RoIs":
        return cells.sum() / (len(labels) * truth[0].numel())
    return cells.sum() if mistake == "sum" else cells.mean()


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
        "background has a mask": "A RoI with label 0 has no object and no mask: leave it out.",
        "all classes trained": (
            "Only the map of the RoI's own class is trained; the maps of the other classes get no gradient."
        ),
        "softmax over the classes": (
            "Each map has a sigmoid of its own, so that classes do not compete for a pixel (Mask R-CNN, table 2b)."
        ),
        "classes counted from 0": "Map 0 is the background's; the map of class c is number c, not c - 1.",
        "sum": "The loss is the mean over the foreground RoIs and their cells.",
        "divided by all RoIs": (
            "The mean runs over the foreground RoIs alone, unlike the box loss, which is divided by all."
        ),
        "only the object's cells": "Cells outside the object count as well: else a mask of 1 everywhere is perfect.",
        "target rounded": "The target is RoIAlign's fraction, as in torchvision (Detectron rounds it).",
        "squared error": "The loss is the binary cross-entropy of the sigmoid.",
    },
)
