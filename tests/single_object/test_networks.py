"""The documents' networks: exact parameter counts, shapes, and what makes each one what it is."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
from torch import nn

from label_tools.text.errors import InputError
from toolkit.single_object import baselines
from toolkit.single_object.networks import backbones, digit_networks, hw5net, loadnet


def count(network: nn.Module) -> int:
    return sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("loadnet2", 20_454_521),
        ("loadnet2_noskip", 20_454_521),
        ("cnn1", 697_935),
        ("cnn2", 5_883_791),
        ("cnn3", 12_233_711),
        ("grid1", 73_479),
        ("grid2", 522_183),
        ("grid3", 1_579_271),
        ("hw5net", 211_083_307),  # the report's own summary
        ("hw5net_mse", 211_083_307),
        # five more conv3 of 128 with norms: 5 * (128*128*9 + 128 + 2*128) = 739,200
        ("hw5net_learnable", 211_083_307 + 739_200),
        # ResNet-34 without fc 21,284,672; 25088*256+256, BN 512, 256*24+24 = 6,429,464
        ("resnet34", 21_284_672 + 6_422_784 + 512 + 6_168),
    ],
)
def test_parameter_counts_are_the_documents(name, parameters):
    assert baselines.num_parameters(baselines.find(name)) == parameters


def test_each_depth_of_loadnet2_adds_one_block_of_each_width():
    counts = [
        baselines.num_parameters(baselines.Baseline(**{**vars(baselines.find("loadnet2")), "fixed": {"depth": d}}))
        for d in loadnet.DEPTHS
    ]
    # conv3 64->64 and 128->128 with bias and norm: 36,928 + 128 + 147,584 + 256
    assert [b - a for a, b in pairwise(counts)] == [184_896] * 4


def test_depth_that_the_document_does_not_have_is_refused():
    with pytest.raises(InputError, match="depth 9, needs one of 8, 10"):
        loadnet.LOADnet2(depth=9)


@pytest.mark.parametrize(
    ("network", "size", "out"),
    [
        (digit_networks.CNNModel1, (48, 60), (15,)),
        (digit_networks.CNNModel2, (48, 60), (15,)),
        (digit_networks.CNNModel3, (48, 60), (15,)),
        (digit_networks.Grid1, (48, 60), (2, 3, 7)),
        (digit_networks.Grid2, (48, 60), (2, 3, 7)),
        (digit_networks.Grid3, (48, 60), (2, 3, 7)),
    ],
)
def test_digit_networks_output_shapes(network, size, out):
    assert network()(torch.rand(2, 1, *size)).shape == (2, *out)


def test_skip_block_applies_one_convolution_twice_and_adds_the_input():
    block = loadnet.SkipBlock(2, 2).eval()
    nn.init.zeros_(block.conv.bias)
    block.conv.weight.data.zero_()
    for c in range(2):
        block.conv.weight.data[c, c, 1, 1] = 3.0  # the convolution multiplies by 3
    x = torch.ones(1, 2, 4, 4)
    scale = 1 / (1 + block.norm.eps) ** 0.5  # a fresh norm in eval: mean 0, variance 1
    # twice 3x, plus x: 9 + 1, the norm's eps twice
    torch.testing.assert_close(block(x), torch.full_like(x, 9 * scale**2 + 1))
    block.skip_connections = False
    torch.testing.assert_close(block(x), torch.full_like(x, 9 * scale**2))


def test_skip_block_in_eval_mode_says_what_it_said_while_it_learned():
    """Its one norm is used twice, on inputs that differ: one running mean for both would fit neither."""
    torch.manual_seed(0)
    block = loadnet.SkipBlock(4, 4)
    block.norm.momentum = block.second.momentum = 1.0  # the statistics of the last batch
    x = torch.rand(8, 4, 16, 16) * 255
    taught = block.train()(x)
    torch.testing.assert_close(block.eval()(x), taught, rtol=1e-3, atol=1e-2)  # biased against unbiased variance


def test_skip_block_that_widens_adds_the_input_to_both_halves_and_convolves_once():
    block = loadnet.SkipBlock(1, 2).eval()
    block.conv.weight.data.zero_()
    nn.init.zeros_(block.conv.bias)
    x = torch.rand(1, 1, 4, 4)
    torch.testing.assert_close(block(x), torch.cat((x, x), 1))


def test_skip_block_shrinks_block_and_input_with_the_same_convolution():
    block = loadnet.SkipBlock(1, 1, downsample=True).eval()
    block.conv.weight.data.zero_()
    nn.init.zeros_(block.conv.bias)  # the block itself gives 0
    block.shrink.weight.data.fill_(2.0)
    block.shrink.bias.data.fill_(0.5)
    x = torch.ones(1, 1, 4, 4)
    # shrink(0) + shrink(1) = 0.5 + 2.5
    torch.testing.assert_close(block(x), torch.full((1, 1, 2, 2), 3.0))


@pytest.mark.parametrize("options", [{}, {"skip_connections": False}, {"depth": 16}])
def test_loadnet2_gives_classes_and_a_box(options):
    logits, box = loadnet.LOADnet2(num_classes=4, **options)(torch.rand(2, 3, 32, 32) * 255)
    assert logits.shape == (2, 4) and box.shape == (2, 4)


def test_hw5net_runs_as_written():
    """All 211 million parameters forward and back, at the size they are meant for."""
    network = hw5net.HW5Net(learnable_residual=False)
    logits, box = network(torch.rand(2, 3, 256, 256))
    assert logits.shape == (2, 3) and box.shape == (2, 4)
    (logits.sum() + box.sum()).backward()
    assert torch.isfinite(network.trunk[1].weight.grad).all()


def test_hw5net_block_adds_plain_or_learned_residual():
    x = torch.rand(2, 4, 3, 3) - 0.5
    plain, learned = hw5net.Block(4).eval(), hw5net.Block(4, learnable_residual=True).eval()
    for block in (plain, learned):
        for parameter in block.conv.parameters():
            nn.init.zeros_(parameter)
    torch.testing.assert_close(plain(x), x.relu())
    torch.testing.assert_close(learned(x), learned.residual(x).relu())
    assert not torch.allclose(learned(x), x.relu())


@pytest.mark.parametrize("size", [128, 256])
def test_light_hw5net_takes_other_sizes(size):
    logits, box = hw5net.HW5NetLight(num_classes=2)(torch.rand(2, 3, size, size))
    assert logits.shape == (2, 2) and box.shape == (2, 4)


def test_custom_head_gives_boxes_in_pixels():
    network = backbones.CustomHead(num_classes=5, backbone="resnet18", image_size=64).eval()
    out = network(torch.rand(2, 3, 64, 64))
    assert out.shape == (2, 9)
    assert ((out[:, :4] > 0) & (out[:, :4] < 64)).all()


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "efficientnet_b0"])
def test_loadhead_box_is_never_inverted(backbone):
    network = backbones.LoadHead(3, backbone=backbone, image_size=64, presence=True).eval()
    nn.init.normal_(network.box_head[-1].weight, std=5.0)
    logits, box, presence = network(torch.randn(4, 3, 64, 64) * 5)
    assert logits.shape == (4, 3) and presence.shape == (4,)
    assert (box[:, 2:] >= box[:, :2]).all()  # equal where float32 holds no smaller side


def test_loadhead_without_presence_has_no_such_output():
    assert backbones.LoadHead(3, image_size=64).eval()(torch.rand(1, 3, 64, 64))[2] is None


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("resnet35", "unknown to torchvision"),
        ("vit_b_16", "ends in no map of features"),
    ],
)
def test_backbones_that_do_not_fit_are_refused(name, text):
    with pytest.raises(InputError, match=text):
        backbones.feature_extractor(name)


def test_unknown_baseline_names_the_nearest():
    with pytest.raises(InputError, match="did you mean loadnet2"):
        baselines.find("lodnet2")
    with pytest.raises(InputError, match="baseline zzz: unknown; known: loadnet2, "):
        baselines.find("zzz")


def test_document_budget_takes_from_the_scaled_one_what_the_document_leaves_open():
    post = baselines.find("resnet34")
    assert baselines.budget(post, "document").images == 5011
    assert baselines.budget(post, "document").lr == post.scaled.lr
    assert baselines.budget(baselines.find("cnn1"), "document").epochs == 100
