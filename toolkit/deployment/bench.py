"""Speed against AP on the user's own images, image size x proposals x format; as a table, a page, and advice."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jinja2

from label_tools.document import coco_file
from label_tools.files.marked_folders import refuse_foreign, together
from label_tools.files.write_json_csv import write_csv, write_json
from label_tools.text.errors import InputError
from toolkit.deployment import bench_process, export, onnx_file
from toolkit.deployment.bench_process import Setting
from toolkit.deployment.onnx_file import quantized
from toolkit.deployment.original_network import Loaded
from toolkit.evaluation.compute_metrics import read
from toolkit.metrics.coco_ap import summary
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import intervals
from toolkit.metrics.iou_and_matching import match
from toolkit.report.figures import Figure, table_link
from toolkit.report.page import TEMPLATES, style
from toolkit.report.svg_charts import Line, line_chart

FILES = ("bench.json", "bench.csv", "bench.html")
COLOURS = {"torch": 0, "onnx": 1, "int8": 2}  # of each form
COLUMNS = (
    *("form", "image_size", "proposals", "AP", "AP_low", "AP_high", "AP50"),
    *("seconds", "cpu_seconds", "memory_mb", "gpu_memory_mb", "pareto"),
)


def bench(
    run: Path,
    out: Path,
    *,
    image_sizes: Sequence[int] = (),
    proposals: Sequence[int] = (),
    forms: Sequence[str] = ("torch", "onnx"),
    data: Path | None = None,
    image_root: Path | None = None,
    device: str = "cpu",
    threads: int = 0,
    each: Callable[[int, int, str], None] | None = None,
) -> dict[str, Any]:
    """Measure every combination on a COCO file (default: the run's val.json) and write `out`. -> what bench.json holds.

    image_sizes, proposals: () for the run's own and a few below. threads: of the CPU, for every format; 0:
    OMP_NUM_THREADS, else one a core. each(done, total, text) is called before every setting. Raises InputError and
    MissingExtra.
    """
    refuse_foreign(out, "bench", FILES)
    loaded = Loaded.of(run)
    document, root, ids = export.labels_of(run, loaded.found, data, image_root)
    own = _own_speed(loaded)
    image_sizes = image_sizes or sorted({round(own[0] * share) for share in (0.5, 0.75, 1)}, reverse=True)
    proposals = proposals or sorted({max(10, own[1] // 4), own[1]}, reverse=True)
    images = [(image["id"], Path(root, image["file_name"])) for image in document["images"]]
    opening = coco_file.opening(document)
    rows: list[dict[str, Any]] = []
    settings = list(itertools.product(image_sizes, proposals))
    with tempfile.TemporaryDirectory() as folder:
        for number, ((size, count), form) in enumerate(itertools.product(settings, forms)):
            if each:
                each(number, len(settings) * len(forms), f"{form}, {size} px, {count} proposals")
            place = run if form == "torch" else _exported(run, Path(folder), form, size, count, document, root)
            setting = Setting(form, size, count, place)
            seen = bench_process.measure(setting, images, opening, ids, device if form == "torch" else "cpu", threads)
            rows.append(_row(setting, seen, document))
    _mark_pareto(rows)
    result = {
        "checkpoint": {key: loaded.found.meta.get(key) for key in ("epoch", "step", "data_fingerprint")},
        "architecture": loaded.name,
        "images": len(images),
        "own": {"image_size": own[0], "proposals": own[1]},
        "device": device,
        "threads": threads,
        "rows": rows,
    }
    with together(out, "bench") as made:
        write_json(made / "bench.json", result)
        write_csv(made / "bench.csv", list(COLUMNS), [[row[key] for key in COLUMNS] for row in rows])
        write_page(made / "bench.html", result)
    return result


def _own_speed(loaded: Loaded) -> tuple[int, int]:
    if not hasattr(loaded.model, "transform"):
        raise InputError(f"{loaded.name}: cannot be measured at other sizes; needs a network of torchvision's kind")
    return loaded.model.transform.min_size[-1], loaded.model.rpn._post_nms_top_n["testing"]


def _exported(run: Path, folder: Path, form: str, size: int, count: int, document: dict[str, Any], root: Path) -> Path:
    """The ONNX file of a setting; not compared picture by picture: its AP is measured here."""
    loaded = Loaded.of(run, size, count)
    content = onnx_file.to_onnx(loaded.model, loaded.thresholds, loaded.name)
    if form == "int8":
        content = quantized(content, onnx_file.calibration_images(document, root))
    place = folder / f"{form}-{size}-{count}.onnx"
    place.write_bytes(onnx_file.with_metadata(content, onnx_file.metadata(loaded)))
    return place


def _row(setting: Setting, seen: dict[str, Any], document: dict[str, Any]) -> dict[str, Any]:
    labels, detections, _ = read(document, seen["detections"])
    matches = match(read_tables(labels, detections))
    numbers, sure = summary(matches), intervals(matches)
    low, high = sure["AP"] if sure and sure["AP"] else (None, None)
    return {
        **dict(zip(("form", "image_size", "proposals"), setting)),
        "AP": numbers["AP"],
        "AP_low": low,
        "AP_high": high,
        "AP50": numbers["AP50"],
        "seconds": round(seen["seconds"], 5),
        "cpu_seconds": round(seen["cpu_seconds"], 5),
        "memory_mb": round(seen["memory"] / 1e6) if seen["memory"] else None,
        "gpu_memory_mb": round(seen["gpu_memory"] / 1e6) if seen["gpu_memory"] else None,
    }


def _mark_pareto(rows: list[dict[str, Any]]) -> None:
    """`pareto`: no other setting is as fast with a higher AP, or as good and faster."""
    best = -1.0  # a setting without any AP counts as 0
    for row in sorted(rows, key=lambda one: (one["seconds"], -(one["AP"] or 0))):
        row["pareto"] = (row["AP"] or 0) > best
        best = max(best, row["AP"] or 0)


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


def write_page(path: Path, result: dict[str, Any]) -> None:
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    page = environment.get_template("bench.html.j2")
    html = page.render(result=result, figure=speed_figure(result), style=style(), advice=advice(result))
    path.write_bytes(html.encode())
