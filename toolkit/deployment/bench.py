"""Speed against AP on the user's own images: image size x proposals x format."""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from label_tools.document import coco_file
from label_tools.files.json_csv import write_csv, write_json
from label_tools.files.marked_folders import refuse_foreign, together
from label_tools.text.errors import InputError
from toolkit.deployment import bench_page, bench_process, export, onnx_graph
from toolkit.deployment.bench_process import Setting
from toolkit.deployment.load_network import Loaded
from toolkit.deployment.quantize import quantized
from toolkit.evaluation.compute_metrics import read
from toolkit.metrics.coco import summary
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import intervals
from toolkit.metrics.matching import match

FILES = ("bench.json", "bench.csv", "bench.html")
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
        bench_page.write(made / "bench.html", result)
    return result


def _own_speed(loaded: Loaded) -> tuple[int, int]:
    if not hasattr(loaded.model, "transform"):
        raise InputError(f"{loaded.name}: cannot be measured at other sizes; needs a network of torchvision's kind")
    return loaded.model.transform.min_size[-1], loaded.model.rpn._post_nms_top_n["testing"]


def _exported(run: Path, folder: Path, form: str, size: int, count: int, document: dict[str, Any], root: Path) -> Path:
    """The ONNX file of a setting; not compared picture by picture: its AP is measured here."""
    loaded = Loaded.of(run, size, count)
    content = onnx_graph.to_onnx(loaded.model, loaded.thresholds, loaded.name)
    if form == "int8":
        content = quantized(content, export.calibration_images(document, root))
    place = folder / f"{form}-{size}-{count}.onnx"
    place.write_bytes(export.with_metadata(content, export.metadata(loaded)))
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
