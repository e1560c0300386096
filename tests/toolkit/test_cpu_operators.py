"""What a CPU computes in our way instead of torchvision's, RoIAlign and a backward from few cells: the same numbers."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from toolkit.networks import builder
from toolkit.networks.cpu_operators import FEW, FewCellsConv2d, TableRoIAlign

SIZES = {"min_size": 64, "max_size": 96, "box_batch_size_per_image": 32}

# --- RoIAlign -----------------------------------------------------------------------------------------------------


def pools(names=("0", "1"), scales=(1 / 4, 1 / 8), output_size=7, ratio=2):
    """(torchvision's, ours) of the same settings."""
    found = []
    for kind in (MultiScaleRoIAlign, TableRoIAlign):
        pool = kind(list(names), output_size, ratio, canonical_scale=32)
        pool.scales = list(scales)
        pool.map_levels = initLevelMapper(2, 1 + len(names), 32, 4)
        found.append(pool)
    return found


def maps(dtype=torch.float64, requires_grad=True):
    torch.manual_seed(0)
    shapes = {"0": (16, 24), "1": (8, 12), "pool": (4, 6)}
    return {k: torch.randn(2, 5, *s).to(dtype).requires_grad_(requires_grad) for k, s in shapes.items()}


BOXES = {
    "inside": [[3.0, 4, 40, 33], [1, 1, 8, 9], [0, 0, 96, 64]],
    "at the edge": [[0, 0, 0.5, 0.5], [95.9, 63.9, 96, 64], [90, 0, 96, 64]],
    "outside": [[-30, -20, 10, 10], [90, 50, 140, 120], [-500, -500, -400, -400]],  # cells that count nothing
    "turned over": [[40, 30, 10, 10]],  # torchvision: at least one cell
}


@pytest.mark.parametrize("output_size", [7, (2, 3)])
@pytest.mark.parametrize("ratio", [1, 2, 3])
@pytest.mark.parametrize("boxes", list(BOXES))
def test_pooling_is_torchvisions(boxes, ratio, output_size):
    boxes = [torch.tensor(BOXES[boxes], dtype=torch.float64), torch.tensor(BOXES["inside"], dtype=torch.float64)]
    values, gradients = [], []
    for pool in pools(output_size=output_size, ratio=ratio):
        x = maps()
        out = pool(x, boxes, [(64, 96)] * 2)
        torch.manual_seed(1)
        (out * torch.randn(out.shape, dtype=out.dtype)).sum().backward()
        values.append(out.detach())
        gradients.append([x["0"].grad, x["1"].grad])
    assert values[1].shape == values[0].shape
    torch.testing.assert_close(values[1], values[0], rtol=0, atol=1e-12)
    for theirs, ours in zip(*gradients, strict=True):
        assert theirs.abs().sum() > 0  # both levels are used
        torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_pooling_of_one_level_of_no_boxes_and_of_an_image_without():
    inside = torch.tensor(BOXES["inside"])
    x = maps(torch.float32)
    theirs, ours = pools(names=("0",), scales=(1 / 4,))
    torch.testing.assert_close(ours(x, [inside, inside[:1]], []), theirs(x, [inside, inside[:1]], []))
    theirs, ours = pools()
    assert ours(x, [inside[:0]] * 2, []).shape == (0, 5, 7, 7)
    torch.testing.assert_close(ours(x, [inside[:0], inside], []), theirs(x, [inside[:0], inside], []))


def test_a_bin_by_hand():
    # a ramp v = 10 y + x on 16 x 24 cells; the box (8,8,16,16) px at stride 4 is (2,2,4,4) cells, one bin of 2 x 2
    # points at 2.5 and 3.5: their mean is the ramp at (3,3) = 33
    ramp = (10 * torch.arange(16.0)[:, None] + torch.arange(24.0))[None, None]
    _, ours = pools(names=("0",), scales=(1 / 4,), output_size=1)
    assert ours({"0": ramp}, [torch.tensor([[8.0, 8, 16, 16]])], []).item() == pytest.approx(33)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_left_to_torchvision(dtype, monkeypatch):
    called = []
    monkeypatch.setattr(MultiScaleRoIAlign, "forward", lambda *_: called.append(1))
    pools()[1](maps(dtype), [torch.tensor(BOXES["inside"])] * 2, [])
    assert called


# --- convolution --------------------------------------------------------------------------------------------------


def backward(kind, share, bias=True, first=True):
    """Gradients of (input, weight, bias) of a convolution whose output has a gradient in `share` of its cells."""
    torch.manual_seed(0)
    conv = nn.Conv2d(3, 4, 3, padding=1, bias=bias).double()
    conv.__class__ = kind
    x = torch.randn(2, 3, 8, 10, dtype=torch.float64, requires_grad=first)
    out = conv(x)
    chosen = torch.rand(2, 1, 8, 10, dtype=torch.float64) < share
    chosen[0, 0, 0, 0] = chosen[1, 0, 7, 9] = share > 0  # corners: part of the patch is padding
    out.backward(chosen * torch.randn_like(out))
    return [x.grad, conv.weight.grad, conv.bias.grad if bias else None]


@pytest.mark.parametrize("share", [0.0, 0.02, 0.2, 0.9])
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_the_gradients_are_those_of_the_dense_backward(share, bias, first):
    for theirs, ours in zip(
        backward(nn.Conv2d, share, bias, first), backward(FewCellsConv2d, share, bias, first), strict=True
    ):
        assert (theirs is None) == (ours is None)
        if theirs is not None:
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-12)


def test_few_cells_take_the_short_way_and_many_do_not(monkeypatch):
    calls = []
    original = torch.ops.aten.convolution_backward

    def dense(*args):
        calls.append(args)
        return original(*args)

    monkeypatch.setattr(torch.ops.aten, "convolution_backward", dense)
    backward(FewCellsConv2d, FEW / 4)
    assert not calls
    backward(FewCellsConv2d, 0.9)
    assert len(calls) == 1


def test_a_gradient_that_is_not_finite_stays_so():
    conv = nn.Conv2d(1, 1, 3, padding=1)
    conv.__class__ = FewCellsConv2d
    out = conv(torch.ones(1, 1, 9, 9))
    gradient = torch.zeros_like(out)
    gradient[0, 0, 4, 4] = float("nan")
    out.backward(gradient)
    assert torch.isnan(conv.weight.grad).all() and torch.isnan(conv.bias.grad).all()


@pytest.mark.parametrize(
    "conv",
    [
        nn.Conv2d(4, 4, 1),
        nn.Conv2d(4, 4, 3),
        nn.Conv2d(4, 4, 3, 2, 1),
        nn.Conv2d(4, 4, 3, padding=1, groups=2),
        nn.Conv2d(4, 4, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(4, 4, 3, padding=1, dilation=2),
    ],
)
def test_other_convolutions_do_not_suit(conv):
    assert not FewCellsConv2d.suits(conv)
    assert FewCellsConv2d.suits(nn.Conv2d(4, 4, 3, padding=1))


# --- the whole detector -------------------------------------------------------------------------------------------


def losses_and_gradients(model):
    images = [torch.rand(3, 70, 90, generator=torch.Generator().manual_seed(2)).double()] * 2
    target = {"boxes": torch.tensor([[5.0, 6, 60, 50]], dtype=torch.float64), "labels": torch.tensor([1])}
    torch.manual_seed(1)
    losses = model(images, [target, {"boxes": target["boxes"][:0], "labels": target["labels"][:0]}])
    sum(losses.values()).backward()
    return losses, {k: p.grad for k, p in model.named_parameters()}


@pytest.mark.parametrize(
    "name",
    [
        "fasterrcnn_tiny_fpn",
        "fasterrcnn_resnet50_fpn",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
    ],
)
def test_a_detectors_losses_and_gradients_are_torchvisions(name):
    torch.manual_seed(0)
    ours, _, _ = builder.build(name, 3, weights="none", trainable_layers=3, norm="group", batch_size=2, sizes=SIZES)
    assert isinstance(ours.roi_heads.box_roi_pool, TableRoIAlign)
    assert any(isinstance(m, FewCellsConv2d) for m in ours.rpn.modules())
    theirs = copy.deepcopy(ours)
    theirs.roi_heads.box_roi_pool.__class__ = MultiScaleRoIAlign
    for module in theirs.rpn.modules():
        if isinstance(module, FewCellsConv2d):
            module.__class__ = nn.Conv2d
    assert list(ours.state_dict()) == list(theirs.state_dict())  # checkpoints stay what they were
    expected, found = (losses_and_gradients(model.double().train()) for model in (theirs, ours))
    for key, value in expected[0].items():
        torch.testing.assert_close(found[0][key], value, rtol=1e-5, atol=1e-6)
    assert any(g is not None and g.abs().sum() > 0 for k, g in expected[1].items() if "rpn.head" in k)
    for key, gradient in expected[1].items():
        torch.testing.assert_close(found[1][key], gradient, rtol=1e-5, atol=1e-9, msg=key)
