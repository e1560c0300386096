"""The main job on the sample data, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from toolkit.__main__ import main


def run_demo(tmp_path, *words) -> tuple[Path, dict]:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *words]) == 0
    run = out / "demo"
    return run, json.loads((run / "val" / "metrics.json").read_text())


@pytest.mark.slow
def test_demo_reaches_its_ap50(tmp_path, capsys):
    run, metrics = run_demo(tmp_path)
    assert metrics["AP50"] >= 0.85
    said = capsys.readouterr().out
    assert "mAP on the 40 held-out images" in said and "report.html" in said and "pictures:" in said
    pictures = list((run / "predictions").rglob("*.jpg"))
    assert len(pictures) == metrics["num_images"] == 40


def test_sample_that_is_not_there(tmp_path, capsys):
    assert main(["demo", "--sample", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "labelme/" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()
