"""The RPN advisor: the advice that follows from the coverage."""

from __future__ import annotations

import dataclasses
import json

import numpy as np

from toolkit import fine_tune
from toolkit.__main__ import main
from toolkit.data.coco_index import read_index
from toolkit.networks import advise, builder
from toolkit.networks import resize_and_anchors as view


def test_bands_and_missing_objects(toy_set):
    result = advise.coverage(read_index(toy_set(num_images=8)), advise.registered_view("fasterrcnn_tiny_fpn", 64, 96))
    assert result["large"] == {"0.5": None, "0.7": None, "mean_iou": None, "num_objects": 0}
    bands = [result[b]["num_objects"] for b in ("small", "medium", "large")]
    assert sum(bands) == result["all"]["num_objects"] > 0


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
    plain, _, _ = builder.build("fasterrcnn_tiny_fpn", 3, **words)
    half, architecture, _ = builder.build("fasterrcnn_tiny_fpn", 3, **words, anchor_scale=0.5)
    half.load_state_dict(plain.state_dict())
    assert half.rpn.anchor_generator.sizes == ((12,), (24,), (48,))
    assert builder.rebuild(architecture).rpn.anchor_generator.sizes == ((12,), (24,), (48,))


def test_the_folder_and_the_option_that_it_proposes_are_taken(toy_set, capsys):
    path = toy_set(num_images=8)
    folder = path.parent
    if path.name != "annotations.json":
        (folder / "annotations.json").write_bytes(path.read_bytes())
    assert main(["advise", str(path), "--size", "64"]) == 0
    by_file = capsys.readouterr().out
    assert main(["advise", str(folder), "--image-size", "64"]) == 0
    assert capsys.readouterr().out == by_file
    assert by_file.startswith(f"model: {fine_tune.with_model({}, {})['model']}\n")  # as `frcnn train` would take


def test_it_proposes_nothing_that_training_refuses(toy_set, capsys):
    # objects of 14 to 30 px in images of 400 px, shrunk to 267 px: 9 to 19 px under anchors of 16 and more
    path = str(toy_set(num_images=8, size=400))
    assert main(["advise", path, "--model", "anchors_tiny", "--size", "160", "--json"]) == 0
    advice = json.loads(capsys.readouterr().out)
    other = [t["reached"] for t in advice["tried"] if t["change"] == "anchor sizes"]
    assert max(other) > advice["coverage"]["all"]["0.5"] + 0.02  # what is proposed for other networks
    assert "--max-size" in str(advice["advice"])
    assert not any(word in str(advice["advice"]) for word in ("--anchor-scale", "--image-size"))


def test_a_low_share_at_70_is_never_nothing_to_change(toy_set, capsys):
    """Squares under anchors of half their side lie at IoU 0.25 to 0.7 of them: all reached at 0.5 is not enough."""
    index = read_index(toy_set(num_images=8))
    boxes, sizes = np.tile([[10.0, 10, 42, 42]], (20, 1)), np.full((20, 2), 64)
    level = view.Level(8, (40.0,), (1.0,))  # IoU 32 * 32 / (40 * 40) = 0.64 at best
    seen = view.View(64, 128, (level,))
    tried = advise.reach_of_others(boxes, sizes, seen)
    (first,) = advise.proposals(boxes, sizes, seen, tried)  # anchors of 28 px, IoU 0.77, at 0.7 of the size
    assert first["flags"] == "--anchor-scale 0.7" and first["reached_at_0.7"] == 1
    index = dataclasses.replace(index, boxes=boxes, crowd=np.zeros(20, bool), sizes=sizes[:1], first=np.array([0, 20]))
    (said, *others) = advise._advice(index, seen, tried, [first])
    assert "100% of the boxes at IoU 0.5 and 0% at 0.7" in said and "nothing" not in str([said, *others])
    assert "1. --anchor-scale 0.7: reaches 100% at IoU 0.5, 100% at 0.7, for the same computing" in str(others)


def test_larger_images_come_before_other_anchors(toy_set):
    # objects of 30 px in pictures of 400 px seen at 100 px: 8 px under anchors of 24 px; both would reach more
    index = read_index(toy_set(num_images=8, size=400))
    result = advise.advise(index, "fasterrcnn_tiny_fpn", 100, 150)
    flags = [one["flags"].split()[0] for one in result["proposals"]]
    assert flags == ["--image-size", "--anchor-scale"]


def test_smaller_images_are_proposed_only_where_anchors_are_fixed():
    now = {"change": advise.ANCHORS, "factor": 1.0, "reached": 0.5, "reached_at_0.7": 0.2}
    limits = {"max_size": 75}
    smaller = {"change": advise.IMAGES, "factor": 0.5, "limits": limits, "reached": 0.9, "reached_at_0.7": 0.8}
    boxes, sizes = np.ones((1, 4)), np.ones((1, 2))
    assert advise.proposals(boxes, sizes, view.View(100, 150), [now, smaller]) == []
    (one,) = advise.proposals(boxes, sizes, view.View(None, 150), [now, smaller])
    assert one["flags"] == "--max-size 75" and one["cost"] == 0.25


def test_crowds_alone_are_nothing_to_advise_on(toy_set):
    index = read_index(toy_set(num_images=8))
    crowds = dataclasses.replace(index, crowd=np.ones_like(index.crowd))
    result = advise.advise(crowds, "fasterrcnn_tiny_fpn", 224, 320)
    assert result["advice"] == ["no objects, nothing to advise"]
