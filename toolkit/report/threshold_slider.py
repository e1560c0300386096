"""Data of the threshold slider, from thresholds.csv, small enough to embed in the page."""

from __future__ import annotations

import csv
from pathlib import Path

from label_tools.files.write_json_csv import cell_text
from toolkit.metrics.threshold_curves import ALL, QUANTITIES

MOST_CLASSES = 20


def threshold_data(folder: Path, metrics: dict, problems: list[str]) -> dict | None:
    """{"classes", "numbers", "stored", "start", "columns"}; None without probabilities as scores, or without the table.

    classes: those shown, "all classes" last. numbers: their places among all classes. stored: the thresholds of all
    classes. start: where the slider begins. columns [class][quantity][threshold 0, 0.01 ... 1]: [value, low, high] or
    None.
    """
    if not metrics.get("calibration") or not (folder / "thresholds.csv").is_file():
        return None
    order = list(metrics["per_class"])
    stored = {name: float(metrics["thresholds"][name]["threshold"]) for name in order}
    most = sorted(stored, key=lambda name: -metrics["per_class"][name]["num_objects"])[:MOST_CLASSES]
    names = [name for name in stored if name in most] + [ALL]
    columns: dict[str, list[list]] = {name: [[] for _ in QUANTITIES] for name in names}
    try:
        with (folder / "thresholds.csv").open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                for column, key in zip(columns.get(cell_text(row["class"]), ()), QUANTITIES):
                    cells = [row[f"{key}{end}"] for end in ("", "_low", "_high")]
                    column.append([round(float(cell), 3) for cell in cells] if all(cells) else None)
        if any(len(column) != 101 for of_class in columns.values() for column in of_class):
            raise ValueError("rows are missing")
    except (OSError, csv.Error, LookupError, TypeError, ValueError) as error:
        problems.append(f"thresholds.csv cannot be read: {type(error).__name__} {error}")
        return None
    return {
        "classes": names,
        "numbers": [order.index(name) for name in names[:-1]],
        "stored": list(stored.values()),
        "start": round(sum(stored.values()) / max(len(stored), 1), 2),
        "columns": list(columns.values()),
    }
