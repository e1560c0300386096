"""Evaluate by groups of images: by folder, flag of LabelMe, camera, size, hour, or a table of the user.

Each group has its AP with an interval, and is tested against all other images. The group and the rest are different
images, so both are drawn anew, each among its own. Their difference is taken over the classes that both have. p is
corrected for the number of groups (Holm).
"""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

import numpy as np

from label_tools.pictures.open_image import camera_and_hour
from label_tools.text.errors import InputError
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings
from toolkit.evaluation.evaluation_folder import add_to_metrics
from toolkit.evaluation.read_detections import read_evaluation
from toolkit.metrics.coco_tables import read_tables
from toolkit.metrics.intervals import LEVEL, draw_weights, half_samples, intervals_of, means, resampled_ap
from toolkit.metrics.iou_and_matching import Matches, match
from toolkit.metrics.paired_bootstrap import holm, interval_and_p

UNKNOWN = "unknown"
BY = ("folder", "flag", "camera", "size", "hour")
FEWEST = 5  # images of a slice and of the rest: draws from fewer repeat them, and any difference looks certain


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


def slices(matches: Matches, group: Sequence[str], resamples: int = 1000, seed: int = 0) -> dict[str, dict]:
    """group [I]: the slice of each image. -> {slice: {"num_images", "num_objects", "AP", "interval", "difference",
    "difference_interval", "p", "p_holm", "verdict"}}, largest first; None where there are too few images or objects.

    difference: AP of the slice less AP of all other images.
    """
    images = np.array(group)
    names = sorted(set(group), key=lambda name: (-int((images == name).sum()), name))
    found = {name: _slice(matches, images == name, resamples, seed) for name in names}
    tested = [one for one in found.values() if one["p"] is not None]
    for one, p in zip(tested, holm([one["p"] for one in tested])):
        one["p_holm"] = p
        worse = "worse than the rest" if one["difference"] < 0 else "better than the rest"
        one["verdict"] = worse if p < 1 - LEVEL else "no difference shown"
    return found


def _slice(matches: Matches, inside: np.ndarray, resamples: int, seed: int) -> dict:
    gt_image = matches.tables.gt_image[~matches.gt_ignored[0]]
    numbers: dict = {"num_images": int(inside.sum()), "num_objects": int(inside[gt_image].sum())}
    numbers |= dict.fromkeys(("AP", "interval", "difference", "difference_interval", "p", "p_holm"))
    numbers["verdict"] = "too few to tell"
    if not numbers["num_objects"]:
        return numbers
    here, rest = (resampled_ap(matches, one[None].astype(np.int64)) for one in (inside, ~inside))
    thresholds = matches.iou_thresholds
    numbers["AP"] = float(means(here, thresholds, None)[0])
    if inside.sum() < FEWEST or not resamples:
        return numbers
    halves = resampled_ap(matches, _within(inside, half_samples(int(inside.sum()), resamples, seed)))
    ends = intervals_of(halves, here, thresholds, numbers["num_objects"], numbers["num_images"])
    numbers["interval"] = ends["AP"]
    both = ~(np.isnan(here).all((0, 1)) | np.isnan(rest).all((0, 1)))
    if (~inside).sum() < FEWEST or not both.any():
        return numbers
    draws = [
        means(
            resampled_ap(matches, _within(one, draw_weights(int(one.sum()), resamples, seed + k)))[..., both],
            thresholds,
        )
        for k, one in enumerate((inside, ~inside))
    ]
    difference = draws[0] - draws[1]
    difference = difference[~np.isnan(difference)]
    value = means(here[..., both], thresholds)[0] - means(rest[..., both], thresholds)[0]
    interval, p = interval_and_p(difference)
    return {**numbers, "difference": float(value), "difference_interval": interval, "p": p}


def _within(inside: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Weights of the images inside as weights of all, 0 outside."""
    whole = np.zeros((len(weights), len(inside)), np.int64)
    whole[:, inside] = weights
    return whole
