"""Commands of the toolkit on folders that hold the user's own files: nothing there is deleted or replaced."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.toolkit.evaluation_fixtures import made_run, scene
from tests.toolkit.training_fixtures import draw_data
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.experiments.label_curve import label_curve
from toolkit.training import run_folder


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def evaluate(folder: Path, out: Path, *more: str) -> int:
    words = ["--annotations", folder / "annotations.json", "--detections", folder / "detections.json", "--out", out]
    return main(["evaluate", *map(str, words), "--resamples", "5", *more])


@pytest.fixture
def project(tmp_path):
    """A user's folder with labels, detections, pictures/ and suspects/ of their own."""
    folder = tmp_path / "p"
    document, detections = scene(3)
    for name in ("pictures", "suspects"):
        (folder / name).mkdir(parents=True)
        (folder / name / "mine.txt").write_text("mine")
    (folder / "annotations.json").write_text(json.dumps(document))
    (folder / "detections.json").write_text(json.dumps(detections))
    return folder


def test_evaluate_into_the_folder_of_its_inputs(project, capsys):
    before = tree(project)
    assert evaluate(project, project) == 2
    assert "annotations.json: is an input of this command" in capsys.readouterr().err
    assert tree(project) == before


def test_evaluate_beside_files_of_the_user(project, tmp_path, capsys):
    other = tmp_path / "other"
    for name in ("pictures", "suspects"):
        (other / name).mkdir(parents=True)
        (other / name / "mine.txt").write_text("mine")
    before = tree(other)
    assert evaluate(project, other) == 0
    assert evaluate(project, other) == 0  # its own files are replaced
    after = tree(other)
    assert before.items() <= after.items() and {"metrics.json", "report.html"} <= after.keys()
    (other / "classes.csv").write_text("changed by hand")
    before = tree(other)
    assert evaluate(project, other) == 2
    assert "classes.csv: was changed since frcnn wrote it" in capsys.readouterr().err
    assert tree(other) == before


def test_evaluate_on_its_own_earlier_files(project, tmp_path, capsys):
    """The annotations.json of an evaluation, evaluated again in its place: an input is never overwritten."""
    assert evaluate(project, tmp_path / "out") == 0
    before = tree(tmp_path / "out")
    assert evaluate(tmp_path / "out", tmp_path / "out") == 2
    assert "is an input of this command" in capsys.readouterr().err and tree(tmp_path / "out") == before


def test_a_report_of_the_user_stays(tmp_path, capsys):
    run = made_run(tmp_path / "run", images=3)
    (run / "report.html").write_text("<p>mine")
    assert main(["report", str(run)]) == 2
    assert "report.html: exists and is of no earlier report" in capsys.readouterr().err
    assert (run / "report.html").read_text() == "<p>mine"


def test_crossval_and_curve_named_as_a_folder_of_the_user(tmp_path, capsys, monkeypatch):
    data = draw_data(tmp_path / "data", train=6, val=3)
    (data / "labels").mkdir()
    (data / "labels" / "mine.json").write_text("{}")
    before = tree(data)
    monkeypatch.chdir(tmp_path)
    assert main(["crossval", "data/train.json", "--runs", ".", "--name", "data", "--folds", "3"]) == 2
    assert "data: holds files that are of no cross-validation" in capsys.readouterr().err
    assert main(["curve", "data", "--runs", ".", "--name", "data"]) == 2
    assert "data: holds files that are of no curve" in capsys.readouterr().err
    assert tree(data) == before


def test_a_run_of_the_user_in_a_curve_stays(tmp_path, monkeypatch):
    """A folder of the name of a training that is not begun yet: only what a run writes is deleted from it."""
    from toolkit.experiments import crossval

    monkeypatch.setattr(crossval, "train", lambda *_, **__: 1 / 0)
    data = draw_data(tmp_path / "data", train=6, val=3)
    out = tmp_path / "curve"
    out.mkdir()
    label_curve_stopped(data, out)
    mine = out / "labels-100-seed-0" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    (mine.parent / "run.json").write_text("{}")
    label_curve_stopped(data, out)
    assert (out / "labels-100-seed-0-kept" / "notes.txt").read_text() == "mine"


def label_curve_stopped(data: Path, out: Path) -> None:
    with pytest.raises(ZeroDivisionError):
        label_curve(data, out, [1.0], [0])


def linked_run(tmp_path: Path) -> tuple[Path, Path]:
    """(a run that can be resumed, a folder of the user that run/val is a link to)"""
    data = draw_data(tmp_path / "data")
    words = ["train", data, "--runs", tmp_path / "runs", "--epochs", "1", "--model", "fasterrcnn_tiny_fpn"]
    assert main([*map(str, words), "--weights", "none", "--batch-size", "6", "--image-size", "64", "--no-report"]) == 0
    run, mine = tmp_path / "runs" / "train", tmp_path / "mine"
    (mine / "pictures").mkdir(parents=True)
    for name in (
        ".a.json.abcd1234.frcnn-part",
        ".checkpoint.json.abcd1234.frcnn-part",
        "pictures/a.jpg",
        "metrics.json",
    ):
        (mine / name).write_text("mine")
    (run / "val").symlink_to(mine)
    return run, mine


def test_nothing_is_deleted_through_a_link_in_a_run(tmp_path, capsys):
    run, mine = linked_run(tmp_path)
    before = tree(mine)
    assert main(["evaluate", str(run), "--resamples", "5"]) == 2
    assert "val: is a link" in capsys.readouterr().err
    run_folder.update_run(run, status="stopped")
    assert main(["train", "--resume", str(run)]) == 2
    assert "val: is a link" in capsys.readouterr().err
    checkpoint.sweep(run)
    assert tree(mine) == before and (run / "val").is_symlink()


def test_a_lock_or_a_log_that_is_a_link_empties_nothing(tmp_path):
    run, mine = tmp_path / "run", tmp_path / "mine.txt"
    run.mkdir()
    mine.write_text("mine")
    for name in (run_folder.LOCK, run_folder.METRICS):
        (run / name).symlink_to(mine)
        with pytest.raises(Exception, match=f"{name}: is a link"), run_folder.Lock(run):
            pass
        assert mine.read_text() == "mine"
        (run / name).unlink()


def test_files_of_the_user_in_a_checkpoint_outlive_it(tmp_path):
    import torch

    meta = {"classes": [{"id": 1, "name": "nut"}], "architecture": {"name": "none"}}
    for number in range(4):
        checkpoint.save(tmp_path / "last", {**meta, "step": number}, {"a": torch.ones(2)}, {"step": number})
        if number == 0:
            (tmp_path / "last" / "notes.txt").write_text("mine")
    assert [p.read_text() for p in tmp_path.rglob("notes.txt")] == ["mine"]
    assert checkpoint.load(tmp_path / "last").meta["step"] == 3
