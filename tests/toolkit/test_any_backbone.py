"""Faster R-CNN on any backbone: each is asked for its maps; resnet50 is torchvision's detector to the last tensor."""

from __future__ import annotations

import copy
import sys

import pytest
import torch
from torchvision import models as zoo
from torchvision.models import detection
from torchvision.ops.misc import FrozenBatchNorm2d

from label_tools.text.errors import InputError, MissingExtra
from toolkit.__main__ import main
from toolkit.networks import any_backbone, builder, first_weights, registry
from toolkit.networks.resize_and_anchors import view_of

SIZES = {"min_size": 64, "max_size": 96}


def build(backbone: str, weights: str = "none", layers: int = 2, norm: str = "auto"):
    words = {"trainable_layers": layers, "norm": norm, "batch_size": 2, "sizes": SIZES}
    return builder.build(f"fasterrcnn/{backbone}", 3, weights=weights, **words)


# smallest of each family; the channels are those of the papers' tables
FAMILIES = {
    "resnet18": (64, 128, 256, 512),
    "regnet_x_400mf": (32, 64, 160, 400),
    "mobilenet_v3_small": (16, 24, 48, 576),
    "efficientnet_b0": (24, 40, 112, 1280),
    "convnext_tiny": (96, 192, 384, 768),
    "swin_t": (96, 192, 384, 768),  # its maps are [B,H,W,C]
    "densenet121": (256, 512, 1024, 1024),
    "vgg11_bn": (256, 512, 512, 512),
}


SLOW = ("efficientnet_b0", "convnext_tiny", "densenet121", "vgg11_bn")


@pytest.mark.parametrize("backbone", [pytest.param(b, marks=pytest.mark.slow) if b in SLOW else b for b in FAMILIES])
def test_each_family_is_asked_for_its_maps_learns_and_can_be_copied(backbone):
    torch.manual_seed(0)
    model, architecture, _ = build(backbone, norm="group")
    assert tuple(level.channels for level in model.backbone.levels) == FAMILIES[backbone]
    assert [level.stride for level in view_of(model).levels] == [4, 8, 16, 32, 64]
    image = torch.rand(3, 64, 80)
    target = {"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([2])}
    loss = sum(model.train()([image], [target]).values())
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters() if p.requires_grad)
    parameters = {name for name, _ in model.backbone.body.named_parameters()}
    assert set().union(*model.backbone.stages) == parameters  # each belongs to one stage
    assert sum(map(len, model.backbone.stages)) == len(parameters)
    twin = builder.rebuild(architecture)
    twin.load_state_dict(model.state_dict())
    for other in (twin, copy.deepcopy(model)):  # of a checkpoint, for averaged weights
        for a, b in zip(model.eval()([image]), other.eval()([image]), strict=True):
            assert all(torch.equal(a[key], b[key]) for key in a)


def test_resnet50_is_torchvisions_detector():
    torch.manual_seed(0)
    ours = registry.find("fasterrcnn/resnet50").build(num_classes=3, **SIZES)
    theirs = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=3, **SIZES)
    ours.load_state_dict(theirs.state_dict())
    image = torch.rand(3, 64, 80)
    with torch.inference_mode():
        for a, b in zip(ours.eval()([image]), theirs.eval()([image]), strict=True):
            assert len(a["boxes"]) and all(torch.equal(a[key], b[key]) for key in a)


@pytest.mark.parametrize("backbone", ["resnet18", "mobilenet_v3_small", "swin_t"])
def test_imagenet_weights_fill_the_body_and_lower_stages_stay(backbone, tmp_path):
    torch.manual_seed(0)
    network = zoo.get_model(backbone, weights=None)
    torch.save(network.state_dict(), tmp_path / "imagenet.pth")
    detector = registry.find(f"fasterrcnn/{backbone}")
    model, architecture, about = build(backbone, str(tmp_path / "imagenet.pth"), layers=detector.num_layers - 1)
    body = model.backbone.body.state_dict()
    for key, value in network.state_dict().items():
        if key in body and not key.endswith("num_batches_tracked"):
            assert torch.equal(body[key], value), key
    assert "of the backbone" in about and architecture["norm"] == "frozen"
    frozen = {name for name, p in model.backbone.body.named_parameters() if not p.requires_grad}
    still = {name for name, _ in model.backbone.body.named_parameters()}  # frozen norms hold no parameters
    assert frozen == model.backbone.stages[0] & still and frozen
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in model.modules())
    if backbone == "resnet18":
        assert sum(isinstance(m, FrozenBatchNorm2d) for m in model.modules()) == 20
        image = torch.rand(1, 3, 64, 64)
        stem = network.eval().maxpool(network.relu(network.bn1(network.conv1(image))))
        expected = network.layer2(network.layer1(stem))
        assert torch.allclose(model.eval().backbone.body(image)["1"], expected, atol=1e-4)


def test_each_stage_of_resnet18():
    stages = registry.find("fasterrcnn/resnet18").build(num_classes=2).backbone.stages
    starts = [{name.split(".")[0] for name in stage} for stage in stages]
    assert starts == [{"conv1", "bn1"}, {"layer1"}, {"layer2"}, {"layer3"}, {"layer4"}]


@pytest.mark.parametrize(
    ("backbone", "says"),
    [
        ("resnet19", "unknown; did you mean resnet1"),
        ("nothing_like_it", "unknown; needs a classification network of torchvision"),
        ("vit_b_16", "has no feature maps"),
        ("alexnet", "has no feature maps"),
        ("maxvit_t", "has no feature maps"),  # for images of one size only
        ("fasterrcnn_resnet50_fpn", "unknown"),
    ],
)
def test_what_is_no_backbone_is_one_line_and_writes_nothing(toy_set, tmp_path, capsys, backbone, says):
    runs = tmp_path / "runs"
    words = ["train", str(toy_set()), "--val", str(toy_set("val")), "--runs", str(runs), "--backbone", backbone]
    assert main(words) == 2
    error = capsys.readouterr().err
    assert f"--backbone {backbone}: " in error and says in error and error.count("\n") == 1
    assert not runs.exists()


def test_options_that_do_not_fit(toy_set, tmp_path, capsys):
    runs = tmp_path / "runs"
    words = ["train", str(toy_set()), "--val", str(toy_set("val")), "--runs", str(runs)]
    words += ["--weights", "none", "--image-size", "64", "--backbone", "swin_t"]
    assert main([*words, "--trainable-layers", "5"]) == 2
    assert "--trainable-layers: found 5, fasterrcnn/swin_t has 4 stages" in capsys.readouterr().err
    assert main([*words, "--model", "fasterrcnn_tiny_fpn"]) == 2
    assert "leave --model fasterrcnn_tiny_fpn out" in capsys.readouterr().err
    assert not list(runs.glob("*"))


def test_weights_of_another_backbone_are_refused(tmp_path):
    torch.save(zoo.get_model("resnet34", weights=None).state_dict(), tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w\.pth: \d+ of \d+ tensors fit this --model"):
        build("mobilenet_v3_small", str(tmp_path / "w.pth"))


def test_timm_without_timm_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(MissingExtra, match=r"frcnn-toolkit\[timm\]"):
        registry.find("fasterrcnn/timm/resnet18")


# --- with the extra timm; without it these are skipped ---------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "channels", "layers"),
    [
        ("resnet10t", (64, 128, 256, 512), 5),
        ("mobilenetv3_small_050", (8, 16, 24, 288), 5),
        ("convnextv2_atto", (40, 80, 160, 320), 4),
        ("swin_tiny_patch4_window7_224", (96, 192, 384, 768), 4),
    ],
)
def test_timm(name, channels, layers):
    pytest.importorskip("timm", reason="needs timm: pip install 'frcnn-toolkit[timm]'")
    torch.manual_seed(0)
    detector = registry.find(f"fasterrcnn/timm/{name}")
    model, _, _ = build(f"timm/{name}", norm="group")
    assert tuple(level.channels for level in model.backbone.levels) == channels
    assert detector.num_layers == layers
    target = {"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([2])}
    loss = sum(model.train()([torch.rand(3, 64, 80)], [target]).values())
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for word in ("vit_tiny_patch16_224", "resnet19"):
        with pytest.raises(InputError, match=f"--backbone timm/{word}: "):
            registry.find(f"fasterrcnn/timm/{word}")


def test_timm_weights_that_cannot_be_fetched_are_one_line(monkeypatch, tmp_path):
    timm = pytest.importorskip("timm", reason="needs timm: pip install 'frcnn-toolkit[timm]'")
    registry.find("fasterrcnn/timm/resnet10t")
    make = timm.create_model

    def offline(*words, pretrained, **options):
        if pretrained:
            raise OSError("Name or service not known")
        return make(*words, pretrained=pretrained, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    any_backbone.find.cache_clear()
    with pytest.raises(InputError, match="nor could it be fetched") as error:
        first_weights.ensure("fasterrcnn/timm/resnet10t", "auto")
    assert "\n" not in str(error.value) and "--weights FILE" in str(error.value)
    any_backbone.find.cache_clear()


def test_maps_count_until_they_grow_again():
    trunk = [any_backbone.Level(name, stride, 8, False) for name, stride in zip("abcdef", (1, 4, 8, 8, 4, 64))]
    assert [level.module for level in any_backbone._last_of_each_stride(trunk)] == ["b", "d"]
