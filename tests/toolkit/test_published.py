"""benchmarks/published.py with a made archive in the place of the download; it refuses before it fetches in vain."""

from __future__ import annotations

import importlib.util
import sys
import urllib.error
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
SMALL = (
    '{"model": "fasterrcnn_tiny_fpn", "image_size": 64, "max_size": 96, "epochs": 1, "workers": 0, "norm": "group", '
    '"roi_batch": 16}'
)


@pytest.fixture
def published():
    spec = importlib.util.spec_from_file_location("published", ROOT / "benchmarks" / "published.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["published"] = module  # where dataclasses look for its annotations
    spec.loader.exec_module(module)
    yield module
    del sys.modules["published"]


@pytest.fixture
def archive(tmp_path):
    """A zip file laid out as PennFudan's, of 10 pictures with two bright squares each."""
    path = tmp_path / "PennFudanPed.zip"
    with zipfile.ZipFile(path, "w") as packed:
        for number in range(10):
            mask = np.zeros((64, 80), np.uint8)
            mask[8:30, 8:30], mask[30:60, 40:70] = 1, 2
            picture = np.full((64, 80, 3), 40 + number, np.uint8)
            picture[mask > 0] = 220
            for folder, name, content in (("PNGImages", "", picture), ("PedMasks", "_mask", mask)):
                file = tmp_path / "one.png"
                Image.fromarray(content).save(file)
                packed.write(file, f"PennFudanPed/{folder}/F{number}{name}.png")
    return path


def run(published, monkeypatch, *words: str) -> int:
    monkeypatch.setattr(sys, "argv", ["published.py", "pennfudan", *words])
    return published.main()


def test_a_set_is_fetched_split_trained_and_held_against_the_published_value(
    published, archive, tmp_path, monkeypatch, capsys
):
    monkeypatch.setitem(
        published.SETS, "pennfudan", replace(published.SETS["pennfudan"], url=archive.as_uri(), train=8, test=2)
    )
    words = ("--work", str(tmp_path / "work"), "--weights", "none", "--recipe", SMALL)
    assert run(published, monkeypatch, *words) == 1  # one epoch from nothing: no AP of .799
    rows = [line for line in capsys.readouterr().out.splitlines() if line.startswith("| pennfudan")]
    assert [row.split(" | ")[2] for row in rows] == ["AP", "AP50", "AP75"]
    assert all(row.endswith("| theirs higher |") for row in rows)
    splits = [published.coco_file.read(tmp_path / f"work/PennFudanPed/{name}1.json") for name in ("train", "test")]
    names = [{image["file_name"] for image in split["images"]} for split in splits]
    assert [len(part) for part in names] == [8, 2] and not names[0] & names[1]
    assert sum(len(split["annotations"]) for split in splits) == 20


@pytest.mark.parametrize(
    ("value", "where"), [(0.6, "inside"), (0.8, "inside"), (0.81, "theirs higher"), (0.59, "ours higher")]
)
def test_the_verdict_counts_the_ends_of_the_interval_as_inside(published, value, where):
    assert published.verdict(value, 0.6, 0.8) == where


def test_without_weights_it_refuses_before_anything_is_fetched(published, tmp_path, monkeypatch, capsys):
    def offline(*_, **__):
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "urlopen", offline)
    monkeypatch.setattr("urllib.request.urlopen", offline)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "empty"))
    assert run(published, monkeypatch, "--work", str(tmp_path / "work")) == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: --weights coco: maskrcnn_resnet50_fpn_coco-bf2d0c1e.pth is neither in")
    assert not (tmp_path / "work").exists()
    assert run(published, monkeypatch, "--work", str(tmp_path / "work"), "--weights", "none") == 2
    assert "cannot be fetched (no network); give the file with --archive" in capsys.readouterr().err


def test_an_archive_that_is_none_or_another_is_refused(published, tmp_path, monkeypatch, capsys):
    other = tmp_path / "other.zip"
    for content, reason in ((b"<html>", "cannot be unpacked"), (None, "holds no folder PennFudanPed")):
        if content is None:
            with zipfile.ZipFile(other, "w") as packed:
                packed.writestr("else/a.txt", "")
        else:
            other.write_bytes(content)
        words = ("--work", str(tmp_path / "w"), "--weights", "none", "--archive", str(other))
        assert run(published, monkeypatch, *words) == 2
        assert reason in capsys.readouterr().err
