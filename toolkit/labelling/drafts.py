"""Write drafts: detections as LabelMe files to correct by hand, over the thresholds that leave the fewest corrections.

Every file carries the image flag `reviewed: false`, each shape its `score`, in its description too, which labelme
shows. A person's files are never overwritten: an image that has a LabelMe file already is left out.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.files.write_json_csv import write_json
from label_tools.formats import labelme
from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.labelling.count_corrections import COSTS
from toolkit.metrics.coco_tables import Tables, read_tables
from toolkit.metrics.iou_and_matching import pairs
from toolkit.prediction.detect_in_batches import Seen, detect_pictures
from toolkit.prediction.detector import Detector, Found, over, thresholds_of
from toolkit.prediction.mask_outlines import Outlines
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.picture_sources import Picture, find_images

FOUND, TIGHT = 0.5, 0.75  # IoU from which a draft is the object's, and from which nobody moves it
SCORE = "score "  # begins a draft's description


def prelabel(
    run: Path,
    sources: list[Path],
    out: Path,
    *,
    score: float | None = None,
    device: str = "auto",
    outlines: Outlines | None = None,
) -> Iterator[tuple[Path, int | None, float, str]]:
    """Write out/NAME.json for every unlabelled picture; yields (picture, objects, lowest score kept, why left out);
    objects None: it cannot be read.

    NAME keeps the picture's folder below its source. Shapes are rectangles, or outlines of a detector with masks,
    from `score` on, by default over `draft_thresholds`. Refuses pictures whose drafts would have one name.
    """
    todo: dict[Path, tuple[Path, Path]] = {}  # draft -> picture, its name
    done: list[tuple[Path, Path]] = []
    for path, name in find_images(sources):
        target = out / name.with_suffix(".json")
        if labelled := [p for p in (path.with_suffix(".json"), target) if p.exists()]:
            done.append((path, labelled[0]))
        elif todo.setdefault(target, (path, name))[0] != path:
            raise InputError(f"{todo[target][0]} and {path}: would both become {target}; rename one of them")
    for path, label_file in done:
        yield path, 0, 0.0, f"has {label_file}"
    if not todo:
        return
    detector = open_detector(run, device)
    thresholds = thresholds_of(detector, score) if score is not None else draft_thresholds(run, detector)
    seen = detect_pictures(detector, (Picture(name.as_posix(), path) for path, name in todo.values()))
    for (target, (path, _)), one in zip(todo.items(), seen, strict=True):
        if one.pixels is None:
            yield path, None, 0.0, one.error
            continue
        if target.exists():  # a person labelled it while the detector was at work
            yield path, 0, 0.0, f"has {target}"
            continue
        image_path = coco_file.relative(path.resolve(), target.parent.resolve())
        found = over(one.found, thresholds)
        write_json(target, draft_of(one, found, detector, image_path, outlines))
        yield path, len(found), min((d["score"] for d in found), default=1.0), ""


def draft_of(
    seen: Seen, found: Found, detector: Detector | None, image_path: str, outlines: Outlines | None = None
) -> dict[str, Any]:
    """The LabelMe content of what was found in a picture: not reviewed, scores in the descriptions.

    outlines: how masks are drawn; by default as polygons.
    """
    assert seen.pixels is not None
    height, width = seen.pixels.shape[:2]
    names = {c["id"]: c["name"] for c in detector.categories} if detector else {}
    image = {"width": width, "height": height}
    found = (outlines or Outlines()).of(found)
    content = labelme.file_content(image, found, names, image_path, {"reviewed": False})
    for shape in content["shapes"]:
        shape["description"] = f"{SCORE}{shape['score']:.2f}"
    return content


def draft_thresholds(run: Path, detector: Detector, costs: Mapping[str, float] = COSTS) -> dict[int, float]:
    """{category id: score from which to draft}: the fewest expected corrections on the run's val; where it has no
    evaluation of val, the thresholds of `predict`."""
    folder = checkpoint.find(run).parent / "val"
    try:
        document = json.loads((folder / "annotations.json").read_bytes())
        detections = json.loads((folder / "detections.json").read_bytes())
        chosen = fewest_corrections(read_tables(document, detections), costs)
    except (OSError, ValueError, LookupError, TypeError, InputError):
        chosen = {}
    plain = thresholds_of(detector)
    return {c["id"]: chosen.get(c["name"], plain[c["id"]]) for c in detector.categories}


def fewest_corrections(tables: Tables, costs: Mapping[str, float] = COSTS) -> dict[str, float]:
    """{class: score threshold} with the lowest cost of making the labels from the drafts, of classes with objects.

    A draft over the threshold costs nothing when its IoU with an object of its class is TIGHT or more, "move" from
    0.5 on, else "delete"; an object without a draft costs "add". Over 1 where drafting nothing is cheapest.
    """
    d, g, iou = pairs(
        tables, np.arange(len(tables.det_score)), np.flatnonzero(~tables.gt_is_crowd), FOUND, same_class=True
    )
    best = np.zeros(len(tables.det_score))  # IoU with the object that a detection gets, by score like COCO
    taken: set[int] = set()
    for p in np.lexsort((-iou, -tables.det_score[d])):
        if best[d[p]] == 0 and int(g[p]) not in taken:
            best[d[p]] = iou[p]
            taken.add(int(g[p]))
    price = np.where(best >= TIGHT, -costs["add"], np.where(best > 0, costs["move"] - costs["add"], costs["delete"]))
    chosen = {}
    for k, name in enumerate(tables.class_names):
        if not (~tables.gt_is_crowd & (tables.gt_class == k)).any():
            continue
        rows = np.flatnonzero(tables.det_class == k)
        rows = rows[np.argsort(-tables.det_score[rows], kind="stable")]
        scores = tables.det_score[rows]
        cost = np.concatenate([[0.0], np.cumsum(price[rows])])
        ends = np.flatnonzero(np.concatenate([[True], scores[:-1] > scores[1:], [True]])) if len(rows) else [0]
        most = max(int(m) for m in ends if cost[m] == cost[ends].min())  # equal cost: the drafts that a person sees
        if most == 0:
            chosen[name] = 1.01
        else:
            chosen[name] = float((scores[most - 1] + scores[most]) / 2) if most < len(rows) else float(scores[-1])
    return chosen
