"""Drawn `dominant` and `largest`: their rules, their seeds, and that every baseline trains without files."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from label_tools.text.errors import InputError
from toolkit.__main__ import main
from toolkit.data.pretraining_scenes import scene, visible
from toolkit.single_object import baselines, results_table
from toolkit.single_object.baselines import Budget
from toolkit.single_object.data import drawn_dominant_largest, open_data
from toolkit.single_object.data.open_data import Selection
from toolkit.single_object.data.samples import fingerprint
from toolkit.training import run_folder

SIDE = 64


def areas_by_painting(masks: list[np.ndarray]) -> list[int]:
    """Areas of the boxes of what is visible: every mask painted over the ones before it."""
    owner = np.full(masks[0].shape, -1)
    for i, mask in enumerate(masks):
        owner[mask > 0.5] = i
    areas = []
    for i in range(len(masks)):
        ys, xs = np.nonzero(owner == i)
        areas.append((np.ptp(xs) + 1) * (np.ptp(ys) + 1))
    return areas


# --- the scenes below them ---------------------------------------------------------------------------------------


def test_scenes_of_the_starter_are_still_those_that_it_was_taught():
    # written down before `compose` was taken out of `scene`; shapes are filled in whole numbers, so any machine agrees
    _, boxes, labels, masks = scene(np.random.default_rng([0, 3]), SIDE)
    assert [[*np.argwhere(m).min(0)[::-1], *np.argwhere(m).max(0)[::-1] + 1] for m in masks] == boxes.tolist()
    assert labels.tolist() == [14, 10, 3]
    assert boxes.tolist() == [[44, 9, 64, 24], [46, 22, 58, 35], [23, 50, 34, 60]]


def test_visible_boxes_of_masks_that_hide_each_other():
    masks = np.zeros((3, 10, 10), bool)
    masks[0, 2:6, 1:9] = True  # 4 x 8
    masks[1, 0:10, 5:10] = True  # 10 x 5, hides the right of the first: columns 5 to 8, 4 x 4 pixels
    masks[2, 0:2, 5:10] = True  # 2 x 5, hides the top of the second
    seen = [(box, int(pixels.sum()), own) for box, pixels, own in visible(list(masks))]
    assert seen == [((1, 2, 5, 6), 16, 32), ((5, 2, 10, 10), 40, 50), ((5, 0, 10, 2), 10, 10)]
    (box, pixels, own), _ = visible([masks[2], masks[1]])
    assert (box, pixels.any(), own) == ((0, 0, 0, 0), False, 10)
    assert visible([]) == []


# --- their rules -------------------------------------------------------------------------------------------------


def test_dominant_has_one_object_of_the_share_and_up_to_three_below_it():
    counts, places = set(), set()
    for seed in range(80):
        masks, labels, chosen = drawn_dominant_largest.dominant_layout(np.random.default_rng(seed), SIDE)
        areas = areas_by_painting(masks)
        # 200 * 200 of 640 * 480 are 13.02 %, of 64 x 64 pixels 533.3
        assert [i for i, area in enumerate(areas) if area >= 533.3] == [chosen]
        counts.add(len(masks))
        places.add((chosen, len(masks)))
        assert len(labels) == len(masks) and set(labels) <= {0, 1, 2}
    assert counts == {1, 2, 3, 4}
    assert {(0, 2), (1, 2)} <= places  # in front of the small ones and behind them


def test_largest_asks_for_the_largest_box_and_leaves_no_doubt():
    counts, mixed, behind = set(), 0, 0
    for seed in range(80):
        masks, labels, chosen = drawn_dominant_largest.largest_layout(np.random.default_rng(seed), SIDE)
        areas = areas_by_painting(masks)
        others = [area for i, area in enumerate(areas) if i != chosen]
        assert areas[chosen] >= 1.25 * max(others)
        counts.add(len(masks))
        mixed += len(set(labels)) > 1
        behind += chosen < len(masks) - 1
    assert counts == {2, 3, 4, 5} and mixed > 40 and 10 < behind < 75


@pytest.mark.parametrize(
    ("kind", "layout", "tag"),
    [
        ("dominant", drawn_dominant_largest.dominant_layout, 29),
        ("largest", drawn_dominant_largest.largest_layout, 31),
    ],
)
def test_samples_hold_the_object_asked_for(kind, layout, tag):
    samples = drawn_dominant_largest.draw(kind, 12, side=SIDE, seed=5)
    assert samples.classes == drawn_dominant_largest.CLASSES[kind] and samples.images.shape == (12, 3, SIDE, SIDE)
    assert samples.one().present.all()
    for row in range(12):
        masks, labels, chosen = layout(np.random.default_rng([tag, 5, row]), SIDE)
        x1, y1, x2, y2 = samples.boxes[row].tolist()
        assert (x2 - x1) * (y2 - y1) == areas_by_painting(masks)[chosen]
        assert samples.labels[row] == labels[chosen]
        assert masks[chosen][int(y1) : int(y2), int(x1) : int(x2)].sum() > 0


def test_pictures_are_in_colour_and_show_something():
    images = drawn_dominant_largest.draw("dominant", 20, side=SIDE, seed=0).images.float()
    assert (images.std((2, 3)) > 3).all()
    assert ((images[:, 0] - images[:, 2]).abs().mean((1, 2)) > 2).float().mean() > 0.5


@pytest.mark.parametrize("kind", ["dominant", "largest"])
def test_each_class_tends_to_a_hue_of_its_own(kind):
    shares, hues = [], []
    for label in range(len(drawn_dominant_largest.CLASSES[kind])):
        added = drawn_dominant_largest.look(kind, label, np.random.default_rng(label), SIDE)
        plain = added - added.mean(2, keepdims=True)  # a texture is the same in all three colours
        np.testing.assert_allclose(plain, np.broadcast_to(plain[0, 0], plain.shape), atol=1e-6)
        shares.append(float(np.linalg.norm(plain[0, 0])))
        hues.append(plain[0, 0] / shares[-1])
    # three cosines a third of a turn apart have the norm sqrt(1.5)
    assert all(0.2 * 1.5**0.5 <= share <= 0.5 * 1.5**0.5 for share in shares) and len(set(shares)) == len(shares)
    assert hues[0] == pytest.approx(np.array([1, -0.5, -0.5]) / 1.5**0.5)
    turns = [float(hues[i] @ hues[i - 1]) for i in range(1, len(hues))]
    assert turns == pytest.approx([np.cos(2 * np.pi / len(hues))] * len(turns))


def test_textures_differ_as_their_names_say():
    for shape in drawn_dominant_largest.CLASSES["dominant"]:
        pattern = drawn_dominant_largest.texture(shape, np.random.default_rng(1), SIDE)
        if shape == "ellipse":  # stripes: a sine, its spread 1 / sqrt(2) of its height
            assert pattern.std() == pytest.approx(np.abs(pattern).max() / 2**0.5, rel=0.1)
        elif shape == "star":  # spots are darker: the sum of two sines, cut at 0
            assert pattern.max() < 1e-6 and (pattern < -1e-6).mean() == pytest.approx(0.5, abs=0.1)
        else:  # checks have two values alone
            np.testing.assert_allclose(np.abs(pattern), np.abs(pattern).max(), atol=1e-6)


def test_all_classes_are_drawn_about_as_often():
    for kind, classes in drawn_dominant_largest.CLASSES.items():
        counts = torch.bincount(drawn_dominant_largest.draw(kind, 240, side=32, seed=2).labels, minlength=len(classes))
        assert counts.min() > 0.5 * 240 / len(classes), (kind, counts)


@pytest.mark.parametrize("kind", ["dominant", "largest"])
def test_same_arguments_same_pixels_and_no_picture_in_both_parts(kind):
    selection = Selection(kind, SIDE)
    train, val = open_data.open_data(kind, None, 8, 8, selection)
    again, _ = open_data.open_data(kind, None, 8, 8, selection)
    assert fingerprint(train) == fingerprint(again) != fingerprint(val)
    assert not {i.numpy().tobytes() for i in train.images} & {i.numpy().tobytes() for i in val.images}
    # more pictures begin with the same ones
    assert fingerprint(open_data.open_data(kind, None, 11, 1, selection)[0].first(8)) == fingerprint(train)


def test_pictures_without_an_object_only_when_asked():
    kept = drawn_dominant_largest.draw("largest", 240, side=32, seed=0, keep_empty=True)
    empty = int((kept.per_image() == 0).sum())
    assert 8 <= empty <= 35  # 240 / 12 = 20, standard deviation 4.3
    assert (drawn_dominant_largest.draw("largest", 60, side=32, seed=0).per_image() == 1).all()
    row = int((kept.per_image() == 0).nonzero()[0])
    assert kept.images[row].float().std() > 1  # a ground, not nothing


def test_what_cannot_be_drawn_is_refused():
    with pytest.raises(InputError, match="--size 24: drawn pictures need 32 pixels or more"):
        open_data.open_data("dominant", None, 1, 1, Selection("dominant", 24))
    with pytest.raises(InputError, match="--classes star: chooses from files, --data largest is drawn"):
        open_data.open_data("largest", None, 1, 1, Selection("largest", SIDE, classes=("star",)))
    with pytest.raises(InputError, match="only shapes5 has noise"):
        open_data.open_data("dominant-noise20", None, 1, 1, Selection())


@pytest.mark.parametrize(
    ("data", "drawn"),
    [
        ("dominant", True),
        ("largest", True),
        ("shapes5-noise20", True),
        ("dominant_labels", False),
        ("./largest", False),
        ("shapes5-noise200", False),
        ("", False),
    ],
)
def test_only_exact_names_are_drawn(data, drawn):
    assert open_data.is_drawn(data) is drawn


# --- budgets and commands ----------------------------------------------------------------------------------------


def test_every_baseline_has_a_budget_for_drawn_pictures():
    for baseline in baselines.REGISTRY.values():
        for which in ("scaled", "document"):
            budget = baselines.budget(baseline, which, drawn=True)
            assert budget.images and budget.val and budget.epochs and budget.batch and budget.lr, baseline.name
    light = baselines.find("hw5net_light")
    assert baselines.budget(light, "scaled", drawn=True) == dataclasses.replace(light.drawn, optimizer="adam")
    # the document's own numbers stay, also its size and constant rate
    document = baselines.budget(light, "document", drawn=True)
    assert (document.images, document.val, document.epochs, document.size) == (3_789, 1_972, 30, 256)
    assert document.schedule == "constant"
    # files are read whole, at the size of the document
    assert baselines.budget(light, "scaled").images == 0 and baselines.budget(light, "scaled").size == 256


@pytest.fixture
def tiny_budgets(monkeypatch):
    few = Budget(1, 4, 1e-3, 8, 8, size=SIDE)
    for name in ("hw5net_light", "hw5net_light_mse", "resnet34", "loadhead"):
        monkeypatch.setitem(baselines.REGISTRY, name, dataclasses.replace(baselines.find(name), drawn=few))


def test_training_without_a_folder_says_that_its_pictures_are_drawn(tmp_path, capsys, tiny_budgets):
    assert main(["baseline", "train", "resnet34", "--runs", str(tmp_path)]) == 0
    error = capsys.readouterr().err
    assert "resnet34: drawn pictures; to learn from your own: --data DIR" in error
    assert "drawn_largest: 8 images 64 x 64, 8 objects of 6 classes" in error
    assert run_folder.read_json(tmp_path / "resnet34" / "run.json")["data"]["data"] == "largest"


def test_a_folder_with_the_name_of_drawn_data_does_not_get_in_the_way(tmp_path, monkeypatch, tiny_budgets):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "dominant").mkdir()
    assert main(["baseline", "train", "hw5net_light", "--runs", "runs"]) == 0
    (tmp_path / "runs/hw5net_light/dominant").mkdir()
    assert main(["baseline", "train", "--resume", "runs/hw5net_light", "--epochs", "2"]) == 0
    assert run_folder.read_json(tmp_path / "runs/hw5net_light/result.json")["epochs"] == 2


def test_table_needs_no_folder_and_says_what_was_drawn(tmp_path, capsys, toy_set, tiny_budgets):
    words = ["baseline", "table", "hw5net_light", "loadhead", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main(words) == 0
    text = (tmp_path / "baselines.md").read_text()
    assert "dominant, drawn: 8 images of 64 x 64, 1 epoch, batch 4" in text and "largest, drawn: 8 images" in text
    assert "one answer for all, dominant, drawn" in text and "our own drawn pictures stood in" in text
    # with a folder of one's own those are trained beside the drawn ones, and not again
    toy_set("train", 8), toy_set("val", 8, seed=5)
    small = dataclasses.replace(baselines.find("loadhead"), scaled=Budget(1, 4, 1e-3, 0, 0, size=SIDE))
    baselines.REGISTRY["loadhead"] = small  # `tiny_budgets` puts the old one back
    for _ in range(2):
        assert main([*words, "--largest", str(tmp_path)]) == 0
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["hw5net_light", "loadhead", "loadhead-2"]
    text = (tmp_path / "baselines.md").read_text()
    assert "largest, from files: " in text and "largest, drawn: 8 images" in text and str(tmp_path) not in text


def test_table_names_a_folder_that_begins_like_drawn_data_by_what_it_is():
    baseline = baselines.find("hw5net_light")
    result = {"recipe": {"data": "../dominant_labels", "options": {}}}
    assert results_table.source(baseline, result) == "dominant, from files"
    result["recipe"]["data"] = "dominant_labels"
    assert results_table.source(baseline, result) == "dominant, from files"


@pytest.mark.parametrize("kind", ["dominant", "largest"])
def test_sheet_of_drawn_pictures(tmp_path, kind):
    out = tmp_path / "sheet.png"
    assert main(["baseline", "sheet", "--data", kind, "--count", "4", "--size", "64", "--out", str(out)]) == 0
    assert out.stat().st_size > 5000
