"""The main job on the sample data, whole."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from toolkit.__main__ import main
from toolkit.commands import demo

ROOT = Path(__file__).resolve().parents[1]


def run_demo(tmp_path, *words) -> tuple[Path, dict]:
    out = tmp_path / "demo"
    assert main(["demo", "--out", str(out), *words]) == 0
    run = out / "demo"
    return run, json.loads((run / "val" / "metrics.json").read_text())


@pytest.mark.slow
def test_demo_reaches_its_ap50(tmp_path, capsys):
    run, metrics = run_demo(tmp_path)
    assert metrics["AP50"] >= 0.85
    assert metrics["segm"]["AP50"] >= 0.8
    said = capsys.readouterr().out
    assert "mAP on the 40 held-out images" in said and "report.html" in said and "pictures:" in said
    pictures = list((run / "predictions").rglob("*.jpg"))
    assert len(pictures) == metrics["num_images"] == 40


def test_sample_that_is_not_there(tmp_path, capsys):
    assert main(["demo", "--sample", str(tmp_path), "--out", str(tmp_path / "o")]) == 2
    assert "labelme/" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_the_sample_data_is_found_in_an_installed_package(tmp_path, monkeypatch):
    """The wheel holds the packages and what pyproject.toml adds; laid out as an installation, the demo finds it all."""
    wheel = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"]
    for source, target in wheel["force-include"].items():
        (tmp_path / target).parent.mkdir(parents=True, exist_ok=True)
        copy = shutil.copytree if (ROOT / source).is_dir() else shutil.copyfile
        copy(ROOT / source, tmp_path / target)
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "toolkit" / "commands" / "demo.py"))
    sample = demo._sample()
    assert sample == tmp_path / "toolkit" / "sample_data"
    assert demo._make_labels(sample, tmp_path / "labels")
    assert len(json.loads((tmp_path / "labels" / "train.json").read_text())["images"]) == 120


@pytest.mark.slow
def test_the_demo_from_a_wheel(tmp_path):
    """Built, unpacked, and started where there is no source checkout."""
    built = subprocess.run(
        [sys.executable, "-m", "uv", "build", "--wheel", "--out-dir", str(tmp_path), str(ROOT)], capture_output=True
    )
    if built.returncode:
        pytest.skip("needs uv, and the network for its build backend")
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    command = [sys.executable, "-m", "toolkit", "demo", "--short", "--out", str(tmp_path / "demo")]
    environ = {**os.environ, "PYTHONPATH": str(tmp_path / "site")}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 0 and "mAP on the 40 held-out images" in done.stdout, done.stderr
    assert str(tmp_path / "site" / "toolkit" / "sample_data") in done.stdout
