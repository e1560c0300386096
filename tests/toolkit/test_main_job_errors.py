"""Issue-sized mistakes on the way from labels to report: one line with file, place, found and needed; exit code 2."""

from __future__ import annotations

import json
import shutil

import pytest
from PIL import Image

from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.networks import builder


def refused(words, capsys, *parts):
    """The command ends with 2, one line on stderr that holds `parts`, and no traceback."""
    assert main([str(w) for w in words]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert len(error) == 1
    for part in parts:
        assert part in error[0], error[0]


@pytest.fixture
def labelled(tmp_path):
    """One picture with one LabelMe rectangle."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    Image.new("RGB", (60, 40)).save(folder / "a.png")
    shape = {"label": "cat", "points": [[5, 5], [30, 20]], "shape_type": "rectangle", "group_id": None, "flags": {}}
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [shape],
        "imagePath": "a.png",
        "imageData": None,
        "imageHeight": 40,
        "imageWidth": 60,
    }
    (folder / "a.json").write_text(json.dumps(content))
    return folder


def test_a_folder_without_labels(tmp_path, capsys):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(["convert", "labelme", empty, "--out", tmp_path / "o.json"], capsys, "empty")
    refused(["train", empty], capsys, "empty", "train.json")
    assert not (tmp_path / "o.json").exists()


def test_broken_json_among_good_ones_is_named_and_counted(labelled, tmp_path, capsys):
    (labelled / "b.json").write_text('{"shapes": [')
    out = tmp_path / "o.json"
    main(["convert", "labelme", str(labelled), "--out", str(out)])
    assert "b.json" in capsys.readouterr().err
    assert main(["convert", "labelme", str(labelled), "--out", str(tmp_path / "s.json"), "--strict"]) == 2
    assert "b.json" in capsys.readouterr().err
    assert not (tmp_path / "s.json").exists()


@pytest.mark.parametrize(
    "change, parts",
    [
        (lambda d: d["images"][0].update(file_name="gone.png"), ["gone.png", "not found"]),
        (lambda d: d["annotations"][0].update(bbox=[900, 900, 5, 5]), ["annotation"]),
        (lambda d: d["annotations"][0].update(bbox=[float("nan"), 1, 5, 5]), ["annotation"]),
        (lambda d: d.update(annotations=[]), ["no object"]),
    ],
)
def test_labels_that_cannot_train_are_refused_before_anything_is_written(toy_set, tmp_path, capsys, change, parts):
    path = toy_set()
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))
    words = ["train", path, "--runs", tmp_path / "runs", "--model", "fasterrcnn_tiny_fpn"]
    refused(words, capsys, "train.json", *parts)
    assert not (tmp_path / "runs").exists()


def test_a_broken_coco_file(tmp_path, capsys):
    (tmp_path / "train.json").write_text("{")
    refused(["train", tmp_path], capsys, "train.json", "line 1")


def test_unknown_model_and_weights(toy_set, tmp_path, capsys):
    words = ["train", toy_set(), "--runs", tmp_path / "runs", "--model"]
    refused([*words, "fasterrcnn_resnet"], capsys, "fasterrcnn_resnet", "did you mean")
    refused([*words, "fasterrcnn_tiny_fpn", "--weights", "nowhere.pth"], capsys, "nowhere.pth", "not found")
    assert not (tmp_path / "runs").exists()


def test_val_with_other_classes(toy_set, tmp_path, capsys):
    val = toy_set("val")
    document = json.loads(val.read_text())
    document["categories"][1]["name"] = "ring"
    val.write_text(json.dumps(document))
    words = ["train", toy_set("train"), "--val", val, "--runs", tmp_path / "runs"]
    refused(words, capsys, "val.json", "square, ring", "square, disc")


def test_a_checkpoint_of_other_classes(toy_set, tmp_path, capsys):
    words = {"weights": "none", "trainable_layers": 5, "norm": "group", "batch_size": 1}
    model, architecture, _ = builder.build("fasterrcnn_tiny_fpn", 3, **words, sizes={"min_size": 64, "max_size": 96})
    meta = {"classes": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "architecture": architecture}
    checkpoint.save(tmp_path / "run" / "best", meta, model.state_dict(), None)
    words = ["evaluate", tmp_path / "run", "--data", toy_set("val")]
    refused(words, capsys, "cat, dog", "square, disc")


def test_a_picture_that_is_missing_at_conversion(labelled, tmp_path, capsys):
    (labelled / "a.png").unlink()
    main(["convert", "labelme", str(labelled), "--out", str(tmp_path / "o.json")])
    error = capsys.readouterr().err
    assert "a.json" in error and "Traceback" not in error


def test_inputs_are_never_touched(labelled, tmp_path, capsys):
    before = {p.name: p.read_bytes() for p in labelled.iterdir()}
    copy = tmp_path / "copy"
    shutil.copytree(labelled, copy)
    assert main(["convert", "labelme", str(copy), "--out", str(tmp_path / "o.json")]) == 0
    assert {p.name: p.read_bytes() for p in copy.iterdir()} == before
