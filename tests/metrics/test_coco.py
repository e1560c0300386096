"""COCO's numbers: equal to the official ones and to pycocotools; by hand; on nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from label_tools.text.errors import InputError
from tests.conftest import needs_real_data
from tests.toolkit.evaluation_fixtures import OFFICIAL, detection, document_of, perfect, pycocotools_numbers, random_set
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.metrics import iou_and_matching
from toolkit.metrics.coco_ap import KEYS
from toolkit.metrics.iou_and_matching import iou_of

official = needs_real_data("coco_official")


@official
def test_official_numbers_to_three_decimals():
    document = json.loads((OFFICIAL / "instances_val2014_100.json").read_text())
    detections = json.loads((OFFICIAL / "detections.json").read_text())
    result = coco_metrics(document, detections)
    # published with pycocotools, type=bbox, in the order of KEYS
    published = [0.505, 0.697, 0.573, 0.586, 0.519, 0.501, 0.387, 0.594, 0.595, 0.640, 0.566, 0.564]
    assert [round(result[key], 3) for key in KEYS] == published
    assert result["num_images"] == 100  # one of them has no detection


def assert_equal_to_pycocotools(document, detections):
    ours, theirs = coco_metrics(document, detections), pycocotools_numbers(document, detections)
    ours_per_class = {name: numbers["AP"] for name, numbers in ours["per_class"].items()}
    pairs = [(key, ours[key], theirs[key]) for key in KEYS]
    pairs += [(name, ours_per_class[name], ap) for name, ap in theirs["per_class"].items()]
    for key, our, their in pairs:
        assert (our is None) == (their is None), key
        assert our is None or abs(our - their) <= 1e-10, key


@official
def test_official_set_equals_pycocotools_in_every_digit():
    document = json.loads((OFFICIAL / "instances_val2014_100.json").read_text())
    assert_equal_to_pycocotools(document, json.loads((OFFICIAL / "detections.json").read_text()))


@pytest.mark.parametrize("block", range(10))
def test_equals_pycocotools_on_random_sets(block):
    for seed in range(block * 10, block * 10 + 10):
        document, detections = random_set(seed, images=1 + seed % 6, classes=1 + seed % 4)
        if detections:  # pycocotools raises IndexError on none
            assert_equal_to_pycocotools(document, detections)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_equals_pycocotools_on_500_random_sets(block):
    for seed in range(1000 + block * 50, 1050 + block * 50):
        document, detections = random_set(seed, images=1 + seed % 12, classes=1 + seed % 5, most=3 + seed % 20)
        if detections:
            assert_equal_to_pycocotools(document, detections)


def test_by_hand_one_right_one_wrong_one_missed():
    document = document_of([[(1, 0, 0, 10, 10), (1, 50, 50, 10, 10)]])
    detections = [detection(1, 1, 0, 0, 10, 10, 0.9), detection(1, 1, 100, 100, 10, 10, 0.8)]
    result = coco_metrics(document, detections)
    # recall reaches 1/2 with precision 1: recalls 0, .01 ... .50 are 51 of the 101 points
    assert result["AP50"] == pytest.approx(51 / 101)
    assert result["AR100"] == 0.5
    assert result["AR1"] == 0.5


def test_by_hand_wrong_before_right():
    document = document_of([[(1, 0, 0, 10, 10)]])
    detections = [detection(1, 1, 100, 100, 10, 10, 0.9), detection(1, 1, 0, 0, 10, 10, 0.8)]
    assert coco_metrics(document, detections)["AP50"] == pytest.approx(0.5)  # precision 1/2 at every recall


def test_by_hand_iou_decides_the_threshold():
    document = document_of([[(1, 0, 0, 10, 10)]])
    # overlap 10 x 7.4 of 100: IoU 0.74, so thresholds .5 .55 .6 .65 .7 are met, .75 and over are not
    result = coco_metrics(document, [detection(1, 1, 0, 0, 10, 7.4, 0.9)])
    assert result["AP"] == pytest.approx(0.5)
    assert (result["AP50"], result["AP75"]) == (1.0, 0.0)


def test_of_two_equal_overlaps_the_later_object_is_taken():
    # one box labelled twice, once with a small mask and once with a large one: the detection takes the second
    # (outlines that differ make them two objects: the same in everything would be one that is labelled twice)
    small = {"area": 900.0, "segmentation": [[0, 0, 30, 0, 30, 30, 0, 30]]}
    twice = [[(1, 0, 0, 100, 100, small), (1, 0, 0, 100, 100, {"area": 9800.0})]]
    document = document_of(twice)
    detections = [detection(1, 1, 0, 0, 100, 100, 0.9)]
    result = coco_metrics(document, detections)
    assert result["AR1"] == 0.5
    assert_equal_to_pycocotools(document, detections)
    # as far from the one as from the other: COCO's threshold 0.5 is met by both, a second detection needs the first
    between = document_of([[(1, 0, 0, 30, 30), (1, 10, 0, 30, 30)]])
    detections = [detection(1, 1, 5, 0, 30, 30, 0.9), detection(1, 1, 0, 0, 30, 30, 0.8)]
    assert coco_metrics(between, detections)["AR100"] > 0.5
    assert_equal_to_pycocotools(between, detections)
    backwards = document_of([[(1, 10, 0, 30, 30), (1, 0, 0, 30, 30)]])
    assert coco_metrics(backwards, detections)["AR100"] < coco_metrics(between, detections)["AR100"]


def test_class_without_objects_is_not_averaged():
    document = document_of([[(1, 0, 0, 10, 10)]], ("nut", "bolt"))
    result = coco_metrics(document, [*perfect(document), detection(1, 2, 0, 0, 10, 10, 0.9)])
    assert result["AP"] == 1.0
    assert result["per_class"]["bolt"]["AP"] is None
    assert result["per_class"]["bolt"]["num_objects"] == 0


def test_order_of_detections_does_not_matter_without_ties():
    document, detections = random_set(3)
    scored = [{**d, "score": i / len(detections)} for i, d in enumerate(detections)]
    assert coco_metrics(document, scored) == coco_metrics(document, scored[::-1])


def test_more_boxes_than_fit_in_one_piece(monkeypatch):
    from toolkit.metrics import iou_and_matching

    document, detections = random_set(5)
    whole = coco_metrics(document, detections)
    monkeypatch.setattr(iou_and_matching, "PAIRS_AT_ONCE", 3)
    assert coco_metrics(document, detections) == whole


def test_input_is_not_changed():
    document, detections = random_set(1)
    before = json.dumps([document, detections])
    coco_metrics(document, detections)
    assert json.dumps([document, detections]) == before


def test_overlap_by_hand():
    a = np.array([[0, 0, 10, 10]] * 4, float)
    b = np.array([[5, 0, 10, 10], [20, 0, 10, 10], [0, 20, 10, 10], [10, 0, 10, 10]], float)
    assert iou_of(a, b).tolist() == pytest.approx([50 / 150, 0, 0, 0])  # half; beside; below; edge at edge
    assert iou_of(a, b, np.ones(4, bool)).tolist() == pytest.approx([0.5, 0, 0, 0])  # of a crowd: the share of a


def test_pieces_of_pairs_by_hand(monkeypatch):
    monkeypatch.setattr(iou_and_matching, "PAIRS_AT_ONCE", 6)
    assert iou_and_matching._chunks(np.array([3, 3, 3, 9, 1])) == [(0, 2), (2, 3), (3, 4), (4, 5)]


@pytest.mark.parametrize("box", [[1, 2, 3], [1, 2, 3, 4, 5], [1, 2, 3, "4"], None])
def test_the_box_that_is_none_is_named(box):
    document = document_of([[(1, 10, 10, 20, 20)]])
    with pytest.raises(InputError, match=r"detections\[1\]: bbox is"):
        coco_metrics(document, [*perfect(document), {**detection(1, 1, 1, 2, 3, 4, 0.5), "bbox": box}])
