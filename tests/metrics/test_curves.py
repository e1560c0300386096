"""Curves against the threshold, thresholds per class, calibration and confusion: by hand, by property."""

from __future__ import annotations

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of, perfect, random_set, scene
from toolkit.evaluation.compute_metrics import compute_metrics
from toolkit.metrics.calibration_and_histograms import calibration
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.confusion_and_error_kinds import confusion
from toolkit.metrics.iou_and_matching import match
from toolkit.metrics.threshold_curves import curves, sampled, score_thresholds


def matched(document, detections):
    return match(read_tables(document, detections))


def four():
    """Two objects; right 0.9, wrong 0.8, right 0.6, wrong 0.2."""
    document = document_of([[(1, 0, 0, 10, 10), (1, 50, 50, 10, 10)]])
    return document, [
        detection(1, 1, 0, 0, 10, 10, 0.9),
        detection(1, 1, 100, 100, 10, 10, 0.8),
        detection(1, 1, 50, 50, 10, 10, 0.6),
        detection(1, 1, 120, 0, 10, 10, 0.2),
    ]


def test_curve_by_hand():
    curve = curves(matched(*four()))[0]
    assert curve.score.tolist() == [0.9, 0.8, 0.6, 0.2]
    assert curve.precision.tolist() == pytest.approx([1, 1 / 2, 2 / 3, 2 / 4])
    assert curve.recall.tolist() == pytest.approx([1 / 2, 1 / 2, 1, 1])
    # F1 = 2 found / (kept + objects): 2/3, 2/4, 4/5, 4/6
    assert curve.f1.tolist() == pytest.approx([2 / 3, 1 / 2, 4 / 5, 2 / 3])


def test_the_threshold_is_the_middle_of_those_with_a_high_f1():
    curve = curves(matched(*four()))[0]
    # between two scores F1 does not change; above .9 nothing is kept. Stretches, from the highest: width, middle, F1
    # .1 at .85: 2/3;  .2 at .7: 1/2;  .4 at .4: 4/5;  .2 at .1: 2/3.  Weights width * (F1 / .8)^20:
    weights = [0.1 * (5 / 6) ** 20, 0.2 * (5 / 8) ** 20, 0.4, 0.2 * (5 / 6) ** 20]
    expected = sum(w * t for w, t in zip(weights, (0.85, 0.7, 0.4, 0.1), strict=True)) / sum(weights)
    assert curve.best_threshold() == pytest.approx(expected) == pytest.approx(0.399053, abs=1e-6)
    assert curve.at(0.4) == pytest.approx({"precision": 2 / 3, "recall": 1.0, "f1": 0.8})
    assert score_thresholds(curves(matched(*four()))) == {"nut": round(expected, 6)}


def test_a_flat_curve_gives_its_middle_and_not_its_ragged_top():
    # 20 objects found at .99, .98, ... .80, one false detection at .795, none after: F1 is highest from .8 down to
    # 0 but for that one; the highest point alone would be .7975, the middle of the high stretch lies near .4
    document = document_of([[(1, 0, 0, 10, 10)]] * 20)
    found = [detection(i, 1, 0, 0, 10, 10, 1 - i / 100) for i in range(1, 21)]
    (curve, _) = curves(matched(document, [*found, detection(1, 1, 100, 100, 10, 10, 0.795)]))
    assert curve.f1.max() == curve.f1[19] == 1.0  # at .8
    assert 0.4 < curve.best_threshold() < 0.5


def test_scores_that_are_no_shares_have_a_middle_too():
    document, detections = four()
    low = [{**d, "score": d["score"] - 2} for d in detections]  # all negative
    high = [{**d, "score": d["score"] * 100} for d in detections]
    # the same weights, but nothing below the lowest score counts: 0.402928 - 2
    assert curves(matched(document, low))[0].best_threshold() == pytest.approx(-1.597072, abs=1e-6)
    assert curves(matched(document, high))[0].best_threshold() == pytest.approx(39.9053, abs=1e-4)


def test_a_wanted_precision_gives_the_lowest_threshold_that_keeps_it():
    curve = curves(matched(*four()))[0]
    assert curve.best_threshold(0.65) == pytest.approx(0.4)
    assert curve.best_threshold(0.9) == pytest.approx(0.85)  # only 0.9 alone is that precise
    assert curve.at(curve.best_threshold(0.9))["precision"] == 1.0
    # nothing reaches it: the most precise
    document, detections = four()
    wrong_first = [*detections, detection(1, 1, 150, 100, 10, 10, 0.95)]
    low = curves(matched(document, wrong_first))[0]
    assert low.at(low.best_threshold(0.99))["precision"] == pytest.approx(low.precision.max())


def test_a_precision_that_no_threshold_reaches_is_said():
    from toolkit.evaluation.compute_metrics import Settings

    document, detections = four()
    detections = [*detections, detection(1, 1, 150, 100, 10, 10, 0.95)]  # a wrong one first
    (text,) = compute_metrics(document, detections, Settings(precision=0.9, resamples=0)).metrics["warnings"]
    assert "class nut: no threshold reaches precision 0.90" in text
    assert compute_metrics(document, detections, Settings(precision=0.3, resamples=0)).metrics["warnings"] == []


def test_equal_scores_are_kept_or_dropped_together():
    document = document_of([[(1, 0, 0, 10, 10)]])
    same = [detection(1, 1, 0, 0, 10, 10, 0.5), detection(1, 1, 50, 50, 10, 10, 0.5)]
    curve = curves(matched(document, same))[0]
    assert curve.score.tolist() == [0.5]
    assert curve.precision.tolist() == [0.5]


def test_classes_without_anything_take_the_pooled_threshold():
    document = document_of([[(1, 0, 0, 10, 10)]], ("nut", "bolt", "washer"))
    found = score_thresholds(curves(matched(document, [detection(1, 1, 0, 0, 10, 10, 0.8)])))
    assert found == {"nut": 0.4, "bolt": 0.4, "washer": 0.4}
    assert score_thresholds(curves(matched(document, []))) == dict.fromkeys(("nut", "bolt", "washer"), 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_threshold_is_near_the_best_and_moves_with_the_scores(seed):
    document, detections = scene(seed)
    halved = [{**d, "score": d["score"] * 0.5} for d in detections]
    for curve, half in zip(curves(matched(document, detections))[:-1], curves(matched(document, halved)), strict=False):
        chosen = curve.best_threshold()
        assert 0 <= chosen <= curve.score[0]
        assert half.best_threshold() == pytest.approx(chosen / 2)
        assert curve.at(chosen)["f1"] > 0.8 * curve.f1.max()


@pytest.mark.parametrize("seed", range(8))
def test_sampling_agrees_with_counting(seed):
    document, detections = random_set(seed)
    matches = matched(document, detections)
    grid = np.linspace(0, 1, 11)
    for k, curve in enumerate(curves(matches)[:-1]):
        rows = matches.rows_of(k)
        score = matches.tables.det_score[matches.det[rows]]
        right, ignored = matches.right[0, 0, rows], matches.ignored[0, 0, rows]
        line = sampled(curve, grid)
        for i, threshold in enumerate(grid):
            kept = (score >= threshold) & ~ignored
            if kept.any():
                assert line["precision"][i] == pytest.approx(right[kept].mean())
            else:
                assert np.isnan(line["precision"][i])
            if curve.num_objects:
                assert line["recall"][i] == pytest.approx(right[kept].sum() / curve.num_objects)


def test_calibration_by_hand():
    document, detections = four()
    # bins of 0.1: score 0.9 right (gap 0.1), 0.8 wrong (0.8), 0.6 right (0.4), 0.2 wrong (0.2)
    found = calibration(matched(document, detections))
    assert found["error"] == pytest.approx((0.1 + 0.8 + 0.4 + 0.2) / 4)
    assert found["max_error"] == pytest.approx(0.8)
    assert sum(b["num"] for b in found["bins"]) == 4
    assert [(b["low"], b["high"]) for b in found["bins"]] == [(k / 10, (k + 1) / 10) for k in range(10)]
    assert calibration(matched(document, detections), floor=0.5)["num_detections"] == 3
    assert calibration(matched(document, []))["error"] is None


def test_calibrated_scores_have_a_small_error():
    rng = np.random.default_rng(0)
    boxes, detections = [], []
    for i in range(1, 401):
        score = float(rng.uniform(0.05, 1))
        here = rng.random() < score
        boxes.append([(1, 10, 10, 20, 20)] if here else [])
        detections.append(detection(i, 1, 10, 10, 20, 20, score))
    assert calibration(matched(document_of(boxes), detections))["error"] < 0.07


def test_confusion_by_hand():
    document = document_of([[(1, 0, 0, 20, 20), (2, 50, 50, 20, 20), (2, 100, 100, 20, 20)]], ("nut", "bolt"))
    detections = [
        detection(1, 1, 0, 0, 20, 20, 0.9),  # right
        detection(1, 1, 50, 50, 20, 20, 0.8),  # a bolt taken for a nut
        detection(1, 2, 150, 0, 20, 20, 0.7),  # background taken for a bolt
        detection(1, 2, 100, 100, 20, 20, 0.1),  # right, under the threshold: missed
    ]
    counts = confusion(matched(document, detections), np.array([0.5, 0.5]))
    assert counts.tolist() == [[1, 0, 0], [1, 0, 1], [0, 1, 0]]
    everything = confusion(matched(document, detections), np.array([0.0, 0.0]))
    assert everything.tolist() == [[1, 0, 0], [1, 1, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(10))
def test_confusion_adds_up(seed):
    document, detections = random_set(seed, crowds=False)
    matches = matched(document, detections)
    limits = np.full(len(document["categories"]), 0.3)
    counts = confusion(matches, limits)
    for k in range(len(limits)):
        assert counts[k].sum() == sum(a["category_id"] == k + 1 for a in document["annotations"])
        assert counts[:, k].sum() == sum(d["category_id"] == k + 1 and d["score"] >= 0.3 for d in detections)
        # the diagonal is what precision and recall at this threshold count as right
        curve = curves(matches)[k]
        recall = curve.at(0.3)["recall"]
        if recall is not None:
            assert counts[k, k] == pytest.approx(recall * curve.num_objects)


def test_perfect_detections_are_a_diagonal():
    document, _ = scene(2)
    everything = compute_metrics(document, perfect(document)).metrics
    counts = np.array(everything["confusion"]["counts"])
    assert counts.sum() == np.trace(counts) == len(document["annotations"])


def test_another_iou_is_stated_and_used():
    from toolkit.evaluation.compute_metrics import Settings

    document = document_of([[(1, 0, 0, 10, 10)]])
    detections = [detection(1, 1, 0, 0, 10, 7.0, 0.9)]  # IoU 0.7
    assert compute_metrics(document, detections, Settings(iou=0.7)).metrics["confusion"]["counts"] == [[1, 0], [0, 0]]
    assert compute_metrics(document, detections, Settings(iou=0.75)).metrics["confusion"]["counts"] == [[0, 1], [1, 0]]


@pytest.mark.parametrize("bad", [{"iou": 0.4}, {"iou": 0.52}, {"resamples": -1}, {"precision": 0.0}, {"precision": 2}])
def test_settings_that_cannot_be_are_refused(bad):
    from label_tools.text.errors import InputError
    from toolkit.evaluation.compute_metrics import Settings

    with pytest.raises(InputError, match=f"{next(iter(bad))}: found"):
        compute_metrics(*scene(1), Settings(**bad))


def test_a_curve_above_its_highest_score():
    (curve, *_) = curves(matched(*four()))
    found = sampled(curve, np.array([0.95, 0.9]))
    assert np.isnan(found["precision"][0]) and found["recall"][0] == found["f1"][0] == 0
    assert found["precision"][1] == 1 and found["recall"][1] > 0
    assert curve.at(0.95) == {"precision": None, "recall": 0.0, "f1": None}  # of nothing kept there is no precision


def test_an_iou_without_matches_is_our_own_mistake():
    with pytest.raises(ValueError, match=r"no matches at IoU 0\.52"):
        matched(*four()).at(0.52)
