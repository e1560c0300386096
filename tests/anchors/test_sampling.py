"""Sampling anchors and RoIs: counts, seeds, torchvision's sampler and select_training_samples."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.models.detection._utils import BalancedPositiveNegativeSampler
from torchvision.models.detection.roi_heads import RoIHeads

from anchors.sampling import sample_labels, sample_rois

torch.set_num_threads(1)
HEAD = dict(num_samples=128, positive_fraction=0.25, fg_thresh=0.5, weights=(10.0, 10.0, 5.0, 5.0))


@settings(max_examples=150, deadline=None)
@given(
    st.lists(st.sampled_from([-1, 0, 1, 2]), max_size=60),
    st.integers(0, 40),
    st.sampled_from([0.0, 0.25, 0.5, 1.0]),
    st.integers(0, 2**30),
)
def test_counts_kinds_and_no_repeats(values, num_samples, fraction, seed):
    labels = torch.tensor(values, dtype=torch.int64)
    generator = torch.Generator().manual_seed(seed)
    positive, negative = sample_labels(labels, num_samples=num_samples, positive_fraction=fraction, generator=generator)
    assert len(positive) == min(sum(v >= 1 for v in values), int(num_samples * fraction))
    assert len(negative) == min(values.count(0), num_samples - len(positive))
    assert bool((labels[positive] >= 1).all()) and bool((labels[negative] == 0).all())
    both = torch.cat((positive, negative)).tolist()
    assert len(set(both)) == len(both)


def test_equal_to_torchvision_at_the_same_seed():
    theirs = BalancedPositiveNegativeSampler(64, 0.5)
    for seed in range(20):
        labels = torch.randint(-1, 3, (500,), generator=torch.Generator().manual_seed(seed))
        torch.manual_seed(seed)
        positive, negative = theirs([labels])
        torch.manual_seed(seed)
        ours = sample_labels(labels, num_samples=64, positive_fraction=0.5)
        assert torch.equal(ours[0].sort().values, positive[0].nonzero().squeeze(1))
        assert torch.equal(ours[1].sort().values, negative[0].nonzero().squeeze(1))


def test_a_generator_makes_the_draw_repeatable():
    labels = torch.randint(-1, 2, (500,), generator=torch.Generator().manual_seed(0))
    draws = [
        sample_labels(labels, num_samples=20, positive_fraction=0.5, generator=torch.Generator().manual_seed(seed))
        for seed in (1, 1, 2)
    ]
    assert torch.equal(draws[0][0], draws[1][0]) and torch.equal(draws[0][1], draws[1][1])
    assert not torch.equal(draws[0][0], draws[2][0])


def make_scene(seed, num_gt=4, num_proposals=300):
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(num_gt, 2, generator=generator) * 200
    gt_boxes = torch.cat((corner, corner + 20 + torch.rand(num_gt, 2, generator=generator) * 80), dim=1)
    if num_gt:  # proposals: gt boxes shaken, so that many IoUs lie around 0.5
        near = gt_boxes[torch.randint(num_gt, (num_proposals,), generator=generator)]
        proposals = near + torch.randn(num_proposals, 4, generator=generator) * 12
    else:
        proposals = torch.rand(num_proposals, 4, generator=generator) * 100
    proposals = torch.cat((proposals[:, :2], torch.maximum(proposals[:, 2:], proposals[:, :2] + 1)), dim=1)
    labels = torch.randint(1, 4, (num_gt,), generator=generator)
    return proposals, gt_boxes, labels


@pytest.mark.parametrize("num_gt", [4, 1, 0])
def test_equal_to_select_training_samples_at_the_same_seed(num_gt):
    heads = RoIHeads(None, None, None, 0.5, 0.5, 128, 0.25, None, 0.05, 0.5, 100)
    for seed in range(10):
        proposals, gt_boxes, labels = make_scene(seed, num_gt)
        torch.manual_seed(seed)
        rois, gt_idxs, classes, targets = heads.select_training_samples(
            [proposals], [{"boxes": gt_boxes, "labels": labels}]
        )
        torch.manual_seed(seed)
        ours = sample_rois(proposals, gt_boxes, labels, **HEAD)
        assert torch.equal(ours.rois, rois[0])
        assert torch.equal(ours.labels, classes[0])
        # gt and targets of background rows train nothing: torchvision gives them gt 0, we their best gt
        fg = ours.labels > 0
        assert torch.equal(ours.gt_idxs[fg], gt_idxs[0][fg])
        torch.testing.assert_close(ours.target_deltas[fg], targets[0][fg], rtol=1e-6, atol=1e-6)
        if num_gt:
            assert 1 <= int(fg.sum()) <= 32
        else:  # torchvision's targets are minus infinity here
            assert not ours.target_deltas.any() and not fg.any()


def test_foreground_background_and_the_band_between_by_hand():
    gt_boxes, gt_labels = torch.tensor([[0.0, 0, 10, 10]]), torch.tensor([3])
    # IoU with the gt: 60/100 = 0.6 foreground; 40/100 = 0.4 background; 5/100 = 0.05; 0
    proposals = torch.tensor([[0.0, 0, 6, 10], [0, 0, 4, 10], [0, 0, 0.5, 10], [50, 50, 60, 60]])
    options = dict(num_samples=8, positive_fraction=0.5, fg_thresh=0.5, weights=(1, 1, 1, 1))
    sample = sample_rois(proposals, gt_boxes, gt_labels, **options)
    assert sample.labels.tolist() == [3, 0, 0, 0, 3]  # the last is the gt itself
    assert sample.target_deltas[4].tolist() == [0, 0, 0, 0]
    # Fast R-CNN's band [0.1, 0.5): hard negatives only
    sample = sample_rois(proposals, gt_boxes, gt_labels, bg_low=0.1, **options)
    assert sample.labels.tolist() == [3, 0, 3]
    sample = sample_rois(proposals, gt_boxes, gt_labels, add_gt=False, **options)
    assert len(sample.rois) == 4


def test_empty():
    none, no_labels = torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64)
    positive, negative = sample_labels(no_labels, num_samples=4, positive_fraction=0.5)
    assert len(positive) == len(negative) == 0
    assert len(sample_rois(none, none, no_labels, **HEAD).rois) == 0
    only_gt = sample_rois(none, torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1]), **HEAD)
    assert only_gt.labels.tolist() == [1]


def test_bad_input_is_named():
    boxes, labels = torch.tensor([[0.0, 0, 9, 9]]), torch.tensor([1])
    with pytest.raises(ValueError, match=r"^labels: found dtype torch.float32, needed int64"):
        sample_labels(torch.zeros(3), num_samples=4, positive_fraction=0.5)
    with pytest.raises(ValueError, match=r"^labels: found list"):
        sample_labels([1, 0], num_samples=4, positive_fraction=0.5)
    with pytest.raises(ValueError, match=r"^num_samples: found -1, needed a whole number, 0 or more"):
        sample_labels(labels, num_samples=-1, positive_fraction=0.5)
    with pytest.raises(ValueError, match=r"^positive_fraction: found 1.5"):
        sample_labels(labels, num_samples=1, positive_fraction=1.5)
    with pytest.raises(ValueError, match=r"^gt_labels: found 2 entries, needed 1, one for each of gt_boxes"):
        sample_rois(boxes, boxes, torch.tensor([1, 2]), **HEAD)
    with pytest.raises(ValueError, match=r"^gt_labels: found 0, needed 1 or more"):
        sample_rois(boxes, boxes, torch.tensor([0]), **HEAD)
    with pytest.raises(ValueError, match=r"^gt_boxes: found .* needed x2 > x1"):
        sample_rois(boxes, torch.tensor([[0.0, 0, 0, 9]]), labels, **HEAD)
    with pytest.raises(ValueError, match=r"^proposals: found .* needed x2 >= x1"):
        sample_rois(torch.tensor([[9.0, 0, 0, 9]]), boxes, labels, **HEAD)
