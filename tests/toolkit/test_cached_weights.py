"""torchvision's cache of weights: a damaged or half-written file is named, set aside, fetched again, never used."""

from __future__ import annotations

import hashlib
import io
import json
import urllib.error
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision.models._api import Weights, WeightsEnum

from label_tools.text.errors import InputError
from toolkit.__main__ import main
from toolkit.networks import builder, first_weights, registry


def whole_file() -> bytes:
    """A state dict as torchvision stores it."""
    torch.manual_seed(0)
    buffer = io.BytesIO()
    torch.save(nn.Linear(30, 40).state_dict(), buffer)
    return buffer.getvalue()


CONTENT = whole_file()
NAME = f"fasterrcnn_made_here_coco-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"  # torchvision's scheme


class Made(WeightsEnum):
    COCO_V1 = Weights(url=f"https://nowhere.invalid/models/{NAME}", transforms=None, meta={})


@pytest.fixture
def cache(tmp_path, monkeypatch) -> Path:
    """The folder of the cache; what is asked of the network ends in `asked`."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def offline(monkeypatch):
    def fail(*_, **__):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr("torch.hub.download_url_to_file", fail)


@pytest.fixture
def online(monkeypatch):
    asked = []

    def download(url, target, hash_prefix, progress):
        asked.append((url, hash_prefix))
        Path(target).write_bytes(CONTENT)

    monkeypatch.setattr("torch.hub.download_url_to_file", download)
    return asked


DAMAGED = {
    "cut off": CONTENT[: len(CONTENT) // 2],
    "one bit": CONTENT[:900] + bytes([CONTENT[900] ^ 1]) + CONTENT[901:],  # torch.load may well take it
    "empty": b"",
    "a web page": b"<html>404</html>",
}


@pytest.mark.parametrize("content", [None, b"PK"])
def test_a_dry_run_never_asks_the_network(cache, online, tmp_path, capsys, content):
    from tests.toolkit.training_fixtures import draw_data

    coco = registry.find("fasterrcnn_mobilenet_v3_large_320_fpn").coco
    name = first_weights.cached_file(coco).name
    if content:
        (cache / name).write_bytes(content)
    data = draw_data(tmp_path / "data")
    words = [
        "train",
        data,
        "--runs",
        tmp_path / "runs",
        "--model",
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        "--image-size",
        "64",
        "--max-size",
        "64",
        "--batch-size",
        "2",
        "--epochs",
        "1",
        "--dry-run",
    ]
    assert main(list(map(str, words))) == 0
    said = capsys.readouterr().out
    assert online == []  # nothing was asked for
    assert [p.read_bytes() for p in cache.iterdir()] == ([content] if content else [])  # nor set aside
    (line,) = [line for line in said.splitlines() if line.startswith("weights ")]
    assert f"{name} is {'damaged' if content else 'not here yet'}: " in line
    for part in ("frcnn doctor --fetch", str(cache), "--weights FILE"):
        assert part in line
    assert "weights: coco, not here yet" in said and "norm       frozen" in said and "steps      3 " in said


def test_the_plan_without_the_weights_is_the_plan_with_them(monkeypatch):
    """What learns, and the norm, are what they will be once the weights are here."""
    name, words = (
        "fasterrcnn_mobilenet_v3_large_320_fpn",
        {"trainable_layers": 2, "norm": "auto", "batch_size": 2, "sizes": {"min_size": 64, "max_size": 64}},
    )
    planned, architecture, _ = builder.build(name, 3, weights="auto", load=False, **words)
    whole = registry.find(name).build(num_classes=91).state_dict()
    monkeypatch.setattr(first_weights, "fetch", lambda enum, weights: whole)
    real, expected, _ = builder.build(name, 3, weights="auto", **words)
    assert architecture == expected
    learned = [[p.shape for p in model.parameters() if p.requires_grad] for model in (planned, real)]
    assert learned[0] == learned[1] and learned[0]


def test_a_sound_file_is_used_without_the_network(cache, offline):
    (cache / NAME).write_bytes(CONTENT)
    assert first_weights.damage(cache / NAME) == ""
    assert first_weights.fetch(Made.COCO_V1, "coco")["weight"].shape == (40, 30)
    assert [p.name for p in cache.iterdir()] == [NAME]


@pytest.mark.parametrize("content", list(DAMAGED))
def test_a_damaged_file_is_set_aside_and_fetched_again(cache, online, content, caplog):
    (cache / NAME).write_bytes(DAMAGED[content])
    state = first_weights.fetch(Made.COCO_V1, "coco")
    expected = torch.load(io.BytesIO(CONTENT), weights_only=True)
    assert all(torch.equal(state[k], v) for k, v in expected.items())
    assert len(online) == 1
    assert (cache / NAME).read_bytes() == CONTENT
    assert (cache / f"{NAME}.damaged").read_bytes() == DAMAGED[content]
    (line,) = caplog.messages
    assert NAME in line and f"{NAME}.damaged" in line and caplog.records[0].levelname == "WARNING"
    first_weights.fetch(Made.COCO_V1, "coco")
    assert len(online) == 1 and len(caplog.messages) == 1  # now it is sound


@pytest.mark.parametrize("content", list(DAMAGED))
def test_a_damaged_file_without_a_network_is_one_clear_line(cache, offline, content):
    (cache / NAME).write_bytes(DAMAGED[content])
    with pytest.raises(InputError) as error:
        first_weights.fetch(Made.COCO_V1, "coco")
    text = str(error.value)
    for part in (NAME, "cut off or damaged", f"{NAME}.damaged", "Name or service not known", "--weights FILE"):
        assert part in text
    assert "\n" not in text
    with pytest.raises(InputError, match="neither in"):  # the damaged file does not come back
        first_weights.fetch(Made.COCO_V1, "coco")


def test_a_download_that_breaks_off_leaves_nothing_to_use(cache, monkeypatch):
    def half(url, target, hash_prefix, progress):
        Path(target + ".1234.partial").write_bytes(CONTENT[:500])  # as torch names it until the hash is right
        raise ConnectionResetError("Connection reset by peer")

    monkeypatch.setattr("torch.hub.download_url_to_file", half)
    for _ in range(2):
        with pytest.raises(InputError, match="Connection reset by peer"):
            first_weights.fetch(Made.COCO_V1, "coco")
    assert not (cache / NAME).exists()


def test_a_damaged_file_that_cannot_be_moved_is_refused(cache, offline, monkeypatch):
    (cache / NAME).write_bytes(b"PK")

    def refuse(*_):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "replace", refuse)
    with pytest.raises(InputError, match=r"Permission denied.*--weights FILE"):
        first_weights.fetch(Made.COCO_V1, "coco")


def test_it_is_refused_before_a_run_folder_is_made(cache, offline):
    path = first_weights.cached_file(registry.REGISTRY["fasterrcnn_resnet50_fpn"].coco)
    path.write_bytes(b"PK cut off")
    with pytest.raises(InputError, match=r"258fb6c6.*--weights FILE"):
        first_weights.ensure("fasterrcnn_resnet50_fpn", "coco")


def test_doctor_names_a_damaged_file(cache, capsys):
    path = first_weights.cached_file(registry.REGISTRY["fasterrcnn_resnet50_fpn"].coco)
    path.write_bytes(b"PK cut off")
    assert main(["doctor", "--json"]) == 1
    checks = [c for c in json.loads(capsys.readouterr().out) if c["name"] == "weights"]
    assert [c["state"] for c in checks] == ["problem", "note"]
    assert path.name in checks[0]["found"] and "0 of 6" in checks[1]["found"]
    assert path.exists()  # the doctor only looks


def test_a_name_without_a_hash_is_not_judged(tmp_path):
    path = tmp_path / "mine.pth"
    path.write_bytes(b"anything")
    assert first_weights.damage(path) == ""


def test_doctor_shows_the_weights_of_a_package(monkeypatch, tmp_path, capsys):
    name = "fasterrcnn_efficientnet_lite0_fpn"

    def shown() -> dict:
        main(["doctor", "--json"])
        return next(c for c in json.loads(capsys.readouterr().out) if c["name"] == "pretrained")

    monkeypatch.setattr(first_weights, "packaged_file", lambda _: None)
    check = shown()
    assert check["state"] == "note" and "[pretrained]" in check["fix"]
    assert name in check["found"] and "Apache-2.0" in check["found"]
    path = tmp_path / "lite-12345678.pth"
    path.write_bytes(CONTENT)
    monkeypatch.setattr(first_weights, "packaged_file", lambda _: path)
    check = shown()
    assert check["state"] == "problem" and "its name says 12345678" in check["fix"]
