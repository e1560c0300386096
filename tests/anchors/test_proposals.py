"""propose and postprocess: by hand, and against torchvision's filter_proposals and postprocess_detections."""

from __future__ import annotations

import pytest
import torch
from torchvision.models.detection.roi_heads import RoIHeads
from torchvision.models.detection.rpn import RegionProposalNetwork

from anchors.deltas import decode
from anchors.grid import generate_cell_anchors, grid_anchors
from anchors.postprocess import postprocess
from anchors.proposals import candidates, propose

torch.set_num_threads(1)
PAPER = dict(num_pre_nms=12_000, num_post_nms=2_000, nms_thresh=0.7, min_size=16)


def large_case(seed):
    generator = torch.Generator().manual_seed(seed)
    anchors = grid_anchors(generate_cell_anchors([128, 256, 512], [0.5, 1, 2]), (50, 50), 16)
    deltas = torch.randn(len(anchors), 4, generator=generator) * 0.3
    return anchors, deltas, torch.randn(len(anchors), generator=generator)


@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_filter_proposals(seed):
    anchors, deltas, logits = large_case(seed)
    rpn = RegionProposalNetwork(
        None, None, 0.7, 0.3, 256, 0.5, dict(training=2000, testing=1000), dict(training=2000, testing=300), 0.7
    )
    decoded = decode(deltas, anchors).reshape(1, -1, 4)
    for training in (True, False):
        rpn.train(training)
        theirs = rpn.filter_proposals(decoded, logits[None], [(800, 780)], [len(anchors)])
        ours = propose(
            anchors,
            deltas,
            logits,
            (800, 780),
            num_pre_nms=2000 if training else 1000,
            num_post_nms=2000 if training else 300,
            nms_thresh=0.7,
            min_size=1e-3,
            filter_first=False,
        )
        assert torch.equal(ours[0], theirs[0][0])
        torch.testing.assert_close(ours[1].sigmoid(), theirs[1][0], rtol=1e-6, atol=0)


def test_from_22500_to_2000():
    anchors, deltas, scores = large_case(2)
    before = candidates(anchors, deltas, scores, (800, 800), num_pre_nms=12_000, min_size=16)
    assert len(before.boxes) == 12_000
    assert torch.equal(scores[before.anchor_idxs], before.scores)
    assert bool((before.scores.diff() <= 0).all())
    boxes, kept_scores = propose(anchors, deltas, scores, (800, 800), **PAPER)
    assert len(boxes) == len(kept_scores) == 2_000
    assert bool((boxes >= 0).all()) and bool((boxes <= 800).all())
    assert bool((boxes[:, 2:] - boxes[:, :2] >= 16).all())


def test_filtering_before_or_after_the_best_are_taken():
    # the best anchor is a sliver once clipped: the paper drops it first and takes the next, torchvision does not
    anchors = torch.tensor([[38.0, 0, 58, 20], [0, 0, 20, 20], [20, 20, 39, 39]])
    scores = torch.tensor([0.9, 0.8, 0.7])
    options = dict(num_pre_nms=1, num_post_nms=5, nms_thresh=0.7, min_size=16)
    assert len(propose(anchors, torch.zeros(3, 4), scores, (40, 40), **options)[0]) == 1
    assert len(propose(anchors, torch.zeros(3, 4), scores, (40, 40), filter_first=False, **options)[0]) == 0


def test_no_gradient_and_nothing_left():
    anchors = torch.tensor([[0.0, 0, 20, 20]])
    deltas = torch.zeros(1, 4, requires_grad=True)
    boxes, scores = propose(anchors, deltas, torch.ones(1, requires_grad=True), (40, 40), **PAPER)
    assert not boxes.requires_grad and not scores.requires_grad
    boxes, scores = propose(anchors, deltas, torch.ones(1), (10, 10), **PAPER)
    assert boxes.shape == (0, 4) and scores.shape == (0,)
    boxes, _ = propose(torch.zeros(0, 4), torch.zeros(0, 4), torch.zeros(0), (40, 40), **PAPER)
    assert boxes.shape == (0, 4)


def test_propose_names_bad_input():
    anchors, deltas, scores = torch.tensor([[0.0, 0, 9, 9]]), torch.zeros(1, 4), torch.ones(1)
    with pytest.raises(ValueError, match=r"^deltas: found shape \[1, 8\], needed \[1, 4\]"):
        propose(anchors, torch.zeros(1, 8), scores, (40, 40), **PAPER)
    with pytest.raises(ValueError, match=r"^deltas: found .*nan"):
        propose(anchors, deltas * float("nan"), scores, (40, 40), **PAPER)
    with pytest.raises(ValueError, match=r"^scores: found 2 entries, needed 1, one for each of anchors"):
        propose(anchors, deltas, torch.ones(2), (40, 40), **PAPER)
    with pytest.raises(ValueError, match=r"^image_size: found \(40,\)"):
        propose(anchors, deltas, scores, (40,), **PAPER)
    with pytest.raises(ValueError, match=r"^num_pre_nms: found -1"):
        propose(anchors, deltas, scores, (40, 40), **{**PAPER, "num_pre_nms": -1})
    with pytest.raises(ValueError, match=r"^min_size: found -16"):
        propose(anchors, deltas, scores, (40, 40), **{**PAPER, "min_size": -16})


WEIGHTS = (10.0, 10.0, 5.0, 5.0)
FINAL = dict(score_thresh=0.05, nms_thresh=0.5, max_detections=100, weights=WEIGHTS)


def head_output(seed, num_rois=300, num_classes=6, dtype=torch.float32):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num_rois, 2, generator=generator, dtype=dtype) * 300
    sides = torch.rand(num_rois, 2, generator=generator, dtype=dtype) * 150 + 2
    rois = torch.cat((corner, corner + sides), dim=1)
    logits = torch.randn(num_rois, num_classes, generator=generator, dtype=dtype) * 3
    return logits, torch.randn(num_rois, 4 * num_classes, generator=generator, dtype=dtype), rois


@pytest.mark.parametrize("num_rois", [300, 2000, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_equal_to_postprocess_detections(num_rois, dtype):
    logits, deltas, rois = head_output(num_rois, num_rois, dtype=dtype)
    heads = RoIHeads(None, None, None, 0.5, 0.5, 512, 0.25, None, 0.05, 0.5, 100)
    boxes, scores, labels = heads.postprocess_detections(logits, deltas, [rois], [(350, 400)])
    ours = postprocess(logits, deltas, rois, (350, 400), **FINAL)
    assert torch.equal(ours.labels, labels[0])
    assert torch.equal(ours.scores, scores[0])
    assert torch.equal(ours.boxes, boxes[0])
    assert torch.equal(logits.softmax(1)[ours.roi_idxs, ours.labels], ours.scores)


def test_postprocess_by_hand():
    # softmax(ln 1, ln 3, ln 4) = 1/8, 3/8, 4/8; two equal RoIs: NMS keeps one box for each class
    logits = torch.tensor([[1.0, 3, 4], [1, 3, 4]]).log()
    rois = torch.tensor([[0.0, 0, 20, 20]] * 2)
    found = postprocess(logits, torch.zeros(2, 12), rois, (40, 40), **FINAL)
    assert found.labels.tolist() == [2, 1] and found.roi_idxs.tolist() == [0, 0]
    assert found.scores.tolist() == pytest.approx([0.5, 0.375])
    assert len(postprocess(logits, torch.zeros(2, 12), rois, (40, 40), **{**FINAL, "score_thresh": 0.4}).boxes) == 1
    assert len(postprocess(logits, torch.zeros(2, 12), rois, (40, 40), **{**FINAL, "max_detections": 0}).boxes) == 0


def test_postprocess_on_nothing_and_on_bad_input():
    none = postprocess(torch.zeros(0, 3), torch.zeros(0, 12), torch.zeros(0, 4), (40, 40), **FINAL)
    assert none.boxes.shape == (0, 4) and none.labels.dtype == torch.int64
    logits, deltas, rois = head_output(0, 2)
    with pytest.raises(ValueError, match=r"^class_logits: found .*nan"):
        postprocess(logits * float("nan"), deltas, rois, (40, 40), **FINAL)
    with pytest.raises(ValueError, match=r"^box_deltas: found shape \[2, 4\], needed \[2, 24\]"):
        postprocess(logits, deltas[:, :4], rois, (40, 40), **FINAL)
    with pytest.raises(ValueError, match=r"^rois: found 1 rows, needed 2"):
        postprocess(logits, deltas, rois[:1], (40, 40), **FINAL)
    with pytest.raises(ValueError, match=r"^score_thresh: found -1"):
        postprocess(logits, deltas, rois, (40, 40), **{**FINAL, "score_thresh": -1})
    with pytest.raises(ValueError, match=r"^iou_thresh: found 2"):
        postprocess(logits, deltas, rois, (40, 40), **{**FINAL, "nms_thresh": 2})
