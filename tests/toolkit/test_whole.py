"""Files that belong together are read together: half a split, old detections, one image in two parts are refused."""

from __future__ import annotations

import json
import os

import pytest

from label_tools.document import coco_file
from label_tools.files.marked_folders import MARKER
from tests.label_tools.bad_input_makers import GOOD, labelme
from tests.toolkit.evaluation_fixtures import draw_images, made_run, scene
from tests.toolkit.training_fixtures import draw_data
from toolkit.__main__ import main


@pytest.fixture
def data(tmp_path):
    return draw_data(tmp_path / "data", train=8, val=4)


def dry_run(*words) -> int:
    return main(["train", *map(str, words), "--dry-run", "--model", "fasterrcnn_tiny_fpn", "--weights", "none"])


def give_val_an_image_of_train(data, name: str) -> None:
    """val's first image has the file that train's first image has, under `name`."""
    train, val = (json.loads((data / f"{part}.json").read_text()) for part in ("train", "val"))
    size = {key: train["images"][0][key] for key in ("width", "height")}
    val["images"][0] |= {"file_name": name, **size}
    val["annotations"] = [a for a in val["annotations"] if a["image_id"] != val["images"][0]["id"]]
    (data / "val.json").write_text(json.dumps(val))


@pytest.mark.parametrize("how", ["same name", "link", "folder that is a link"])
def test_train_refuses_an_image_in_two_parts(data, capsys, how):
    train = json.loads((data / "train.json").read_text())
    root = data / train["info"].get("image_root", ".")
    name = train["images"][0]["file_name"]
    if how == "link":
        (root / "other.png").symlink_to(os.path.relpath(root / name, root))
        give_val_an_image_of_train(data, "other.png")
    elif how == "folder that is a link":
        (root / "again").symlink_to(".")
        give_val_an_image_of_train(data, f"again/{name}")
    else:
        give_val_an_image_of_train(data, name)
    assert dry_run(data) == 2
    err = capsys.readouterr().err
    assert "train.json and" in err and "val.json both have the image" in err
    assert main(["train", str(data), "--runs", str(data / "runs"), "--weights", "none"]) == 2
    assert not (data / "runs").exists()


@pytest.mark.parametrize("part", ["train", "val"])
def test_a_test_part_of_known_images_is_refused_also_where_it_is_all_of_them(data, capsys, part):
    # val equal to train is a warning; a test part that was learned from, or that chose the epoch, measures nothing
    (data / "test.json").write_bytes((data / f"{part}.json").read_bytes())
    assert dry_run(data) == 2
    assert "test.json both have the image" in capsys.readouterr().err


def test_train_refuses_half_a_split(data, capsys):
    marker = {"split": {"complete": False, "files": {}}}
    (data / MARKER).write_text(json.dumps(marker))
    assert dry_run(data) == 2
    assert "a split was stopped while it wrote here" in capsys.readouterr().err
    assert dry_run(data / "train.json", "--val", data / "val.json") == 2


def test_numbers_of_other_detections_are_not_reported(tmp_path, capsys):
    run = made_run(tmp_path, images=3)
    metrics = run / "val" / "metrics.json"
    metrics.write_text(metrics.read_text() + " ")
    assert main(["report", str(run), "--markdown"]) == 2
    assert "metrics.json: was not written with the files beside it" in capsys.readouterr().err
    assert main(["report", str(run)]) == 0  # the page is made, and says so
    assert "was not written with the files beside it" in (run / "report.html").read_text()
    marker = json.loads((run / "val" / MARKER).read_text())
    marker["evaluation"]["complete"] = False
    (run / "val" / MARKER).write_text(json.dumps(marker))
    assert main(["report", str(run)]) == 2


def test_compare_refuses_files_of_two_evaluations(tmp_path, capsys):
    document, detections = scene(2, images=3)
    draw_images(document, tmp_path / "images")
    for name, content in (("a", document), ("d", detections), ("e", detections[:-1])):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))

    def evaluate(*more) -> int:
        words = ["--annotations", tmp_path / "a.json", "--detections", tmp_path / "d.json", *more, "--resamples", "5"]
        return main(["evaluate", *map(str, words)])

    assert evaluate("--out", tmp_path / "b") == 0
    (tmp_path / "b" / "detections.json").write_text(json.dumps(detections[:-1]))
    assert evaluate("--out", tmp_path / "c", "--compare", tmp_path / "b") == 2
    assert "b/detections.json: was not written with" in capsys.readouterr().err


def test_a_conversion_that_is_stopped_leaves_what_was_there(tmp_path, monkeypatch):
    argv = labelme(GOOD)(tmp_path)
    out = tmp_path / "out" / "annotations.json"
    assert main([*argv, "--out", str(out)]) == 0
    before = {path.name: path.read_bytes() for path in out.parent.iterdir()}
    assert {"annotations.json", "conversion.json"} <= before.keys()

    def killed(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(coco_file, "write", killed)
    assert main([*argv, "--out", str(out)]) == 130
    assert {path.name: path.read_bytes() for path in out.parent.iterdir()} == before
