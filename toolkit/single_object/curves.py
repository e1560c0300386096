"""Pictures of a run: the losses against the step as in the slides, accuracy and IoU against the epoch."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from label_tools.atomic import atomic_write

_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00")


def draw_curves(records: list[dict[str, Any]], path: Path) -> None:
    """Draw the records of metrics.jsonl: a panel for each loss, one for the numbers on the validation pictures."""
    steps = [r for r in records if r.get("kind") == "step"]
    epochs = [r for r in records if r.get("kind") == "epoch"]
    if not steps:
        return
    from matplotlib.figure import Figure

    names = list(steps[0]["train_loss"])
    figure = Figure(figsize=(3.6 * (len(names) + 1), 3.3), layout="constrained")
    panels = list(figure.subplots(1, len(names) + 1))
    for axes, name, colour in zip(panels, names, _COLOURS, strict=False):
        axes.plot([r["step"] for r in steps], [r["train_loss"][name] for r in steps], color=colour, label="training")
        if epochs:
            axes.plot([r["step"] for r in epochs], [r["val_loss"][name] for r in epochs], "o--", color="#555555",
                      markersize=3, label="validation")  # fmt: skip
        axes.set_title(f"loss: {name}", fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    right = panels[-1]
    for key, colour in zip(("accuracy", "mean_iou", "AP50", "AP"), _COLOURS, strict=False):
        values = [float("nan") if r.get(key) is None else r[key] for r in epochs]
        right.plot([r["epoch"] for r in epochs], values, "o-", markersize=3, color=colour, label=key)
    right.set_ylim(0, 1.02)
    right.set_title("validation", fontsize=10)
    right.set_xlabel("epoch")
    right.legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
