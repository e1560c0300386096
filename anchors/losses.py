"""Losses: smooth L1, and the two pairs (which class, which box) of the RPN and of the head.

    smooth_l1(x) = x^2 / (2 beta)      if |x| < beta
                   |x| - beta / 2      otherwise                                   beta = 1 / sigma^2

Limits: at |x| = beta both lines give beta / 2 with slope 1: no step and no corner. Near 0 it is a parabola (a small
error pulls gently), far away a line (an outlier pulls with 1, not with its size). beta -> 0 is L1.

sigma belongs to the paper's code, not to the paper: 3 in the RPN (beta 1/9), 1 in the head (beta 1, Fast R-CNN Eq. 3).
Written with sigma: 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2. A common mistake is 0.5 x^2 / sigma^2 and |x| - 0.5, which
with sigma 3 jumps at 1/9 from +0.0007 to -0.389 and is negative up to x = 0.5.

    L = 1/N_cls * sum cross_entropy(p_i, p_i*)  +  lambda * 1/N_reg * sum p_i* smooth_l1(t_i - t_i*)

p_i and t_i are predicted, p_i* and t_i* are the truth. The first sum runs over the sampled anchors, the second over the
positives and their four deltas.

Place: Fast R-CNN Eq. 1 to 3, Faster R-CNN Eq. 1 (the line above).

Which lambda belongs to which N_reg (argument `normalizer`):
    "sampled"    lambda 1,  N_reg = sampled anchors, 256             1/256   = 0.0039   torchvision, paper's code
    "paper"      lambda 10, N_reg = anchor locations, about 2,400    10/2400 = 0.0042   the paper's text
    "positives"  lambda 10, N_reg = positives, 18 in the example     10/18   = 0.556    133 times the paper's

One logit or two: the paper's RPN gives an anchor two logits and a softmax, torchvision's one logit and a sigmoid.
softmax over (a, b) is sigmoid(b - a), so the loss is the same. Both shapes are accepted.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from anchors.arguments import check_count, check_labels, check_number, check_real, check_tensor

DEFAULT_LAMBDA = {"sampled": 1.0, "paper": 10.0, "positives": 10.0}


def beta_from_sigma(sigma: float) -> float:
    """The change point of smooth L1: sigma 3 -> 1/9, sigma 1 -> 1."""
    check_number(sigma, "sigma", low=1e-9)
    return 1 / sigma**2


def smooth_l1(x: Tensor, *, beta: float) -> Tensor:
    """Smooth L1 of each element of x, same shape. beta 0 is |x|. (Fast R-CNN Eq. 3 is beta 1)"""
    check_number(beta, "beta")
    distance = x.abs()
    if beta == 0:
        return distance
    return torch.where(distance < beta, 0.5 * x * x / beta, distance - 0.5 * beta)


def rpn_loss(
    objectness: Tensor,
    deltas: Tensor,
    anchor_labels: Tensor,
    target_deltas: Tensor,
    *,
    beta: float,
    normalizer: str = "sampled",
    lam: float | None = None,
    num_locations: int | None = None,
) -> tuple[Tensor, Tensor]:
    """(classification, box) losses, two scalars, of the sampled anchors.

    objectness [R] logits, or [R,2] logits of (background, object); deltas, target_deltas [R,4];
    anchor_labels [R] 1, 0, or -1 for anchors outside the sample. lam: None takes the normaliser's own.
    num_locations: H * W of the feature map (times the images), only for "paper".
    No sampled anchor, or no positive one: 0 with a gradient of 0. (Faster R-CNN Eq. 1)
    """
    two_logits = isinstance(objectness, Tensor) and objectness.ndim == 2
    check_tensor(objectness, "objectness", ("R", 2) if two_logits else ("R",))
    check_real(objectness, "objectness")
    check_labels(anchor_labels, "anchor_labels", len(objectness), "objectness")
    for value, name in ((deltas, "deltas"), (target_deltas, "target_deltas")):
        check_real(check_tensor(value, name, (len(objectness), 4)), name)
    if normalizer not in DEFAULT_LAMBDA:
        raise ValueError(f"normalizer: found {normalizer!r}, needed one of {', '.join(DEFAULT_LAMBDA)}")

    # positives first: the order in which torchvision adds, so that the sums agree to the last bit
    positive = (anchor_labels == 1).nonzero().squeeze(1)
    sampled = torch.cat((positive, (anchor_labels == 0).nonzero().squeeze(1)))
    if len(sampled) == 0:
        return objectness.sum() * 0, deltas.sum() * 0
    if two_logits:
        cls_loss = F.cross_entropy(objectness[sampled], anchor_labels[sampled])
    else:
        truth = anchor_labels[sampled].to(objectness.dtype)
        cls_loss = F.binary_cross_entropy_with_logits(objectness[sampled], truth)

    if normalizer == "paper":
        count = check_count(num_locations, "num_locations", low=1)
    else:
        count = len(sampled) if normalizer == "sampled" else max(len(positive), 1)
    weight = DEFAULT_LAMBDA[normalizer] if lam is None else check_number(lam, "lam")
    reg_loss = smooth_l1(deltas[positive] - target_deltas[positive], beta=beta).sum() / count
    return cls_loss, reg_loss * weight


def detection_loss(
    class_logits: Tensor, box_deltas: Tensor, labels: Tensor, target_deltas: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """(classification, box) losses, two scalars, of the sampled RoIs. (Fast R-CNN Eq. 1 to 3)

    class_logits [R,num_classes], class 0 is background; box_deltas [R,4*num_classes], of which only the
    four of the labelled class are trained; labels [R] int64; target_deltas [R,4]. Both are divided by R, so
    a batch with few foreground RoIs has a small box loss. beta: 1 in the paper (sigma 1), 1/9 in
    torchvision.
    """
    class_logits = check_tensor(class_logits, "class_logits", ("R", "num_classes"))
    check_real(class_logits, "class_logits")
    num_rois, num_classes = class_logits.shape
    check_real(check_tensor(box_deltas, "box_deltas", (num_rois, 4 * num_classes)), "box_deltas")
    check_real(check_tensor(target_deltas, "target_deltas", (num_rois, 4)), "target_deltas")
    why = f"class_logits has {num_classes} classes, background included"
    check_labels(labels, "labels", num_rois, "class_logits", within=(0, num_classes - 1), why=why)
    if num_rois == 0:
        return class_logits.sum() * 0, box_deltas.sum() * 0
    cls_loss = F.cross_entropy(class_logits, labels)
    foreground = (labels > 0).nonzero().squeeze(1)
    own_class = box_deltas.reshape(num_rois, num_classes, 4)[foreground, labels[foreground]]
    reg_loss = smooth_l1(own_class - target_deltas[foreground], beta=beta).sum() / num_rois
    return cls_loss, reg_loss


__test__ = {
    "tiny numbers": """
    sigma 3, beta 1/9: at 0.05 the parabola 0.05^2 / (2/9) = 0.01125, at 1 the line 1 - 1/18.

    >>> smooth_l1(torch.tensor([0.0, 0.05, 1.0, -1.0]), beta=beta_from_sigma(3))
    tensor([0.0000, 0.0113, 0.9444, 0.9444])

    One positive, one negative, one ignored anchor. Logits 0: ln 2. The positive misses by 1 in dx: (1 -
    1/18) / 2.

    >>> targets = torch.zeros(3, 4)
    >>> predicted = torch.tensor([[1.0, 0, 0, 0], [9.0, 9, 9, 9], [9.0, 9, 9, 9]])
    >>> rpn_loss(torch.zeros(3), predicted, torch.tensor([1, 0, -1]), targets, beta=1 / 9)
    (tensor(0.6931), tensor(0.4722))
    """
}
