"""Counts against labels: by hand, and thresholds at which the count is right."""

from __future__ import annotations

import numpy as np
import pytest

from label_tools.text.errors import InputError
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.metrics.coco_tables import Tables, read_tables
from toolkit.metrics.object_counts_and_sizes import agreement, counts
from toolkit.metrics.threshold_curves import count_thresholds


def tables_of(labelled: list[int], scores: list[list[float]], crowds: int = 0) -> Tables:
    """Images with so many objects of class `a` (and crowds in the first), and detections with these scores."""
    return read_tables(*inputs(labelled, scores, crowds))


def inputs(labelled: list[int], scores: list[list[float]], crowds: int = 0) -> tuple[dict, list]:
    images = [{"id": i, "file_name": f"{i}.png", "width": 100, "height": 100} for i in range(1, len(labelled) + 1)]
    owners = [(i, 0) for i, number in enumerate(labelled, 1) for _ in range(number)] + [(1, 1)] * crowds
    annotations = [
        {"id": n, "image_id": i, "category_id": 1, "bbox": [n % 90, 5, 4, 4], "area": 16, "iscrowd": crowd}
        for n, (i, crowd) in enumerate(owners, 1)
    ]
    detections = [
        {"image_id": i, "category_id": 1, "bbox": [n, 5, 4, 4], "score": score}
        for i, those in enumerate(scores, 1)
        for n, score in enumerate(those)
    ]
    return {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }, detections


def test_bias_error_and_limits_by_hand():
    # labelled 2, 0, 3; counted from 0.5: 3, 0, 1 -> differences 1, 0, -2
    tables = tables_of([2, 0, 3], [[0.9, 0.8, 0.5], [0.4], [0.6, 0.1]], crowds=2)
    labelled, counted = counts(tables, {"a": 0.5, "b": 0.5})
    assert labelled[:, 0].tolist() == [2, 0, 3] and counted[:, 0].tolist() == [3, 0, 1]
    found = agreement(tables, {"a": 0.5, "b": 0.5}, resamples=200, seed=0)["a"]
    assert (found["labelled"], found["counted"]) == (5, 4)
    assert found["bias"] == pytest.approx(-1 / 3) and found["mean_absolute_error"] == pytest.approx(1)
    # standard deviation with n - 1: mean of squares 5/3, bias^2 1/9, variance (5/3 - 1/9) * 3/2 = 7/3
    reach = 1.96 * (7 / 3) ** 0.5
    assert found["limits"] == pytest.approx([-1 / 3 - reach, -1 / 3 + reach])
    for key in ("bias", "mean_absolute_error"):
        low, high = found["intervals"][key]
        assert low <= found[key] <= high


def test_interval_of_the_bias_is_that_of_a_mean():
    random = np.random.default_rng(0)
    labelled = random.integers(0, 5, 200).tolist()
    scores = [[0.9] * max(0, number + int(random.integers(-1, 3))) for number in labelled]
    tables = tables_of(labelled, scores)
    found = agreement(tables, {"a": 0.5, "b": 0.5}, resamples=2000, seed=0)["a"]
    difference = np.array([len(s) for s in scores]) - np.array(labelled)
    half = 1.96 * difference.std() / 200**0.5  # the normal's, which 200 images are enough for
    assert found["intervals"]["bias"] == pytest.approx([found["bias"] - half, found["bias"] + half], abs=0.02)


def test_one_image_and_nothing_at_all():
    one = agreement(tables_of([2], [[0.9]]), {"a": 0.5, "b": 0.5}, 100, 0)
    assert one["a"]["bias"] == -1 and one["a"]["limits"] is None and one["a"]["intervals"] is None
    assert one["b"] == {**one["b"], "labelled": 0, "counted": 0, "bias": 0.0}


def test_two_images_have_limits():
    # differences 1 and 0: bias .5, deviation sqrt(.5)
    two = agreement(tables_of([1, 1], [[0.9, 0.8], [0.9]]), {"a": 0.5, "b": 0.5}, 0, 0)["a"]
    assert two["limits"] == pytest.approx([0.5 - 1.96 * 0.5**0.5, 0.5 + 1.96 * 0.5**0.5]) and two["intervals"] is None


def test_the_threshold_lies_in_the_gap_of_few_objects():
    # 40 images with one object each, found at 0.9; a false one at 0.1 in each. Thresholds in the gap count 40, which is
    # exact; above it counts fall to 0 at once and below it rise to 80. The middle of 0.1..0.9 is 0.5.
    found = count_thresholds(tables_of([1] * 40, [[0.9, 0.1]] * 40), {"a": 0.7, "b": 0.7})
    assert found["a"] == pytest.approx(0.5, abs=0.01) and found["b"] == 0.7


def test_the_total_is_right_at_the_threshold():
    """Errors that differ from image to image: the count of all images together is within its standard error."""
    random = np.random.default_rng(1)
    labelled = random.integers(0, 9, 100).tolist()
    scores = [sorted(random.random(2 * n + 3).tolist()) for n in labelled]
    tables = tables_of(labelled, scores)
    threshold = count_thresholds(tables, {"a": 0.5, "b": 0.5})
    found = agreement(tables, threshold, 500, 0)["a"]
    low, high = found["intervals"]["bias"]
    assert low < 0 < high and abs(found["counted"] - found["labelled"]) < 0.05 * found["labelled"]


def test_fewer_detections_than_objects_keeps_most():
    found = count_thresholds(tables_of([3, 3], [[0.6], [0.4]]), {"a": 0.7, "b": 0.7})
    assert found["a"] < 0.4  # all of them: still too few


def test_settings():
    document, detections = inputs([1] * 40, [[0.9, 0.1]] * 40)
    evaluation = compute_metrics(document, detections, Settings(resamples=0, threshold_for="counts"))
    assert evaluation.metrics["counts"]["a"]["counted"] == 40
    assert (
        evaluation.metrics["thresholds"]["a"]["threshold"] == evaluation.thresholds["a"] == pytest.approx(0.5, abs=0.01)
    )
    fixed = compute_metrics(
        document, detections, Settings(resamples=0, threshold_for="counts"), fixed_thresholds={"a": 0.05, "b": 0.5}
    )
    assert fixed.metrics["counts"]["a"]["counted"] == 80  # chosen before, on other images
    with pytest.raises(InputError, match="--threshold-for: found area, needs f1 or counts"):
        Settings(threshold_for="area").check()
    with pytest.raises(InputError, match="exclude each other"):
        Settings(threshold_for="counts", precision=0.9).check()


def test_the_threshold_of_two_detections_by_hand():
    # one object, one image: error .5. Thresholds .4 to .8 count one, weight .4; 0 to .4 two: .4 * exp(-(1 / .5)^2 / 2)
    less = np.exp(-2)
    found = count_thresholds(tables_of([1], [[0.8, 0.4]]), {"a": 0.7, "b": 0.7})
    assert found["a"] == pytest.approx((0.6 + 0.2 * less) / (1 + less), abs=1e-6)


def test_the_threshold_of_two_images_by_hand():
    # two objects in the first image, none in the second; scores .9 and .5 there, .7 here. From .7 on two count, as
    # many as there are: differences -1 and 1, deviation sqrt(2), times sqrt(2) images: an error of 2. Thresholds .7 to
    # .9 count one, .5 to .7 two, 0 to .5 three: weights .2 exp(-1/8), .2 and .5 exp(-1/8), middles .8, .6 and .25
    less = np.exp(-1 / 8)
    found = count_thresholds(tables_of([2, 0], [[0.9, 0.5], [0.7]]), {"a": 0.7, "b": 0.7})
    by_hand = (0.8 * 0.2 * less + 0.6 * 0.2 + 0.25 * 0.5 * less) / (0.2 * less + 0.2 + 0.5 * less)
    assert found == {"a": pytest.approx(by_hand, abs=1e-6), "b": 0.7}
