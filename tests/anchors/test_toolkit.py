"""The lesson's network in the toolkit: `frcnn train --model anchors_tiny`, then evaluate and predict from its run."""

from __future__ import annotations

import json

import pytest
import torch

from anchors.detector import TinyFasterRCNN
from tests.toolkit.training_fixtures import TINY, draw_data, frcnn, records
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.networks import builder

EPOCHS = 4
CHANGED = {"--model": "anchors_tiny", "--epochs": str(EPOCHS), "--norm": "auto"}


def words() -> list[str]:
    changed = [CHANGED.get(before, word) for before, word in zip(["", *TINY], TINY)]
    return [*changed, "--eval-every", str(EPOCHS)]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """Trained for a few steps on six drawn pictures of 64 pixels; `frcnn evaluate` and `predict` start from it."""
    folder = tmp_path_factory.mktemp("lesson")
    data = draw_data(folder / "data")
    code, text = frcnn(["train", data, "--runs", folder / "runs", *words()], folder / "out.txt")
    assert code == 0, text
    return folder / "runs" / "train"


def test_it_trains_and_its_four_losses_fall(run):
    steps = [r for r in records(run) if r["kind"] == "step"]
    assert len(steps) == 3 * EPOCHS  # six pictures, two at a time
    for r in steps:
        parts = {k: v for k, v in r.items() if k.startswith("loss_")}
        assert set(parts) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
        assert r["loss"] == pytest.approx(sum(parts.values()))
    totals = [r["loss"] for r in steps]
    assert sum(totals[-3:]) < 0.9 * sum(totals[:3]), totals


def test_the_checkpoint_gives_the_network_back(run):
    found = checkpoint.load(run / "best")
    network = builder.rebuild(found.meta["architecture"])
    network.load_state_dict(found.weights)
    assert isinstance(network, TinyFasterRCNN)
    assert network.num_classes == 3  # square, disc, background
    assert all(torch.isfinite(v).all() for v in found.weights.values())


def test_evaluate_measures_what_training_has_measured(run, capsys):
    capsys.readouterr()
    assert main(["evaluate", str(run), "--json", "--no-report", "--resamples", "0", "--device", "cpu"]) == 0
    metrics = json.loads(capsys.readouterr().out)
    measured = checkpoint.load(run / "best").meta["metrics"]
    assert {name: metrics[name] for name in measured} == pytest.approx(measured)
    assert metrics["num_images"] == 3 and metrics["num_detections"] > 0


def test_predict_finds_boxes_inside_the_picture(run, tmp_path):
    pictures = run.parent.parent / "data"
    arguments = ["predict", str(run), str(pictures / "val1.png"), "--out", str(tmp_path / "p"), "--score", "0"]
    assert main(arguments) == 0
    content = json.loads((tmp_path / "p" / "detections.json").read_text())
    (record,) = content["images"]
    assert record["file_name"] == "val1.png" and record["detections"]
    for d in record["detections"]:
        x, y, w, h = d["bbox"]
        assert x >= 0 and y >= 0 and w > 0 and h > 0 and x + w <= 64.01 and y + h <= 64.01
        assert 0 <= d["score"] <= 1 and d["category_id"] in (1, 2)
    assert (tmp_path / "p" / "val1.png.jpg").exists()
