"""The practice: the losses of an untrained network are those of guessing; the counts of the worked example."""

from __future__ import annotations

import json
import math

import pytest
from PIL import Image

from anchors.__main__ import main
from anchors.practice import convolutions, four_losses
from anchors.walkthrough.picture import read_picture


@pytest.fixture(scope="module")
def record():
    return four_losses(read_picture(None, None), seed=0, small=True)


def test_the_losses_are_those_of_guessing(record):
    losses = record.data["losses"]
    assert list(losses) == ["loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"]
    assert losses["loss_objectness"] == pytest.approx(math.log(2), abs=0.02)
    assert losses["loss_classifier"] == pytest.approx(math.log(3), abs=0.05)
    # 18 positives, each wrong by its target: all of them together are 0.03 of 256 anchors
    assert 0 < losses["loss_rpn_box_reg"] < 0.1
    assert losses["loss_box_reg"] > 0
    assert record.data["total"] == pytest.approx(sum(losses.values()), abs=1e-5)


def test_every_intermediate_is_recorded(record):
    data = record.data
    assert data["features"][2:] == [50, 50]
    assert (data["anchors"], data["inside"]) == (22_500, 8_940)
    assert data["labels"] == {"positive": 18, "negative": 7_690, "ignored": 1_232}
    assert data["sample"] == [18, 238]
    assert data["proposals"][:2] == [22_500, 12_000]
    assert data["proposals"][2] <= 2_000
    assert sum(data["rois"]) == 128
    assert 2 <= data["rois"][0] <= 32  # the two true boxes at least, a quarter at most
    assert data["flat"] == [128, 48 * 49]
    assert (data["class_logits"], data["box_deltas"]) == ([128, 3], [128, 12])


def test_the_same_seed_gives_the_same_losses(record):
    again = four_losses(read_picture(None, None), seed=0, small=True)
    assert again.data == record.data
    assert again.lines == record.lines


def test_the_command_prints_the_steps_and_the_four_losses(record, capsys):
    assert main(["practice", "--small"]) == 0
    printed = capsys.readouterr().out
    for words in ("18 positive, 7,690 negative, 1,232 ignored", "[128, 48, 7, 7]", "class logits [128, 3]"):
        assert words in printed
    assert printed.splitlines()[-4].split() == ["loss_objectness", f"{record.data['losses']['loss_objectness']:.4f}"]
    assert main(["practice", "--small", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(json.dumps(record.data))


def test_a_box_loss_of_zero_is_explained(tmp_path, capsys):
    # seed 0's proposals do not reach this small box: the only foreground is the box itself, its deltas are 0
    (tmp_path / "a.json").write_text(
        '{"shapes": [{"label": "a", "points": [[10, 10], [40, 30]]}], "imagePath": "a.png"}'
    )
    Image.new("RGB", (800, 800), (90, 120, 30)).save(tmp_path / "a.png")
    assert main(["practice", "--small", "--labels", str(tmp_path / "a.json")]) == 0
    printed = capsys.readouterr().out
    assert "RoIs           1 foreground" in printed
    assert "No proposal of this untrained RPN reaches IoU 0.5 with an object" in printed
    assert printed.splitlines()[-1].split() == ["loss_box_reg", "0.0000"]


def test_a_file_without_boxes_is_one_line(tmp_path, capsys):
    (tmp_path / "a.json").write_text("[]")
    assert main(["practice", "--small", "--labels", str(tmp_path / "a.json")]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_convolutions_keep_the_size_and_halve_at_m():
    import torch

    assert convolutions((4, "M", 6))(torch.zeros(1, 3, 8, 10)).shape == (1, 6, 4, 5)


@pytest.mark.slow
def test_vgg16s_shapes():
    data = four_losses(read_picture(None, None), seed=0, small=False).data
    assert data["features"] == [1, 512, 50, 50]
    assert data["pooled"] == [128, 512, 7, 7]
    assert data["flat"] == [128, 25_088]
    assert data["losses"]["loss_objectness"] == pytest.approx(math.log(2), abs=0.1)
