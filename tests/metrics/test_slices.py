"""Slices: the group that is spoiled is found, equal ones are not told apart; every way to group."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from label_tools.pictures.open_image import camera_and_hour
from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import document_of, perfect
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.evaluation.evaluate_by_group import slice_by, slices
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import match
from toolkit.report.evaluation_text import terminal


def with_misses(shares: list[float], seed: int = 0) -> tuple:
    """30 images a share, in which that share of the objects is not found."""
    rng = np.random.default_rng(seed)
    document = document_of([[(1, 10, 10, 40, 40), (1, 90, 10, 40, 40)]] * (30 * len(shares)), ("nut",))
    document["annotations"] = [{**a, "segmentation": []} for a in document["annotations"]]
    missing = np.repeat(shares, 30)
    return document, [d for d in perfect(document) if rng.random() > missing[d["image_id"] - 1]]


def test_the_bad_slice_is_found_and_equal_ones_are_not_told_apart():
    document, found = with_misses([0.1, 0.1, 0.6])
    matches = match(read_tables(document, found))
    result = slices(matches, ["a"] * 30 + ["b"] * 30 + ["c"] * 30, 300)
    assert list(result) == ["a", "b", "c"]
    assert [one["verdict"] for one in result.values()] == [
        "better than the rest",
        "better than the rest",
        "worse than the rest",
    ]
    low, high = result["c"]["interval"]
    assert low < result["c"]["AP"] < high
    assert result["c"]["difference"] == pytest.approx(
        result["c"]["AP"] - compute_metrics(*part(document, found, 60), Settings(resamples=0)).metrics["AP"]
    )
    equal = slices(match(read_tables(*with_misses([0.2, 0.2, 0.2]))), ["a"] * 30 + ["b"] * 30 + ["c"] * 30, 300)
    assert {one["verdict"] for one in equal.values()} == {"no difference shown"}


def part(document, found, images):
    keep = [i for i in document["images"] if i["id"] <= images]
    return (
        {**document, "images": keep, "annotations": [a for a in document["annotations"] if a["image_id"] <= images]},
        [d for d in found if d["image_id"] <= images],
    )


@pytest.mark.parametrize("few", [1, 4])
def test_a_group_of_few_images_is_not_tested_nor_what_few_are_left(few):
    document, found = with_misses([0.1])
    result = slices(match(read_tables(document, found)), [*["few"] * few, *["rest"] * (30 - few)], 50)
    for one in result.values():
        assert one["verdict"] == "too few to tell" and one["p"] is None
        assert one["AP"] is not None
    assert result["few"]["interval"] is None and result["rest"]["interval"] is not None


def test_every_way_to_group(tmp_path):
    document, found = with_misses([0.1])
    for n, image in enumerate(document["images"]):
        image["file_name"] = f"{'day' if n % 2 else 'night'}/{n:02d}.jpg"
        image["width"], image["height"] = (200, 160) if n % 3 else (160, 200)
        path = tmp_path / image["file_name"]
        path.parent.mkdir(exist_ok=True)
        exif = Image.Exif()
        exif[272] = "Pixel 8" if n % 2 else "EOS"
        exif.get_ifd(34665)[36867] = f"2026:11:26 {6 + n % 2:02d}:30:00"
        Image.new("RGB", (8, 8)).save(path, exif=exif)
        path.with_suffix(".json").write_text(json.dumps({"flags": {"wet": n % 2 == 0, "blurred": False}}))
    assert camera_and_hour(tmp_path / "day" / "01.jpg") == ("Pixel 8", "07 h")
    assert camera_and_hour(tmp_path / "absent.jpg") == ("", "")
    (tmp_path / "groups.csv").write_text("00.jpg,left\n01.jpg,right\n")
    write_evaluation(tmp_path / "out", compute_metrics(document, found, Settings(resamples=20)), tmp_path)
    for by, wanted in {
        "folder": {"day", "night"},
        "flag": {"wet", "no flag"},
        "camera": {"EOS", "Pixel 8"},
        "size": {"200 x 160", "160 x 200"},
        "hour": {"06 h", "07 h"},
        str(tmp_path / "groups.csv"): {"left", "right", "unknown"},
    }.items():
        metrics = slice_by(tmp_path / "out", by, Settings(resamples=20))
        assert {one["name"] for one in metrics["slices"]["groups"]} == wanted, by
        assert "group - rest" in terminal(metrics)
    with pytest.raises(InputError, match="needs folder, flag, camera, size, hour or a CSV file"):
        slice_by(tmp_path / "out", "colour")
    (tmp_path / "one.csv").write_text("00.jpg\n")
    with pytest.raises(InputError, match="line 1: found one column"):
        slice_by(tmp_path / "out", str(tmp_path / "one.csv"))
