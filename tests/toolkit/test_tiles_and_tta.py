"""`--tiles` and `--tta` in evaluate and predict: beside the plain pictures, with thresholds of their own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from label_tools.document import coco_file
from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import draw_images, scene
from tests.toolkit.test_evaluate_run import CLASSES, save_network
from toolkit.__main__ import main
from toolkit.data.tiles import Tiles
from toolkit.evaluation.compare_runs_tiles_tta import seams
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import match
from toolkit.metrics.paired_bootstrap import compare
from toolkit.prediction.tiles_and_tta import tiles_of


@pytest.fixture
def run(tmp_path):
    document, _ = scene(1, images=3)
    draw_images(document, tmp_path / "images")
    for part in ("train", "val"):
        coco_file.write({**document, "info": {"image_root": "../images"}}, tmp_path / "run" / f"{part}.json")
    save_network(tmp_path / "run", CLASSES)
    return tmp_path / "run"


def test_evaluate_beside_the_plain_pictures(run, capsys):
    assert main(["evaluate", str(run), "--split", "val", "--resamples", "20"]) == 0
    plain = json.loads((run / "val" / "metrics.json").read_text())
    before = json.loads((run / "best" / "checkpoint.json").read_text())["score_thresholds"]
    capsys.readouterr()
    words = ["--tiles", "64", "--tta", "flip", "--resamples", "20"]
    assert main(["evaluate", str(run), "--split", "val", *words]) == 0
    said = capsys.readouterr().out
    found = json.loads((run / "val-tiles-tta" / "metrics.json").read_text())
    look = found["look"]
    assert look["AP"]["a"] == pytest.approx(plain["AP"]) and look["AP"]["b"] == pytest.approx(found["AP"])
    assert look["seams"]["at_seams"]["objects"] + look["seams"]["elsewhere"]["objects"] == found["num_objects"]
    assert "B = tiles of 64 px, overlap" in said and "cost:  A" in said and "seams:" in said
    meta = json.loads((run / "best" / "checkpoint.json").read_text())
    thresholds = {name: one["threshold"] for name, one in found["thresholds"].items()}
    assert meta["score_thresholds"] == before  # those of the plain pictures stay
    assert list(meta["score_thresholds_of_looks"].values()) == [thresholds]
    image = str(run.parent / "images")
    assert main(["predict", str(run), image, "--out", str(run / "p"), "--no-pictures", *words[:4]]) == 0
    assert json.loads((run / "p" / "detections.json").read_text())["score_thresholds"] == thresholds
    assert "score thresholds" not in capsys.readouterr().err
    words[1] = "70"  # other tiles: nothing chose thresholds for them
    assert main(["predict", str(run), image, "--out", str(run / "q"), "--no-pictures", *words[:4]]) == 0
    assert json.loads((run / "q" / "detections.json").read_text())["score_thresholds"] == before
    assert "--split val --tiles 70 --tta flip tells" in capsys.readouterr().err
    assert main(["evaluate", "--annotations", "a", "--detections", "b", "--out", "c", "--tta", "flip"]) == 2


def test_size_and_overlap_from_the_training_set(run, tmp_path):
    document = coco_file.read(run / "train.json")
    shorter = np.median([min(i["width"], i["height"]) for i in document["images"]])
    largest = np.quantile([max(a["bbox"][2:]) for a in document["annotations"] if not a["iscrowd"]], 0.99)
    tiles = tiles_of("auto", run)
    assert tiles.size == int(shorter) and tiles.overlap == min(int(np.ceil(largest)), tiles.size // 2)
    assert tiles_of("auto", run / "best") == tiles
    assert tiles_of("200", tmp_path).overlap == 50  # nothing is known of the objects
    for text in ("auto", "big"):
        with pytest.raises(InputError, match="--tiles"):
            tiles_of(text, tmp_path)


def test_seams_by_hand():
    """Tiles of 100 that share 20 begin at 0 and 80 of 180: an object over x 80 to 100 only is whole in both."""
    boxes = {1: [60, 10, 30, 30], 2: [10, 10, 30, 30], 3: [150, 10, 20, 20]}  # 1 goes over 80: a part in the second
    document = {
        "images": [{"id": 1, "file_name": "a.png", "width": 180, "height": 100}],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": b, "area": b[2] * b[3], "iscrowd": 0}
            for n, b in boxes.items()
        ],
        "categories": [{"id": 1, "name": "a"}],
    }

    def found(*rows):
        return [{"image_id": 1, "category_id": 1, "bbox": boxes[n], "score": s} for n, s in rows]

    tiled = [*found((1, 0.9), (2, 0.8)), {**found((1, 0.7))[0], "bbox": [61, 10, 30, 30]}]  # object 1 twice
    whole = found((2, 0.9), (3, 0.9), (1, 0.3))  # the last one under the threshold
    matches = [match(read_tables(document, one)) for one in (whole, tiled)]
    assert seams(*matches, Tiles(100, 20), {"a": 0.5}) == {
        "at_seams": {"objects": 1, "found_whole": 0.0, "found_tiled": 1.0},
        "elsewhere": {"objects": 2, "found_whole": 1.0, "found_tiled": 0.5},
        "duplicates": 1,
        "duplicates_at_seams": 1,
    }


def test_compare_by_size_has_coco_s_numbers():
    document, detections = scene(3, images=8)
    one, other = (match(read_tables(document, part)) for part in (detections, detections[::2]))
    found = compare(one, other, 50, 0, by_size=True)
    from toolkit.evaluation.compute_metrics import coco_metrics

    for key in ("AP", "AP50", "APs", "APm", "APl"):
        if found[key] is not None:
            assert found[key]["a"] == pytest.approx(coco_metrics(document, detections)[key]), key
    assert set(found) > {"APs", "APm", "APl"} and "APs" not in compare(one, other, 50, 0)
