"""Compare by a paired bootstrap over the same images: two runs, each of one seed or several, or tiles and several views
(TTA) with plain prediction."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from toolkit.data.boxes import corners
from toolkit.data.tiles import Tiles
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings
from toolkit.evaluation.evaluation_folder import add_to_metrics, metrics_of
from toolkit.evaluation.read_detections import detections_of, read_evaluation, same_images
from toolkit.metrics.coco_tables import Tables, read_tables, tables_by_masks, with_runs
from toolkit.metrics.iou_and_matching import Matches, match, pairs
from toolkit.metrics.paired_bootstrap import compare
from toolkit.prediction.tiles_and_tta import Look
from toolkit.training import run_folder


def compare_with(folder: Path, others: Path | Sequence[Path], settings: Settings = DEFAULTS, **how: Any) -> dict:
    """Add the `difference` of the evaluation in `folder` and `others` to its metrics.json as "compare". -> metrics.
    how: seeds, device and batch_size, as of `difference`."""
    return add_to_metrics(Path(folder), "compare", difference(folder, others, settings, **how))


def difference(
    folder: Path,
    others: Path | Sequence[Path],
    settings: Settings = DEFAULTS,
    *,
    seeds: Sequence[Path] = (),
    device: str = "auto",
    batch_size: int = 4,
) -> dict:
    """Compare the evaluation in `folder` (A) with `others` (B), and write nothing. -> what `compare` finds, named.

    others: a COCO results file of the same images; or a run, or the --out folder of an evaluation; several are one
    recipe trained with several seeds. seeds: further runs of A's recipe. What they have detected on the same images
    before is used again; else their best checkpoints detect on A's images.
    """
    folder = Path(folder)
    others = [Path(others)] if isinstance(others, (str, Path)) else [Path(one) for one in others]
    document, ours, root = read_evaluation(folder)

    def of(place: Path) -> tuple[Matches, Matches | None]:
        found = detections_of(place, document, root, folder.name, device=device, batch_size=batch_size)
        return _matched(document, found, place)

    side_a = [_matched(document, ours, folder / "detections.json"), *map(of, seeds)]
    side_b = [*map(of, others)]
    split = metrics_of(folder).get("split", "")
    resamples = settings.resamples or Settings.resamples
    boxes_a, boxes_b = ([boxes for boxes, _ in side] for side in (side_a, side_b))
    found = compare(boxes_a, boxes_b, resamples, settings.seed)
    masks_a, masks_b = ([masks for _, masks in side if masks] for side in (side_a, side_b))
    if masks_a:
        found["segm"] = None  # B has no masks
        if len(masks_a) == len(boxes_a) and len(masks_b) == len(boxes_b):
            found["segm"] = compare(masks_a, masks_b, resamples, settings.seed)
    name_a, name_b = folder.parent.name if split else folder.name, ", ".join(one.name or str(one) for one in others)
    runs = [one for one in (*others, *seeds) if run_folder.is_run(one)]
    running = [one for one in runs if run_folder.read_run(one).get("status") == "running"]
    notes = [f"{one} is still training, or was cut off" for one in running]
    return {**found, "a": name_a, "name": name_b, "notes": notes, "split": split}


def different_images(folder: Path, other: Path) -> str:
    """Why two evaluations cannot be compared: other images, classes or labels; "" where they can."""
    documents = [coco_file.read_raw(one / "annotations.json") for one in (folder, other)]
    if same_images(*documents) is None:
        return "evaluated on different images or classes"
    return "" if _labels(documents[0]) == _labels(documents[1]) else "evaluated with different labels of these images"


def _labels(document: dict) -> Counter:
    """Size of each image, and place, class and shape of each label, by names."""
    images = {i["id"]: i["file_name"] for i in document["images"]}
    classes = {c["id"]: c["name"] for c in document["categories"]}
    sizes = Counter((i["file_name"], i.get("width"), i.get("height")) for i in document["images"])
    numbers = {"id", "image_id", "category_id"}  # may differ between two files of the same labels
    return sizes + Counter(
        (images[a["image_id"]], classes[a["category_id"]], str(sorted((k, a[k]) for k in a.keys() - numbers)))
        for a in document["annotations"]
    )


def _matched(document: dict, detections: list, where: Path) -> tuple[Matches, Matches | None]:
    """Matches by boxes, and by masks where there are some."""
    detections = with_runs(document, detections, str(where))[0]
    tables = read_tables(document, detections, str(where))
    masks = tables_by_masks(tables, document, detections)[0]
    return match(tables), match(masks) if masks else None


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
