"""What a run leaves to look at: curves.png (losses against the step as in the slides, accuracy and IoU against the
epoch), answers.png, and results.csv."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from itertools import cycle
from pathlib import Path
from typing import Any

import torch

from label_tools.text.atomic import atomic_write
from toolkit import checkpoint
from toolkit.single_object import validation
from toolkit.single_object.data import sheet
from toolkit.single_object.data.samples import Samples
from toolkit.single_object.recipe import restored
from toolkit.training import run_folder

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
    for axes, name, colour in zip(panels, names, cycle(_COLOURS), strict=False):
        axes.plot([r["step"] for r in steps], [r["train_loss"][name] for r in steps], color=colour, label="training")
        if epochs:
            values = _numbers(r["val_loss"][name] for r in epochs)
            axes.plot([r["step"] for r in epochs], values, "o--", color="#555555", markersize=3, label="validation")
        axes.set_title(f"loss: {name}", fontsize=10)
        axes.set_xlabel("step")
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False, fontsize=8)
    right = panels[-1]
    for key, colour in zip(("accuracy", "mean_iou", "AP50", "AP"), _COLOURS, strict=False):
        values = _numbers(r.get(key) for r in epochs)
        right.plot([r["epoch"] for r in epochs], values, "o-", markersize=3, color=colour, label=key)
    right.set_ylim(0, 1.02)
    right.set_title("validation", fontsize=10)
    right.set_xlabel("epoch")
    right.legend(frameon=False, fontsize=8)
    for axes in panels:
        axes.spines[["top", "right"]].set_visible(False)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)


def _numbers(values: Iterable[float | None]) -> list[float]:
    """Gaps where there is no number."""
    return [float("nan") if value is None else value for value in values]


def write_results(folder: Path) -> None:
    """results.csv: one row an epoch."""
    rows = []
    for record in run_folder.read_metrics(folder):
        if record.get("kind") == "epoch":
            losses = {
                f"{part}_{name}": value for part in ("train", "val") for name, value in record[f"{part}_loss"].items()
            }
            rows.append({k: v for k, v in record.items() if k not in ("kind", "train_loss", "val_loss")} | losses)
    names = ["epoch", "step", *sorted({k for row in rows for k in row} - {"epoch", "step"})]
    text = io.StringIO()
    writer = csv.DictWriter(text, names, restval="", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(folder / run_folder.RESULTS) as file:
        file.write(text.getvalue().encode())


def draw_answers(folder: Path, val: Samples) -> None:
    """answers.png: validation pictures, truth green, answers red."""
    baseline, network = restored(checkpoint.load(checkpoint.find(folder, "last")))
    few = val.first(25)
    _, predicted = validation.judge(network, baseline, few, torch.device("cpu"))
    sheet.save_png(sheet.contact_sheet(few, range(len(few)), sheet.answers_of(predicted, few)), folder / "answers.png")
