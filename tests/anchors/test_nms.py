"""NMS: by hand, both versions, against torchvision on a thousand sets."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops
from hypothesis import given, settings
from hypothesis import strategies as st

from anchors.boxes import box_iou
from anchors.fast.nms import nms
from anchors.nms import batched_nms
from anchors.nms import nms as nms_plain

torch.set_num_threads(1)


def random_set(generator, count, extent=100.0, dtype=torch.float32):
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * extent
    sides = torch.rand(count, 2, generator=generator, dtype=dtype) * extent / 2 + 1
    return torch.cat((corner, corner + sides), dim=1), torch.rand(count, generator=generator, dtype=dtype)


def test_a_thousand_sets_equal_torchvision():
    generator = torch.Generator().manual_seed(0)
    for i in range(1000):
        boxes, scores = random_set(generator, i % 60)
        if i % 3 == 0 and len(boxes):  # duplicates, and scores that tie
            again = torch.randint(len(boxes), (len(boxes),), generator=generator)
            boxes, scores = torch.cat((boxes, boxes[again])), torch.cat((scores, scores[again])).round(decimals=1)
        thresh = [0.0, 0.3, 0.5, 0.7, 1.0][i % 5]
        theirs = ops.nms(boxes, scores, thresh)
        assert torch.equal(nms(boxes, scores, thresh), theirs)
        assert torch.equal(nms_plain(boxes, scores, thresh), theirs)


@pytest.mark.parametrize("thresh", [0.3, 0.5, 0.7])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_many_chunks_equal_torchvision(thresh, dtype):
    boxes, scores = random_set(torch.Generator().manual_seed(1), 3000, extent=400, dtype=dtype)
    theirs = ops.nms(boxes, scores, thresh)
    assert torch.equal(nms(boxes, scores, thresh), theirs)
    for max_keep in (0, 1, 100, len(theirs), len(theirs) + 5):
        assert torch.equal(nms(boxes, scores, thresh, max_keep=max_keep), theirs[:max_keep])
        assert torch.equal(nms_plain(boxes, scores, thresh, max_keep=max_keep), theirs[:max_keep])


def test_an_iou_at_the_threshold():
    # IoU exactly 3/10: areas 10 and 3, one inside the other. float32(0.3) = 0.3000000119 > 0.3: suppressed
    boxes = torch.tensor([[0.0, 0, 10, 1], [0, 0, 3, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert box_iou(boxes[:1], boxes[1:]).item() == torch.tensor(0.3).item()
    assert not bool(box_iou(boxes[:1], boxes[1:]) > 0.3)  # the trap: the tensor comparison rounds 0.3 first
    for keep in (nms, nms_plain, ops.nms):
        assert keep(boxes, scores, 0.3).tolist() == [0]
    # 1/2 is exact, and float32(0.7) is below 0.7: both stay
    halves = torch.tensor([[0.0, 0, 10, 1], [0, 0, 5, 1]])
    sevens = torch.tensor([[0.0, 0, 10, 1], [0, 0, 7, 1]])
    for keep in (nms, nms_plain, ops.nms):
        assert keep(halves, scores, 0.5).tolist() == [0, 1]
        assert keep(sevens, scores, 0.7).tolist() == [0, 1]


def test_ties_and_boxes_without_area():
    same = torch.tensor([[0.0, 0, 5, 5]] * 3)
    assert nms(same, torch.ones(3), 0.5).tolist() == [0]  # the lower index wins
    points = torch.tensor([[1.0, 1, 1, 1]] * 2)
    for keep in (nms, nms_plain, ops.nms):
        assert keep(points, torch.tensor([0.5, 0.6]), 0.5).tolist() == [1, 0]  # 0/0 suppresses nothing


def test_a_long_chain_of_suppression():
    # each box overlaps only its neighbours (IoU 7/13 > 0.5): every second one survives, 300 rounds deep
    x = torch.arange(600.0) * 3
    boxes = torch.stack((x, torch.zeros(600), x + 10, torch.ones(600)), dim=1)
    scores = torch.linspace(1, 0.1, 600)
    assert nms(boxes, scores, 0.5).tolist() == list(range(0, 600, 2))
    assert torch.equal(ops.nms(boxes, scores, 0.5), nms_plain(boxes, scores, 0.5))


numbers = st.integers(0, 12).map(float)
box = st.tuples(numbers, numbers, numbers, numbers).map(lambda v: [v[0], v[1], v[0] + v[2], v[1] + v[3]])


@settings(max_examples=200, deadline=None)
@given(st.lists(st.tuples(box, st.integers(0, 4)), min_size=1, max_size=25), st.sampled_from([0.0, 0.25, 0.5, 1.0]))
def test_what_is_kept_and_why(entries, thresh):
    boxes = torch.tensor([entry[0] for entry in entries])
    scores = torch.tensor([entry[1] / 4 for entry in entries])
    keep = nms(boxes, scores, thresh)
    assert torch.equal(keep, nms_plain(boxes, scores, thresh))
    assert torch.equal(keep, ops.nms(boxes, scores, thresh))
    assert bool((scores[keep].diff() <= 0).all())
    among = box_iou(boxes[keep], boxes[keep]).fill_diagonal_(0)
    assert bool((among <= thresh).all())  # no kept box overlaps another one
    gone = torch.tensor([i for i in range(len(boxes)) if i not in keep.tolist()], dtype=torch.int64)
    if len(gone):  # and every other box has a suppressor that is kept and at least as good
        suppressors = (box_iou(boxes[keep], boxes[gone]) > thresh) & (scores[keep][:, None] >= scores[gone])
        assert bool(suppressors.any(dim=0).all())


def test_batched_equals_one_run_for_each_class():
    generator = torch.Generator().manual_seed(3)
    for _ in range(100):
        boxes, scores = random_set(generator, 120)
        boxes = boxes - 60  # negative coordinates too
        classes = torch.randint(0, 4, (120,), generator=generator)
        expected = torch.zeros(120, dtype=torch.bool)
        for value in range(4):
            own = (classes == value).nonzero().squeeze(1)
            expected[own[ops.nms(boxes[own], scores[own], 0.5)]] = True
        keep = batched_nms(boxes, scores, classes, 0.5)
        assert torch.equal(keep.sort().values, expected.nonzero().squeeze(1))
        assert bool((scores[keep].diff() <= 0).all())
        assert torch.equal(batched_nms(boxes, scores, classes, 0.5, max_keep=7), keep[:7])


def test_batched_equals_torchvision_on_positive_coordinates():
    generator = torch.Generator().manual_seed(4)
    for count in (50, 1500):  # torchvision's two ways: shifted coordinates, and a loop
        boxes, scores = random_set(generator, count, dtype=torch.float64)
        classes = torch.randint(0, 5, (count,), generator=generator)
        assert torch.equal(batched_nms(boxes, scores, classes, 0.5), ops.batched_nms(boxes, scores, classes, 0.5))


def test_empty_and_other_dtypes():
    none, nothing = torch.zeros(0, 4), torch.zeros(0)
    for keep in (nms(none, nothing, 0.5), nms_plain(none, nothing, 0.5)):
        assert keep.shape == (0,) and keep.dtype == torch.int64
    assert batched_nms(none, nothing, nothing.long(), 0.5).shape == (0,)
    boxes, scores = random_set(torch.Generator().manual_seed(5), 40)
    assert torch.equal(nms(boxes.half(), scores, 0.5), nms(boxes.half().float(), scores, 0.5))
    boxes.requires_grad_()
    assert torch.equal(nms(boxes, scores.requires_grad_(), 0.5), ops.nms(boxes.detach(), scores.detach(), 0.5))


@pytest.mark.parametrize("keep", [nms, nms_plain])
def test_bad_input_is_named(keep):
    boxes, scores = torch.tensor([[0.0, 0, 2, 2], [5, 5, 6, 6]]), torch.tensor([0.5, 0.6])
    with pytest.raises(ValueError, match=r"^scores: found 1 entries, needed 2, one for each of boxes"):
        keep(boxes, scores[:1], 0.5)
    with pytest.raises(ValueError, match=r"^scores: found nan"):
        keep(boxes, scores * float("nan"), 0.5)
    with pytest.raises(ValueError, match=r"^iou_thresh: found -0.5, needed a number in \[0, 1\]"):
        keep(boxes, scores, -0.5)
    with pytest.raises(ValueError, match=r"^boxes: found .* needed x2 >= x1 and y2 >= y1"):
        keep(boxes[:, [2, 1, 0, 3]], scores, 0.5)
    with pytest.raises(ValueError, match=r"^max_keep: found -1"):
        keep(boxes, scores, 0.5, max_keep=-1)
    with pytest.raises(ValueError, match=r"^idxs: found 1 entries, needed 2"):
        batched_nms(boxes, scores, torch.tensor([1]), 0.5)
    with pytest.raises(ValueError, match=r"^idxs: found dtype torch.float32"):
        batched_nms(boxes, scores, scores, 0.5)
