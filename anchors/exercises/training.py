"""Exercises on training: which anchors and RoIs train what, and the losses."""

from __future__ import annotations

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from anchors import losses, matching, sampling
from anchors.boxes import box_iou
from anchors.deltas import HEAD_WEIGHTS, encode
from anchors.exercises.task import Case, Mistake, Task, boxes_of, draw_boxes, draw_tensor


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
            "only IoU >= high_thresh is positive, as on the lecture's slide. The best anchor of each gt is positive "
            "too; in the lecture's own example all 18 positives come from that rule.",
            partial(match_variant, forced=False),
        ),
        Mistake(
            "only one best anchor",
            "argmax finds one anchor of a gt; all that tie with it are too (16 of 18 in the lecture's example).",
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
    shrinks=[(("iou", 0),), (("iou", 1),)],
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
            "the lecture's sample",
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
            "always num_samples * (1 - fraction) negatives, the slide's 128 + 128. Where positives are few, negatives "
            "take their place: 18 + 238 in the lecture's example.",
            partial(sample_variant, rule="halves"),
        ),
        Mistake(
            "times for minus",
            "num_samples * #positives negatives, a slip in copies of the lecture's notebook: it is a minus.",
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
    shrinks=[(("labels", 0),)],
)


def smooth_variant(x, sigma, *, kind):
    distance = x.abs()
    change = 1 / sigma**2
    if kind == "slide":
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
            "the slide's formula",
            "0.5 x^2 / sigma^2 and |x| - 0.5, as the lecture prints it: with sigma 3 it jumps at 1/9 from +.0007 to "
            "-.389 and is negative up to .5. Right is 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2.",
            partial(smooth_variant, kind="slide"),
        ),
        Mistake(
            "missing sigma",
            "the change point is always 1 (sigma 1), as in the lecture's notebook. With sigma 3 it is 1/9.",
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
    shrinks=[(("x", 0),)],
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
        "slide": 128,
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
            "label -1 trains nothing: mask it (ignore_index=-1). The slide's F.cross_entropy(score, label) has it in.",
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
            "lecture's example) and with lambda 10 the box loss weighs 133 times the paper's.",
            partial(rpn_variant, divide="positives"),
        ),
        Mistake(
            "mean over the coordinates",
            "the sum runs over positives and their four deltas, then / sampled.",
            partial(rpn_variant, divide="coordinates"),
        ),
        Mistake(
            "N_reg 128",
            "the slide's N_reg = 128; the sampled anchors are what is counted.",
            partial(rpn_variant, divide="slide"),
        ),
        Mistake(
            "not divided",
            "the notebook prints the sum; divide it by the number of sampled anchors.",
            partial(rpn_variant, divide="nothing"),
        ),
        Mistake(
            "the slide's smooth L1",
            "0.5 x^2 / sigma^2 and |x| - 0.5: see the exercise smooth_l1.",
            partial(rpn_variant, smooth=partial(smooth_variant, kind="slide")),
        ),
        Mistake(
            "missing sigma",
            "smooth L1 changes at 1 / sigma^2, not at 1.",
            partial(rpn_variant, smooth=partial(smooth_variant, kind="no sigma")),
        ),
    ],
    shrinks=[(("objectness", 0), ("deltas", 0), ("labels", 0), ("target_deltas", 0))],
)


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
            "IoU exactly .5",
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
            "proposal comes near an object. The lecture's notebook leaves them out.",
            partial(rois_variant, add_gt=False),
        ),
        Mistake(
            "corners as targets",
            "t = [x1, y1, x2, y2] is what the slide says; the targets are deltas of the object against the proposal.",
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
            "the head's foreground begins at IoU .5, not .7: proposals fit better than anchors.",
            partial(rois_variant, thresh=0.7),
        ),
        Mistake("above instead of at least", "IoU .5 is foreground.", partial(rois_variant, strict=True)),
    ],
    shrinks=[(("proposals", 0),), (("gt_boxes", 0), ("gt_labels", 0))],
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
    shrinks=[(("class_logits", 0), ("box_deltas", 0), ("labels", 0), ("target_deltas", 0))],
)
