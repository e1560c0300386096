"""Weights as people keep them: read bit for bit, nothing in them executed, rows of classes kept by name."""

from __future__ import annotations

import argparse
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from label_tools.text.errors import InputError
from tests.toolkit.test_models import build
from toolkit import checkpoint
from toolkit.networks import load_weights
from toolkit.networks.load_weights import PREDICTORS, Weights, load_into, read


class Network(nn.Module):
    """A network of the user's own, pickled whole."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
        self.register_buffer("grid", torch.arange(3), persistent=False)
        self.options = {"lr": 0.1, "where": Path("/x")}


def forms(model: nn.Module) -> dict[str, object]:
    state = model.state_dict()
    adam = torch.optim.Adam(model.parameters())
    adam.zero_grad()
    sum(p.sum() for p in model.parameters()).backward()
    adam.step()
    options = argparse.Namespace(data_path="/x", lr=0.02, where=Path("/y"))
    lightning = {"pytorch-lightning_version": "2.2", "hyper_parameters": options, "loops": {"fit_loop": {}}}
    return {
        "state dict": state,
        "torchvision's reference script": {
            "model": state,
            "optimizer": adam.state_dict(),
            "lr_scheduler": {"last_epoch": 9},
            "args": options,
            "epoch": 9,
        },
        "data parallel": {f"module.{k}": v for k, v in state.items()},
        "compiled, under another key": {
            "epoch": 3,
            "model_state_dict": {f"_orig_mod.{k}": v for k, v in state.items()},
        },
        "Lightning": {**lightning, "state_dict": {f"model.{k}": v for k, v in state.items()}},
        "Lightning with a loss of its own": {
            "state_dict": {**{f"net.model.{k}": v for k, v in state.items()}, "loss.weight": torch.ones(2)}
        },
        "a whole network": model,
        "a whole network in a table": {"epoch": 3, "model": model},
    }


@pytest.mark.parametrize("form", list(forms(Network())))
def test_every_form_is_read_bit_for_bit(tmp_path, form):
    torch.manual_seed(0)
    model = Network()
    content = forms(model)[form]
    expected = {k: v.clone() for k, v in model.state_dict().items()}
    torch.save(content, tmp_path / "weights.pth")
    known = set(torch.serialization.get_safe_globals())
    found = read(tmp_path / "weights.pth")
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[k], expected[k]) and not found[k].requires_grad for k in expected)
    assert set(torch.serialization.get_safe_globals()) == known  # nothing is allowed for longer


@pytest.mark.parametrize("form", ["state dict", "torchvision's reference script", "Lightning"])
def test_the_format_before_torch_1_6_is_read_too(tmp_path, form):
    model = Network()
    torch.save(forms(model)[form], tmp_path / "weights.pth", _use_new_zipfile_serialization=False)
    found = read(tmp_path / "weights.pth")
    assert all(torch.equal(found[k], v) for k, v in model.state_dict().items())


def test_a_prefix_of_a_few_names_is_part_of_them(tmp_path):
    state = {name: torch.ones(2) for name in ("model.scale", "body.weight", "head.weight")}
    torch.save(state, tmp_path / "weights.pth")
    assert read(tmp_path / "weights.pth").keys() == state.keys()


def test_the_one_table_of_tensors_counts_whatever_it_is_called(tmp_path):
    state = {"a": torch.ones(2)}
    adam = {"state": {0: {"exp_avg": torch.ones(2)}}, "param_groups": []}
    torch.save({"ema_state_dict": state, "optimizer": adam}, tmp_path / "weights.pth")
    assert read(tmp_path / "weights.pth").keys() == {"a"}
    torch.save({"one": state, "other": {"b": torch.ones(2)}}, tmp_path / "two.pth")
    with pytest.raises(InputError, match="a table of one, other"):
        read(tmp_path / "two.pth")


class Payload:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self):
        return (open, (str(self.target), "w"))


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("place", ["beside", "as the network", "among the tensors"])
def test_nothing_in_a_file_is_executed(tmp_path, place, zipped):
    evil = Payload(tmp_path / "ran")
    state = {"a": torch.ones(2)}
    content = {"beside": {"model": state, "args": evil}, "as the network": evil}.get(place, {**state, "b": evil})
    torch.save(content, tmp_path / "evil.pth", _use_new_zipfile_serialization=zipped)
    if place == "beside":
        assert read(tmp_path / "evil.pth")["a"].tolist() == [1, 1]
    else:
        with pytest.raises(InputError, match=r"evil\.pth"):
            read(tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("content", "found"),
    [
        ([1, 2], "a list"),
        ({}, "an empty table"),
        ({"epoch": 3, "loss": 0.5}, "a table of epoch, loss"),
        ({"model": {"a": 1}}, "a table of model"),
        (argparse.Namespace(lr=1), "a pickled object"),
        (torch.ones(3), "a Tensor"),
    ],
)
def test_a_file_without_weights_gets_a_whole_sentence(tmp_path, content, found):
    path = tmp_path / "weights.pth"
    torch.save(content, path)
    with pytest.raises(InputError) as error:
        read(path)
    assert str(error.value) == f"--weights {path}: found {found}, no names with tensors; {load_weights.SAVE}"


def test_a_file_that_is_none_gets_a_whole_sentence(tmp_path):
    path = tmp_path / "weights.pth"
    for content, what in ((b"<!DOCTYPE html>", "a web page"), (b"version https://git-lfs.github.com", "git lfs pull")):
        path.write_bytes(content)
        with pytest.raises(InputError, match=what):
            read(path)
    for content in (b"", b"text", pickle.dumps({"a": [1]})[:-2], (b"PK\x03\x04" + bytes(50))):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as weights") as error:
            read(path)
        assert load_weights.SAVE in str(error.value) and "\n" not in str(error.value)


def detector(classes: list[str], seed: int, **words) -> nn.Module:
    torch.manual_seed(seed)
    return build(num_classes=len(classes) + 1, **words)[0]


@pytest.mark.parametrize("name", ["fasterrcnn_tiny_fpn", "anchors_tiny"])
def test_rows_of_classes_with_the_same_name_are_kept_by_name(name):
    old, new = ["cat", "dog", "hen"], ["hen", "owl", "cat"]
    before, after = detector(old, 0, name=name), detector(new, 1, name=name)
    fresh = {k: v.clone() for k, v in after.state_dict().items()}
    about = load_into(after, Weights(before.state_dict(), "detector", "", tuple(old)), "runs/a", new)
    assert about.endswith("box predictor kept for hen, cat, new for owl")
    old_state, state, seen = before.state_dict(), after.state_dict(), 0
    for key in (k for k in state if k.startswith(PREDICTORS)):
        rows, theirs, random = (v[key].unflatten(0, (4, -1)) for v in (state, old_state, fresh))
        # label 0 is the background; hen was 3 and is 1; owl, 2, is new; cat was 1 and is 3
        assert torch.equal(rows[0], theirs[0]) and torch.equal(rows[1], theirs[3])
        assert torch.equal(rows[2], random[2]) and torch.equal(rows[3], theirs[1])
        seen += 1
    assert seen == 4
    body = next(k for k in state if not k.startswith(PREDICTORS))
    assert torch.equal(state[body], old_state[body])


@pytest.mark.parametrize("name", ["fasterrcnn_tiny_fpn", "anchors_tiny"])
@pytest.mark.parametrize("old", [["cow", "ape"], []])
def test_without_a_common_class_the_box_predictor_is_new(name, old):
    """As many classes of other names, or of names that nobody knows: no row is taken for another class."""
    before, after = detector(["cow", "ape"], 0, name=name), detector(["cat", "dog"], 1, name=name)
    fresh = {k: v.clone() for k, v in after.state_dict().items()}
    about = load_into(after, Weights(before.state_dict(), "detector", "", tuple(old)), "runs/a", ["cat", "dog"])
    assert about.endswith("new box predictor")
    assert all(torch.equal(v, fresh[k]) for k, v in after.state_dict().items() if k.startswith(PREDICTORS))


def test_a_run_gives_its_classes_its_norm_and_where_it_began(tmp_path):
    model, architecture, _ = build(norm="group", num_classes=3)
    assert architecture["first_weights"] == "none"
    meta = {"classes": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}], "architecture": architecture}
    checkpoint.save(tmp_path / "a" / "best", {**meta, "epoch": 1}, model.state_dict(), None)
    words = {"trainable_layers": 5, "batch_size": 8, "sizes": {"min_size": 64, "max_size": 96}}
    from toolkit.networks import builder

    again, its, about = builder.build(
        "fasterrcnn_tiny_fpn", 3, weights=str(tmp_path / "a"), norm="auto", classes=["cat", "dog"], **words
    )
    assert its["norm"] == "group" and its["eps"] == architecture["eps"]
    assert its["first_weights"] == f"{tmp_path / 'a'}, from none"
    assert "box predictor kept for cat, dog" in about
    for key, value in model.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key
