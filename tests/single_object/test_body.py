"""LoadHead on the body of the compact detector: the same weights, the same features, and what is refused."""

from __future__ import annotations

import json

import pytest
import torch
from safetensors.torch import load_file

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.networks import builder, first_weights
from toolkit.single_object.baselines import restored
from toolkit.single_object.networks import backbones
from toolkit.training import run_folder

BODY = backbones.DETECTOR_BODY
SIDE = 64


def detector(weights: str) -> torch.nn.Module:
    sizes = {"min_size": SIDE, "max_size": 2 * SIDE}
    return builder.build(BODY, 3, weights=weights, trainable_layers=5, norm="auto", batch_size=8, sizes=sizes)[0].eval()


def loadhead(weights: str) -> backbones.LoadHead:
    return backbones.LoadHead(2, backbone=BODY, image_size=SIDE, weights=weights).eval()


def test_every_tensor_of_the_body_is_the_starters():
    file = load_file(first_weights.STARTER)
    mine = {k: v for k, v in loadhead("starter").features[1].state_dict().items() if "num_batches" not in k}
    theirs = {k.removeprefix("backbone.body."): v for k, v in file.items() if k.startswith("backbone.body.")}
    # eight convolutions, each with weight, bias, mean and variance of its norm
    assert len(mine) == 8 * 5 and mine.keys() == {k for k in theirs if "num_batches" not in k}
    for name, value in mine.items():
        assert torch.equal(value, theirs[name].float()), name


def test_both_bodies_see_the_same_in_one_picture():
    image = torch.rand(3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    theirs = detector("starter")
    with torch.inference_mode():
        seen, _ = theirs.transform([image])  # the detector's own way from 0..1 to its body
        x = seen.tensors
        for stage in theirs.backbone.body:
            x = stage(x)
        mine = loadhead("starter").features(image[None])
    assert x.shape == (1, 128, 2, 2)
    torch.testing.assert_close(mine, x)
    assert x.std() > 0.01


def test_without_weights_the_body_is_new():
    torch.manual_seed(0)
    first = loadhead("none").features[1][0][0].weight
    assert first.shape == loadhead("starter").features[1][0][0].weight.shape
    assert not torch.equal(first, loadhead("none").features[1][0][0].weight)
    assert not torch.equal(first, loadhead("starter").features[1][0][0].weight)


def test_resnet34_head_stands_on_it_too():
    network = backbones.CustomHead(5, backbone=BODY, image_size=SIDE, weights="starter").eval()
    assert network(torch.rand(2, 3, SIDE, SIDE)).shape == (2, 9)


@pytest.mark.parametrize(
    ("backbone", "weights", "text"),
    [
        ("resnet18", "starter", "--weights starter: backbone resnet18 takes none or imagenet; starter weights are for"),
        (BODY, "imagenet", f"--weights imagenet: backbone {BODY} takes none or starter"),
        ("fasterrcnn_tiny", "none", "unknown to torchvision; needs one like resnet18 .*, or fasterrcnn_tiny_fpn"),
    ],
)
def test_combinations_that_do_not_exist_are_refused(backbone, weights, text):
    with pytest.raises(InputError, match=text):
        backbones.feature_extractor(backbone, weights)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["loadhead", "--weights", "starter"], "backbone resnet18 takes none or imagenet"),
        (["resnet34", "--weights", "starter"], "backbone resnet34 takes none or imagenet"),
        (["loadhead", "--backbone", BODY, "--weights", "imagenet"], "takes none or starter"),
        (["loadhead", "--backbone", "resnet35"], "unknown to torchvision"),
        (["hw5net_light", "--weights", "starter"], "--backbone and --weights are for resnet34 and loadhead"),
    ],
)
def test_wrong_words_leave_no_run_behind(tmp_path, capsys, words, text):
    assert main(["baseline", "train", *words, "--runs", str(tmp_path)]) == 2
    assert text in capsys.readouterr().err and not list(tmp_path.iterdir())


def test_starter_run_is_kept_restored_resumed_and_named_in_the_comparison(tmp_path, toy_set, capsys):
    train, val = toy_set("train", 8), toy_set("val", 8, seed=5)
    runs = tmp_path / "runs"
    words = [
        "baseline",
        "train",
        "loadhead",
        "--data",
        str(train),
        "--val",
        str(val),
        "--size",
        "64",
        "--epochs",
        "1",
        "--batch",
        "4",
        "--lr",
        "1e-6",
        "--schedule",
        "constant",
        "--backbone",
        BODY,
        "--weights",
        "starter",
        "--runs",
        str(runs),
    ]
    assert main(words) == 0
    folder = runs / "loadhead"
    weight = restored(checkpoint.load(folder / "last"))[1].features[1][2][0].weight
    # two steps of Adam move a weight by 2e-6 at most
    torch.testing.assert_close(weight, loadhead("starter").features[1][2][0].weight, atol=1e-5, rtol=0)
    assert main(["baseline", "train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert run_folder.read_json(folder / "result.json")["first_weights"] == "starter"
    model, architecture, _ = builder.build(
        BODY,
        3,
        weights="starter",
        trainable_layers=5,
        norm="auto",
        batch_size=8,
        sizes={"min_size": 64, "max_size": 96},
    )
    meta = {
        "classes": json.loads(val.read_text())["categories"],
        "architecture": architecture,
        "epoch": 0,
        "score_thresholds": {},
    }
    checkpoint.save(tmp_path / "detector" / "best", meta, model.state_dict(), None)
    capsys.readouterr()
    words = ["baseline", "compare", str(folder), "--detector", str(tmp_path / "detector"), "--data", str(val)]
    assert main(words) == 0
    assert f"loadhead on {BODY} from starter (baseline)" in capsys.readouterr().out
