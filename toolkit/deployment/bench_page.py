"""What `frcnn bench` shows: the table, the picture with the Pareto line, the advice."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2

from toolkit.report.figures import Figure, table_link
from toolkit.report.page import TEMPLATES, style
from toolkit.report.svg_charts import Line, line_chart

COLOURS = {"torch": 0, "onnx": 1, "int8": 2}


def advice(result: dict[str, Any]) -> str:
    """The fastest setting whose AP lies within the interval of the best one, as a line; "" where there is none."""
    rows = [row for row in result["rows"] if row["AP"] is not None]
    if not rows:
        return ""
    best = max(rows, key=lambda row: row["AP"])
    good = [row for row in rows if row["AP"] >= (best["AP"] if best["AP_low"] is None else best["AP_low"])]
    row = min(good, key=lambda row: row["seconds"])
    own = next((r for r in rows if r["form"] == "torch" and _is_own(r, result)), best)
    text = f"fastest with an AP in the interval of the best one: {_named(row)}"
    if row is own:
        return f"{text}, which is {'the best one itself' if own is best else 'the run as it is'}"
    times = own["seconds"] / row["seconds"]
    return f"{text}: {times:.2f} times as fast as {_named(own)}, AP {row['AP'] - own['AP']:+.3f}"


def _named(row: dict[str, Any]) -> str:
    return f"{row['form']}, {row['image_size']} px, {row['proposals']} proposals"


def _is_own(row: dict[str, Any], result: dict[str, Any]) -> bool:
    return {key: row[key] for key in ("image_size", "proposals")} == result["own"]


def table(result: dict[str, Any]) -> str:
    """The rows as text; a star: on the Pareto line."""
    lines = ["format  size  proposals  AP     95 % interval   s/image  CPU s    memory"]
    for row in result["rows"]:
        ap = "n/a  " if row["AP"] is None else f"{row['AP']:.3f}"
        sure = "-" if row["AP_low"] is None else f"{row['AP_low']:.3f} to {row['AP_high']:.3f}"
        memory = "-" if row["memory_mb"] is None else f"{row['memory_mb']} MB"
        lines.append(
            f"{row['form']:6}  {row['image_size']:4}  {row['proposals']:9}  {ap}  {sure:14}  {row['seconds']:.4f}   "
            f"{row['cpu_seconds']:.4f}   {memory}{'  *' if row['pareto'] else ''}"
        )
    return "\n".join(lines)


def speed_figure(result: dict[str, Any]) -> Figure:
    """AP against seconds an image: a dot for every setting, a line through those that no other one beats."""
    rows = [row for row in result["rows"] if row["AP"] is not None]
    best = sorted((row for row in rows if row["pareto"]), key=lambda row: row["seconds"])
    lines = [Line("not beaten", [r["seconds"] for r in best], [r["AP"] for r in best], 5, dashed=True)] if best else []
    for row in rows:
        lines.append(Line(_named(row), [row["seconds"]], [row["AP"]], COLOURS[row["form"]], points=True))
    columns = ["form", "image_size", "proposals", "seconds", "AP", "AP_low", "AP_high"]
    link = table_link(columns, [[row[key] for key in columns] for row in rows], "bench.csv")
    caption = (
        f"AP on {result['images']} images, mean over IoU 0.50 to 0.95, against the median of seconds an image, resize "
        "included, decoding not. Line: no other setting is faster with as high an AP."
    )
    forms = [form for form in COLOURS if any(row["form"] == form for row in rows)]
    legend = (*((form, COLOURS[form]) for form in forms), ("not beaten", 5))
    return Figure(line_chart(lines, "seconds an image", "AP", y_range=(0, 1)), caption, *link, legend)


def write(path: Path, result: dict[str, Any]) -> None:
    """bench.html, in the report's style."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    page = environment.get_template("bench.html.j2")
    html = page.render(result=result, figure=speed_figure(result), style=style(), advice=advice(result))
    path.write_bytes(html.encode())
