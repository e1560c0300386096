"""Exercises on the head's training: the labels and targets of its RoIs, and its losses."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F

from anchors import losses
from anchors.boxes import box_iou
from anchors.deltas import HEAD_WEIGHTS, encode
from anchors.exercises.task import Case, Mistake, Task, boxes_of, draw_boxes, draw_tensor


def rois_variant(proposals, gt_boxes, gt_labels, *, add_gt=True, thresh=0.5, targets="deltas", strict=False):
    rois = torch.cat((proposals, gt_boxes)) if add_gt else proposals
    if len(gt_boxes) == 0 or len(rois) == 0:
        return rois, torch.zeros(len(rois), dtype=torch.int64), torch.zeros(len(rois), 4)
    best, gt = box_iou(gt_boxes, rois).max(dim=0)
    labels = torch.where(best > thresh if strict else best >= thresh, gt_labels[gt], 0)
    matched = gt_boxes[gt]
    found = {
        "deltas": lambda: encode(matched, rois, HEAD_WEIGHTS),
        "plain": lambda: encode(matched, rois),
        "corners": lambda: matched.clone(),
        "reversed": lambda: encode(rois, matched, HEAD_WEIGHTS),
    }[targets]()
    return rois, labels, found


def draw_rois(rng, size):
    num_gt = rng.randint(1, 1 + size // 3)
    return {
        "proposals": draw_boxes(rng, size, side=8),
        "gt_boxes": draw_boxes(rng, num_gt, side=8),
        "gt_labels": torch.tensor([rng.randint(1, 3) for _ in range(num_gt)]),
    }


LABEL_ROIS = Task(
    name="label_rois",
    function="label_rois",
    lesson="anchors/sampling.py",
    oracle=rois_variant,  # of box_iou and encode alone
    edges=[
        Case(
            "one far proposal",
            {
                "proposals": boxes_of([50, 50, 60, 60]),
                "gt_boxes": boxes_of([0, 0, 10, 10]),
                "gt_labels": torch.tensor([2]),
            },
        ),
        Case(
            "IoU exactly 0.5",
            {
                "proposals": boxes_of([0, 0, 10, 5]),
                "gt_boxes": boxes_of([0, 0, 10, 10]),
                "gt_labels": torch.tensor([1]),
            },
        ),
        Case(
            "no object",
            {
                "proposals": boxes_of([0, 0, 5, 5]),
                "gt_boxes": boxes_of(),
                "gt_labels": torch.zeros(0, dtype=torch.int64),
            },
        ),
        Case(
            "no proposal",
            {"proposals": boxes_of(), "gt_boxes": boxes_of([0, 0, 10, 10]), "gt_labels": torch.tensor([1])},
        ),
    ],
    draw=draw_rois,
    mistakes=[
        Mistake(
            "true boxes not added",
            "the true boxes join the proposals (as in the paper's code and torchvision): early in training no "
            "proposal comes near an object.",
            partial(rois_variant, add_gt=False),
        ),
        Mistake(
            "corners as targets",
            "t = [x1, y1, x2, y2] is a common slip; the targets are deltas of the object against the proposal.",
            partial(rois_variant, targets="corners"),
        ),
        Mistake(
            "weights left out",
            "the head's deltas are multiplied by (10, 10, 5, 5).",
            partial(rois_variant, targets="plain"),
        ),
        Mistake(
            "deltas backwards",
            "deltas lead from the proposal to the object.",
            partial(rois_variant, targets="reversed"),
        ),
        Mistake(
            "the RPN's threshold",
            "the head's foreground begins at IoU 0.5, not 0.7: proposals fit better than anchors.",
            partial(rois_variant, thresh=0.7),
        ),
        Mistake("above instead of at least", "IoU 0.5 is foreground.", partial(rois_variant, strict=True)),
    ],
)


def detection_oracle(class_logits, box_deltas, labels, target_deltas, sigma):
    return losses.detection_loss(class_logits, box_deltas, labels, target_deltas, beta=losses.beta_from_sigma(sigma))


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
    terms = losses.smooth_l1(mine - target_deltas[chosen], beta=1 / sigma**2 if beta is None else beta)
    count = {"rois": len(labels), "foreground": max(int((labels > 0).sum()), 1), "coordinates": max(terms.numel(), 1)}
    return cls, terms.sum() / count[divide]


def draw_detection(rng, size):
    classes = rng.randint(2, 3)
    return {
        "class_logits": draw_tensor(rng, (size, classes), -2, 2),
        "box_deltas": draw_tensor(rng, (size, 4 * classes), -1, 1),
        "labels": torch.tensor([rng.randrange(classes) for _ in range(size)]),
        "target_deltas": draw_tensor(rng, (size, 4), -1, 1),
        "sigma": rng.choice([1.0, 3.0]),
    }


DETECTION_LOSS = Task(
    name="detection_loss",
    function="detection_loss",
    lesson="anchors/losses.py",
    oracle=detection_oracle,
    edges=[
        Case(
            "one object",
            {
                "class_logits": torch.zeros(1, 2),
                "box_deltas": torch.tensor([[9.0, 9, 9, 9, 1, 0, 0, 0]]),
                "labels": torch.tensor([1]),
                "target_deltas": torch.zeros(1, 4),
                "sigma": 1.0,
            },
        ),
        Case(
            "background alone",
            {
                "class_logits": torch.zeros(2, 3),
                "box_deltas": torch.ones(2, 12),
                "labels": torch.tensor([0, 0]),
                "target_deltas": torch.zeros(2, 4),
                "sigma": 1.0,
            },
        ),
        Case(
            "no RoI",
            {
                "class_logits": torch.zeros(0, 2),
                "box_deltas": torch.zeros(0, 8),
                "labels": torch.zeros(0, dtype=torch.int64),
                "target_deltas": torch.zeros(0, 4),
                "sigma": 1.0,
            },
        ),
    ],
    draw=draw_detection,
    mistakes=[
        Mistake(
            "the first class's box",
            "box_deltas holds four numbers for each class: take those of the label.",
            partial(detection_variant, which="first"),
        ),
        Mistake(
            "one class off",
            "class 0 is background and has its four numbers too: label c is columns 4c to 4c+3.",
            partial(detection_variant, which="one less"),
        ),
        Mistake(
            "background has a box",
            "only foreground RoIs (label > 0) train boxes.",
            partial(detection_variant, background=True),
        ),
        Mistake(
            "divided by the foreground",
            "the box loss is divided by all R RoIs.",
            partial(detection_variant, divide="foreground"),
        ),
        Mistake(
            "mean over the coordinates",
            "the sum over foreground and four deltas is divided by R.",
            partial(detection_variant, divide="coordinates"),
        ),
        Mistake(
            "the RPN's sigma",
            "smooth L1 changes at 1 / sigma^2 of the argument, not at 1/9.",
            partial(detection_variant, beta=1 / 9),
        ),
        Mistake("missing sigma", "smooth L1 changes at 1 / sigma^2, not at 1.", partial(detection_variant, beta=1.0)),
    ],
)
