"""RoIAlign: golden values, both versions, torchvision's values and gradients."""

from __future__ import annotations

import pytest
import torch
import torchvision.ops as ops

from anchors.fast.roi_align import roi_align
from anchors.roi_align import roi_align as roi_align_plain

torch.set_num_threads(1)

EDGES = {  # the map is 20 x 24 cells at stride 16: 320 x 384 pixels
    "inside": [0, 33.0, 47, 201, 250],
    "whole image": [1, 0.0, 0, 384, 320],
    "smaller than a cell": [0, 100.0, 100, 107, 103],
    "crosses two edges": [0, -80.0, -50, 120, 90],
    "crosses the others": [1, 300.0, 250, 700, 600],
    "ends one cell outside": [1, 300.0, 250, 400, 336],
    "outside": [0, 900.0, 900, 990, 990],
    "outside, negative": [0, -300.0, -300, -100, -90],
    "no size": [1, 100.0, 100, 100, 100],
    "inverted": [1, 200.0, 200, 100, 90],
}
WAYS = [(2, True), (2, False), (1, True), (3, False), (0, True), (-1, False)]


def features_of(dtype=torch.float32, shape=(2, 3, 20, 24)):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=dtype)


def test_detectron2s_golden_values():
    features, rois = torch.arange(25.0).reshape(1, 1, 5, 5), torch.tensor([[0.0, 1, 1, 3, 3]])
    first = torch.tensor([7.5, 8, 8.5, 9])
    rows = torch.stack([first + 2.5 * i for i in range(4)])  # 5 a row, half a cell a bin: 2.5
    for align in (roi_align, roi_align_plain):
        unaligned = align(features, rois, 4, 1.0, sampling_ratio=2, aligned=False)[0, 0]
        torch.testing.assert_close(unaligned, rows)
        aligned = align(features, rois, 4, 1.0, sampling_ratio=2, aligned=True)[0, 0]
        torch.testing.assert_close(aligned, rows - 3)  # half a cell up and left: 2.5 + 0.5


def test_constant_and_ramp():
    rois = torch.tensor([[0.0, 32, 48, 200, 240]], dtype=torch.float64)
    flat = roi_align(torch.full((1, 1, 20, 24), 3.0).double(), rois, 7, 1 / 16, sampling_ratio=2, aligned=True)
    torch.testing.assert_close(flat, torch.full_like(flat, 3))
    ramp = torch.arange(24.0).double().expand(1, 1, 20, 24)
    out = roi_align(ramp, rois, 7, 1 / 16, sampling_ratio=2, aligned=True)[0, 0]
    # bin centres at 2 + (p + 0.5) * 10.5 / 7 in box coordinates, cell i's value sits at i + 0.5
    centres = 2 + (torch.arange(7).double() + 0.5) * 1.5 - 0.5
    torch.testing.assert_close(out, centres.expand(7, 7))


@pytest.mark.parametrize(("dtype", "atol"), [(torch.float32, 2e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("way", WAYS)
def test_every_edge_equals_torchvision(way, dtype, atol):
    sampling_ratio, aligned = way
    options = dict(sampling_ratio=sampling_ratio, aligned=aligned)
    for name, roi in EDGES.items():
        rois = torch.tensor([roi], dtype=dtype)
        features = features_of(dtype).requires_grad_()
        theirs = ops.roi_align(features, rois, 7, 1 / 16, sampling_ratio, aligned)
        ours = roi_align(features, rois, 7, 1 / 16, **options)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")
        weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(1), dtype=dtype)
        grads = [torch.autograd.grad((out * weights).sum(), features)[0] for out in (theirs, ours)]
        torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=atol, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("way", WAYS)
def test_many_random_rois_equal_torchvision_and_the_plain_version(way):
    sampling_ratio, aligned = way
    generator = torch.Generator().manual_seed(2)
    rois = torch.rand(100, 5, generator=generator) * 450 - 40
    rois[:, 3:] = rois[:, 1:3] + torch.rand(100, 2, generator=generator) * 200
    rois[:, 0] = torch.randint(0, 2, (100,), generator=generator)
    features = features_of()
    ours = roi_align(features, rois, (3, 5), 1 / 16, sampling_ratio=sampling_ratio, aligned=aligned)
    theirs = ops.roi_align(features, rois, (3, 5), 1 / 16, sampling_ratio, aligned)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    some = rois[:6]
    plain = roi_align_plain(features, some, (3, 5), 1 / 16, sampling_ratio=sampling_ratio, aligned=aligned)
    torch.testing.assert_close(plain, theirs[:6], rtol=0, atol=2e-5)


def test_the_gradients_of_overlapping_rois_add_up():
    rois = torch.tensor([[0.0, 33, 47, 201, 250], [0, 60, 50, 180, 260], [1, 60, 50, 180, 260]])
    features, rois = features_of(torch.float64).requires_grad_(), rois.double()
    theirs = ops.roi_align(features, rois, 7, 1 / 16, 2, True)
    ours = roi_align(features, rois, 7, 1 / 16, sampling_ratio=2, aligned=True)
    grads = [torch.autograd.grad(out.square().sum(), features)[0] for out in (theirs, ours)]
    torch.testing.assert_close(grads[1], grads[0], rtol=0, atol=1e-10)


def test_a_box_without_size():
    features, rois = features_of(), torch.tensor([[0.0, 100, 100, 100, 100]])
    assert not roi_align(features, rois, 7, 1 / 16, sampling_ratio=0, aligned=True).any()
    value = roi_align(features, rois, 7, 1 / 16, sampling_ratio=2, aligned=True)[0, :, 0, 0]
    assert value.abs().min() > 0  # 49 times the value at that point


def test_gradchecks():
    features = features_of(torch.float64, (2, 2, 6, 7)).requires_grad_()
    rois = torch.tensor([[0.0, 3, 5, 50, 80], [1, 20, 10, 130, 60]], dtype=torch.float64)
    for sampling_ratio, aligned in WAYS:
        options = dict(sampling_ratio=sampling_ratio, aligned=aligned)
        assert torch.autograd.gradcheck(
            lambda f, options=options: roi_align(f, rois, 3, 1 / 16, **options), (features,)
        )


def test_empty():
    for align in (roi_align, roi_align_plain):
        for sampling_ratio in (2, 0):
            out = align(features_of(), torch.zeros(0, 5), 7, 1 / 16, sampling_ratio=sampling_ratio, aligned=True)
            assert out.shape == (0, 3, 7, 7)
    features = features_of().requires_grad_()
    roi_align(features, torch.zeros(0, 5), 7, 1 / 16, sampling_ratio=2, aligned=True).sum().backward()
    assert not features.grad.any()


@pytest.mark.parametrize("align", [roi_align, roi_align_plain])
def test_bad_input_is_named(align):
    features, rois = features_of(), torch.tensor([[0.0, 0, 0, 50, 50]])
    options = dict(sampling_ratio=2, aligned=True)
    with pytest.raises(ValueError, match=r"^features: found dtype torch.int64"):
        align(features.long(), rois, 7, 1 / 16, **options)
    with pytest.raises(ValueError, match=r"^rois: found shape \[1, 4\], needed \[K, 5\]"):
        align(features, rois[:, 1:], 7, 1 / 16, **options)
    with pytest.raises(ValueError, match=r"^rois: found batch index -1"):
        align(features, torch.tensor([[-1.0, 0, 0, 50, 50]]), 7, 1 / 16, **options)
    with pytest.raises(ValueError, match=r"^sampling_ratio: found 1.5, needed a whole number"):
        align(features, rois, 7, 1 / 16, sampling_ratio=1.5, aligned=True)
    with pytest.raises(ValueError, match=r"^spatial_scale: found 0"):
        align(features, rois, 7, 0, **options)


def test_full_precision_under_autocast():
    features, rois = features_of().requires_grad_(), torch.tensor([[0.0, 33, 47, 201, 250]])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        ours = roi_align(features, rois, 7, 1 / 16, sampling_ratio=2, aligned=True)
        (grad,) = torch.autograd.grad(ours.sum(), features)
    theirs = ops.roi_align(features, rois, 7, 1 / 16, 2, True)
    torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-5)
    torch.testing.assert_close(grad, torch.autograd.grad(theirs.sum(), features)[0], rtol=0, atol=2e-5)
