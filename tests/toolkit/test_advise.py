"""The RPN advisor: coverage by hand and against the whole grid, and advice that follows from it."""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
import torch

from anchors.boxes import box_iou
from anchors.grid import generate_cell_anchors, grid_anchors
from toolkit.__main__ import main
from toolkit.data.dataset import read_index
from toolkit.networks import advise, models
from toolkit.networks.advise import Level, best_iou, coverage, seen_scale


def test_best_iou_by_hand():
    # one square anchor of side 16 at every multiple of 16: a box that is one of them, half of one, and far larger
    level = [Level(16, (16.0,), (1.0,))]
    boxes = np.array([[8, 8, 24, 24], [8, 8, 24, 16], [0, 0, 160, 160]], float)
    sizes = np.array([[160, 160]] * 3, float)
    # the anchor lies inside the large box: 256 / 25600 = .01
    assert best_iou(boxes, sizes, level).tolist() == pytest.approx([1.0, 0.5, 0.01])
    assert best_iou(np.zeros((0, 4)), np.zeros((0, 2)), level).shape == (0,)


@pytest.mark.parametrize("seed", range(4))
def test_four_cells_a_shape_are_as_good_as_the_whole_grid(seed):
    rng = np.random.default_rng(seed)
    levels = [Level(8, (24.0,), (0.5, 1.0, 2.0)), Level(32, (96.0, 40.0), (0.5, 1.0, 2.0))]
    height, width = 208, 256
    xy = rng.uniform(0, 190, (60, 2)) * [1, 0.8]
    boxes = np.concatenate([xy, np.minimum(xy + rng.uniform(4, 120, (60, 2)), [width, height])], axis=1)
    whole = []
    for level in levels:
        cell = generate_cell_anchors(level.sizes, level.aspect_ratios, rounded=True, dtype=torch.float64)
        cells = (int(np.ceil(height / level.stride)), int(np.ceil(width / level.stride)))
        whole.append(
            box_iou(torch.from_numpy(boxes), grid_anchors(cell, cells, level.stride, offset=0)).max(dim=1).values
        )
    expected = torch.stack(whole).max(dim=0).values.numpy()
    found = best_iou(boxes, np.tile([[height, width]], (60, 1)).astype(float), levels)
    assert found == pytest.approx(expected, abs=1e-9)


def test_levels_are_those_of_the_network():
    levels = advise.levels_of("fasterrcnn_resnet50_fpn")
    assert [level.stride for level in levels] == [4, 8, 16, 32, 64]
    assert [level.sizes for level in levels] == [(32,), (64,), (128,), (256,), (512,)]
    tiny = advise.levels_of("anchors_tiny")
    assert tiny[0].stride == 8 and tiny[0].sizes == (16, 32, 64) and tiny[0].aspect_ratios == (0.5, 1, 2)


def test_scale_is_torchvisions():
    # 600 x 1000 at 800/1333: 800/600 = 1.333, but 1333/1000 = 1.333 holds; 300 x 1000: 1.333, not 2.67
    assert seen_scale(np.array([[600, 1000], [300, 1000]]), 800, 1333).tolist() == pytest.approx([1.333, 1.333])


def test_bands_and_missing_objects(toy_set):
    result = coverage(read_index(toy_set(num_images=8)), advise.levels_of("fasterrcnn_tiny_fpn"), 64, 96)
    assert result.reached["large"] == {"0.5": None, "0.7": None, "mean_iou": None, "num_objects": 0}
    bands = [result.reached[b]["num_objects"] for b in ("small", "medium", "large")]
    assert sum(bands) == result.reached["all"]["num_objects"] > 0


def test_small_objects_get_larger_images_or_smaller_anchors_that_help(toy_set, capsys):
    path = toy_set(num_images=8)  # squares of 14 to 30 px under anchors of 32 and more
    assert main(["advise", str(path), "--size", "64", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    now = result["coverage"]["all"]["0.5"]
    assert now < 0.6 and any("--image-size" in t for t in result["advice"])
    scale = next(t for t in result["tried"] if t["change"] == "anchor sizes" and t["factor"] == 0.7)
    assert scale["reached"] > now and any("--anchor-scale" in t for t in result["advice"])
    assert main(["advise", str(path), "--size", "200"]) == 0
    assert "nothing to change" in capsys.readouterr().out


def test_large_objects_get_larger_anchors(toy_set, capsys):
    # squares of 14 to 30 px in images of 64 px, seen at 512 px: 112 to 240 px under anchors of 24, 48 and 96
    words = ["advise", str(toy_set(num_images=8)), "--model", "fasterrcnn_tiny_fpn", "--image-size", "512"]
    assert main([*words, "--max-size", "1024", "--json"]) == 0
    result = json.loads(capsys.readouterr().out)
    reached = {t["factor"]: t["reached"] for t in result["tried"] if t["change"] == "anchor sizes"}
    assert reached[1.0] < 0.5 and max(reached[2.0], reached[2.8]) > reached[1.4]
    assert any("--anchor-scale 2" in text for text in result["advice"]), result["advice"]
    assert "reach is not AP: train both ways before you decide" in result["advice"]


def test_anchor_scale_keeps_weights_usable():
    sizes = {"min_size": 64, "max_size": 96}
    words = {"weights": "none", "trainable_layers": 5, "norm": "group", "batch_size": 1, "sizes": sizes}
    plain, _, _ = models.build("fasterrcnn_tiny_fpn", 3, **words)
    half, architecture, _ = models.build("fasterrcnn_tiny_fpn", 3, **words, anchor_scale=0.5)
    half.load_state_dict(plain.state_dict())
    assert half.rpn.anchor_generator.sizes == ((12,), (24,), (48,))
    assert models.rebuild(architecture).rpn.anchor_generator.sizes == ((12,), (24,), (48,))


def test_the_folder_and_the_option_that_it_proposes_are_taken(toy_set, capsys):
    path = toy_set(num_images=8)
    folder = path.parent
    if path.name != "annotations.json":
        (folder / "annotations.json").write_bytes(path.read_bytes())
    assert main(["advise", str(path), "--size", "64"]) == 0
    by_file = capsys.readouterr().out
    assert main(["advise", str(folder), "--image-size", "64"]) == 0
    assert capsys.readouterr().out == by_file
    assert by_file.startswith("judged for fasterrcnn_resnet50_fpn\n")


def test_it_proposes_nothing_that_training_refuses(toy_set, capsys):
    assert main(["advise", str(toy_set(num_images=8)), "--model", "anchors_tiny", "--size", "400", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    larger = [t["reached"] for t in advice["tried"] if t["change"] == "anchor sizes"]
    assert max(larger) > advice["coverage"]["all"]["0.5"] + 0.1
    assert "--image-size" in str(advice["advice"]) and "--anchor-scale" not in str(advice["advice"])


def test_crowds_alone_are_nothing_to_advise_on(toy_set):
    index = read_index(toy_set(num_images=8))
    crowds = dataclasses.replace(index, crowd=np.ones_like(index.crowd))
    result = advise.advise(crowds, "fasterrcnn_tiny_fpn", 224, 320)
    assert result["advice"] == ["no objects, nothing to advise"]
