"""Masks of a detector as predictions and drafts: polygons with few points, run lengths, areas."""

from __future__ import annotations

import csv
import json
import logging
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from label_tools.document import coco_file
from label_tools.shapes import rle
from tests.label_tools.test_label import DRIVER, real_labelme
from toolkit.__main__ import main
from toolkit.prediction.mask_outlines import Outlines
from toolkit.prediction.predict_pictures_and_film import predict

HEIGHT, WIDTH = 90, 120


def disc(x: float, y: float, radius: float) -> np.ndarray:
    ys, xs = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    return (xs - x) ** 2 + (ys - y) ** 2 <= radius**2


MASKS = [disc(40, 40, 30), disc(90, 50, 20) & ~disc(90, 50, 9), disc(100, 15, 12)]  # the second has a hole


class Discs:
    """A detector that finds the same discs in every picture, the third at a low score."""

    opening: ClassVar[dict] = {}
    reads_windows = False

    def __init__(self):
        self.name, self.identity = "discs", "1"
        self.categories = [{"id": 7, "name": "disc"}, {"id": 9, "name": "square"}]
        self.score_thresholds = {}

    def detect(self, images):
        found = []
        for mask, score in zip(MASKS, (0.9, 0.8, 0.1)):
            runs = rle.encode(mask)
            segmentation = rle.to_rle(runs, HEIGHT, WIDTH)
            box = [float(v) for v in rle.box(runs, HEIGHT)]
            found.append({"category_id": 7, "bbox": box, "score": score, "segmentation": segmentation})
        return [found for _ in images]


@pytest.fixture
def pictures(tmp_path):
    (tmp_path / "new").mkdir()
    Image.effect_noise((WIDTH, HEIGHT), 60).convert("RGB").save(tmp_path / "new" / "a.png")
    return tmp_path / "new"


def rows(path) -> list[dict]:
    with open(path, newline="", encoding="utf-8-sig") as file:
        return list(csv.DictReader(file))


def test_areas_in_pixels_and_mm2(pictures, tmp_path):
    predict(Discs(), [(pictures / "a.png", pictures / "a.png")][:1], tmp_path / "o", pixel_size=0.5, draw=False)
    areas = [int(mask.sum()) for mask in MASKS[:2]]
    found = rows(tmp_path / "o" / "detections.csv")
    assert [int(row["area"]) for row in found] == areas
    # a pixel is 0.5 mm x 0.5 mm
    assert [float(row["area_mm2"]) for row in found] == [area * 0.25 for area in areas]
    counts = {row["class"]: row for row in rows(tmp_path / "o" / "counts.csv")}
    assert int(counts["disc"]["area"]) == sum(areas) and counts["square"]["area_mm2"] == "0"


def test_boxes_have_no_areas(pictures, tmp_path, caplog):
    class Boxes(Discs):
        def detect(self, images):
            return [
                [{k: v for k, v in d.items() if k != "segmentation"} for d in one] for one in super().detect(images)
            ]

    with caplog.at_level(logging.WARNING):
        predict(Boxes(), [(pictures / "a.png", pictures / "a.png")], tmp_path / "o", pixel_size=0.5, draw=False)
    assert "no areas" in caplog.text and "area" not in rows(tmp_path / "o" / "detections.csv")[0]


@pytest.mark.parametrize("kind", ["polygons", "masks", "boxes"])
def test_predictions_hold_what_is_asked_for(pictures, tmp_path, kind):
    out = tmp_path / "o"
    predict(Discs(), [(pictures / "a.png", pictures / "a.png")], out, outlines=Outlines(kind), draw=False)
    disc_, ring = json.loads((out / "detections.json").read_text())["images"][0]["detections"]
    assert disc_["area"] == MASKS[0].sum()
    if kind == "boxes":
        assert "segmentation" not in disc_
        return
    assert isinstance(ring["segmentation"], dict)  # polygons have no hole
    assert isinstance(disc_["segmentation"], list if kind == "polygons" else dict)


def test_drafts_are_polygons_that_read_back_as_the_masks(pictures, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("toolkit.labelling.drafts.open_detector", lambda *_: Discs())
    drafts = tmp_path / "drafts"
    (tmp_path / "run" / "best").mkdir(parents=True)
    words = ["prelabel", str(tmp_path / "run"), str(pictures), "--out", str(drafts), "--score", "0.5"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "1 mask kept (a hole" in said and "points in the middle" in said and "2 objects, lowest score 0.80" in said
    shapes = json.loads((drafts / "a.json").read_text())["shapes"]
    assert [s["shape_type"] for s in shapes] == ["polygon", "mask"] and len(shapes[0]["points"]) < 20
    convert = ["convert", "labelme", str(drafts), "--out", str(tmp_path / "o.json"), "--image-root", str(pictures)]
    assert main([*convert, "--include-unreviewed"]) == 0
    annotations = coco_file.read(tmp_path / "o.json")["annotations"]
    drawn = rle.decode(rle.rasterize(annotations[0]["segmentation"], HEIGHT, WIDTH), HEIGHT, WIDTH)
    assert (drawn & MASKS[0]).sum() >= 0.98 * (drawn | MASKS[0]).sum()
    ring = rle.decode(rle.to_runs(annotations[1]["segmentation"]), HEIGHT, WIDTH)
    assert (ring == MASKS[1]).all()


@pytest.mark.parametrize(("kind", "shape"), [("masks", "mask"), ("boxes", "rectangle")])
def test_drafts_as_masks_or_boxes(pictures, tmp_path, monkeypatch, kind, shape):
    monkeypatch.setattr("toolkit.labelling.drafts.open_detector", lambda *_: Discs())
    words = ["prelabel", "run", str(pictures), "--out", str(tmp_path / "d"), "--score", "0.5", "--outlines", kind]
    assert main(words) == 0
    assert {s["shape_type"] for s in json.loads((tmp_path / "d" / "a.json").read_text())["shapes"]} == {shape}


@pytest.mark.skipif(not real_labelme(), reason="labelme is not installed (set FRCNN_LABELME to its program)")
def test_the_real_labelme_opens_a_drafted_outline_and_saves_it_unchanged(pictures, tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("toolkit.labelling.drafts.open_detector", lambda *_: Discs())
    assert main(["prelabel", "run", str(pictures), "--out", str(pictures), "--score", "0.5"]) == 0
    drafted = json.loads((pictures / "a.json").read_text())
    (tmp_path / "labels.txt").write_text("disc\nsquare\n")
    (tmp_path / "driver").mkdir()
    (tmp_path / "driver" / "sitecustomize.py").write_text(DRIVER)
    for name, value in (
        ("FRCNN_LABELME", real_labelme()),
        ("QT_QPA_PLATFORM", "offscreen"),
        ("PYTHONPATH", str(tmp_path / "driver")),
        ("HOME", str(tmp_path)),
    ):
        monkeypatch.setenv(name, value)
    assert main(["label", str(pictures / "a.json"), "--labels", str(tmp_path / "labels.txt")]) == 0
    assert "Traceback" not in capfd.readouterr().err
    saved = json.loads((pictures / "a.json").read_text())
    assert saved["version"] != drafted["version"]  # its own version: it has written the file
    kept = ("label", "points", "shape_type", "score")  # it packs the PNG of a mask anew
    assert [{k: s[k] for k in kept} for s in saved["shapes"]] == [{k: s[k] for k in kept} for s in drafted["shapes"]]


def test_bad_options_are_refused_before_any_work(tmp_path, capsys):
    for command, option, value in (("prelabel", "--outline-iou", "1.2"), ("predict", "--pixel-size", "0")):
        assert main([command, "run", str(tmp_path), "--out", str(tmp_path / "o"), option, value]) == 2
        assert option in capsys.readouterr().err and not (tmp_path / "o").exists()
