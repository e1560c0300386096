"""Evaluate by groups of images: by folder, flag of LabelMe, camera, size, hour, or a table of the user."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path, PurePosixPath

from label_tools.pictures.open_image import camera_and_hour
from label_tools.text.errors import InputError
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings
from toolkit.evaluation.evaluation_folder import add_to_metrics
from toolkit.evaluation.read_detections import read_evaluation
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.iou_and_matching import match
from toolkit.metrics.slices import slices

UNKNOWN = "unknown"
BY = ("folder", "flag", "camera", "size", "hour")


def slice_by(folder: Path, by: str, settings: Settings = DEFAULTS) -> dict:
    """Add "slices" to the metrics.json of the evaluation in `folder`. -> its metrics.

    by: one of BY, or a CSV file whose first column is the file name and whose second the group.
    """
    document, detections, root = read_evaluation(folder)
    of = _group_of(by, root)
    tables = read_tables(document, detections)
    sizes = {image["file_name"]: (image["width"], image["height"]) for image in document["images"]}
    groups = [of(name, *sizes[name]) for name in tables.file_names]
    if len(set(groups)) < 2:
        raise InputError(f"--by {by}: all {len(groups)} images are of one group, {groups[0]}; needs two or more")
    found = slices(match(tables), groups, settings.resamples, settings.seed)
    of_groups = [{"name": name, **one} for name, one in found.items()]
    return add_to_metrics(folder, "slices", {"by": Path(by).name, "groups": of_groups})


def _group_of(by: str, root: Path) -> Callable[[str, int, int], str]:
    """(file name, width, height) -> group."""
    if by == "folder":
        return lambda name, *_: PurePosixPath(name).parent.as_posix()
    if by == "size":
        return lambda _, width, height: f"{width} x {height}"
    if by in ("camera", "hour"):
        return lambda name, *_: camera_and_hour(root / name)[("camera", "hour").index(by)] or UNKNOWN
    if by == "flag":
        return lambda name, *_: _flags(root / name)
    if not Path(by).is_file():
        raise InputError(f"--by {by}: needs {', '.join(BY)} or a CSV file of file names and groups")
    table = _table(Path(by))

    def of(name: str, *_: int) -> str:
        return table.get(name, table.get(PurePosixPath(name).name, UNKNOWN))

    return of


def _table(path: Path) -> dict[str, str]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, csv.Error, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as CSV: {error}") from None
    for number, row in enumerate(rows, 1):
        if len(row) < 2:
            raise InputError(f"{path}, line {number}: found one column, needs a file name and a group")
    return {row[0]: row[1] for row in rows}


def _flags(image: Path) -> str:
    """The flags of an image that are set, by the LabelMe file beside it."""
    try:
        flags = json.loads(image.with_suffix(".json").read_bytes())["flags"]
        return ", ".join(sorted(name for name, is_set in flags.items() if is_set)) or "no flag"
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return UNKNOWN
