"""The evaluation traps E01 to E22: where other tools give a wrong number or a traceback, what ours does."""

from __future__ import annotations

import copy
import json

import numpy as np
import pytest

from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import detection, document_of, perfect, pycocotools_numbers, random_set, scene
from toolkit.evaluation.compute_metrics import coco_metrics, compute_metrics
from toolkit.evaluation.evaluate_files import evaluate_files
from toolkit.metrics.coco_ap import KEYS, summary
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import match

TWO = [[(1, 10, 10, 40, 40), (1, 100, 60, 50, 50)]]


def test_e01_annotation_id_0_is_an_object_like_any_other():
    document = document_of(TWO)
    for annotation in document["annotations"]:
        annotation["id"] -= 1  # ids 0 and 1
    assert pycocotools_numbers(document, perfect(document))["AP"] < 0.3  # the trap is real: 0.2525
    assert coco_metrics(document, perfect(document))["AP"] == 1.0


def test_e02_no_detections_is_zero_not_an_exception():
    document = document_of([[(1, 0, 0, 20, 20), (1, 30, 30, 50, 50), (1, 5, 5, 120, 120)]])
    result = coco_metrics(document, [])
    assert [result[key] for key in KEYS] == [0.0] * 12
    everything = compute_metrics(document, []).metrics
    assert everything["AP"] == 0.0
    assert everything["error_kinds"]["kinds"]["missed"]["num"] == 3
    assert everything["thresholds"]["nut"]["threshold"] == 0.5


def test_e03_no_objects_is_not_defined_and_never_averaged():
    document = document_of([[], []])
    detections = [detection(1, 1, 0, 0, 10, 10, 0.9)]
    result = coco_metrics(document, detections)
    assert [result[key] for key in KEYS] == [None] * 12
    everything = compute_metrics(document, detections).metrics
    assert everything["error_kinds"]["AP50"] is None
    assert everything["confusion"]["counts"][1][0] == 1  # the detection is on background
    json.dumps(everything, allow_nan=False)


def test_e04_no_objects_of_a_size_says_so_with_its_count():
    from toolkit.report.evaluation_text import terminal

    document = document_of([[(1, 0, 0, 50, 50)]])  # 2500 square pixels: medium
    everything = compute_metrics(document, perfect(document)).metrics
    assert (everything["APs"], everything["APm"], everything["APl"]) == (None, 1.0, None)
    assert everything["num_objects_by_size"] == {"small": 0, "medium": 1, "large": 0}
    text = terminal(everything)
    assert text.count("n/a (0 objects)") == 4  # APs APl ARs ARl
    assert "-1" not in text


def test_e05_another_limit_of_detections_still_has_an_ap():
    tables = read_tables(*_many(150))
    assert summary(match(tables, max_detections=300))["AP"] == 1.0  # pycocotools with maxDets [1,10,300]: -1


def _many(number: int) -> tuple[dict, list]:
    boxes = [(1, 20.0 * (i % 15), 20.0 * (i // 15), 10.0, 10.0) for i in range(number)]
    document = document_of([boxes], size=(400, 400))
    return document, [{**d, "score": 1 - i / 1000} for i, d in enumerate(perfect(document))]


def test_e06_more_objects_than_detections_are_judged_is_said():
    document, detections = _many(150)
    result = coco_metrics(document, detections)
    # recall ends at 100/150 = 0.667, so 67 of the 101 recalls are reached with precision 1
    assert result["AP"] == pytest.approx(67 / 101)
    assert result["AP"] == pytest.approx(pycocotools_numbers(document, detections)["AP"])
    assert len(result["warnings"]) == 1
    assert "1 image with more than 100 objects, the most in 001.jpg (150)" in result["warnings"][0]
    assert coco_metrics(*_many(100))["warnings"] == []


def test_e07_ids_as_text_are_the_same_ids():
    document, detections = random_set(7)
    wanted = coco_metrics(document, detections)
    texts = copy.deepcopy(document)
    for image in texts["images"]:
        image["id"] = str(image["id"])
    for annotation in texts["annotations"]:
        annotation["image_id"] = float(annotation["image_id"])
    found = coco_metrics(texts, detections)
    assert {**found, "warnings": wanted["warnings"]} == wanted and "read as" in found["warnings"][0]
    strings = [{**d, "image_id": str(d["image_id"])} for d in detections]
    assert coco_metrics(document, strings) == wanted
    named = copy.deepcopy(document)  # ids that are names stay names
    for image in named["images"]:
        image["id"] = f"img{image['id']:03d}"
    for annotation in named["annotations"]:
        annotation["image_id"] = f"img{annotation['image_id']:03d}"
    assert coco_metrics(named, [{**d, "image_id": f"img{d['image_id']:03d}"} for d in detections])["AP"] == wanted["AP"]


def refused(document: dict, detections: list) -> str:
    with pytest.raises(InputError) as caught:
        coco_metrics(document, detections)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_e08_detection_of_an_unknown_image_is_named():
    document = document_of(TWO)
    text = refused(document, [*perfect(document), detection(99, 1, 0, 0, 5, 5, 0.5), detection(77, 1, 0, 0, 5, 5, 0.5)])
    assert "detections[2]" in text
    assert "99, 77" in text


def test_e09_detection_of_an_unknown_category_is_refused():
    text = refused(document_of(TWO), [detection(1, 5, 0, 0, 5, 5, 0.5)])
    assert "category_id 5" in text


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -float("inf")])
def test_e10_not_a_number_is_refused(bad):
    document = document_of(TWO)
    assert "score" in refused(document, [detection(1, 1, 0, 0, 5, 5, bad)])
    assert "bbox" in refused(document, [detection(1, 1, bad, 0, 5, 5, 0.5)])
    broken = document_of([[(1, 0, 0, bad, 5)]])
    assert "annotations[0]" in refused(broken, [])


def test_e10_a_truth_value_is_no_score():
    assert "[0]: score is True, needs a number" in refused(document_of(TWO), [detection(1, 1, 0, 0, 5, 5, True)])


@pytest.mark.parametrize("box", [[1, 2, 3], "1 2 3 4", None, [1, 2, 3, "4"], [[1], 2, 3, 4], [5, 5, -1, 4], {}])
def test_e10_malformed_boxes_are_refused(box):
    document = document_of(TWO)
    fine = detection(1, 1, 0, 0, 5, 5, 0.5)
    assert "[1]" in refused(document, [fine, {**fine, "bbox": box}])


@pytest.mark.parametrize("entry", [7, None, [], {}, {"image_id": 1}, {"image_id": 1, "category_id": 1}])
def test_e10_entries_that_are_no_detections_are_refused(entry):
    refused(document_of(TWO), [entry])


@pytest.mark.parametrize("detections", [{}, "text", None, {"annotations": []}])
def test_e10_no_list_is_refused(detections):
    assert "needs a list" in refused(document_of(TWO), detections)


def test_e11_copies_of_a_detection_count_once():
    document, detections = random_set(11)
    wanted = coco_metrics(document, detections)
    result = coco_metrics(document, detections + detections[:5])
    assert {k: result[k] for k in KEYS} == {k: wanted[k] for k in KEYS}
    assert result["num_detections"] == len(detections)
    assert "5 exact copies" in result["warnings"][-1]


def test_e12_annotation_ids_used_twice_lose_nothing():
    document = document_of(TWO)
    document["annotations"][1]["id"] = 1
    result = coco_metrics(document, perfect(document))
    assert result["AP"] == 1.0
    assert "renumbered" in result["warnings"][0]


def test_e12_image_ids_used_twice_are_refused():
    document = document_of([[], []])
    document["images"][1]["id"] = 1
    assert "images[1]: id 1 is already that of images[0]" in refused(document, [])


def test_e13_missing_area_and_iscrowd_are_computed():
    document = document_of(TWO)
    wanted = coco_metrics(document, perfect(document))
    for annotation in document["annotations"]:
        del annotation["area"], annotation["iscrowd"]
    found = coco_metrics(document, perfect(document))
    assert {**found, "warnings": []} == wanted and "computed as" in found["warnings"][0]
    assert wanted["num_objects_by_size"]["medium"] == 2


def test_e14_corners_instead_of_width_and_height_are_refused_with_a_hint():
    document, _ = scene(1)
    corners = perfect(document)
    for d in corners:
        x, y, w, h = d["bbox"]
        d["bbox"] = [x, y, x + w, y + h]
    assert pycocotools_numbers(document, corners)["AP"] < 0.3  # silently wrong elsewhere
    text = refused(document, corners)
    assert "corners [x1, y1, x2, y2]" in text
    for a in document["annotations"]:
        x, y, w, h = a["bbox"]
        a["bbox"] = [x, y, x + w, y + h]
    assert "annotations" in refused(document, [])


def test_e14_fractions_are_refused_with_a_hint():
    document, _ = scene(1)
    fractions = [{**d, "bbox": [v / s for v, s in zip(d["bbox"], (240, 180, 240, 180))]} for d in perfect(document)]
    assert "fractions of the image" in refused(document, fractions)


def test_e14_honest_boxes_are_never_refused():
    for seed in range(30):
        document, detections = scene(seed)
        coco_metrics(document, detections)
    # large boxes at the right edge, a bit over it, as detectors without clipping give them
    document = document_of([[(1, 100.0, 60.0, 100.0, 100.0)]] * 12)
    coco_metrics(document, [{**d, "bbox": [100.5, 60.5, 101.0, 101.0]} for d in perfect(document)])


def test_e16_the_area_of_the_annotation_decides_its_size():
    # a ring: box 100 x 100 is large, its mask of 900 pixels is small, as COCO counts it
    document = document_of([[(1, 10, 10, 100, 100, {"area": 900.0})]])
    result = coco_metrics(document, perfect(document))
    assert (result["APs"], result["APl"]) == (1.0, None)
    del document["annotations"][0]["area"]  # without a mask the box's area counts
    result = coco_metrics(document, perfect(document))
    assert (result["APs"], result["APl"]) == (None, 1.0)


def test_e17_category_ids_may_have_gaps_and_any_order():
    document, detections = random_set(17)
    wanted = coco_metrics(document, detections)
    new = {1: 70, 2: 3, 3: 901}
    for entry in document["categories"]:
        entry["id"] = new[entry["id"]]
    for entry in [*document["annotations"], *detections]:
        entry["category_id"] = new[entry["category_id"]]
    result = coco_metrics(document, detections)
    for name in wanted["per_class"]:
        assert result["per_class"][name] == wanted["per_class"][name]
    assert result["AP"] == pytest.approx(wanted["AP"], abs=1e-12)


def test_e18_images_without_detections_count():
    document = document_of([[(1, 0, 0, 20, 20)], [(1, 0, 0, 20, 20)], []])
    result = coco_metrics(document, perfect(document)[:1])
    assert result["num_images"] == 3
    assert result["AR100"] == 0.5  # one of two objects
    assert result["AP"] == pytest.approx(51 / 101)  # recalls 0 to 0.5


def test_e19_results_are_plain_numbers():
    everything = compute_metrics(*scene(2)).metrics
    assert type(everything["AP"]) is float

    def plain(value) -> bool:
        if isinstance(value, dict):
            return all(type(k) is str and plain(v) for k, v in value.items())
        if isinstance(value, (list, tuple)):
            return all(map(plain, value))
        return value is None or type(value) in (int, float, str, bool)

    assert plain(everything)


def test_e20_the_report_names_the_score_floor(tmp_path):
    from tests.toolkit.evaluation_fixtures import made_run
    from toolkit.report.write_report import write_report

    run = made_run(tmp_path, images=4)
    assert "0.010: detections under it were never made" in write_report(run).read_text()


def test_e22_one_evaluator_for_everybody(tmp_path):
    document, detections = scene(3)
    (tmp_path / "gt.json").write_text(json.dumps(document))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    by_file = evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json", tmp_path / "out")
    by_call = coco_metrics(document, detections)
    assert {k: by_file[k] for k in KEYS} == {k: by_call[k] for k in KEYS}
    assert by_file["per_class"] == by_call["per_class"]


def test_crowds_are_ignored_not_missed():
    document = document_of([[(1, 0, 0, 20, 20), (1, 50, 50, 100, 100, {"iscrowd": 1})]])
    inside = [detection(1, 1, 60 + 20 * i, 60, 15, 15, 0.95) for i in range(3)]  # all inside the crowd
    everything = compute_metrics(document, [*perfect(document)[:1], *inside]).metrics
    assert everything["AP"] == 1.0
    assert everything["num_objects"] == 1
    assert everything["confusion"]["counts"] == [[1, 0], [0, 0]]
    assert everything["objects"]["crowds"] == 1


@pytest.mark.parametrize("document", [None, [], {}, {"images": []}, {"images": 1, "annotations": [], "categories": []}])
def test_no_coco_document_is_refused(document):
    assert "needs a COCO document" in refused(document, [])


def test_class_names_used_twice_are_refused():
    document = document_of([[(1, 10, 10, 40, 40), (2, 100, 60, 50, 50)]], ("nut", "nut"))
    assert "'nut'" in refused(document, [])


def test_scores_over_one_are_ranked_and_not_calibrated():
    document, detections = scene(4)
    scaled = [{**d, "score": 100 * d["score"]} for d in detections]
    everything = compute_metrics(document, scaled).metrics
    assert everything["calibration"] is None
    assert everything["AP"] == coco_metrics(document, detections)["AP"]
    assert np.isfinite(everything["thresholds"]["nut"]["threshold"])
