"""Write and read the files of one evaluation: JSON for programs, CSV for spreadsheets, the data of the report.

annotations.json   the labels evaluated against, with their outlines, pointing at the images
detections.json    COCO's results format
metrics.json       every number
*.csv              the numbers behind each figure
suspects.json      likely label errors (`frcnn loop suspects` makes a folder for labelme of them)
gallery.json       which pictures the report shows, with boxes;  pictures/
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from label_tools.document import coco_file
from label_tools.files.marked_folders import adopt, refuse_foreign, together, written
from label_tools.files.strict_reading import loads
from label_tools.files.write_json_csv import write_csv, write_json
from toolkit.evaluation.compute_metrics import Evaluation
from toolkit.metrics.coco_ap import KEYS, RECALLS
from toolkit.metrics.object_counts_and_sizes import counts, sizes_and_aspects
from toolkit.metrics.threshold_curves import GRID, QUANTITIES, counts_at, precision_recall, sampled
from toolkit.report.write_gallery import write_gallery

IMAGE = ("id", "file_name", "width", "height")
ANNOTATION = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
DETECTION = ("image_id", "category_id", "bbox", "score")
FILES = (
    *(f"{name}.json" for name in ("annotations", "detections", "metrics", "suspects", "gallery")),
    *(f"{name}.csv" for name in ("classes", "precision_recall_50", "precision_recall_75", "precision", "recall", "f1")),
    *(f"{name}.csv" for name in ("thresholds", "calibration", "confusion", "counts", "error_kinds", "objects")),
    *(f"{name}_segm.csv" for name in ("classes", "confusion", "error_kinds")),
)
RANGES = tuple(f"{key}{end}" for key in QUANTITIES for end in ("", "_low", "_high"))
THRESHOLDS = ("class", "threshold", *RANGES)


def check_place(folder: Path, inputs: Iterable[Path] = ()) -> None:
    """Raise InputError, before the work begins, when an evaluation in `folder` would replace what is not its own."""
    refuse_foreign(folder, "evaluation", [*FILES, *written(folder, "evaluation")], inputs)


def adopt_older(run: Path, split: str) -> None:
    """Take the evaluation of a run's split as ours where an older version wrote it, without a marker.

    Suspect files that were saved after it may be corrected labels: they are not among these.
    """
    folder = run / split
    if not ((run / "config.yaml").is_file() and (run / "run.json").is_file() and (folder / "metrics.json").is_file()):
        return
    last = (folder / "metrics.json").stat().st_mtime + 60  # written last; a copy of the run may have taken a while
    made = [*folder.glob("pictures/[0-9][0-9][0-9].jpg"), *folder.glob("suspects/[0-9][0-9][0-9]_*.json")]
    ours = [path.relative_to(folder).as_posix() for path in made if path.stat().st_mtime <= last]
    adopt(folder, "evaluation", [*FILES, "suspects/README.txt", *ours])


def write_evaluation(folder: Path, evaluation: Evaluation, image_root: Path, inputs: Iterable[Path] = ()) -> None:
    """Write every file of an evaluation into `folder`, where they appear together in place of an older one's.

    Raises InputError when something there is in the way that an evaluation did not write, or is one of `inputs`.
    """
    with together(folder, "evaluation", inputs=inputs) as made:
        mask = ("segmentation",) if "segm" in evaluation.metrics else ()
        _write_annotations(made, folder, evaluation.document, image_root)
        detections = [_only((*DETECTION, *mask), d) for d in evaluation.detections]
        write_json(made / "detections.json", detections, lines=True)
        write_tables(made, evaluation)
        write_json(made / "suspects.json", [_suspect(s) for s in evaluation.suspects], lines=True)
        write_gallery(made, folder, evaluation, image_root)
        write_json(made / "metrics.json", evaluation.metrics)


def metrics_of(folder: Path) -> dict:
    return loads((folder / "metrics.json").read_bytes(), str(folder / "metrics.json"))


def add_to_metrics(folder: Path, key: str, value: dict) -> dict:
    """Add an entry to the metrics.json of an evaluation. -> its metrics."""
    metrics = {**metrics_of(folder), key: value}
    with together(folder, "evaluation", keep=True) as made:
        write_json(made / "metrics.json", metrics)
    return metrics


def _write_annotations(made: Path, folder: Path, document: dict, image_root: Path) -> None:
    slim = {
        "info": {
            **coco_file.opening(document),
            "image_root": coco_file.relative(image_root.resolve(), folder.resolve()),
        },
        "images": [_only(IMAGE, image) for image in document["images"]],
        "annotations": [_only(ANNOTATION, annotation) for annotation in document["annotations"]],
        "categories": [_only(("id", "name"), category) for category in document["categories"]],
    }
    coco_file.write(slim, made / "annotations.json")


def _only(keys: tuple[str, ...], entry: dict) -> dict:
    """The keys of an entry that an evaluation rests on; a number that is not finite counts as missing."""
    odd = (float("inf"), -float("inf"))
    return {k: entry[k] for k in keys if k in entry and entry[k] == entry[k] and entry[k] not in odd}


def write_tables(folder: Path, evaluation: Evaluation) -> None:
    """The numbers behind the figures as CSV."""
    metrics, matches, names = evaluation.metrics, evaluation.matches, evaluation.tables.class_names
    _write_numbers(folder, metrics, "")
    if "segm" in metrics:
        _write_numbers(folder, metrics["segm"], "_segm")

    for iou in (0.5, 0.75):
        lines = {name: precision_recall(matches, k, iou) for k, name in enumerate(names)}
        _write_columns(
            folder / f"precision_recall_{round(100 * iou)}.csv",
            "recall",
            RECALLS,
            {name: line for name, line in lines.items() if line is not None},
        )
    columns = {curve.name: sampled(curve, GRID) for curve in evaluation.curves}
    for key in ("precision", "recall", "f1"):
        _write_columns(
            folder / f"{key}.csv",
            "score_threshold",
            GRID,
            {n: line[key] for n, line in columns.items()},
        )

    write_csv(folder / "thresholds.csv", THRESHOLDS, _threshold_rows(evaluation))

    if metrics["calibration"]:
        bins = metrics["calibration"]["bins"]
        write_csv(folder / "calibration.csv", list(bins[0]), [b.values() for b in bins])
    size, aspect, class_ = sizes_and_aspects(evaluation.tables)
    labelled, counted = counts(evaluation.tables, evaluation.thresholds)
    shown = [
        [evaluation.tables.file_names[i], name, int(labelled[i, k]), int(counted[i, k])]
        for i in range(len(labelled))
        for k, name in enumerate(names)
    ]
    write_csv(folder / "counts.csv", ["picture", "class", "labelled", "counted"], shown)
    rows = [[names[k], float(s), float(a)] for s, a, k in zip(size, aspect, class_)]
    write_csv(folder / "objects.csv", ["class", "size", "aspect_ratio"], rows)


def _threshold_rows(evaluation: Evaluation) -> Iterator[list]:
    """Precision, recall, F1 and the counting error of each class at each threshold, with intervals."""
    for name, of_class in counts_at(evaluation.matches, evaluation.metrics["settings"]["iou"], GRID):
        columns = of_class.numbers().values()
        for t, threshold in enumerate(GRID):
            yield [name, float(threshold), *(v for column in columns for v in column[t] or (None,) * 3)]


def _write_numbers(folder: Path, metrics: dict, ending: str) -> None:
    """classes, confusion and error_kinds by boxes, or by masks with the ending _segm."""
    rows = [["all classes", metrics["num_objects"], *(metrics[key] for key in KEYS)]]
    rows += [[name, one["num_objects"], *(one[key] for key in KEYS)] for name, one in metrics["per_class"].items()]
    write_csv(folder / f"classes{ending}.csv", ["class", "num_objects", *KEYS], rows)
    table = metrics["confusion"]
    rows = [[name, *row] for name, row in zip(table["classes"], table["counts"])]
    write_csv(folder / f"confusion{ending}.csv", ["true class", *table["classes"]], rows)
    rows = [[kind, *values.values()] for kind, values in metrics["error_kinds"]["kinds"].items()]
    write_csv(folder / f"error_kinds{ending}.csv", ["kind", "gain", "num", "num_over_threshold"], rows)


def _write_columns(path: Path, x: str, grid: np.ndarray, columns: dict[str, np.ndarray]) -> None:
    """A table with the grid in the first column and a column for each class."""
    rows = zip(grid.tolist(), *(column.tolist() for column in columns.values()))
    write_csv(path, [x, *columns], rows)


def _suspect(suspect) -> dict:
    return {**dataclasses.asdict(suspect), "text": suspect.text}
