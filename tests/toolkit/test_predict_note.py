"""What `frcnn predict` says about pictures in which it shows nothing."""

from __future__ import annotations

import json

import pytest
from PIL import Image

from tests.toolkit.training_fixtures import untrained_run
from toolkit.__main__ import main


@pytest.fixture
def command(tmp_path):
    """An untrained network (its scores are near 1/3) whose thresholds nothing reaches, and one grey picture."""
    untrained_run(tmp_path / "run", {"square": 0.999})
    Image.new("RGB", (80, 60), "grey").save(tmp_path / "a.png")
    words = ["predict", tmp_path / "run", tmp_path / "a.png", "--out", tmp_path / "out", "--no-pictures"]
    return list(map(str, words))


def write_metrics(tmp_path, objects: int, threshold: float = 0.999) -> None:
    metrics = {"thresholds": {"square": {"threshold": threshold}}, "per_class": {"square": {"num_objects": objects}}}
    (tmp_path / "run" / "val").mkdir(exist_ok=True)
    (tmp_path / "run" / "val" / "metrics.json").write_text(json.dumps(metrics))


def test_thresholds_their_objects_and_the_best_score_below(command, tmp_path, capsys):
    for objects, said in (
        (19, "chosen on 19 validation objects, fewer than 20: unreliable)"),
        (20, "chosen on 20 validation objects)"),
    ):
        write_metrics(tmp_path, objects)
        capsys.readouterr()
        assert main([*command, "--score", "0"]) == 0
        assert "note:" not in capsys.readouterr().err  # something is shown
        best = json.loads((tmp_path / "out" / "detections.json").read_text())["images"][0]["detections"][0]
        assert best["score"] < 0.5
        assert main(command) == 0
        captured = capsys.readouterr()
        assert captured.out.startswith("0 objects in 1 picture:")
        assert f"square 0.999 ({said}, disc 0.500 (no threshold was chosen yet" in captured.err
        assert f"best score below: {best['score']:.3f} ({best['label']} in a.png)" in captured.err
        assert "1 of 1 pictures show no object" in captured.err
        assert "--score S" in captured.err


def test_the_hint_shows_what_it_promises(command, capsys):
    assert main(command) == 0
    score = capsys.readouterr().err.split("for example --score ")[1].strip()
    assert main([*command, "--score", score]) == 0
    assert not capsys.readouterr().out.startswith("0 objects")


@pytest.mark.parametrize("content", [None, "{", "[]", "moved"])
def test_counts_that_are_not_known_are_not_said(command, tmp_path, capsys, content):
    if content == "moved":  # val was judged again, the thresholds are of another time
        write_metrics(tmp_path, 7, threshold=0.4)
    elif content:
        write_metrics(tmp_path, 7)
        (tmp_path / "run" / "val" / "metrics.json").write_text(content)
    assert main(command) == 0
    said = capsys.readouterr().err
    assert "square 0.999, disc" in said
    assert "validation" not in said


def test_with_a_score_of_ones_own(command, capsys):
    assert main([*command, "--score", "0.99"]) == 0
    assert "Shown from score: 0.99 (--score); best score below" in capsys.readouterr().err
