"""Smooth L1 and the two pairs of losses: by hand, against torch and torchvision."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import fastrcnn_loss
from torchvision.models.detection.rpn import RegionProposalNetwork

from anchors.exercises.on_losses import sigma_inverted
from anchors.losses import beta_from_sigma, detection_loss, rpn_loss, smooth_l1

torch.set_num_threads(1)


@pytest.mark.parametrize("sigma", [1, 2, 3, 0.5])
def test_smooth_l1_equals_torch_in_float64(sigma):
    x = torch.linspace(-5, 5, 2001, dtype=torch.float64)
    theirs = F.smooth_l1_loss(x, torch.zeros_like(x), beta=1 / sigma**2, reduction="none")
    assert (smooth_l1(x, beta=beta_from_sigma(sigma)) - theirs).abs().max() <= 1e-16


@pytest.mark.parametrize("beta", [1 / 9, 1.0, 4.0])
def test_smooth_l1_has_no_step_and_no_corner_at_beta(beta):
    edge = torch.tensor([beta - 1e-9, beta + 1e-9], dtype=torch.float64, requires_grad=True)
    values = smooth_l1(edge, beta=beta)
    assert values.tolist() == pytest.approx([beta / 2, beta / 2], abs=1e-8)
    (slopes,) = torch.autograd.grad(values.sum(), edge)
    assert slopes.tolist() == pytest.approx([1, 1], abs=1e-7)


def test_smooth_l1_gradcheck_and_beta_0():
    x = torch.tensor([-2.0, -0.05, 0.07, 3.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda v: smooth_l1(v, beta=1 / 9), (x,))
    assert torch.equal(smooth_l1(x, beta=0), x.abs())


def test_the_slip_in_smooth_l1_jumps_and_is_negative():
    # 0.5 x^2 / sigma^2 below 1 / sigma^2, else |x| - 0.5; with sigma 3 it jumps from +0.0007 to -0.389
    x = torch.tensor([1 / 9 - 1e-6, 1 / 9 + 1e-6, 0.3, 0.49], dtype=torch.float64)
    printed = sigma_inverted(x, 3)
    assert printed[0] == pytest.approx(0.5 / 81 / 9, abs=1e-7)
    assert printed[1] == pytest.approx(1 / 9 - 0.5, abs=1e-5)
    assert bool((printed[1:] < 0).all())
    right = smooth_l1(x, beta=1 / 9)
    assert abs(float(right[0] - right[1])) < 1e-5
    assert bool((right > 0).all())


def rpn_case(seed=0, count=400, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    objectness = torch.randn(count, generator=generator, dtype=dtype)
    deltas = torch.randn(count, 4, generator=generator, dtype=dtype)
    targets = torch.randn(count, 4, generator=generator, dtype=dtype)
    labels = torch.randint(-1, 2, (count,), generator=generator)
    return objectness, deltas, labels, targets


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rpn_loss_equals_torchvision(dtype):
    class Network(RegionProposalNetwork):  # compute_loss alone: sampler, nothing else
        def __init__(self):
            torch.nn.Module.__init__(self)
            self.fg_bg_sampler = BalancedPositiveNegativeSampler(10_000, 1.0)  # takes everything: no draw

    objectness, deltas, labels, targets = rpn_case(dtype=dtype)
    theirs = Network().compute_loss(objectness[:, None], deltas, [labels.to(dtype)], [targets])
    ours = rpn_loss(objectness, deltas, labels, targets, beta=1 / 9)
    assert [a.item() - b.item() for a, b in zip(ours, theirs)] == [0.0, 0.0]
    # the sigma matters: with the head's it is another number
    assert abs(rpn_loss(objectness, deltas, labels, targets, beta=1.0)[1] - theirs[1]) > 0.1


def test_two_logits_or_one():
    objectness, deltas, labels, targets = rpn_case(dtype=torch.float64)
    one = rpn_loss(objectness, deltas, labels, targets, beta=1 / 9)[0]
    background = torch.randn(len(objectness), dtype=torch.float64, generator=torch.Generator().manual_seed(5))
    two = torch.stack((background, background + objectness), dim=1)  # only the difference counts
    assert abs(rpn_loss(two, deltas, labels, targets, beta=1 / 9)[0] - one) < 1e-12


def test_the_three_normalisers():
    # 256 sampled, 18 of them positive, each wrong by 2 in dx alone: 18 * (2 - 1/18) summed
    labels = torch.tensor([1] * 18 + [0] * 238 + [-1] * 100)
    deltas = torch.zeros(356, 4)
    deltas[:, 0] = 2
    case = (torch.zeros(356), deltas, labels, torch.zeros(356, 4))
    total = 18 * (2 - 1 / 18)
    sampled = rpn_loss(*case, beta=1 / 9)[1].item()
    paper = rpn_loss(*case, beta=1 / 9, normalizer="paper", num_locations=2400)[1].item()
    positives = rpn_loss(*case, beta=1 / 9, normalizer="positives")[1].item()
    assert sampled == pytest.approx(total / 256)
    assert paper == pytest.approx(total * 10 / 2400)
    assert positives == pytest.approx(total * 10 / 18)
    assert paper / sampled == pytest.approx((10 / 2400) / (1 / 256))
    assert positives / paper == pytest.approx(133.3, abs=0.1)
    assert rpn_loss(*case, beta=1 / 9, normalizer="positives", lam=1)[1].item() == pytest.approx(total / 18)
    # logits 0: ln 2 whatever the label
    assert rpn_loss(*case, beta=1 / 9)[0].item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("labels", [[0, 0, 0], [-1, -1, -1]])
@pytest.mark.parametrize("normalizer", ["sampled", "positives"])
def test_no_positive_or_no_sample_is_0_with_a_gradient(labels, normalizer):
    objectness = torch.ones(3, requires_grad=True)
    deltas = torch.ones(3, 4, requires_grad=True)
    losses = rpn_loss(objectness, deltas, torch.tensor(labels), torch.zeros(3, 4), beta=1 / 9, normalizer=normalizer)
    assert losses[1].item() == 0
    sum(losses).backward()
    assert torch.equal(deltas.grad, torch.zeros(3, 4))


def head_case(dtype=torch.float32, num_rois=60, num_classes=5):
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(num_rois, num_classes, generator=generator, dtype=dtype)
    deltas = torch.randn(num_rois, 4 * num_classes, generator=generator, dtype=dtype)
    labels = torch.randint(0, num_classes, (num_rois,), generator=generator)
    return logits, deltas, labels, torch.randn(num_rois, 4, generator=generator, dtype=dtype)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_detection_loss_equals_torchvision_at_its_beta(dtype):
    logits, deltas, labels, targets = head_case(dtype)
    theirs = fastrcnn_loss(logits, deltas, [labels], [targets])
    ours = detection_loss(logits, deltas, labels, targets, beta=beta_from_sigma(3))
    assert [a.item() - b.item() for a, b in zip(ours, theirs)] == [0.0, 0.0]
    paper = detection_loss(logits, deltas, labels, targets, beta=1.0)[1]
    assert paper < theirs[1] - 0.1


def test_only_the_labelled_classes_deltas_are_trained_and_no_background():
    logits, deltas, labels, targets = head_case()
    deltas.requires_grad_()
    detection_loss(logits, deltas, labels, targets, beta=1.0)[1].backward()
    touched = deltas.grad.reshape(60, 5, 4).abs().sum(2) > 0
    own = torch.nn.functional.one_hot(labels, 5).bool()
    own[:, 0] = False
    assert torch.equal(touched, own)


def test_detection_loss_by_hand_and_without_foreground():
    # two RoIs, logits equal over 3 classes: ln 3. One foreground, off by 1 in dw: (1 - 0.5) / 2
    deltas = torch.zeros(2, 12)
    deltas[0, 2 * 4 + 2] = 1
    labels = torch.tensor([2, 0])
    cls_loss, reg_loss = detection_loss(torch.zeros(2, 3), deltas, labels, torch.zeros(2, 4), beta=1.0)
    assert cls_loss.item() == pytest.approx(math.log(3))
    assert reg_loss.item() == pytest.approx(0.25)
    nothing = detection_loss(torch.zeros(2, 3), deltas, torch.zeros(2).long(), torch.zeros(2, 4), beta=1.0)
    assert nothing[1].item() == 0


def test_gradchecks():
    objectness, deltas, labels, targets = rpn_case(count=6, dtype=torch.float64)
    objectness.requires_grad_(), deltas.requires_grad_()
    assert torch.autograd.gradcheck(lambda o, d: rpn_loss(o, d, labels, targets, beta=1 / 9), (objectness, deltas))
    logits, deltas, labels, targets = head_case(torch.float64, num_rois=5, num_classes=3)
    logits.requires_grad_(), deltas.requires_grad_()
    assert torch.autograd.gradcheck(lambda o, d: detection_loss(o, d, labels, targets, beta=1.0), (logits, deltas))


def test_empty():
    none = torch.zeros(0, 4)
    no_labels = torch.zeros(0, dtype=torch.int64)
    assert [v.item() for v in rpn_loss(torch.zeros(0), none, no_labels, none, beta=1.0)] == [0, 0]
    empty = detection_loss(torch.zeros(0, 3), torch.zeros(0, 12), no_labels, none, beta=1.0)
    assert [v.item() for v in empty] == [0, 0]
    assert smooth_l1(torch.zeros(0), beta=1.0).shape == (0,)


def test_bad_input_is_named():
    objectness, deltas, labels, targets = rpn_case(count=3)
    with pytest.raises(ValueError, match=r"^beta: found -1"):
        smooth_l1(deltas, beta=-1)
    with pytest.raises(ValueError, match=r"^sigma: found 0"):
        beta_from_sigma(0)
    with pytest.raises(ValueError, match=r"^objectness: found shape \[3, 3\], needed \[R\]|\[R, 2\]"):
        rpn_loss(torch.zeros(3, 3), deltas, labels, targets, beta=1.0)
    with pytest.raises(ValueError, match=r"^objectness: found nan"):
        rpn_loss(objectness * float("nan"), deltas, labels, targets, beta=1.0)
    with pytest.raises(ValueError, match=r"^anchor_labels: found dtype torch.float32, needed int64"):
        rpn_loss(objectness, deltas, labels.float(), targets, beta=1.0)
    with pytest.raises(ValueError, match=r"^target_deltas: found shape \[2, 4\], needed \[3, 4\]"):
        rpn_loss(objectness, deltas, labels, targets[:2], beta=1.0)
    with pytest.raises(ValueError, match=r"^normalizer: found 'mean', needed one of sampled, paper, positives"):
        rpn_loss(objectness, deltas, labels, targets, beta=1.0, normalizer="mean")
    with pytest.raises(ValueError, match=r"^num_locations: found None, needed a whole number, 1 or more"):
        rpn_loss(objectness, deltas, labels, targets, beta=1.0, normalizer="paper")
    logits, deltas, labels, targets = head_case()
    for bad, found in ((5, "0 to 5"), (-1, "-1 to 0")):
        wrong = torch.zeros_like(labels).index_fill(0, torch.tensor([0]), bad)
        with pytest.raises(ValueError, match=rf"^labels: found {found}, needed 0 to 4 \(class_logits has 5 classes"):
            detection_loss(logits, deltas, wrong, targets, beta=1.0)
    with pytest.raises(ValueError, match=r"^box_deltas: found shape \[60, 4\], needed \[60, 20\]"):
        detection_loss(logits, deltas[:, :4], labels, targets, beta=1.0)
