"""RoI pooling: golden values, both versions, torchvision's values and gradients on every edge."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops

from anchors.fast.roi_pool import roi_pool
from anchors.roi_pool import pool_bins, round_half_away
from anchors.roi_pool import roi_pool as roi_pool_plain

torch.set_num_threads(1)

# batch index, XYXY in pixels; the map is 20 x 24 cells at stride 16: 320 x 384 pixels
EDGES = {
    "inside": [0, 33.0, 47, 201, 250],
    "whole image": [1, 0.0, 0, 384, 320],
    "smaller than the bins": [0, 100.0, 100, 130, 120],
    "one point": [1, 100.0, 100, 100, 100],
    "crosses two edges": [0, -80.0, -50, 120, 90],
    "crosses the others": [1, 300.0, 250, 700, 600],
    "outside": [0, 900.0, 900, 990, 990],
    "outside, negative": [0, -300.0, -300, -100, -90],
    "inverted": [1, 200.0, 200, 100, 90],
    "halves": [0, 24.0, 40, 88, 104],  # /16 = 1.5, 2.5, 5.5, 6.5
    "negative halves": [0, -24.0, -40, 88, 104],
}


def features_of(dtype=torch.float32, shape=(2, 5, 20, 24), relu=False):
    features = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)
    return features.relu() if relu else features


def test_golden_values():
    # the two RoIs of a published chapter: 4 x 4 map of 0..15, scale 0.1, 2 x 2 bins
    features = torch.arange(16.0).reshape(1, 1, 4, 4)
    rois = torch.tensor([[0.0, 0, 0, 20, 20], [0, 0, 10, 30, 30]])
    expected = [[[5, 6], [9, 10]], [[9, 11], [13, 15]]]
    assert roi_pool(features, rois, 2, 0.1)[:, 0].tolist() == expected
    assert roi_pool_plain(features, rois, 2, 0.1)[:, 0].tolist() == expected


def test_25088_inputs():
    pooled = roi_pool(torch.zeros(1, 512, 50, 50), torch.tensor([[0.0, 0, 0, 799, 799]] * 3), 7, 1 / 16)
    assert pooled.shape == (3, 512, 7, 7)
    assert pooled.flatten(1).shape[1] == 25_088 == 7 * 7 * 512


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("name", EDGES)
def test_every_edge_equals_torchvision(name, dtype):
    rois = torch.tensor([EDGES[name]], dtype=dtype)
    for relu in (False, True):  # after a ReLU many cells tie at 0: the gradient must pick the first
        results = []
        for pool in (ops.roi_pool, roi_pool, roi_pool_plain):
            features = features_of(dtype, relu=relu).requires_grad_()
            pooled = pool(features, rois, 7, 1 / 16)
            weights = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
            (grad,) = torch.autograd.grad((pooled * weights).sum(), features, allow_unused=True)
            results.append((pooled.detach(), torch.zeros_like(features) if grad is None else grad))
        theirs = results[0]
        for ours in results[1:]:
            assert torch.equal(ours[0], theirs[0])
            # a cell that wins several bins sums their gradients in another order
            torch.testing.assert_close(ours[1], theirs[1], rtol=0, atol=1e-5 if dtype == torch.float32 else 1e-12)
            assert torch.equal(ours[1] != 0, theirs[1] != 0)


@pytest.mark.parametrize("output_size", [7, 1, 2, (3, 5)])
def test_many_random_rois_equal_torchvision(output_size):
    generator = torch.Generator().manual_seed(2)
    rois = torch.rand(200, 5, generator=generator) * 500 - 60
    rois[:, 0] = torch.randint(0, 2, (200,), generator=generator)
    features = features_of()
    assert torch.equal(roi_pool(features, rois, output_size, 1 / 16), ops.roi_pool(features, rois, output_size, 1 / 16))


@pytest.mark.parametrize("height", [56, 57, 114, 121])
def test_bins_where_float32_and_exact_fractions_part(height):
    # C++ divides in float32, and ceil(7 * float32(57 / 7)) is 58: the last bin takes a cell beyond the RoI.
    # At 56 cells or fewer, all that a 50 x 50 map can have, nothing differs.
    features = torch.arange(height + 3.0).reshape(1, 1, -1, 1)
    rois = torch.tensor([[0.0, 0, 0, 0, height - 1]])
    theirs = ops.roi_pool(features, rois, (7, 1), 1.0)
    assert torch.equal(roi_pool(features, rois, (7, 1), 1.0), theirs)
    exact_last_cells = [-(-(p + 1) * height // 7) - 1 for p in range(7)]
    assert (theirs.flatten().tolist() == exact_last_cells) == (height == 56)


def test_rounding_is_half_away_from_zero():
    x = torch.tensor([0.5, 1.5, 2.5, -0.5, -2.5, 0.49999997, 8388609.0])
    assert round_half_away(x).tolist() == [1, 2, 3, -1, -3, 0, 8388609]


def test_bins_by_hand():
    # 3 cells in 2 bins: [0, 2) and [1, 3); at the map's right edge the second is cut to [1, 2)
    bins = pool_bins(torch.tensor([[0.0, 0, 0, 2, 2]]), (3, 2), 2, 1.0)
    assert [v.tolist() for v in bins] == [[[0, 1]], [[2, 3]], [[0, 1]], [[2, 2]]]


def test_gradcheck():
    features = features_of(torch.float64, (2, 2, 6, 6)).requires_grad_()
    rois = torch.tensor([[0.0, 0, 0, 50, 80], [1, 20, 10, 95, 60]], dtype=torch.float64)
    assert torch.autograd.gradcheck(lambda f: roi_pool(f, rois, 3, 1 / 16), (features,))
    assert torch.autograd.gradcheck(lambda f: roi_pool_plain(f, rois, 3, 1 / 16), (features,))


def test_minus_zero_ties_with_zero():
    features = torch.tensor([[[[-0.0, 0.0]]]]).requires_grad_()
    (grad,) = torch.autograd.grad(roi_pool(features, torch.tensor([[0.0, 0, 0, 1, 0]]), 1, 1.0).sum(), features)
    assert grad.tolist() == [[[[1.0, 0.0]]]]


def test_the_gradient_of_channels_last_and_overlapping_rois():
    generator = torch.Generator().manual_seed(3)
    rois = torch.rand(60, 5, generator=generator) * 400 - 40
    rois[:, 0] = torch.randint(0, 2, (60,), generator=generator)
    plain, last = features_of(relu=True), features_of(relu=True).to(memory_format=torch.channels_last)
    weights = torch.randn(60, 5, 7, 7, generator=generator)
    results = []
    for pool, features in ((ops.roi_pool, plain), (roi_pool, plain), (roi_pool, last)):
        leaf = features.detach().requires_grad_()
        results += torch.autograd.grad((pool(leaf, rois, 7, 1 / 16) * weights).sum(), leaf)
    for ours in results[1:]:
        torch.testing.assert_close(ours, results[0], rtol=0, atol=1e-4)


def test_empty():
    for pool in (roi_pool, roi_pool_plain):
        pooled = pool(features_of().requires_grad_(), torch.zeros(0, 5), 7, 1 / 16)
        assert pooled.shape == (0, 5, 7, 7)
    pooled = roi_pool(features_of().requires_grad_(), torch.zeros(0, 5), 7, 1 / 16)
    pooled.sum().backward()  # an image without proposals must not stop the training


@pytest.mark.parametrize("pool", [roi_pool, roi_pool_plain])
def test_bad_input_is_named(pool):
    features, rois = features_of(), torch.tensor([[0.0, 0, 0, 50, 50]])
    with pytest.raises(ValueError, match=r"^features: found shape \[5, 20, 24\], needed \[B, C, H, W\]"):
        pool(features[0], rois, 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^features: found dtype torch.float16, needed float32 or float64"):
        pool(features.half(), rois, 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^features: found shape \[2, 5, 0, 24\], needed at least one"):
        pool(features[:, :, :0], rois, 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^rois: found shape \[1, 4\], needed \[K, 5\]"):
        pool(features, rois[:, 1:], 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^rois: found batch index 2 at row 0, needed a whole number below 2"):
        pool(features, torch.tensor([[2.0, 0, 0, 50, 50]]), 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^rois: found batch index 0.5"):
        pool(features, torch.tensor([[0.5, 0, 0, 50, 50]]), 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^rois: found .*nan"):
        pool(features, rois * float("nan"), 7, 1 / 16)
    with pytest.raises(ValueError, match=r"^output_size: found 0"):
        pool(features, rois, 0, 1 / 16)
    with pytest.raises(ValueError, match=r"^spatial_scale: found -1"):
        pool(features, rois, 7, -1)
