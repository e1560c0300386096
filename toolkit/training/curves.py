"""curves.png: loss of training and validation, AP and learning rate against the epoch."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

MOST_RATES = 2000  # points of the learning rate's curve; a pixel shows no more


def draw_curves(records: Iterable[dict[str, Any]], path: Path) -> None:
    """Draw the records of metrics.jsonl; with fewer than one epoch there is nothing to draw."""
    epochs, rates = [], []
    for record in records:
        if record.get("kind") == "epoch":
            epochs.append(record)
        elif record.get("kind") == "step":
            rates.append((record["step"], record["lr"]))
    if not epochs:
        return
    rates = rates[:: 1 + len(rates) // MOST_RATES]
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib.figure import Figure

    from label_tools.text.atomic import atomic_write

    figure = Figure(figsize=(11, 3.4), layout="constrained")
    loss, ap, rate = figure.subplots(1, 3)
    x = [r["epoch"] for r in epochs]
    loss.plot(x, [sum(r["train_loss"].values()) for r in epochs], label="training", color="#0072B2")
    judged = [r for r in epochs if r.get("val_loss")]
    if judged:
        at = [r["epoch"] for r in judged]
        loss.plot(at, [sum(r["val_loss"].values()) for r in judged], label="validation", color="#D55E00")
        for key, style in (("AP", "-"), ("AP50", "--"), ("AP75", ":")):
            values = [float("nan") if r.get(key) is None else r[key] for r in judged]
            ap.plot(at, values, style, label=key, color="#009E73")
        ap.legend(frameon=False)
    loss.legend(frameon=False)
    rate.plot([step for step, _ in rates], [lr for _, lr in rates], color="#555555")
    for axes, title, name in (
        (loss, "loss, sum of four", "epoch"),
        (ap, "AP on validation", "epoch"),
        (rate, "learning rate", "step"),
    ):
        axes.set_title(title, fontsize=10)
        axes.set_xlabel(name)
        axes.spines[["top", "right"]].set_visible(False)
    ap.set_ylim(0, 1)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
