"""The learning rate over a run: right for one step and for a hundred thousand."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from toolkit.training.optimizer_step import lr_factor, warmup_steps

KINDS = ("cosine", "step", "onecycle", "constant")


@given(st.sampled_from(KINDS), st.integers(1, 100_000), st.integers(0, 2000), st.data())
@settings(max_examples=300, deadline=None)
def test_always_over_nothing_and_at_most_one(kind, total, warmup, data):
    step = data.draw(st.integers(0, total - 1))
    assert 0 < lr_factor(kind, step, total, warmup) <= 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("total", [1, 2, 3, 4, 5, 7, 10, 11, 30, 100, 1000, 100_000])
def test_the_mean_rate_hardly_depends_on_the_number_of_steps(kind, total):
    """A run of few steps learns as much per step as a long one; the peer's warm-up leaves it at a thousandth."""
    stride = max(1, total // 1000)
    rates = [lr_factor(kind, step, total, 500) for step in range(0, total, stride)]
    # cosine (1+0.01)/2, step 2/3 + .1*2/9 + .01/9, onecycle .25*.52 + .75*.5005; a tenth of warm-up has half of it
    mean = {"cosine": 0.505, "step": 0.69, "onecycle": 0.505, "constant": 1.0}[kind]
    assert 0.85 * mean - 0.01 <= sum(rates) / len(rates) <= 1.0
    if total >= 100:
        assert sum(rates) / len(rates) == pytest.approx(mean, abs=0.06)
    assert max(rates) > 0.6


@pytest.mark.parametrize("kind", KINDS)
def test_one_step_is_a_whole_one(kind):
    assert lr_factor(kind, 0, 1, 500) >= 0.75


@pytest.mark.parametrize("kind", ["cosine", "constant", "step"])
def test_warm_up_is_linear_and_at_most_a_tenth(kind):
    assert warmup_steps(500, 30) == 3 and warmup_steps(500, 9) == 0 and warmup_steps(500, 100_000) == 500
    # 30 steps: 1/4, 2/4, 3/4, then the top
    assert [lr_factor(kind, step, 30, 500) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]


def test_cosine_by_hand():
    # no warm-up under 10 steps; 8 steps: the fifth is in the middle, 0.01 + 0.99 / 2
    assert lr_factor("cosine", 0, 8, 500) == 1.0
    assert lr_factor("cosine", 4, 8, 500) == pytest.approx(0.505)
    assert lr_factor("cosine", 99_999, 100_000, 500) == pytest.approx(0.01, abs=1e-6)


def test_step_by_hand():
    # 24 epochs of one step without warm-up: a tenth from 16 on, a hundredth from 22 on (22/24 > 8/9 > 21/24)
    rates = [lr_factor("step", step, 24, 0) for step in range(24)]
    assert rates == [1.0] * 16 + [0.1] * 6 + [0.01] * 2


def test_onecycle_by_hand():
    # two steps: read at 1/4, the top, and at 3/4, two thirds of the way down: 0.001 + 0.999 * (1 - 0.75)
    assert lr_factor("onecycle", 0, 2, 0) == pytest.approx(1.0)
    assert lr_factor("onecycle", 1, 2, 0) == pytest.approx(0.001 + 0.999 * 0.25)
    long = [lr_factor("onecycle", step, 1000, 0) for step in range(1000)]
    assert long[0] == pytest.approx(0.04, abs=1e-4) and long[-1] == pytest.approx(0.001, abs=1e-4)
    assert long.index(max(long)) in (249, 250)


@pytest.mark.parametrize("kind", ["cosine", "onecycle", "constant"])
def test_no_jumps(kind):
    rates = [lr_factor(kind, step, 1000, 100) for step in range(1000)]
    assert max(abs(a - b) for a, b in pairwise(rates)) < 0.011
