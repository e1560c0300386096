"""Gain of tiles or several views (TTA) over plain prediction, on the same images."""

from __future__ import annotations

from typing import Any

import numpy as np

from toolkit.data.boxes import corners
from toolkit.data.tiles import Tiles
from toolkit.evaluation.compute_metrics import Settings
from toolkit.metrics.coco_tables import Tables, read_tables
from toolkit.metrics.iou_and_matching import Matches, match, pairs
from toolkit.metrics.paired_bootstrap import compare
from toolkit.prediction.tiles_and_tta import Look


def compare_looks(
    document: dict,
    plain: list,
    looked: list,
    look: Look,
    thresholds: dict[str, float],
    seconds: tuple[float, float],
    settings: Settings,
) -> dict[str, Any]:
    """Paired numbers of the plain detections (A) and those of a look (B), for all objects and by size; the cost.

    thresholds: of the look. seconds: an image, plain and with the look. With tiles, "seams" names what they spoil.
    """
    tables = [read_tables(document, found) for found in (plain, looked)]
    matches = [match(one) for one in tables]
    resamples = settings.resamples or Settings.resamples
    found: dict[str, Any] = {
        "name": look.name,
        "about": look.about,
        **compare(matches[0], matches[1], resamples, settings.seed, by_size=True),
        "seconds_an_image": {"a": seconds[0], "b": seconds[1]},
    }
    if look.tiles:
        found["seams"] = seams(matches[0], matches[1], look.tiles, thresholds)
    return found


def seams(whole: Matches, tiled: Matches, tiles: Tiles, thresholds: dict[str, float]) -> dict[str, Any]:
    """What the seams between tiles spoil, at IoU 0.5 and the score thresholds.

    {"at_seams": {"objects", "found_whole", "found_tiled"}, "elsewhere": the same, "duplicates", "duplicates_at_seams"}:
    an object is at a seam when a tile shows only a part of it, and duplicates are detections of an object that another
    detection has found.
    """
    tables = tiled.tables
    counts = ~tables.gt_is_crowd
    cut = np.array([_is_cut(tables, g, tiles) for g in range(len(tables.gt_class))], dtype=bool)
    found = {name: _found(matches, thresholds) for name, matches in (("whole", whole), ("tiled", tiled))}
    shares = {}
    for name, rows in (("at_seams", cut & counts), ("elsewhere", ~cut & counts)):
        number = int(rows.sum())
        shares[name] = {
            "objects": number,
            **{f"found_{how}": float(one[rows].mean()) if number else None for how, one in found.items()},
        }
    wrong = tiled.det[tables.over(thresholds)[tiled.det] & ~tiled.right[0, 0]]
    place, objects, _ = pairs(tables, wrong, np.arange(len(tables.gt_class)), 0.5, same_class=True)
    again = found["tiled"][objects] & counts[objects]
    duplicates = np.unique(place[again])
    at_seams = np.unique(place[again & cut[objects]])
    return {**shares, "duplicates": len(duplicates), "duplicates_at_seams": len(at_seams)}


def _found(matches: Matches, thresholds: dict[str, float]) -> np.ndarray:
    """[G] bool: objects that a detection over its threshold takes at IoU 0.5."""
    tables = matches.tables
    takes = matches.gt[0][tables.over(thresholds)[matches.det]]
    found = np.zeros(len(tables.gt_class), dtype=bool)
    found[takes[takes >= 0]] = True
    return found


def _is_cut(tables: Tables, row: int, tiles: Tiles) -> bool:
    """Whether some tile shows only a part of an object."""
    box = corners(tables.gt_bbox[row : row + 1])[0]
    width, height = tables.image_size[tables.gt_image[row]]
    return any(
        (min(start + tiles.size, length) < box[axis + 2] and start + tiles.size > box[axis])
        or box[axis] < start < box[axis + 2]
        for axis, length in ((0, int(width)), (1, int(height)))
        for start in tiles.starts(length)
    )
