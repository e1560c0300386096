"""encode and decode: by hand, round trip, against torchvision's BoxCoder, gradcheck."""

from __future__ import annotations

import math

import pytest
import torch
from torchvision.models.detection._utils import BoxCoder

from anchors.deltas import HEAD_WEIGHTS, MAX_LOG_RATIO, RPN_WEIGHTS, decode, encode

torch.set_num_threads(1)


def random_boxes(count, generator, dtype=torch.float32):
    corner = torch.rand(count, 2, generator=generator, dtype=dtype) * 500
    return torch.cat((corner, corner + 8 + torch.rand(count, 2, generator=generator, dtype=dtype) * 400), dim=1)


def test_by_hand():
    anchor = torch.tensor([[10.0, 10, 30, 50]])  # centre (20, 30), 20 x 40
    gt = torch.tensor([[10.0, 20, 50, 60]])  # centre (30, 40), 40 x 40
    expected = torch.tensor([[10 / 20, 10 / 40, math.log(2), 0.0]])
    torch.testing.assert_close(encode(gt, anchor), expected)
    torch.testing.assert_close(encode(gt, anchor, HEAD_WEIGHTS), expected * torch.tensor([10.0, 10, 5, 5]))
    torch.testing.assert_close(decode(expected, anchor)[:, 0], gt)


@pytest.mark.parametrize("weights", [RPN_WEIGHTS, HEAD_WEIGHTS, (1.0, 2.0, 3.0, 4.0)])
@pytest.mark.parametrize(("dtype", "rtol"), [(torch.float32, 1e-6), (torch.float64, 0)])
def test_equal_to_torchvision(weights, dtype, rtol):
    generator = torch.Generator().manual_seed(0)
    gt, anchors = random_boxes(400, generator, dtype), random_boxes(400, generator, dtype)
    coder = BoxCoder(weights)
    theirs = coder.encode_single(gt, anchors)
    torch.testing.assert_close(encode(gt, anchors, weights), theirs, rtol=rtol, atol=0)
    deltas = torch.randn(400, 12, generator=generator, dtype=dtype) * 3  # three classes, some beyond the stop
    theirs = coder.decode_single(deltas, anchors).reshape(400, 3, 4)
    # subtracting half a side from a centre cancels digits: the tolerance counts against the box's extent
    extent = theirs.abs().amax().item()
    torch.testing.assert_close(decode(deltas, anchors, weights), theirs, rtol=rtol, atol=rtol * extent)


@pytest.mark.parametrize(("dtype", "pixels"), [(torch.float32, 1e-3), (torch.float64, 1e-9)])
def test_round_trip_within_the_stop(dtype, pixels):
    generator = torch.Generator().manual_seed(1)
    gt, anchors = random_boxes(1000, generator, dtype), random_boxes(1000, generator, dtype)
    ratio = (gt[:, 2:] - gt[:, :2]) / (anchors[:, 2:] - anchors[:, :2])
    assert ratio.max() < 62.5
    assert (decode(encode(gt, anchors), anchors)[:, 0] - gt).abs().max() < pixels


def test_beyond_a_factor_of_62_5_decode_stops_unless_told_otherwise():
    anchor = torch.tensor([[0.0, 0, 1, 1]], dtype=torch.float64)
    gt = torch.tensor([[0.0, 0, 100, 1]], dtype=torch.float64)
    deltas = encode(gt, anchor)
    stopped = decode(deltas, anchor)[0, 0]
    assert (stopped[2] - stopped[0]).item() == pytest.approx(62.5)
    torch.testing.assert_close(decode(deltas, anchor, max_log_ratio=None)[0], gt)
    assert math.isclose(MAX_LOG_RATIO, 4.135166556742356)


def test_gradcheck():
    generator = torch.Generator().manual_seed(2)
    gt, anchors = (random_boxes(5, generator, torch.float64).requires_grad_() for _ in range(2))
    assert torch.autograd.gradcheck(encode, (gt, anchors))
    deltas = torch.randn(5, 8, generator=generator, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda d, a: decode(d, a, HEAD_WEIGHTS), (deltas, anchors))


def test_empty():
    none = torch.zeros(0, 4)
    assert encode(none, none).shape == (0, 4)
    assert decode(none, none).shape == (0, 1, 4)
    assert decode(torch.zeros(0, 12), none).shape == (0, 3, 4)
    assert decode(torch.zeros(2, 0), torch.tensor([[0.0, 0, 1, 1]] * 2)).shape == (2, 0, 4)


def test_bad_input_is_named():
    good = torch.tensor([[0.0, 0, 2, 2]])
    flat = torch.tensor([[0.0, 0, 2, 0]])
    with pytest.raises(ValueError, match=r"^gt_boxes: found \[0.0, 0.0, 2.0, 0.0\] at row 0, needed x2 > x1"):
        encode(flat, good)
    with pytest.raises(ValueError, match=r"^anchors: found .* needed x2 > x1"):
        encode(good, flat)
    with pytest.raises(ValueError, match=r"^gt_boxes: found 2 rows, needed 1"):
        encode(good.repeat(2, 1), good)
    with pytest.raises(ValueError, match=r"^weights: found \(1, 1\), needed four positive numbers"):
        encode(good, good, (1, 1))
    with pytest.raises(ValueError, match=r"^deltas: found \[1, 5\], needed shape \[N, 4K\]"):
        decode(torch.zeros(1, 5), good)
    with pytest.raises(ValueError, match=r"^deltas: found 2 rows, needed 1"):
        decode(torch.zeros(2, 4), good)
    with pytest.raises(ValueError, match=r"^deltas: found .*inf.* needed finite"):
        decode(torch.full((1, 4), float("inf")), good)
    with pytest.raises(ValueError, match=r"^gt_boxes: found dtype torch.int64"):
        encode(good.long(), good)
