"""The learning rate as a function of the step: closed forms that are right for 1 to 100,000 steps."""

from __future__ import annotations

import math


def warmup_steps(wanted: int, total: int) -> int:
    """At most a tenth of all steps: ten steps in all warm up for one, one step not at all."""
    return min(wanted, total // 10)


def factor(kind: str, step: int, total: int, warmup: int) -> float:
    """Share of the highest learning rate at `step` (0-based) of `total`; always over 0.

    cosine: linear warm-up, then half a cosine to 0.01. step: warm-up, then x 0.1 at 2/3 and 8/9 of the steps
    (the usual 16 and 22 of 24 epochs). onecycle: cosine up from 0.04 over the first quarter, cosine down to 0.001
    (Smith 2018), read at the middle of each step, so that two steps in all have 1 and 0.25 and none a thousandth.
    constant: warm-up only.
    """
    if kind == "onecycle":
        progress = (step + 0.5) / total
        if progress < 0.25:
            return 0.04 + 0.96 * _rise(progress / 0.25)
        return 0.001 + 0.999 * (1 - _rise((progress - 0.25) / 0.75))
    warmup = warmup_steps(warmup, total)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    progress = (step - warmup) / max(1, total - warmup)
    if kind == "cosine":
        return 0.01 + 0.99 * (1 - _rise(progress))
    if kind == "step":
        return 1.0 if progress < 2 / 3 else 0.1 if progress < 8 / 9 else 0.01
    return 1.0


def _rise(x: float) -> float:
    """Half a cosine from 0 to 1 for x in 0..1."""
    return 0.5 - 0.5 * math.cos(math.pi * min(1.0, max(0.0, x)))
