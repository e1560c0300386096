"""Drafts of labels: LabelMe files that our own reader takes, and a person's files untouched."""

from __future__ import annotations

import json

import pytest
import torch
from PIL import Image

from label_tools.document import coco_file
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.networks import builder
from toolkit.prediction.detect_in_batches import detect_pictures


@pytest.fixture
def run(tmp_path):
    torch.manual_seed(3)
    model, architecture, _ = builder.build(
        "fasterrcnn_tiny_fpn",
        3,
        weights="none",
        trainable_layers=5,
        norm="group",
        batch_size=1,
        sizes={"min_size": 64, "max_size": 96, "box_score_thresh": 0.0, "box_detections_per_img": 5},
    )
    meta = {"classes": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}], "architecture": architecture}
    checkpoint.save(tmp_path / "run" / "best", meta, model.state_dict(), None)
    return tmp_path / "run"


def test_drafts_read_back_as_labels_and_keep_what_a_person_drew(run, tmp_path, capsys):
    pictures, drafts = tmp_path / "new", tmp_path / "drafts"
    (pictures / "deep").mkdir(parents=True)
    for name in ("a.png", "deep/b.png", "mine.png"):
        Image.effect_noise((90, 70), 80).convert("RGB").save(pictures / name)
    (pictures / "mine.json").write_text("{}")
    assert main(["prelabel", str(run), str(pictures), "--out", str(drafts), "--score", "0"]) == 0
    said = capsys.readouterr()
    assert "2 drafts" in said.out and "1 picture left alone" in said.out and "mine.png" in said.err
    assert (pictures / "mine.json").read_text() == "{}"
    content = json.loads((drafts / "deep" / "b.json").read_text())
    assert content["flags"] == {"reviewed": False} and content["imageData"] is None
    assert (drafts / "deep" / content["imagePath"]).resolve() == (pictures / "deep" / "b.png").resolve()
    assert content["shapes"] and all(0 <= s["score"] <= 1 for s in content["shapes"])
    convert = ["convert", "labelme", str(drafts), "--out", str(tmp_path / "o.json"), "--image-root", str(pictures)]
    assert main(convert) == 2 and "not yet reviewed" in capsys.readouterr().err  # drafts are no labels by themselves
    assert main([*convert, "--include-unreviewed"]) == 0
    document = coco_file.read(tmp_path / "o.json")
    drawn = sum(len(json.loads(p.read_text())["shapes"]) for p in drafts.rglob("*.json"))
    assert 0 < len(document["annotations"]) <= drawn and len(document["images"]) == 2
    # a second run drafts nothing anew
    before = (drafts / "a.json").read_bytes()
    assert main(["prelabel", str(run), str(pictures), "--out", str(drafts), "--score", "0"]) == 0
    assert (drafts / "a.json").read_bytes() == before and "0 drafts" in capsys.readouterr().out


def test_what_a_person_saved_while_the_detector_was_at_work_stays(run, tmp_path, capsys, monkeypatch):
    pictures = tmp_path / "new"
    pictures.mkdir()
    Image.effect_noise((90, 70), 80).convert("RGB").save(pictures / "a.png")

    def seen(*given):
        for one in detect_pictures(*given):
            (pictures / "a.json").write_text("mine")
            yield one

    monkeypatch.setattr("toolkit.labelling.drafts.detect_pictures", seen)
    assert main(["prelabel", str(run), str(pictures), "--out", str(pictures), "--score", "0"]) == 0
    assert (pictures / "a.json").read_text() == "mine" and "1 picture left alone" in capsys.readouterr().out


def test_a_broken_picture_is_named_and_the_rest_goes_on(run, tmp_path, capsys):
    pictures, drafts = tmp_path / "new", tmp_path / "drafts"
    pictures.mkdir()
    for name in ("a.png", "b.png", "c.png"):
        Image.effect_noise((90, 70), 80).convert("RGB").save(pictures / name)
    (pictures / "b.png").write_bytes((pictures / "b.png").read_bytes()[:99])
    assert main(["prelabel", str(run), str(pictures), "--out", str(drafts), "--score", "0"]) == 1
    said = capsys.readouterr()
    assert "2 drafts" in said.out and "1 picture that cannot be read" in said.out and "b.png" in said.err
    assert sorted(p.name for p in drafts.iterdir()) == ["a.json", "c.json"]


def test_two_pictures_of_one_draft_are_refused_before_any_is_written(run, tmp_path, capsys):
    pictures, drafts = tmp_path / "new", tmp_path / "drafts"
    pictures.mkdir()
    for name in ("a.jpg", "a.png", "b.png"):
        Image.effect_noise((90, 70), 80).convert("RGB").save(pictures / name)
    assert main(["prelabel", str(run), str(pictures), "--out", str(drafts)]) == 2
    error = capsys.readouterr().err
    assert "a.jpg" in error and "a.png" in error and "a.json" in error and not drafts.exists()
