"""Matching: detectron2's golden case, torchvision's Matcher, the worked example's two boxes."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection._utils import Matcher

from anchors.boxes import box_iou
from anchors.grid import generate_cell_anchors, grid_anchors, inside_image
from anchors.matching import match_anchors, to_matched_idxs
from anchors.sampling import sample_labels

torch.set_num_threads(1)
RPN = dict(high_thresh=0.7, low_thresh=0.3, low_quality=True)
HEAD = dict(high_thresh=0.5, low_thresh=0.5, low_quality=False)


def test_detectron2s_golden_case():
    iou = torch.tensor([[0.15, 0.45, 0.2, 0.6], [0.3, 0.65, 0.05, 0.1], [0.05, 0.4, 0.25, 0.4]])
    gt_idxs, labels = match_anchors(iou, **RPN)
    assert gt_idxs.tolist() == [1, 1, 2, 0]
    assert labels.tolist() == [-1, 1, 0, 1]


def test_the_best_anchor_is_positive_even_below_the_low_threshold():
    # gt 1's best anchor has 0.2, below 0.3: negatives assigned last would lose it
    gt_idxs, labels = match_anchors(torch.tensor([[0.8, 0.1], [0.0, 0.2]]), **RPN)
    assert labels.tolist() == [1, 1]
    assert gt_idxs.tolist() == [0, 1]


def test_the_target_is_the_anchors_own_best_gt():
    # anchor 0 is the best of gt 1 (0.4), but fits gt 0 better (0.5): positive, with target gt 0
    gt_idxs, labels = match_anchors(torch.tensor([[0.5, 0.9], [0.4, 0.1]]), **RPN)
    assert labels.tolist() == [1, 1]
    assert gt_idxs.tolist() == [0, 0]


def test_a_gt_that_no_anchor_touches_makes_none_positive_unless_told_so():
    iou = torch.tensor([[0.9, 0.0, 0.1], [0.0, 0.0, 0.0]])
    assert match_anchors(iou, **RPN)[1].tolist() == [1, 0, 0]
    assert match_anchors(iou, **RPN, force_zero_iou=True)[1].tolist() == [1, 1, 1]


def test_at_least_or_above():
    iou = torch.tensor([[0.5, 0.75, 0.25]], dtype=torch.float64)
    options = dict(high_thresh=0.75, low_thresh=0.25, low_quality=False)
    assert match_anchors(iou, **options)[1].tolist() == [-1, 1, -1]
    assert match_anchors(iou, **options, strict=True)[1].tolist() == [-1, -1, -1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("options", [RPN, HEAD, dict(high_thresh=0.6, low_thresh=0.1, low_quality=True)])
def test_equal_to_torchvision(options, dtype):
    generator = torch.Generator().manual_seed(0)
    theirs = Matcher(options["high_thresh"], options["low_thresh"], options["low_quality"])
    for num_gt in (1, 2, 7):
        for _ in range(40):
            iou = torch.rand(num_gt, 30, generator=generator, dtype=dtype)
            iou[torch.rand(num_gt, 30, generator=generator) < 0.5] = 0
            iou = (iou * 20).round() / 20  # ties, and values on the thresholds
            ours = to_matched_idxs(*match_anchors(iou, **options, force_zero_iou=True))
            assert torch.equal(ours, theirs(iou))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_two_boxes_of_the_worked_example(dtype):
    anchors = grid_anchors(generate_cell_anchors([128, 256, 512], [0.5, 1, 2], dtype=dtype), (50, 50), 16)
    inside = anchors[inside_image(anchors, (800, 800))]
    gt_boxes = torch.tensor([[30, 20, 500, 400], [400, 300, 600, 500]], dtype=dtype)
    iou = box_iou(gt_boxes, inside)
    best = iou.max(dim=1)
    torch.testing.assert_close(best.values, torch.tensor([0.681304932, 0.610351562], dtype=dtype), rtol=0, atol=1e-6)
    assert best.indices.tolist() == [2262, 4096]

    _, labels = match_anchors(iou, **RPN)
    assert [int((labels == value).sum()) for value in (1, 0, -1)] == [18, 7_690, 1_232]
    assert int((iou >= 0.7).sum()) == 0  # every positive is the best of its gt
    ties = (iou == best.values[:, None]).sum(dim=1)
    assert ties.tolist() == [2, 16]  # without the ties there would be 2 positives
    positive, negative = sample_labels(labels, num_samples=256, positive_fraction=0.5)
    assert (len(positive), len(negative)) == (18, 238)

    # looping over x outside and y inside lists the same anchors in another order: the published 2262, 5620
    x_outer = anchors.reshape(50, 50, 9, 4).transpose(0, 1).reshape(-1, 4)
    x_outer = x_outer[inside_image(x_outer, (800, 800))]
    assert box_iou(gt_boxes, x_outer).argmax(dim=1).tolist() == [2262, 5620]


def test_no_gt_and_no_anchor():
    gt_idxs, labels = match_anchors(torch.zeros(0, 5), **RPN)
    assert gt_idxs.tolist() == labels.tolist() == [0] * 5
    assert match_anchors(torch.zeros(3, 0), **RPN)[1].shape == (0,)
    assert to_matched_idxs(gt_idxs, labels).tolist() == [-1] * 5


def test_bad_input_is_named():
    iou = torch.zeros(1, 2)
    with pytest.raises(ValueError, match=r"^iou: found shape \[2\], needed \[M, N\]"):
        match_anchors(torch.zeros(2), **RPN)
    with pytest.raises(ValueError, match=r"^iou: found .*nan"):
        match_anchors(iou * float("nan"), **RPN)
    with pytest.raises(ValueError, match=r"^high_thresh: found 1.5, needed a number in \[0, 1\]"):
        match_anchors(iou, high_thresh=1.5, low_thresh=0.3, low_quality=True)
    with pytest.raises(ValueError, match=r"^low_thresh: found 0.8, needed a number in \[0, 0.7\]"):
        match_anchors(iou, high_thresh=0.7, low_thresh=0.8, low_quality=True)
    with pytest.raises(ValueError, match=r"^low_thresh: found -0.1"):
        match_anchors(iou, high_thresh=0.7, low_thresh=-0.1, low_quality=True)
