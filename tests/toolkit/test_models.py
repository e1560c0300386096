"""The registry: heads, weights in torchvision's own format, norms, freezing, and checkpoints that rebuild exactly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torchvision.models import detection as zoo
from torchvision.ops.misc import FrozenBatchNorm2d

from label_tools.text.errors import InputError
from toolkit.networks import builder, class_loss, first_weights, registry

SIZES = {"min_size": 64, "max_size": 96}
TORCHVISION = [name for name, d in registry.REGISTRY.items() if d.coco is not None]


def build(name="fasterrcnn_tiny_fpn", num_classes=3, weights="none", layers=5, norm="auto", batch_size=8, **sizes):
    return builder.build(
        name,
        num_classes,
        weights=weights,
        trainable_layers=layers,
        norm=norm,
        batch_size=batch_size,
        sizes={**SIZES, **sizes},
    )


@pytest.fixture(scope="module")
def coco_file(tmp_path_factory):
    """A file in torchvision's own format for fasterrcnn_resnet50_fpn: 91 classes, random values."""
    torch.manual_seed(0)
    model = zoo.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=91)
    path = tmp_path_factory.mktemp("weights") / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    torch.save(model.state_dict(), path)
    return path


def test_the_compact_network_is_as_small_as_it_says():
    model, architecture, _ = build(num_classes=4)
    assert sum(p.numel() for p in model.parameters()) == 1_621_171
    assert architecture["norm"] == "batch"
    torch.manual_seed(0)
    images = [torch.rand(3, 64, 80), torch.rand(3, 70, 64)]
    targets = [
        {"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([2])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    losses = model.train()(images, targets)
    assert set(losses) == {"loss_classifier", "loss_box_reg", "loss_objectness", "loss_rpn_box_reg"}
    assert all(torch.isfinite(v) for v in losses.values())
    found = model.eval()(images)
    assert all(set(f) == {"boxes", "labels", "scores"} for f in found)


@pytest.mark.parametrize("name", list(registry.REGISTRY))
def test_every_detector_has_a_new_head_for_k_plus_1_classes_and_learns(name):
    model, _, _ = build(name, num_classes=4, norm="group", box_batch_size_per_image=8)
    if hasattr(model, "roi_heads"):
        assert model.roi_heads.box_predictor.cls_score.out_features == 4
        assert model.roi_heads.box_predictor.bbox_pred.out_features == 16
    target = {"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([3])}
    if registry.REGISTRY[name].masks:
        assert model.roi_heads.mask_predictor.mask_fcn_logits.out_channels == 4
        target["packed_masks"] = torch.ones((1, 64, 64), dtype=torch.uint8)
    loss = sum(model.train()([torch.rand(3, 64, 64)], [target]).values())
    loss.backward()
    assert torch.isfinite(loss) and all(p.grad is not None for p in model.parameters() if p.requires_grad)


def test_unknown_model_names_the_nearest():
    with pytest.raises(InputError, match="did you mean fasterrcnn_resnet50_fpn"):
        registry.find("fasterrcnn_resnet50")
    with pytest.raises(InputError, match="--model zzz: unknown; known: fasterrcnn_resnet50_fpn, "):
        registry.find("zzz")


def test_coco_weights_in_torchvisions_format_load_as_torchvision_loads_them(coco_file, monkeypatch):
    # the oracle: torchvision's own constructor, given the same file
    state = torch.load(coco_file, weights_only=True)
    coco = registry.find("fasterrcnn_resnet50_fpn").coco
    monkeypatch.setattr(type(coco), "get_state_dict", lambda *a, **k: state)
    theirs = zoo.fasterrcnn_resnet50_fpn(
        weights=zoo.FasterRCNN_ResNet50_FPN_Weights.COCO_V1, trainable_backbone_layers=3
    )
    for weights in ("coco", str(coco_file)):
        ours, architecture, about = build("fasterrcnn_resnet50_fpn", weights=weights, layers=3)
        assert "new box predictor" in about and architecture["norm"] == "frozen" and architecture["eps"] == 0.0
        expected = {k: v for k, v in theirs.state_dict().items() if "box_predictor" not in k}
        actual = ours.state_dict()
        assert all(torch.equal(actual[k], v) for k, v in expected.items())
        assert ours.roi_heads.box_predictor.cls_score.out_features == 3
        learns = {k for k, p in ours.named_parameters() if p.requires_grad}
        assert learns == {k for k, p in theirs.named_parameters() if p.requires_grad}
        image = torch.rand(1, 3, 64, 64)
        # equal features prove that eps and every frozen statistic agree
        assert torch.equal(ours.backbone(image)["0"], theirs.backbone(image)["0"])


def test_imagenet_weights_fill_the_backbone(tmp_path):
    from torchvision.models import resnet50

    state = resnet50(weights=None).state_dict()
    path = tmp_path / "resnet50.pth"
    torch.save(state, path)
    model, architecture, about = build("fasterrcnn_resnet50_fpn", weights=str(path), layers=2)
    assert "of the backbone" in about and architecture["norm"] == "frozen"
    assert torch.equal(model.backbone.body.layer4[0].conv1.weight, state["layer4.0.conv1.weight"])


@pytest.mark.parametrize("content", ["text", "list", "other network"])
def test_files_that_are_no_weights_of_this_network_are_refused(tmp_path, content):
    path = tmp_path / "weights.pth"
    if content == "text":
        path.write_text("no weights")
    elif content == "list":
        torch.save([1, 2], path)
    else:
        torch.save(nn.Linear(3, 3).state_dict(), path)
    with pytest.raises(InputError, match=r"weights\.pth"):
        build(weights=str(path))
    with pytest.raises(InputError, match="not found"):
        build(weights=str(tmp_path / "none.pth"))
    with pytest.raises(InputError, match="none exist"):
        build(weights="coco")


def test_a_hostile_file_runs_nothing(tmp_path):
    import pickle

    class Payload:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    path = tmp_path / "evil.pth"
    path.write_bytes(pickle.dumps({"a": Payload()}))
    with pytest.raises(InputError):
        build(weights=str(path))
    assert not (tmp_path / "ran").exists()


def test_no_network_is_one_line_with_three_ways_out(monkeypatch, tmp_path):
    import urllib.error

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))

    def offline(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", offline)
    with pytest.raises(InputError) as error:
        first_weights.ensure("fasterrcnn_resnet50_fpn", "auto")
    text = str(error.value)
    for part in ("fasterrcnn_resnet50_fpn_coco-258fb6c6.pth", "--weights FILE", "--weights none", "put the file there"):
        assert part in text
    assert "\n" not in text


@pytest.mark.parametrize("name", ["fasterrcnn_resnet50_fpn", "fasterrcnn_mobilenet_v3_large_fpn"])
def test_trainable_layers_freeze_what_torchvision_freezes(name, monkeypatch):
    detector = registry.REGISTRY[name]
    backbone = nn.Module()
    for layers in range(detector.num_layers + 1):
        theirs = getattr(zoo, name)(weights=None, weights_backbone=None, num_classes=2)
        ours = detector.build(num_classes=2)
        for parameter in [*theirs.parameters(), *ours.parameters()]:
            parameter.requires_grad_(True)
        body = theirs.backbone.body
        if "resnet" in name:  # torchvision's rule, written out: faster_rcnn.py and backbone_utils.py
            train = ["layer4", "layer3", "layer2", "layer1", "conv1"][:layers] + (["bn1"] if layers == 5 else [])
            frozen = {k for k, _ in body.named_parameters() if not k.startswith(tuple(train) or ("-",))}
        else:
            starts = [0] + [i for i, b in enumerate(body.values()) if getattr(b, "_is_cn", False)] + [len(body) - 1]
            before = len(body) if layers == 0 else starts[len(starts) - layers]
            frozen = {k for k, _ in body.named_parameters() if int(k.split(".")[0]) < before}
        builder.freeze(ours, detector, layers)
        assert {k for k, p in ours.backbone.body.named_parameters() if not p.requires_grad} == frozen, layers
    del backbone


def test_from_nothing_every_layer_learns():
    model, architecture, _ = build("fasterrcnn_resnet50_fpn", layers=1)
    assert architecture["trainable_layers"] == 5 and all(p.requires_grad for p in model.parameters())


def test_norm_from_nothing_follows_the_batch_size():
    def norms(batch_size, norm="auto"):
        model, architecture, _ = build(batch_size=batch_size, norm=norm)
        return architecture["norm"], {
            type(m) for m in model.backbone.modules() if type(m).__name__.endswith(("Norm", "Norm2d"))
        }

    assert norms(2) == ("group", {nn.GroupNorm})  # small batches make BatchNorm's statistics noise
    assert norms(8) == ("batch", {nn.BatchNorm2d})
    assert norms(8, "frozen") == ("frozen", {FrozenBatchNorm2d})


@pytest.mark.parametrize("norm", ["group", "batch", "frozen"])
def test_architecture_rebuilds_the_same_network(norm):
    model, architecture, _ = build(norm=norm)
    again = builder.rebuild(architecture)
    again.load_state_dict(model.state_dict())
    image = [torch.rand(3, 64, 64)]
    for a, b in zip(model.eval()(image), again.eval()(image), strict=True):
        assert all(torch.equal(a[k], b[k]) for k in a)


def test_class_loss_replaces_only_the_classification_loss():
    torch.manual_seed(0)
    model, _, _ = build()
    images = [torch.rand(3, 64, 64)]
    targets = [{"boxes": torch.tensor([[5.0, 5, 30, 40]]), "labels": torch.tensor([2])}]

    def losses():
        torch.manual_seed(1)
        return {k: v.detach() for k, v in model.train()(images, targets).items()}

    plain = losses()
    class_loss.install(model, torch.ones(3), 0.0)
    same = losses()
    assert all(torch.allclose(plain[k], same[k], atol=1e-6) for k in plain)  # weights of one change nothing
    class_loss.install(model, None, 0.3)
    smooth = losses()
    assert not torch.isclose(smooth["loss_classifier"], same["loss_classifier"])
    assert torch.equal(smooth["loss_box_reg"], same["loss_box_reg"])


def test_balanced_weights_by_hand():
    # counts 1 and 4: 1/sqrt -> 1 and .5, mean .75 -> 4/3 and 2/3; background 1
    assert class_loss.balanced_weights(torch.tensor([1, 4])).tolist() == pytest.approx([1, 4 / 3, 2 / 3])
    # a class without objects has no say: the mean is over the two that occur
    assert class_loss.balanced_weights(torch.tensor([1, 0, 4])).tolist() == pytest.approx([1, 4 / 3, 1, 2 / 3])
    assert class_loss.balanced_weights(torch.tensor([0, 4])).tolist() == [1, 1, 1]


def test_what_a_network_does_not_have_is_refused():
    from toolkit import config
    from toolkit.networks.builder import build_model

    for option in ({"multi_scale": 0.3}, {"anchor_scale": 2.0}):
        with pytest.raises(InputError, match="--" + next(iter(option)).replace("_", "-")):
            build_model(config.resolve(10, {"model": "anchors_tiny", **option}), ["nut"])
    model = registry.find("anchors_tiny").build(num_classes=2)
    for option, name in (
        ({"label_smoothing": 0.1}, "--label-smoothing"),
        ({"class_weights": "balanced"}, r"class_weights \(in a recipe file\)"),
    ):
        with pytest.raises(InputError, match=f"^{name}: not for --model anchors_tiny"):
            class_loss.set_class_loss(model, config.resolve(10, {"model": "anchors_tiny", **option}), np.array([1]))


def test_model_auto_takes_what_the_machine_can_train(monkeypatch, caplog):
    from toolkit.config import resolve
    from toolkit.fine_tune import with_model

    assert first_weights.automatic(torch.device("cuda"))[0] == "fasterrcnn_resnet50_fpn"
    caplog.set_level("INFO")
    for path, name in (("here", "fasterrcnn_efficientnet_lite0_fpn"), (None, "fasterrcnn_tiny_fpn")):
        monkeypatch.setattr(first_weights, "packaged_file", lambda _, path=path: path)
        options = with_model({"device": "cpu"}, {"model": "auto"})
        config = resolve(10, options, {"model": "auto"})
        assert config.model.model == name and config.model.image_size == 224  # with that network's own recipe
        assert f"network: {name} (no GPU here" in caplog.text
        assert with_model({"device": "cpu"}, {}) == options  # nothing asked is auto
    assert "pip install 'frcnn-toolkit[pretrained]'" in caplog.text


def test_first_weights_that_are_asked_for_bring_their_network(tmp_path, caplog):
    from toolkit.fine_tune import with_model

    caplog.set_level("INFO")
    (tmp_path / "config.yaml").write_text("model: {model: maskrcnn_tiny_fpn}\n")
    for weights, name in (
        ("coco", "fasterrcnn_resnet50_fpn"),
        ("other.pth", "fasterrcnn_resnet50_fpn"),
        ("starter", "fasterrcnn_tiny_fpn"),
        (str(tmp_path), "maskrcnn_tiny_fpn"),
    ):
        assert with_model({}, {"weights": weights})["model"] == name
        assert f"network: {name} (the " in caplog.text
    asked = {"weights": "starter", "model": "anchors_tiny"}
    assert with_model(asked, {}) == asked and with_model({}, asked) == {}
