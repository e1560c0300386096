"""Fit AP against the number of labelled images, with uncertainty: would more labels help?

The fit is the usual power law of learning curves, AP(n) = ceiling - gap * n^-rate (Hestness et al. 2017). Its
uncertainty comes from refitting: in each of the draws, every point gets another seed's AP plus the spread between
seeds. Few points cannot pin a ceiling: the interval says so by being wide.
"""

from __future__ import annotations

import numpy as np

LEAST = 3  # sizes, and seeds, for an interval
UNSURE = "cannot tell"  # how such an answer begins
LITTLE = 0.02  # AP that is not worth twice the labels
AHEAD = 2.0  # times the most images: how far the curve is continued
DRAWS = 500  # refits, for the uncertainty
RATES = np.linspace(0.05, 2.0, 79)


def fit_power_law(num: np.ndarray, ap: np.ndarray) -> tuple[float, float, float]:
    """Least squares (ceiling, gap, rate) with gap >= 0 and ceiling <= 1; num, ap [N], at least two different num."""
    x = num ** -RATES[:, None]  # [rates, N]
    centred = x - x.mean(1, keepdims=True)
    gap = np.maximum(-(centred @ ap) / (centred**2).sum(1), 0.0)
    ceiling = ap.mean() + gap * x.mean(1)
    over = ceiling > 1  # AP cannot exceed 1: fit the gap with the ceiling held there
    gap = np.where(over, (x @ (1 - ap)) / (x**2).sum(1), gap)
    ceiling = np.where(over, 1.0, ceiling)
    error = ((ceiling[:, None] - gap[:, None] * x - ap) ** 2).sum(1)
    best = int(np.argmin(error))
    return float(ceiling[best]), float(gap[best]), float(RATES[best])


def learning_curve(points: list[dict]) -> dict | None:
    """points [{"num_images", "seed", "AP"}] -> fit, prediction at AHEAD times the most images, and an answer.

    None with fewer than two different numbers of images. With fewer than three numbers or three seeds there is no
    interval: a curve of three parameters runs through such points, and their spread is unknown.
    """
    num = np.array([p["num_images"] for p in points], float)
    ap = np.array([p["AP"] for p in points], float)
    if len(np.unique(num)) < 2:
        return None
    ceiling, gap, rate = fit_power_law(num, ap)
    residual = ap - (ceiling - gap * num**-rate)
    freedom = max(len(ap) - 3, 1)
    spread = float(np.sqrt((residual**2).sum() / freedom))
    target = float(num.max() * AHEAD)
    grid = np.geomspace(num.min(), target, 40)
    rng = np.random.default_rng(0)
    drawn = np.empty((DRAWS, len(grid)))
    for i in range(DRAWS):
        noisy = np.clip(ceiling - gap * num**-rate + rng.normal(0, spread, len(num)), 0, 1)
        c, g, r = fit_power_law(num, noisy)
        drawn[i] = c - g * grid**-r
    low, high = np.quantile(drawn, [0.025, 0.975], axis=0)
    now = ceiling - gap * num.max() ** -rate
    gain = drawn[:, -1] - drawn[:, np.argmin(np.abs(grid - num.max()))]
    gain_interval = [float(v) for v in np.quantile(gain, [0.025, 0.975])]
    sizes, seeds = len(np.unique(num)), len({p["seed"] for p in points})
    enough = sizes >= LEAST and seeds >= LEAST
    return {
        "ceiling": ceiling,
        "gap": gap,
        "rate": rate,
        "spread": spread,
        "num_images_ahead": int(target),
        "AP_now": float(now),
        "AP_ahead": float(ceiling - gap * target**-rate),
        "AP_ahead_interval": [float(low[-1]), float(high[-1])] if enough else None,
        "gain_interval": gain_interval if enough else None,
        "answer": _answer(int(num.max()), int(target), float(now), gain_interval)
        if enough
        else f"{UNSURE}: an answer needs {LEAST} sizes and {LEAST} seeds, there are {sizes} and {seeds}",
        "grid": {
            "num_images": [float(v) for v in grid],
            "AP": [float(v) for v in ceiling - gap * grid**-rate],
            "low": [float(v) for v in low] if enough else None,
            "high": [float(v) for v in high] if enough else None,
        },
    }


def _answer(now: int, ahead: int, ap: float, gain: list[float]) -> str:
    """One sentence that says what the interval of the gain says."""
    low, high = (round(value, 3) for value in gain)
    change = f"{ahead} labelled images in place of {now} change AP, now {ap:.3f}, by {low:+.3f} to {high:+.3f} (95 %)"
    if high < LITTLE:
        return f"hardly: {change}"
    if low > 0:
        return f"yes, more labels would help: {change}"
    return f"{UNSURE}, it may be nothing: {change}"
