"""A picture elsewhere on this machine, behind a link or an absolute image_root, is opened only with --follow-links."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from label_tools.files import links
from tests.label_tools.bad_input_makers import picture
from tests.toolkit.evaluation_fixtures import draw_images, scene
from tests.toolkit.test_evaluate_run import save_network
from toolkit.__main__ import main


@pytest.fixture
def linked(tmp_path) -> Path:
    """A data set of three images, the first of which is a link to the user's own picture, and a run that knows it."""
    document, _ = scene(1, images=3)
    folder = tmp_path / "set"
    draw_images(document, folder / "images")
    first = folder / "images" / document["images"][0]["file_name"]
    shutil.move(first, tmp_path / "private.jpg")
    first.symlink_to(tmp_path / "private.jpg")
    (folder / "annotations.json").write_text(json.dumps({**document, "info": {"image_root": "images"}}))
    for part in ("train", "val"):
        shutil.copy(folder / "annotations.json", folder / f"{part}.json")
    save_network(folder)
    return folder


def commands(folder: Path, out: Path) -> dict[str, list]:
    file = folder / "annotations.json"
    return {
        "split": ["split", file, "--out", out],
        "draw": ["draw", file, "--out", out],
        "export yolo": ["export", "yolo", file, "--out", out, "--copy-images"],
        "export masks": ["export", "masks", file, "--out", out],
        "train": ["train", folder, "--runs", out, "--model", "fasterrcnn_tiny_fpn", "--weights", "none", "--dry-run"],
        "evaluate": ["evaluate", folder, "--split", "val", "--resamples", "5", "--no-report"],
        "predict": ["predict", folder, folder / "images", "--out", out],
        "prelabel": ["prelabel", folder, folder / "images", "--out", out],
    }


NAMES = list(commands(Path(), Path()))


@pytest.mark.parametrize("name", NAMES)
def test_a_link_that_leads_out_is_not_opened(linked, tmp_path, capsys, name):
    words = [str(word) for word in commands(linked, tmp_path / "out")[name]]
    assert main(words) == 2
    assert "is a link that leads out of the image root" in capsys.readouterr().err
    assert not list((tmp_path / "out").rglob("*.jpg"))
    if name in ("split", "export yolo", "draw"):
        assert main([*words, "--follow-links"]) in (0, 1)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("predict", "prelabel")])
def test_an_absolute_image_root_is_not_followed(linked, tmp_path, capsys, name, monkeypatch):
    for file in linked.glob("*.json"):
        document = json.loads(file.read_text())
        if "images" in document:
            document["info"] = {"image_root": str(tmp_path / "set" / "images")}
            file.write_text(json.dumps(document))
    words = [str(word) for word in commands(linked, tmp_path / "out")[name]]
    assert main(words) == 2
    assert 'set/images" is absolute; pass --follow-links' in capsys.readouterr().err


def test_a_mask_behind_a_link_is_not_opened(tmp_path, capsys):
    picture(tmp_path / "set" / "images" / "a.png")
    picture(tmp_path / "private.png")
    (tmp_path / "set" / "masks").mkdir()
    (tmp_path / "set" / "masks" / "a.png").symlink_to(tmp_path / "private.png")
    words = ["convert", "masks", tmp_path / "set", "--mode", "instance", "--class", "cat", "--out", tmp_path / "a.json"]
    assert main([*map(str, words)]) == 2
    assert "is a link that leads out" in capsys.readouterr().err


def test_links_inside_and_a_linked_root_are_nobodys_secret(linked, tmp_path, capsys):
    first = next(path for path in (linked / "images").iterdir() if path.is_symlink())
    first.unlink()
    shutil.move(tmp_path / "private.jpg", linked / "images" / "other.jpg")
    first.symlink_to(linked / "images" / "other.jpg")
    shutil.move(linked / "images", tmp_path / "store")
    (linked / "images").symlink_to(tmp_path / "store")
    first.unlink()
    first.symlink_to("other.jpg")
    words = commands(linked, tmp_path / "out")["split"]
    assert main([*map(str, words)]) == 0, capsys.readouterr().err


def test_the_setting_holds_for_the_processes_of_a_command(monkeypatch):
    assert not links.followed()
    monkeypatch.setenv(links.VARIABLE, "1")
    assert links.followed()
