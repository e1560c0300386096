"""`frcnn report A B C --out compare.html`: what the page says of several runs, and what is refused."""

from __future__ import annotations

import json
import shutil

import pytest

from tests.toolkit.evaluation_fixtures import scene, write_training_log
from tests.toolkit.test_report import Page
from toolkit.__main__ import main
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.evaluation.evaluation_folder import write_evaluation

SHORTER = "model:\n  model: fasterrcnn_tiny_fpn\nschedule:\n  epochs: 4\n"


def evaluated(folder, document, detections, split="val"):
    write_training_log(folder, epochs=2, steps=1)
    evaluation = compute_metrics(document, detections, Settings(resamples=20), split=split)
    write_evaluation(folder / split, evaluation, folder / "no_images")


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """runs/one; two, the same pictures with half of the detections; three, other pictures; bare, never evaluated."""
    folder = tmp_path_factory.mktemp("side_by_side")
    document, detections = scene(1)
    evaluated(folder / "runs" / "one", document, detections)
    evaluated(folder / "runs" / "two", document, detections[::2])
    (folder / "runs" / "two" / "config.yaml").write_text(SHORTER)
    evaluated(folder / "runs" / "three", *scene(2, 9))
    write_training_log(folder / "runs" / "bare", epochs=1, steps=1)
    (folder / "photos").mkdir()
    return folder


@pytest.fixture
def here(made, tmp_path, monkeypatch):
    shutil.copytree(made, tmp_path / "work")
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def page_of(*words: str) -> Page:
    assert main(["report", *words, "--out", "compare.html"]) == 0
    with open("compare.html", encoding="utf-8") as file:
        return Page(file.read())


def test_two_runs_of_the_same_images(here, capsys):
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    page = page_of("runs/one", "runs/two")
    assert capsys.readouterr().out == "page: compare.html\n"
    assert list(page.sections) == ["runs", "paired", "each_class", "epochs"]
    assert page.problems == []
    for name in ("one", "two"):
        metrics = json.loads((here / "runs" / name / "val" / "metrics.json").read_text())
        low, high = metrics["intervals"]["AP"]
        assert f"{metrics['AP']:.3f} ({low:.3f} to {high:.3f})" in page.sections["runs"]
        assert f"{metrics['per_class']['bolt']['AP']:.3f}" in page.sections["each_class"]
    assert "NOT COMPARABLE" not in page.sections["runs"]
    assert "A = one" in page.sections["paired"] and "B = two" in page.sections["paired"]
    assert "B is worse" in page.sections["paired"]  # half of the detections
    # epochs 8 and 4 are all in which the recipes differ: the head's row and one more
    assert "epochs84" in page.sections["epochs"].split()  # the cells of a row, one after the other
    assert page.tags["epochs"]["tr"] == 2
    assert page.sections["epochs"].count("two") == 5  # the curve and its two points, legend, column of options
    for tag, link, _ in page.links:
        assert link.startswith(("#", "data:")), (tag, link)  # offline
    assert before == {path: path.read_bytes() for path in before}  # the runs are as they were
    page_of("runs/one", "runs/two")  # an earlier page is replaced


def test_runs_of_other_images_are_shown_and_not_tested(here):
    page = page_of("runs/one", "runs/three")
    assert "NOT COMPARABLE with one" in page.sections["runs"]
    assert "three is evaluated on different images" in page.sections["runs"]
    assert "Not tested" in page.sections["paired"]
    assert "table" not in page.tags["paired"]


def test_other_labels_of_the_same_images_are_not_tested(here):
    path = here / "runs" / "two" / "val" / "annotations.json"
    document, detections = scene(1)
    document["annotations"][0]["bbox"][2] += 9
    shutil.rmtree(path.parent)
    evaluated(path.parents[1], document, detections)
    assert "evaluated with different labels" in page_of("runs/one", "runs/two").sections["runs"]


def test_the_split_that_all_have_is_taken(here):
    document, detections = scene(3, 8)
    evaluated(here / "runs" / "one", document, detections, "test")
    assert page_of("runs/one", "runs/two").sections["runs"].count("fpnval12") == 2  # split and images of each row
    evaluated(here / "runs" / "two", document, detections[::2], "test")
    assert page_of("runs/one", "runs/two").sections["runs"].count("fpntest8") == 2
    assert page_of("runs/one", "runs/two", "--split", "val").sections["runs"].count("fpnval12") == 2


def test_by_masks_where_a_run_has_them(here):
    document, detections = scene(4, 6)

    def outlined(entries):
        return [{**e, "segmentation": [_corners(*e["bbox"])]} for e in entries]

    masked = {**document, "annotations": outlined(document["annotations"])}
    evaluated(here / "runs" / "m1", masked, outlined(detections))
    evaluated(here / "runs" / "m2", masked, outlined(detections[::2]))
    evaluated(here / "runs" / "boxes", masked, detections)
    page = page_of("runs/m1", "runs/m2", "runs/boxes")
    assert "By masks" in page.sections["runs"]
    assert page.sections["runs"].count("no masks") == 3
    assert "AP75 by masks" in page.sections["paired"]


def _corners(x, y, w, h):
    return [x, y, x + w, y, x + w, y + h, x, y + h]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["runs/one", "runs/two"], "--out compare.html"),
        (["runs/one", "runs/two", "--latex", "--out", "c.html"], "of one run"),
        (["runs/one", "--out", "c.html"], "--out is for several runs"),
        (["runs/one", "photos", "--out", "c.html"], "photos: is not a run folder"),
        (["runs/one", "runs/one/run.json", "--out", "c.html"], "runs/one/run.json: is a file; needs a run folder"),
        (["runs/one", "absent", "--out", "c.html"], "absent: not found"),
        (["runs/one", "runs", "--out", "c.html"], "runs: is not a run folder; it holds the runs"),
        (["runs/one", "runs/../runs/one", "--out", "c.html"], "given twice"),
        (["runs/one", "runs/one/val", "--out", "c.html"], "given twice"),
        (["runs/one", "runs/bare", "--out", "c.html"], "runs/bare: holds no evaluation"),
        (["runs/one", "runs/two", "--split", "test", "--out", "c.html"], "holds no evaluation of test"),
        (["runs/one", "runs/two", "--out", "runs"], "is a folder"),
        (["runs/one", "runs/two", "--out", "runs/one/config.yaml"], "needs another name"),
    ],
)
def test_wrong_use_is_one_line_and_writes_nothing(here, capsys, words, said):
    before = {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}
    assert main(["report", *words]) == 2
    captured = capsys.readouterr()
    assert captured.err.count("\n") == 1 and captured.err.startswith("error: ")
    assert said in captured.err
    assert captured.out == ""
    assert before == {path: path.read_bytes() for path in here.rglob("*") if path.is_file()}


@pytest.mark.parametrize("content", ["[]", "{}", "{", '{"per_class": 3, "AP": "x"}'])
def test_numbers_that_nobody_wrote_are_one_line(here, capsys, content):
    (here / "runs" / "two" / "val" / "metrics.json").write_text(content)
    assert main(["report", "runs/one", "runs/two", "--out", "c.html"]) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (here / "c.html").exists()
