"""The learning curve's fit on curves that are known; object statistics and anchors by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import document_of
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.label_curve_fit import _answer, fit_power_law, learning_curve
from toolkit.metrics.object_counts_and_sizes import object_statistics, sizes_and_aspects


def points(ceiling: float, gap: float, rate: float, noise: float = 0.0, seed: int = 0) -> list[dict]:
    rng = np.random.default_rng(seed)
    return [
        {"num_images": n, "seed": s, "AP": float(np.clip(ceiling - gap * n**-rate + rng.normal(0, noise), 0, 1))}
        for n in (25, 50, 75, 100)
        for s in range(3)
    ]


def test_an_exact_curve_is_found_again():
    n = np.array([25.0, 50, 75, 100])
    ceiling, gap, rate = fit_power_law(n, 0.8 - 2.0 * n**-0.5)
    assert (ceiling, gap, rate) == pytest.approx((0.8, 2.0, 0.5), abs=1e-6)


def test_a_curve_that_rises_past_1_is_held_there():
    # .5, .9, 1: steps .4 and .1 are those of rate 2, towards .5 + .4 / (1 - 1/4) = 1.033
    n, ap = np.array([10.0, 20, 40]), np.array([0.5, 0.9, 1.0])
    ceiling, gap, rate = fit_power_law(n, ap)
    x = n**-rate
    assert ceiling == 1 and gap > 0
    assert x @ (ceiling - gap * x - ap) == pytest.approx(0, abs=1e-9)  # of all gaps the one of least squares
    assert fit_power_law(n, ap[::-1])[:2] == pytest.approx((0.8, 0))  # a falling curve: no gap, their mean


def test_prediction_of_a_known_curve():
    found = learning_curve(points(0.8, 2.0, 0.5, noise=0.01))
    truth = 0.8 - 2.0 * 200**-0.5
    low, high = found["AP_ahead_interval"]
    assert low < truth < high
    assert found["AP_ahead"] == pytest.approx(truth, abs=0.05)
    assert found["num_images_ahead"] == 200
    assert found["answer"].startswith("yes")


def test_numbers_of_an_exact_curve_by_hand():
    # .8 - 2 / sqrt(n): .4 of 25 images, .6 of 100, .8 - 2 / sqrt(200) of 200; without noise every draw is this curve
    found, ahead = learning_curve(points(0.8, 2.0, 0.5)), 0.8 - 2 / 200**0.5
    assert (found["AP_now"], found["AP_ahead"]) == pytest.approx((0.6, ahead))
    assert found["AP_ahead_interval"] == pytest.approx([ahead, ahead])
    assert found["gain_interval"] == pytest.approx([ahead - 0.6] * 2, abs=0.01)  # from the grid's place next to 100
    grid = found["grid"]
    assert (grid["num_images"][0], grid["num_images"][-1]) == pytest.approx((25, 200))
    for line in (grid["AP"], grid["low"], grid["high"]):
        assert line == pytest.approx([0.8 - 2 / n**0.5 for n in grid["num_images"]])


def test_a_flat_curve_says_so():
    found = learning_curve(points(0.7, 0.0, 0.5, noise=0.002))
    assert found["answer"].startswith("hardly")
    assert abs(found["AP_ahead"] - 0.7) < 0.02


def test_a_noisy_curve_does_not_pretend():
    found = learning_curve(points(0.6, 0.3, 0.5, noise=0.12, seed=3))
    assert found["answer"].startswith("cannot tell")


def test_too_few_points():
    assert learning_curve([]) is None
    assert learning_curve(points(0.8, 2, 0.5)[:3]) is None  # one number of images
    few = learning_curve(points(0.8, 2, 0.5)[:4])  # two numbers of images
    assert few["gain_interval"] is None
    assert few["answer"] == "cannot tell: an answer needs 3 sizes and 3 seeds, there are 2 and 3"


@pytest.mark.parametrize("seed", range(12))
def test_the_sentence_never_contradicts_its_interval(seed):
    """yes: no zero in it; cannot tell: a zero and a gain in it; hardly: nothing in it that is worth the labels."""
    rng = np.random.default_rng(seed)
    found = learning_curve(points(0.7, rng.choice([0, 0.3, 2.0]), 0.5, noise=rng.choice([0.001, 0.02, 0.1]), seed=seed))
    low, high = (round(value, 3) for value in found["gain_interval"])
    answer = found["answer"]
    assert f"{low:+.3f} to {high:+.3f}" in answer
    if answer.startswith("yes"):
        assert low > 0
    elif answer.startswith("cannot tell"):
        assert low <= 0 <= high
    else:
        assert answer.startswith("hardly") and high < 0.02


def test_never_over_one():
    found = learning_curve(points(1.2, 3.0, 0.5))
    assert found["ceiling"] <= 1
    assert max(found["grid"]["high"]) <= 1.0001


def test_object_statistics_by_hand():
    document = document_of([[(1, 0, 0, 10, 40), (1, 0, 0, 20, 20, {"iscrowd": 1})], []], ("nut", "bolt"))
    found = object_statistics(read_tables(document, []))
    assert found["num_objects"] == 1
    assert found["crowds"] == 1
    assert found["images_without_object"] == 1
    assert found["per_class"]["nut"]["size_quantiles"] == [20.0] * 5  # sqrt(10 * 40)
    assert found["per_class"]["nut"]["aspect_ratio_quantiles"] == [4.0] * 5
    assert found["per_class"]["bolt"]["size_quantiles"] is None


@pytest.mark.parametrize("gain, word", [([0.0, 0.019], "hardly"), ([0.0, 0.02], "cannot"), ([0.001, 0.02], "yes")])
def test_answers_at_their_bounds(gain, word):
    assert _answer(100, 200, 0.5, gain).startswith(word)


def test_an_object_of_one_pixel_has_a_size_and_one_without_an_area_has_none():
    size, aspect, class_ = sizes_and_aspects(read_tables(document_of([[(1, 5, 5, 1, 1), (1, 5, 5, 0, 4)]]), []))
    assert (size.tolist(), aspect.tolist(), class_.tolist()) == ([1.0], [1.0], [0])
