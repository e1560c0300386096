"""The six kinds of error, each made alone, and what mending it gives back."""

from __future__ import annotations

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of, perfect, random_set
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.confusion_and_error_kinds import KINDS, classify, error_kinds
from toolkit.metrics.iou_and_matching import match

NUT, BOLT = 1, 2
OBJECTS = [[(NUT, 0, 0, 20, 20), (BOLT, 100, 100, 20, 20)]]


def kinds_of(detections: list, boxes=OBJECTS) -> dict:
    matches = match(read_tables(document_of(boxes, ("nut", "bolt")), detections))
    return error_kinds(matches, np.array([0.5, 0.5]))


def counts(result: dict) -> dict:
    return {kind: result["kinds"][kind]["num"] for kind in KINDS if result["kinds"][kind]["num"]}


FINE_NUT, FINE_BOLT = detection(1, NUT, 0, 0, 20, 20, 0.9), detection(1, BOLT, 100, 100, 20, 20, 0.9)


def test_no_error():
    result = kinds_of([FINE_NUT, FINE_BOLT])
    assert counts(result) == {}
    assert result["AP50"] == 1.0
    assert all(result["kinds"][kind]["gain"] == 0 for kind in KINDS)


def test_localisation():
    # overlap 20 x 8 of 400 + 400 - 160: IoU 0.25
    result = kinds_of([detection(1, NUT, 0, 12, 20, 20, 0.9), FINE_BOLT])
    assert counts(result) == {"localisation": 1}  # the object would be found: not missed
    assert result["AP50"] == 0.5
    assert result["kinds"]["localisation"]["gain"] == pytest.approx(0.5)


def test_class():
    result = kinds_of([detection(1, BOLT, 0, 0, 20, 20, 0.95), FINE_BOLT])
    assert counts(result) == {"class": 1}
    # nuts: 0. bolts: precision 1/2 at every recall. mean 0.25; mended both are 1
    assert result["AP50"] == pytest.approx(0.25)
    assert result["kinds"]["class"]["gain"] == pytest.approx(0.75)


def test_class_needs_half_of_iou_only():
    # overlap 20 x 15 of 400 + 400 - 300: IoU 0.6
    assert counts(kinds_of([detection(1, BOLT, 0, 5, 20, 20, 0.95), FINE_BOLT])) == {"class": 1}


def test_both():
    result = kinds_of([FINE_NUT, FINE_BOLT, detection(1, BOLT, 0, 12, 20, 20, 0.95)])
    assert counts(result) == {"both": 1}
    assert result["kinds"]["both"]["gain"] == pytest.approx(0.25)  # bolts 0.5 -> 1


def test_duplicate():
    result = kinds_of([FINE_NUT, FINE_BOLT, detection(1, NUT, 1, 1, 20, 20, 0.8)])
    assert counts(result) == {"duplicate": 1}
    assert result["kinds"]["duplicate"]["gain"] == pytest.approx(0)  # it ranks behind: AP does not suffer
    # ahead of a right one it does: nuts are right, double, right
    boxes = [[(NUT, 0, 0, 20, 20), (NUT, 60, 60, 20, 20)]]
    found = [FINE_NUT, detection(1, NUT, 1, 1, 20, 20, 0.8), detection(1, NUT, 60, 60, 20, 20, 0.7)]
    result = kinds_of(found, boxes)
    # precision 1 for recalls 0 to 0.5 (51 points), 2/3 for the other 50
    assert result["AP50"] == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert result["kinds"]["duplicate"]["gain"] == pytest.approx(1 - result["AP50"])


def test_background():
    result = kinds_of([FINE_NUT, FINE_BOLT, detection(1, NUT, 150, 0, 20, 20, 0.95)])
    assert counts(result) == {"background": 1}
    assert result["kinds"]["background"]["gain"] == pytest.approx(0.25)  # nuts 0.5 -> 1
    assert result["false_positives"]["gain"] == pytest.approx(0.25)


def test_missed():
    result = kinds_of([FINE_NUT])
    assert counts(result) == {"missed": 1}
    assert result["kinds"]["missed"]["gain"] == pytest.approx(0.5)
    assert result["false_negatives"]["gain"] == pytest.approx(0.5)


def test_only_the_best_of_several_is_mended():
    two = [detection(1, NUT, 0, 12, 20, 20, 0.9), detection(1, NUT, 0, 11, 20, 20, 0.8), FINE_BOLT]
    result = kinds_of(two)
    assert counts(result) == {"localisation": 2}
    assert result["kinds"]["localisation"]["gain"] == pytest.approx(0.5)  # nuts reach 1: the second one vanishes
    boxes = [[(NUT, 0, 0, 20, 20), (NUT, 60, 60, 20, 20), (BOLT, 100, 100, 20, 20)]]
    result = kinds_of(two, boxes)
    # one of two nuts is found once mended, not both: recalls 0 to 0.5
    assert result["kinds"]["localisation"]["gain"] == pytest.approx(0.5 * 51 / 101)


def test_over_threshold_counts_less():
    result = kinds_of([FINE_NUT, FINE_BOLT, detection(1, NUT, 150, 0, 20, 20, 0.3)])
    assert result["kinds"]["background"] == {"gain": 0.0, "num": 1, "num_over_threshold": 0}


@pytest.mark.parametrize("seed", range(15))
def test_every_wrong_detection_has_one_kind_and_no_gain_is_a_loss(seed):
    document, detections = random_set(seed)
    matches = match(read_tables(document, detections))
    kind, _, missed = classify(matches)
    wrong = ~matches.right[0, 0] & ~matches.ignored[0, 0]
    assert set(kind[wrong]) <= set(KINDS) - {"missed"}
    assert (kind[~wrong] == "").all()
    assert not np.isin(missed, matches.gt[0][matches.right[0, 0]]).any()
    result = error_kinds(matches, np.full(len(document["categories"]), 0.5))
    if result["AP50"] is not None:
        for name in KINDS:
            assert result["kinds"][name]["gain"] >= -1e-12, name


def test_perfect_everywhere():
    document, _ = random_set(3, crowds=False)
    result = error_kinds(match(read_tables(document, perfect(document))), np.zeros(3))
    assert result["AP50"] > 0.99


def test_a_duplicate_of_half_the_object():
    # the upper half of an object that is found already: IoU 200 / 400
    result = kinds_of([FINE_NUT, detection(1, NUT, 0, 0, 20, 10, 0.6), FINE_BOLT])
    assert counts(result) == {"duplicate": 1}
