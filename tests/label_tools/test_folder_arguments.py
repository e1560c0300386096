"""A folder in the place of a COCO file: the annotations.json in it; in the place of labels, the LabelMe files first."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from label_tools.__main__ import main
from label_tools.document import coco_file
from tests.label_tools.bad_input_makers import GOOD, content, ids, masks, picture


@pytest.fixture
def labelled(tmp_path) -> Path:
    """Three photographs with a LabelMe file each; sizes apart, so that no two look alike."""
    folder = tmp_path / "photos"
    for k in range(3):
        picture(folder / f"{k}.jpg", (64 + 8 * k, 48))
        (folder / f"{k}.json").write_text(json.dumps({**content([GOOD], f"{k}.jpg"), "imageWidth": 64 + 8 * k}))
    return folder


@pytest.fixture
def masked(tmp_path) -> Path:
    """Two photographs with masks, converted: a folder without LabelMe files, two images, two objects."""
    folder = tmp_path / "street"
    folder.mkdir()
    argv = masks(ids((1, slice(4, 20), slice(6, 30))))(folder)
    assert main([*argv, "--out", str(folder / "annotations.json")]) == 0
    return folder


def test_split_takes_the_folder(labelled, capsys):
    assert main(["convert", "labelme", str(labelled), "--out", str(labelled / "annotations.json")]) == 0
    assert main(["split", str(labelled)]) == 0
    assert len(coco_file.read(labelled / "train.json")["images"]) == 1
    assert json.loads((labelled / "split.json").read_text())["annotations"] == "annotations.json"


@pytest.mark.parametrize("words", [["split"], ["export", "voc"], ["rename"], ["remap"], ["merge"]])
def test_a_folder_without_annotations_says_how_to_make_them(labelled, tmp_path, capsys, words):
    (tmp_path / "map.txt").write_text("cat=dog\n")
    more = {"rename": ["cat=dog"], "remap": [str(tmp_path / "map.txt")], "merge": [str(labelled)]}.get(words[0], [])
    assert main([*words, str(labelled), *more, "--out", str(tmp_path / "o.json")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and f"{labelled}: no annotations.json in it" in error
    assert f"make it first: frcnn convert {labelled}" in error
    assert not (tmp_path / "o.json").exists()


def test_export_rename_remap_and_merge_take_the_folder(masked, labelled, tmp_path):
    (tmp_path / "map.txt").write_text("cat=dog\n")
    assert main(["convert", "labelme", str(labelled), "--out", str(labelled / "annotations.json")]) == 0
    for words, expected in (
        (["rename", str(masked), "cat=dog"], 2),
        (["remap", str(masked), str(tmp_path / "map.txt")], 2),
        (["merge", str(masked), str(labelled)], 5),
    ):
        out = tmp_path / f"{words[0]}.json"
        assert main([*words, "--out", str(out)]) == 0
        document = coco_file.read(out)
        assert len(document["images"]) == expected
        assert all(coco_file.image_path(document, out, image).is_file() for image in document["images"])
    assert main(["export", "voc", str(masked), "--out", str(tmp_path / "voc")]) == 0
    with pytest.raises(SystemExit):  # wrong use stays wrong use
        main(["rename", str(masked)])


def test_check_draw_and_stats_of_masks(masked, tmp_path, capsys):
    assert main(["check", str(masked)]) == 0
    assert "0 errors, 0 warnings, 0 notes in 2 images with 2 annotations" in capsys.readouterr().out
    assert main(["stats", str(masked)]) == 0
    assert "2 images (0 without objects)" in capsys.readouterr().out
    assert main(["draw", str(masked), "--out", str(tmp_path / "pictures"), "--sheet-only"]) == 0
    assert main(["check", str(masked), "--fix", "--out", str(tmp_path / "fixed.json")]) == 0
    assert len(coco_file.read(tmp_path / "fixed.json")["annotations"]) == 2


def test_labelme_files_come_before_annotations(labelled, capsys):
    """The labels are what a person changes: annotations.json may be older."""
    assert main(["convert", "labelme", str(labelled), "--out", str(labelled / "annotations.json")]) == 0
    (labelled / "2.json").unlink()
    capsys.readouterr()
    for command in ("check", "stats"):
        assert main([command, str(labelled)]) == 0
        assert "2 images" in capsys.readouterr().out
    (labelled / "0.json").write_text("{")
    (labelled / "1.json").write_text("{")
    assert main(["check", str(labelled)]) == 1  # broken label files are seen, not passed over
    assert "0.json" in capsys.readouterr().out


def test_a_folder_with_neither(tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    for command in (["check"], ["stats"], ["draw", "--out", str(tmp_path / "o")]):
        assert main([command[0], str(tmp_path / "empty"), *command[1:]]) == 2
        error = capsys.readouterr().err
        assert "no LabelMe file (*.json)" in error and "annotations.json" in error
