"""Intervals: a resample is exactly the set with images repeated; coverage; comparisons."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import document_of, perfect, random_set, ranked_scene, scene
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import (
    _interval,
    draw_weights,
    half_samples,
    intervals,
    intervals_of,
    means,
    resampled_ap,
)
from toolkit.metrics.iou_and_matching import match
from toolkit.metrics.paired_bootstrap import _difference, _spread_of_seeds, compare, holm


def repeated(document: dict, detections: list, weights: list[int]) -> tuple[dict, list]:
    """The set with image i present weights[i] times, under new ids."""
    out = {**document, "images": [], "annotations": []}
    found = []
    for image, times in zip(document["images"], weights):
        for _ in range(times):
            new = len(out["images"]) + 1
            out["images"].append({**image, "id": new, "file_name": f"{new}.jpg"})
            for a in document["annotations"]:
                if a["image_id"] == image["id"]:
                    out["annotations"].append({**copy.deepcopy(a), "image_id": new, "id": len(out["annotations"]) + 1})
            found += [{**d, "image_id": new} for d in detections if d["image_id"] == image["id"]]
    return out, found


@pytest.mark.parametrize("seed", range(12))
def test_a_weight_is_the_same_as_a_repeated_image(seed):
    document, detections = random_set(seed, images=8)
    rng = np.random.default_rng(seed)
    detections = [{**d, "score": float(rng.random())} for d in detections]  # without ties the order is one
    weights = draw_weights(8, 3, seed)
    ap = resampled_ap(match(read_tables(document, detections)), weights)
    for row, chosen in zip(ap, weights):
        wanted = coco_metrics(*repeated(document, detections, chosen.tolist()))
        for k, numbers in enumerate(wanted["per_class"].values()):
            if numbers["AP"] is None:
                assert np.isnan(row[:, k]).all()
            else:
                assert row[:, k].mean() == pytest.approx(numbers["AP"], abs=1e-12)


def test_once_each_is_the_plain_ap():
    document, detections = random_set(3)
    matches = match(read_tables(document, detections))
    plain = coco_metrics(document, detections)
    ap = resampled_ap(matches, np.ones((1, len(document["images"])), int))
    assert np.nanmean(ap) == pytest.approx(plain["AP"], abs=1e-12)


def test_pieces_do_not_matter(monkeypatch):
    from toolkit.metrics import intervals as module

    matches = match(read_tables(*random_set(4)))
    weights = draw_weights(6, 50, 1)
    whole = resampled_ap(matches, weights)
    monkeypatch.setattr(module, "CELLS_AT_ONCE", 1)
    assert np.array_equal(resampled_ap(matches, weights), whole, equal_nan=True)


def test_intervals_are_seeded_and_hold_the_value():
    document, detections = scene(5, images=30)
    matches = match(read_tables(document, detections))
    found = intervals(matches, 300, seed=1)
    assert found == intervals(matches, 300, seed=1)
    assert found["AP"] != intervals(matches, 300, seed=2)["AP"]
    plain = coco_metrics(document, detections)
    for key in ("AP", "AP50", "AP75"):
        low, high = found[key]
        assert 0 <= low <= plain[key] <= high <= 1
    low, high = found["per_class"]["nut"]["AP"]
    assert low < plain["per_class"]["nut"]["AP"] < high


def test_without_any_error_the_rule_of_three_holds():
    document, _ = scene(6)
    objects = sum(not a.get("iscrowd") for a in document["annotations"])
    found = intervals(match(read_tables(document, perfect(document))), 50)
    # no error among n objects: with 95 % the share of errors is under 3 / (n + 3)
    assert found["AP"] == pytest.approx([1 - 3 / (objects + 3), 1.0])
    nothing = intervals(match(read_tables(document, [])), 50)
    assert nothing["AP"] == pytest.approx([0.0, 3 / (objects + 3)])


def test_the_interval_by_hand():
    # centre .6 - 1.4 * (.61 - .6) = .586; 40 objects: drawn to (23.44 + 1) / 42 = .581905, so the spread .05 grows by
    # sqrt(.581905 * .418095 / (.586 * .414)) = 1.001416; reach 1.96 * 1.1 * .0500708
    low, high = _interval(0.6, 0.61, 0.05, 40)
    assert (low + high) / 2 == pytest.approx(24.44 / 42)
    assert (high - low) / 2 == pytest.approx(1.96 * 1.1 * 0.05 * 1.001416, rel=1e-5)
    # what the 101 recalls round away comes on top, as another variance: .0550779 and .003 make .0551595
    low, high = _interval(0.6, 0.61, 0.05, 40, 0.003)
    assert (high - low) / 2 == pytest.approx(1.96 * 0.0551595, rel=1e-5)


def test_what_the_recalls_round_away_by_hand():
    from toolkit.metrics.intervals import _rounding

    thresholds = np.array([0.5, 0.55])
    whole = np.array([[[0.6, np.nan], [0.8, np.nan]]])  # two IoUs; the second class has no object
    # each rounds up to precision / 101, evenly: precision / 101 / sqrt(12); the mean of .6 and .8: sqrt(.36 + .64) / 2
    assert _rounding(whole, thresholds, None) == pytest.approx(0.5 / 101 / 12**0.5)
    assert _rounding(whole, thresholds, 0.5) == pytest.approx(0.6 / 101 / 12**0.5)


def test_nothing_to_resample():
    document = document_of([[(1, 0, 0, 10, 10)]])
    assert intervals(match(read_tables(document, perfect(document)))) is None  # one image
    one_image = document_of([[(1, 0, 0, 10, 10), (2, 50, 50, 10, 10)], [(1, 0, 0, 10, 10)]], ("nut", "bolt"))
    found = intervals(match(read_tables(one_image, perfect(one_image))), 20)
    assert found["per_class"]["bolt"]["AP"] is None  # its objects lie in one image
    assert found["per_class"]["nut"]["AP"] == pytest.approx([1 - 3 / 5, 1.0])  # two objects, both found
    empty = intervals(match(read_tables(document_of([[], []]), [])), 20)
    assert empty["AP"] is None
    assert empty["per_class"]["nut"]["AP"] is None


@pytest.mark.slow
def test_the_interval_holds_the_true_ap_as_often_as_it_says():
    # a detector of known quality on 60 images, again and again; the truth is its AP on 4,000 images
    truth = coco_metrics(*ranked_scene(99, 4000))["AP"]
    inside = 0
    for seed in range(100, 300):
        low, high = intervals(match(read_tables(*ranked_scene(seed, 60))), 200, seed)["AP"]
        inside += low <= truth <= high
    assert 0.91 <= inside / 200 <= 0.99  # .95 -+ 2.6 standard deviations of 200 sets


def worse(document: dict, detections: list, share: float, seed: int = 0) -> list:
    rng = np.random.default_rng(seed)
    return [d for d in detections if rng.random() > share]


def test_a_worse_run_is_told_apart_and_an_equal_one_is_not():
    document, detections = scene(7, images=40)
    a = match(read_tables(document, detections))
    b = match(read_tables(document, worse(document, detections, 0.4)))
    result = compare(a, b, 300)
    assert result["AP"]["verdict"] == "B is worse"
    assert result["AP"]["difference"] < 0
    assert result["AP"]["p"] < 0.05
    back = compare(b, a, 300)
    assert back["AP"]["verdict"] == "B is better"
    assert back["AP"]["difference"] == pytest.approx(-result["AP"]["difference"])
    same = compare(a, a, 100)
    assert same["AP"]["difference"] == 0
    assert same["AP"]["p"] == 1
    assert same["AP"]["verdict"] == "no difference shown"


def test_two_runs_that_miss_as_much_elsewhere_are_not_told_apart():
    document, _ = scene(7, images=40)
    found = perfect(document)
    a, b = (match(read_tables(document, worse(document, found, 0.2, seed))) for seed in (1, 2))
    result = compare(a, b, 300)["AP"]
    low, high = result["interval"]
    assert low < 0 < high
    assert result["difference"] != 0
    assert result["verdict"] == "no difference shown"
    assert result["p"] > 0.05


def test_pairing_sees_what_two_intervals_cannot():
    document, detections = scene(8, images=60)
    better = [d for d in detections]
    # three more objects found: far less than the width of one interval
    found = {(d["image_id"], d["category_id"]) for d in detections}
    extra = [d for d in perfect(document, 0.99) if (d["image_id"], d["category_id"]) not in found][:8]
    assert extra
    a, b = match(read_tables(document, detections)), match(read_tables(document, better + extra))
    low, high = intervals(a, 300)["AP"]
    result = compare(a, b, 300)["AP"]
    assert low < result["b"] < high
    assert result["verdict"] == "B is better"


def test_a_comparison_needs_the_same_images():
    a = match(read_tables(document_of([[], []]), []))
    b = match(read_tables(document_of([[]]), []))
    with pytest.raises(ValueError, match="same images"):
        compare(a, b)
    assert compare(a, a, 10)["AP"] is None  # no object: nothing to compare


def test_draws_are_of_the_same_size():
    weights = draw_weights(17, 40, 0)
    assert weights.shape == (40, 17)
    assert (weights.sum(1) == 17).all()


@pytest.mark.parametrize("images", [2, 3, 17, 30])
def test_half_samples_are_halves_and_their_complements(images):
    weights = half_samples(images, 41, 0)
    assert weights.shape == (41, images) and set(np.unique(weights)) <= {0, 1}
    assert (weights.sum(1) == images // 2).all()
    both = weights[0:40:2] + weights[1:40:2]
    assert both.max() == 1 and (both.sum(1) == images // 2 * 2).all()


def test_holm_by_hand():
    # sorted 0.01 0.02 0.04: times 3, 2, 1 = 0.03 0.04 0.04; never less than the one before
    assert holm([0.04, 0.01, 0.02]) == pytest.approx([0.04, 0.03, 0.04])
    assert holm([0.6, 0.5]) == [1.0, 1.0]
    assert holm([]) == []


def test_classes_are_compared_with_correction_and_p_better_follows_the_draws():
    document, detections = scene(7, images=40)
    a = match(read_tables(document, detections))
    one_class_worse = [d for d in detections if d["category_id"] != 1 or d["score"] > 0.9]
    b = match(read_tables(document, one_class_worse))
    result = compare(a, b, 300)
    verdicts = {name: one["verdict"] for name, one in result["per_class"].items()}
    assert verdicts == {"nut": "B is worse", "bolt": "no difference shown", "washer": "no difference shown"}
    nut = result["per_class"]["nut"]
    assert nut["p_holm"] == pytest.approx(min(1, 3 * nut["p"]))  # the smallest of three
    assert nut["p_better"] < 0.01 and result["per_class"]["bolt"]["p_better"] == 0.5
    assert result["runs"] == [1, 1]


def test_seeds_that_differ_widen_the_interval():
    """A difference that one seed each shows is not shown when seeds of one recipe differ as much."""
    document, _ = scene(7, images=40)
    found = perfect(document)

    def run(share, seed):
        return match(read_tables(document, worse(document, found, share, seed)))

    single = compare(run(0.3, 1), run(0.05, 2), 300)["AP"]
    assert single["verdict"] == "B is better"
    a, b = [run(0.3, 1), run(0.02, 3)], [run(0.05, 2), run(0.25, 4)]
    several = compare(a, b, 300)
    low, high = several["AP"]["interval"]
    assert several["runs"] == [2, 2] and several["AP"]["verdict"] == "no difference shown"
    assert high - low > 2 * (single["interval"][1] - single["interval"][0])
    # the side's number is the mean of its runs
    assert several["AP"]["a"] == pytest.approx(np.mean([compare(one, one, 2)["AP"]["a"] for one in a]))


def test_the_centre_of_an_interval_is_a_share():
    # .99 - 1.4 * (.5 - .99) = 1.676, over 1: taken as 1; drawn to (40 + 1) / 42, so that the spread grows by
    # sqrt((41 / 42) * (1 / 42) / 1e-4) = 15.25; reach 1.96 * 1.1 * .05 * 15.25
    low, high = _interval(0.99, 0.5, 0.05, 40)
    assert (low + high) / 2 == pytest.approx(41 / 42)
    assert (high - low) / 2 == pytest.approx(1.96 * 1.1 * 0.05 * (41 * 1 / 42**2 / 1e-4) ** 0.5)


def test_the_mean_over_thresholds_and_classes_by_hand():
    ap = np.array([[[0.2, np.nan], [0.6, 0.4]], [[np.nan, np.nan], [np.nan, 1.0]]])  # 2 draws, 2 thresholds, 2 classes
    iou = np.array([0.5, 0.75])
    assert means(ap, iou).tolist() == pytest.approx([0.4, 1.0])
    assert means(ap, iou, 0.5)[0] == pytest.approx(0.2) and np.isnan(means(ap, iou, 0.5)[1])
    assert means(ap, iou, 0.75).tolist() == pytest.approx([0.5, 1.0])


def test_two_draws_make_an_interval_and_one_does_not():
    halves, whole = np.array([[[0.4]], [[0.6]]]), np.array([[[0.5]]])
    low, high = intervals_of(halves, whole, np.array([0.5]), 20, 10)["AP50"]
    assert low < 0.5 < high
    assert intervals_of(halves[:1], whole, np.array([0.5]), 20, 10)["AP50"] is None


def test_the_spread_of_seeds_by_hand():
    """Three networks and two: sums of squares .0002 and .0008, over 3; the difference of means has 1/3 + 1/2 of it."""
    drawn = _spread_of_seeds([[0.50, 0.51, 0.52], [0.60, 0.64]], 50, np.random.default_rng(0))
    assert drawn == pytest.approx((0.001 / 3 * 5 / 6) ** 0.5 * np.random.default_rng(0).standard_t(3, 50))
    assert _spread_of_seeds([[0.5], [0.6]], 50, np.random.default_rng(0)) == 0


def test_p_by_hand():
    """Of nine draws one says that A is better: 2 * (1 + 1) / (9 + 1)."""
    draws = [[np.full(9, 0.1)], [np.array([0.2] * 8 + [0.05])]]
    found = _difference(draws, [[0.1], [0.2]], np.random.default_rng(0))
    assert found["p"] == pytest.approx(0.4) and found["p_better"] == pytest.approx(8 / 9)
