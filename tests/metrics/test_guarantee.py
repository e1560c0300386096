"""Thresholds with a guarantee: the binomial by hand, the promise kept, and what is said where there is none."""

from __future__ import annotations

import math

import numpy as np
import pytest

from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import detection, document_of, perfect
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.metrics.guaranteed_thresholds import GRID, _independent, certify, tail
from toolkit.metrics.intervals import student
from toolkit.metrics.threshold_curves import Counts


def test_binomial_tail_by_hand():
    # 4 of 4 where the true share is 0.5: 1 / 16; 3 or 4 of 4: 5 / 16
    assert tail(1.0, 4, 0.5) == pytest.approx(1 / 16)
    assert tail(0.75, 4, 0.5) == pytest.approx(5 / 16)
    # 59 of 59 make 0.95 sure (0.95^59 = 0.0485), 58 do not: the rule of three
    assert tail(1.0, 59, 0.95) < 0.05 < tail(1.0, 58, 0.95)
    assert tail(1.0, 0.5, 0.9) == 1


def drawn(images: int, truth: float, rng) -> Counts:
    """One object an image; a detection of it scores by chance, so that recall is truth * (1 - threshold)."""
    score = np.where(rng.random(images) < truth, rng.random(images), -1.0)
    right = (score[None] >= GRID[:, None]).astype(int)
    return Counts(right, right, np.ones(images, int))


@pytest.mark.parametrize("images", [60, 200])
def test_the_promise_is_kept(images):
    """True recall at a threshold t is 0.97 * (1 - t), under 0.8 from t = 0.1753 on: at most 5 of 100 go there."""
    rng = np.random.default_rng(1)
    found = [certify(drawn(images, 0.97, rng), "recall", 0.8)["threshold"] for _ in range(300)]
    given = [t for t in found if t is not None]
    broken = sum(0.97 * (1 - t) < 0.8 for t in given)
    assert len(given) > 200
    assert broken / 300 <= 0.05 + 2 * math.sqrt(0.05 * 0.95 / 300)


def test_what_is_needed_is_more_than_there_is_and_enough():
    rng = np.random.default_rng(0)
    few = certify(drawn(20, 0.97, rng), "recall", 0.9)
    assert few["threshold"] is None and few["needed"] > 20
    many = drawn(4 * few["needed"], 0.97, rng)
    assert certify(many, "recall", 0.9)["threshold"] is not None
    # at no score are 90 % found: more objects do not help
    assert certify(drawn(500, 0.6, rng), "recall", 0.9)["needed"] is None


def test_evaluate_takes_it_as_the_threshold_or_says_what_it_needs():
    document = document_of([[(1, 10, 10, 20, 20)]] * 80, ("nut", "bolt"))
    found = perfect(document, 0.9) + [detection(i, 1, 100, 100, 20, 20, 0.2) for i in range(1, 81)]
    metrics = compute_metrics(document, found, Settings(resamples=0, guarantee=("precision", 0.9))).metrics
    # from 0.9 down: all right until the false ones come in at 0.2
    assert metrics["thresholds"]["nut"]["threshold"] == pytest.approx(0.205)
    assert metrics["guarantee"].keys() == {"nut"}  # a class without objects promises nothing
    short = {**document, "images": document["images"][:20], "annotations": document["annotations"][:20]}
    metrics = compute_metrics(short, perfect(short), Settings(resamples=0, guarantee=("recall", 0.9))).metrics
    # 0.9^n <= 0.05 from n = 29 on; a little more as twenty images say little of how alike objects are
    (line,) = [w for w in metrics["warnings"] if "class nut" in w]
    assert "no threshold keeps recall 0.90 with 95% confidence; about 3" in line and "here are 20" in line
    assert line.endswith(". Its threshold is chosen as without --guarantee")


def test_thresholds_by_hand_and_what_is_refused():
    document = document_of([[(1, 10, 10, 20, 20), (2, 60, 10, 20, 20)]], ("nut", "bolt"))
    by_hand = Settings(resamples=0, thresholds={"": 0.3, "bolt": 0.7})
    metrics = compute_metrics(document, perfect(document), by_hand).metrics
    assert {name: one["threshold"] for name, one in metrics["thresholds"].items()} == {"nut": 0.3, "bolt": 0.7}
    with pytest.raises(InputError, match="class blot: unknown; did you mean bolt"):
        compute_metrics(document, [], Settings(thresholds={"blot": 0.5}))
    for wrong in (
        Settings(thresholds={"nut": 1.5}),
        Settings(guarantee=("recal", 0.9)),
        Settings(guarantee=("recall", 1.0)),
        Settings(guarantee=("recall", 0.9), precision=0.9),
    ):
        with pytest.raises(InputError):
            wrong.check()


def test_the_terminal_says_what_is_kept_and_for_which_classes():
    from toolkit.report.evaluation_text import guaranteed

    one, none = {"threshold": 0.2, "value": 0.95}, {"threshold": None, "value": 0.6}
    metrics = {"settings": {"guarantee": ("recall", 0.9)}, "per_class": {"a": {}, "b": {}}}
    assert guaranteed(metrics) == []
    (line,) = guaranteed({**metrics, "guarantee": {"a": one, "b": one}})
    assert line == "these thresholds keep a recall of 0.90 on new pictures like these, with 95 % confidence"
    (line,) = guaranteed({**metrics, "guarantee": {"a": one, "b": none}})
    assert line.startswith("the thresholds of a keep")
    assert guaranteed({**metrics, "guarantee": {"a": none}}) == []


def test_independent_objects_by_hand():
    """Five images with one object each, all found: five objects, less for so few images."""
    ones = np.ones((1, 5))
    assert _independent(ones, ones) == pytest.approx([5 * (1.96 / student(4)) ** 2])
    # four of eight objects, two images with both and two with none: share .5, residuals 4 * 1 * 4 / 3 over a binomial
    # variance of 2 make 8 / 3 times fewer
    whole, part = np.full((1, 4), 2.0), np.array([[2.0, 0, 2, 0]])
    assert _independent(part, whole) == pytest.approx([8 / (8 / 3) * (1.96 / student(3)) ** 2])


def test_recall_is_tried_from_no_threshold_on():
    """Scores under the grid's first step: all objects are found at 0 and none above."""
    right = np.zeros((len(GRID), 80), int)
    right[0] = 1
    found = certify(Counts(right, right, np.ones(80, int)), "recall", 0.9)
    assert (found["threshold"], found["value"], found["needed"]) == (0.0, 1.0, None)
