"""The score from which drafts are shown: the fewest clicks to make the labels of them, by hand."""

from __future__ import annotations

import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of
from toolkit.labelling.drafts import fewest_corrections
from toolkit.metrics.coco_tables import read_tables

FIRST = (1, 0, 0, 40, 40)
SECOND = (1, 100, 0, 40, 40)
COSTS = {"add": 3, "delete": 2, "move": 2}


def threshold(objects, detections, **costs):
    tables = read_tables(document_of([objects], size=(400, 160)), [detection(1, *one) for one in detections])
    return fewest_corrections(tables, {**COSTS, **costs}).get("nut")


def test_a_true_draft_saves_a_box_and_a_false_one_costs_a_deletion():
    true, false, later = (1, 0, 0, 40, 40, 0.9), (1, 200, 0, 40, 40, 0.6), (1, 100, 0, 40, 40, 0.3)
    # clicks with so many drafts shown, two boxes to be had: 0: 6; 1: 3; 2: 3 + 2 = 5; 3: 0 + 2 = 2: all, from the last
    assert threshold([FIRST, SECOND], [true, false, later]) == pytest.approx(0.3)
    # two false ones before it: 6, 3, 5, 7, 4: the first alone, half way to the next score, (.9 + .6) / 2
    again = (1, 200, 100, 40, 40, 0.5)
    assert threshold([FIRST, SECOND], [true, false, again, later]) == pytest.approx(0.75)
    # deleting for nothing: 6, 3, 3, 3, 0
    assert threshold([FIRST, SECOND], [true, false, again, later], delete=0) == pytest.approx(0.3)


def test_a_loose_draft_costs_a_move():
    loose = (1, 0, 0, 40, 26, 0.8)  # IoU 26 / 40 = .65, under .75
    assert threshold([FIRST], [loose]) == pytest.approx(0.8)  # 3 to draw it, 2 to move it
    assert threshold([FIRST], [loose], move=4) > 1  # 3 against 4: none is shown
    tight = (1, 0, 0, 40, 31, 0.8)  # IoU .775: nobody moves it
    assert threshold([FIRST], [tight], move=4) == pytest.approx(0.8)


def test_two_drafts_of_one_object_are_one_to_delete():
    same = (1, 0, 0, 40, 39, 0.8)
    # 3; 0; 2: the second box of the object is deleted. The threshold lies between them, (.9 + .8) / 2
    assert threshold([FIRST], [(1, 0, 0, 40, 40, 0.9), same]) == pytest.approx(0.85)


def test_at_equal_cost_more_is_shown():
    # none: 3; the false one: 5; both: 2, and with a price of 3 to delete: 3, 6, 3
    assert threshold([FIRST], [(1, 200, 0, 40, 40, 0.9), (1, 0, 0, 40, 40, 0.4)], delete=3) == pytest.approx(0.4)


def test_equal_scores_are_shown_together():
    # one true and two false ones of .5: 3, or 0 + 4: none. A threshold cannot part them
    three = [(1, 0, 0, 40, 40, 0.5), (1, 200, 0, 40, 40, 0.5), (1, 300, 0, 40, 40, 0.5)]
    assert threshold([FIRST], three) > 1
    assert threshold([FIRST], three[:2]) == pytest.approx(0.5)  # 3, or 0 + 2


def test_classes_without_objects_or_detections():
    assert threshold([], [(1, 0, 0, 40, 40, 0.9)]) is None
    assert threshold([FIRST], []) > 1
