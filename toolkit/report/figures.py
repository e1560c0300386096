"""Figures of the report: each a drawing, a caption with split, IoU and threshold, and its numbers as a file."""

from __future__ import annotations

import base64
import csv
import io
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from markupsafe import Markup

from label_tools.files.write_json_csv import cell_text
from toolkit.report.read_logs import Training, is_finite, smooth
from toolkit.report.svg_charts import NUM_COLOURS, Line, bar_chart, histogram, line_chart, matrix, scatter

MOST_LINES = 7  # classes that get a curve of their own; the table beside has all
DATA_LIMIT = 250_000  # bytes; a longer table lies beside the report instead of in it
MOST_STEPS = 600  # points of the loss curve
UNIT: dict[str, Any] = {"x_range": (0, 1), "y_range": (0, 1)}


@dataclass(frozen=True)
class Figure:
    """chart, what it shows, and the numbers behind it as a link (file name, address)."""

    chart: Markup
    caption: str
    data_name: str
    data_link: str
    legend: tuple[tuple[str, int], ...] = ()  # (name, colour)


def of_lines(
    lines: Sequence[Line], x_label: str, y_label: str, caption: str, link: tuple[str, str], **axes: Any
) -> Figure:
    """Curves with their legend; axes: the other arguments of `line_chart`."""
    chart = line_chart(lines, x_label, y_label, **axes)
    return Figure(chart, caption, *link, tuple((line.name, line.colour) for line in lines))


def _link(name: str, content: bytes, beside: Path | None = None) -> tuple[str, str]:
    if len(content) > DATA_LIMIT and beside is not None:
        return name, beside.as_posix()
    return name, f"data:text/csv;charset=utf-8;base64,{base64.b64encode(content).decode()}"


def table_link(header: Iterable, rows: Iterable[Iterable], name: str) -> tuple[str, str]:
    """(file name, data: address) of a table made here."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows([["" if v is None else v for v in row] for row in rows])
    return _link(name, text.getvalue().encode())


class EvaluationFigures:
    """Figures of one evaluation folder; `where` is its path from the report, for tables too long to embed."""

    def __init__(self, folder: Path, metrics: dict, where: Path) -> None:
        self.folder, self.metrics, self.where = folder, metrics, where
        classes = metrics["per_class"]
        most = sorted(classes, key=lambda name: -classes[name]["num_objects"])[:MOST_LINES]
        self.shown = [name for name in classes if name in most]
        # a class has the colour of its place, as in every drawing, while there are enough colours
        self.colour = {name: i for i, name in enumerate(classes if len(classes) <= NUM_COLOURS else self.shown)}
        split = f"{metrics['split']} split" if metrics.get("split") else "these images"
        self.of_split = f"on the {split}" if metrics.get("split") else "on these images"
        self.iou = metrics["settings"]["iou"]

    def _table(self, name: str) -> tuple[list[str], list[list[str]], tuple[str, str]]:
        content = (self.folder / name).read_bytes()
        header, *rows = [[cell_text(cell) for cell in row] for row in csv.reader(io.StringIO(content.decode()))]
        return header, rows, _link(name, content, self.where / name)

    def _columns(self, name: str) -> tuple[list[float], dict[str, list[float | None]], tuple[str, str]]:
        """First column, {heading: column} of the others, link; an empty cell is None."""
        header, rows, link = self._table(name)
        columns = [[float(row[i]) if row[i] else None for row in rows] for i in range(1, len(header))]
        return [float(row[0]) for row in rows], dict(zip(header[1:], columns)), link

    def _some(self) -> str:
        more = len(self.metrics["per_class"]) - len(self.shown)
        return f" The {len(self.shown)} classes with the most objects; the table has {more} more." if more else ""

    def precision_recall(self, iou: float) -> Figure:
        x, columns, link = self._columns(f"precision_recall_{round(100 * iou)}.csv")
        lines = [Line(name, x, columns[name], self.colour[name]) for name in self.shown if name in columns]
        caption = (
            f"Precision at each recall {self.of_split}, IoU {iou:.2f}, over all score thresholds; precision made "
            f"monotone as COCO does, so the area under a curve is the class's AP at this IoU.{self._some()}"
        )
        return of_lines(lines, "recall", "precision", caption, link, **UNIT)

    def against_threshold(self, key: str) -> Figure:
        x, columns, link = self._columns(f"{key}.csv")
        lines = [
            Line(n, x, columns[n], self.colour[n], step=True) for n in self.shown if any(map(is_finite, columns[n]))
        ]
        if len(lines) > 1:
            lines.append(Line("all classes", x, columns["all classes"], 7, strong=True, step=True))
        marks = []
        if key == "f1":
            for name in self.shown[:3] if len(self.shown) <= 3 else []:
                threshold = self.metrics["thresholds"][name]["threshold"]
                marks.append((min(threshold, 1.0), f"{name}: threshold {threshold:.3f}"))
        word = {"f1": "F1", "precision": "Precision", "recall": "Recall"}[key]
        caption = (
            f"{word} when detections of this score or more are kept, {self.of_split}, IoU {self.iou:.2f}."
            + (" Dashed: the threshold of the class." if marks else "")
            + self._some()
        )
        return of_lines(lines, "score threshold", word, caption, link, marks=marks, **UNIT)

    def ap_by_iou(self) -> Figure:
        found = {float(iou): ap for iou, ap in sorted(self.metrics["AP_by_iou"].items())}
        link = table_link(["iou", "AP"], found.items(), "ap_by_iou.csv")
        line = Line("AP", list(found), list(found.values()), points=True)
        chart = line_chart([line], "IoU", "AP", (0.5, 0.95), (0, 1))
        caption = (
            f"AP {self.of_split} at each IoU that a detection must reach to be right; their mean is COCO's AP. "
            "Where it falls early, objects are found but their boxes are loose."
        )
        return Figure(chart, caption, *link)

    def ious(self) -> Figure:
        found = self.metrics["histograms"]["iou"]
        link = table_link(["iou_from", "count"], zip(found["edges"], found["count"]), "ious.csv")
        groups = [("right detections", found["count"])]
        chart = histogram(groups, found["edges"], "IoU with the object found", "detections")
        caption = f"How well the boxes fit {self.of_split}: right detections over their class's threshold, IoU 0.50."
        return Figure(chart, caption, *link)

    def scores(self) -> Figure:
        found = self.metrics["histograms"]["score"]
        groups = [("right", found["right"]), ("false", found["false"])]
        link = table_link(["score_from", "right", "false"], zip(found["edges"], *(n for _, n in groups)), "scores.csv")
        seen = [right + false for right, false in zip(found["right"], found["false"])]
        top = sorted(seen)[-2] * 1.3 if len(seen) > 1 else None  # many of the lowest score would flatten the rest
        chart = histogram(groups, found["edges"], "score", "detections", top, colours=(2, 0))
        caption = (
            f"Scores of right and false detections {self.of_split}, IoU {self.iou:.2f}. The less they overlap, the "
            "better a threshold can tell them apart."
        )
        return Figure(chart, caption, *link, (("right", 2), ("false", 0)))

    def calibration(self) -> Figure:
        bins = [b for b in self.metrics["calibration"]["bins"] if b["num"]]
        _, _, link = self._table("calibration.csv")
        line = _through("right", [(b["score"], b["right"]) for b in bins], points=True)
        notes = [(b["score"], b["right"], f"{b['num']}") for b in bins]
        one = self.metrics["calibration"]
        caption = (
            f"Share of right detections against their score {self.of_split}, IoU {one['iou']:.2f}, in ten bins, "
            f"scores of {one['floor']:.2f} or more ({one['num_detections']} detections). On the dashed line a score "
            "means what it says; below it the detector is too sure of itself. Beside each point: its detections."
        )
        chart = line_chart([line], "score", "share that is right", diagonal=True, notes=notes, **UNIT)
        return Figure(chart, caption, *link)

    def confusion(self) -> Figure:
        table = self.metrics["confusion"]
        _, _, link = self._table("confusion.csv")
        caption = (
            f"Rows: what it is. Columns: what it was detected as, {self.of_split}, IoU {table['iou']:.2f}, each class "
            "at its own score threshold (see the table of classes). Last column: missed. Last row: detections that "
            f"lie on no object with IoU {table['iou']:.2f} or more (nothing there, or a box too far off), or on one "
            "that was already found. Shaded by the share of the row."
        )
        return Figure(matrix(table["classes"], table["counts"]), caption, *link)

    def counts(self) -> Figure:
        _, rows, link = self._table("counts.csv")
        points = {n: Counter((int(r[2]), int(r[3])) for r in rows if r[1] == n) for n in self.shown}
        groups = [(name, self.colour[name], dict(of_class)) for name, of_class in points.items()]
        caption = (
            f"Objects in an image, counted by the detector against counted by the labels, {self.of_split}, each class "
            "at its own score threshold. A point is an image, a larger point several. On the dashed line it is right."
        )
        legend = tuple((name, self.colour[name]) for name in points)
        return Figure(scatter(groups, "labelled", "counted"), caption, *link, legend)

    def error_kinds(self) -> Figure:
        kinds = self.metrics["error_kinds"]["kinds"]
        _, _, link = self._table("error_kinds.csv")
        gains = [None if one["gain"] is None else 100 * one["gain"] for one in kinds.values()]
        numbers = [one["num" if one["num_over_threshold"] is None else "num_over_threshold"] for one in kinds.values()]
        texts = [f"{'n/a' if gain is None else f'{gain:.1f}'} ({number})" for gain, number in zip(gains, numbers)]
        caption = (
            f"Points of AP50 (of 100) that would be won if every error of one kind were put right and no other, "
            f"{self.of_split}, IoU 0.50, all scores (TIDE); so they do not add up. In brackets: detections of the kind "
            "over the threshold; for missed, objects that no detection finds at any score."
        )
        return Figure(bar_chart(list(kinds), gains, "points of AP50 given back", texts), caption, *link)

    def sizes(self) -> Figure:
        return self._histogram(
            "size",
            [4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 192, 256, 384, 512, 768, 1024, 2048],
            "size, square root of the box's area in pixels",
            "COCO calls objects up to 32 small and over 96 large.",
        )

    def aspects(self) -> Figure:
        return self._histogram(
            "aspect_ratio",
            [0.1, 0.2, 0.33, 0.5, 0.67, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0],
            "aspect ratio, height / width",
            "Torchvision's anchors have 0.5, 1 and 2.",
        )

    def _histogram(self, key: str, edges: list[float], label: str, remark: str) -> Figure:
        header, rows, link = self._table("objects.csv")
        at = header.index(key)
        values = np.array([float(row[at]) for row in rows])
        name = np.array([row[0] for row in rows])
        if len(values):
            first = max(0, int(np.searchsorted(edges, values.min(), side="right")) - 1)
            last = min(len(edges) - 1, max(first + 1, int(np.searchsorted(edges, values.max(), side="left"))))
            edges = edges[first : last + 1]
        clipped = np.clip(values, edges[0], np.nextafter(edges[-1], 0))
        groups = [(n, np.histogram(clipped[name == n], edges)[0].tolist()) for n in self.shown]
        rest = ~np.isin(name, self.shown)
        if rest.any():
            groups.append(("other classes", np.histogram(clipped[rest], edges)[0].tolist()))
        caption = f"{label.capitalize()}, of the {len(values)} labelled objects {self.of_split}. {remark}"
        legend = tuple((n, i % 8) for i, (n, _) in enumerate(groups)) if len(groups) > 1 else ()
        return Figure(histogram(groups, edges, label), caption, *link, legend)

    def anchors(self) -> Figure:
        best = sorted(self.metrics["anchors"]["best_iou"])
        share = [(i + 1) / len(best) for i in range(len(best))]
        step = max(1, len(best) // 400)
        link = table_link(["best_iou", "share_of_objects_at_or_under"], zip(best, share), "anchors.csv")
        line = Line("objects", [0, *best[::step], best[-1]], [0, *share[::step], 1.0], 0, step=True)
        caption = (
            f"Share of the labelled objects {self.of_split} whose best anchor has at most this IoU, after the "
            "network's resizing. The further right the better; torchvision trains an anchor as an object from IoU "
            "0.70 on, or as the best one of its object."
        )
        marks = [(iou, f"IoU {iou}") for iou in (0.5, 0.7)]
        chart = line_chart([line], "IoU with the best anchor", "share of objects", marks=marks, **UNIT)
        return Figure(chart, caption, *link)


def losses(training: Training) -> Figure | None:
    """Training loss per step and epoch, validation loss per epoch; None when nothing was logged."""
    steps = [r for r in training.steps if is_finite(r.get("loss"))]
    lines = []
    if steps:
        window = max(1, len(steps) // 50)
        values = smooth([r["loss"] for r in steps], window)
        points = list(zip((r["step"] for r in steps), values))
        lines.append(_through("training, per step", points[:: max(1, len(steps) // MOST_STEPS)]))
    train, val = (
        [(record.get("step", record["epoch"]), total) for record, total in training.losses(key)]
        for key in ("train_loss", "val_loss")
    )
    if train and not steps:
        lines.append(_through("training, per epoch", train, colour=0, points=True))
    if val:
        lines.append(_through("validation, per epoch", val, colour=1, strong=True, points=True))
    if not lines:
        return None
    by_step = dict(val)
    rows = [[r["step"], r["loss"], by_step.get(r["step"])] for r in steps]
    rows = rows or [[s, v, by_step.get(s)] for s, v in train]
    rows += [[s, None, v] for s, v in val if s not in {r[0] for r in rows}]
    link = table_link(["step", "train_loss", "val_loss"], rows, "losses.csv")
    heights = sorted(v for line in lines for v in line.y if v is not None)
    calm = max(heights[int(0.98 * (len(heights) - 1))] * 1.3, 1e-6)  # a first spike must not flatten the rest
    caption = (
        "Sum of the network's losses on the train split"
        + (f", running mean over {len(steps) // 50} steps" if len(steps) >= 100 else "")
        + (", and on the val split after each epoch." if val else ".")
        + " When the validation loss rises while the training loss falls, the network learns by heart."
    )
    return of_lines(lines, "step", "loss", caption, link, y_range=(0, min(heights[-1], calm) * 1.05))


def _through(name: str, pairs: Sequence[tuple[float, float]], **style: Any) -> Line:
    """The curve through pairs (x, y); style: the other fields of `Line`."""
    return Line(name, [x for x, _ in pairs], [y for _, y in pairs], **style)


def ap_per_epoch(training: Training) -> Figure | None:
    """AP, AP50 and AP75 on val after each epoch; None when never evaluated."""
    keys = ("AP", "AP50", "AP75")
    records = [r for r in training.epochs if any(is_finite(r.get(key)) for key in keys)]
    if not records:
        return None
    lines = []
    for i, key in enumerate(keys):
        points = [(r["epoch"], r[key]) for r in records if is_finite(r.get(key))]
        if points:
            lines.append(_through(key, points, colour=i, strong=key == "AP", points=len(points) <= 60))
    link = table_link(["epoch", *keys], [[r["epoch"], *(r.get(k) for k in keys)] for r in records], "epochs.csv")
    by, text = ("segm_AP", " by masks") if any(is_finite(r.get("segm_AP")) for r in records) else ("AP", "")
    best = max((r for r in records if is_finite(r.get(by))), key=lambda r: r[by], default=None)
    caption = "COCO's AP by boxes on the val split, all scores, at most 100 detections of a class and image."
    if best:
        caption += f" Best{text}: epoch {best['epoch']} with AP {best[by]:.3f}."
    return of_lines(lines, "epoch", "AP", caption, link, y_range=(0, 1), whole_x=True)


def ap_of_runs(trainings: dict[str, Training]) -> Figure | None:
    """AP on val after each epoch, a line a run; None when none was evaluated."""
    found = {name: [(r["epoch"], r["AP"]) for r in t.epochs if is_finite(r.get("AP"))] for name, t in trainings.items()}
    lines = [
        _through(name, pairs, colour=i % NUM_COLOURS, points=len(pairs) <= 60, dashed=i >= NUM_COLOURS)
        for i, (name, pairs) in enumerate(found.items())
        if pairs
    ]
    if not lines:
        return None
    rows = [[name, epoch, ap] for name, pairs in found.items() for epoch, ap in pairs]
    caption = "AP on each run's own val split after each epoch, mean over IoU 0.50 to 0.95."
    if silent := [name for name, pairs in found.items() if not pairs]:
        caption += f" Without a training log: {', '.join(silent)}."
    link = table_link(["run", "epoch", "AP"], rows, "epochs_of_runs.csv")
    return of_lines(lines, "epoch", "AP", caption, link, y_range=(0, 1), whole_x=True)


def learning_rate(training: Training) -> Figure | None:
    """The learning rate of every step; None when not logged."""
    steps = [r for r in training.steps if is_finite(r.get("lr"))]
    if not steps:
        return None
    points = [(r["step"], r["lr"]) for r in steps]
    link = table_link(["step", "lr"], points, "learning_rate.csv")
    line = _through("learning rate", points[:: max(1, len(steps) // MOST_STEPS)])
    return Figure(line_chart([line], "step", "learning rate"), "Learning rate of each step.", *link)


def label_curve_figure(result: dict) -> Figure:
    """AP of each training against its number of images, with the fit and its 95 % band where there is one."""
    points = [p for p in result["points"] if is_finite(p["AP"])]
    lines = []
    if result["fit"]:
        grid = result["fit"]["grid"]
        lines.append(Line("fit", grid["num_images"], grid["AP"], 0, strong=True, low=grid["low"], high=grid["high"]))
    for i, seed in enumerate(sorted({p["seed"] for p in points})):
        mine = sorted((p["num_images"], p["AP"]) for p in points if p["seed"] == seed)
        lines.append(_through(f"seed {seed}", mine, colour=1 + i % 7, points=True, dashed=True))
    columns = ["num_images", "seed", "AP"]
    link = table_link(columns, [[p[key] for key in columns] for p in points], "curve.csv")
    caption = (
        f"AP on the {result['split']} split, mean over IoU 0.50 to 0.95, all scores, against the number of images "
        "trained on. Band: 95 % interval of the fit, ceiling minus gap times n to the minus rate."
    )
    if not lines:
        return Figure(Markup(""), caption, *link)
    return of_lines(lines, "labelled images", "AP", caption, link, y_range=(0, 1))
