"""Precision, recall, F1 and counts at thresholds by hand, and that their intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of, scene
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.evaluation.read_detections import read
from toolkit.metrics.calibration_and_histograms import histograms
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import student
from toolkit.metrics.iou_and_matching import match
from toolkit.metrics.threshold_curves import ALL, _mean, _wilson, counts_at, overall, share


def matches_of(document, found):
    document, found, _ = read(document, found)
    return match(read_tables(document, found))


def test_by_hand():
    # image 1: two objects, both found (0.9, 0.4) and one false (0.6); image 2: one object, nothing found
    document = document_of([[(1, 10, 10, 20, 20), (1, 60, 10, 20, 20)], [(1, 10, 10, 20, 20)]])
    found = [
        detection(1, 1, 10, 10, 20, 20, 0.9),
        detection(1, 1, 60, 10, 20, 20, 0.4),
        detection(1, 1, 100, 100, 20, 20, 0.6),
    ]
    numbers = dict(counts_at(matches_of(document, found), 0.5, np.array([0.0, 0.5, 0.95])))["nut"].numbers()
    # at 0: 3 kept, 2 right of 3 objects; at 0.5: 2 kept, 1 right; at 0.95 nothing is kept
    assert [v and v[0] for v in numbers["precision"]] == [2 / 3, 1 / 2, None]
    assert [v[0] for v in numbers["recall"]] == [2 / 3, 1 / 3, 0]
    assert [v[0] for v in numbers["f1"]] == pytest.approx([2 / 3, 2 / 5, 0])
    # counted less labelled: image 1 3 - 2, image 2 0 - 1, so 0; then 0 and -1; then -2 and -1
    assert [v[0] for v in numbers["count_error"]] == [0, -0.5, -1.5]
    for values in numbers.values():
        for one in values:
            assert one is None or one[1] <= one[0] <= one[2]


def test_all_classes_are_the_sum_and_thresholds_may_differ_by_class():
    document, found = scene(3, images=8)
    metrics = compute_metrics(document, found, Settings(resamples=0)).metrics
    matches = matches_of(document, found)
    by_class = np.array([metrics["thresholds"][name]["threshold"] for name in matches.tables.class_names])
    of_all = overall(matches, 0.5, by_class)
    confusion = np.array(metrics["confusion"]["counts"])
    assert of_all["num_right"] + of_all["num_missed"] == metrics["num_objects"]
    # the confusion matrix has the same detections: all but the last row and column, and what lies on no object
    assert of_all["num_right"] + of_all["num_false"] == confusion[:, :-1].sum()
    for name, one in metrics["thresholds"].items():
        alone = dict(counts_at(matches, 0.5, by_class[None]))[name].numbers()
        assert alone["precision"][0][0] == pytest.approx(one["precision"])
        assert alone["recall"][0][0] == pytest.approx(one["recall"])
    parts = dict(counts_at(matches, 0.5, np.array([0.3])))
    total = parts.pop(ALL)
    assert sum(part.kept.sum() for part in parts.values()) == total.kept.sum()


def test_student():
    for freedom, wanted in ((0, 12.706), (1, 12.706), (4, 2.776), (10, 2.228), (11, 2.201), (29, 2.045), (1000, 1.962)):
        assert student(freedom) == pytest.approx(wanted, rel=0.001)


@pytest.mark.parametrize("truth", [0.5, 0.9])
@pytest.mark.parametrize("images", [30, 100])
def test_an_interval_of_a_share_holds_the_truth(truth, images):
    """1,000 drawn sets whose images differ in difficulty: 95 of 100 intervals hold the share, give or take 3."""
    rng = np.random.default_rng(0)
    whole = 1 + rng.poisson(3, (1000, images))
    share_here = rng.beta(8 * truth, 8 * (1 - truth), whole.shape)  # its mean is `truth`
    held = sum(low <= truth <= high for _, low, high in share(rng.binomial(whole, share_here), whole))
    assert 920 <= held <= 985


def test_histograms_count_every_detection_and_every_overlap():
    document = document_of([[(1, 10, 10, 20, 20), (1, 60, 10, 20, 20)]])
    # IoU 15 * 20 / 400 = 0.75, and 1.0; the false one has score 0.32
    found = [
        detection(1, 1, 10, 10, 20, 15, 0.9),
        detection(1, 1, 60, 10, 20, 20, 0.7),
        detection(1, 1, 100, 100, 20, 20, 0.32),
    ]
    made = histograms(matches_of(document, found), 0.5, np.array([0.5]))
    assert [i for i, n in enumerate(made["score"]["right"]) if n] == [14, 18]  # 0.7 and 0.9 in bins of 0.05
    assert [i for i, n in enumerate(made["score"]["false"]) if n] == [6]
    assert [i for i, n in enumerate(made["iou"]["count"]) if n] == [5, 9]


def test_shares_and_means_by_hand():
    # 2 of 2, 0 of 2: share .5, residuals 1 and -1, variance 2 * 2 / 1 / 16: as one object of .5 * .5
    (found,) = share(np.array([[2, 0]]), np.array([[2, 2]]))
    assert found == pytest.approx([0.5, *_wilson(0.5, 1, student(1))])
    # 2, 0, 2 of 2 each: share 2/3, squares 24/9, variance 24/9 * 3/2 / 36 = 1/9: as (2/9) / (1/9) = 2 objects
    (found,) = share(np.array([[2, 0, 2]]), np.array([[2, 2, 2]]))
    assert found == pytest.approx([2 / 3, *_wilson(2 / 3, 2, student(2))])
    # mean of 1 and 3 with the deviation sqrt(2) over sqrt(2) images
    assert _mean(np.array([[1.0, 3.0]]))[0] == pytest.approx([2, 2 - student(1), 2 + student(1)])


def test_wilson_by_hand():
    # 4 of 8, quantile 2: 2^2 / 8 = .5; centre (.5 + .25) / 1.5, reach 2 sqrt(.25 / 8 + .5 / 32) / 1.5
    assert _wilson(0.5, 8, 2) == pytest.approx((0.5 - 0.288675, 0.5 + 0.288675), abs=1e-6)
    # 4 of 4: centre (1 + .5) / 2 = .75, reach 2 sqrt(0 + 1 / 16) / 2 = .25
    assert _wilson(1.0, 4, 2) == pytest.approx((0.5, 1.0))
