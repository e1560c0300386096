"""Which pictures a report shows, and the pictures themselves: small JPEGs; boxes are kept as numbers.

Only pictures that a gallery needs are opened. Crops of one place are cut from the full picture, so that a small
object is still seen. When an image cannot be opened the report says so instead of showing it.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.text.atomic import atomic_write
from label_tools.text.errors import InputError
from label_tools.text.json_csv import write_json
from toolkit.data.boxes import corners
from toolkit.metrics.curves import iou_index
from toolkit.metrics.overlap import iou_of

WHOLE_SIDE, CROP_SIDE = 420, 240  # pixels of the longer side as shown
MANY_WHOLE, MANY_CROPS = 6, 12
QUALITY = 80
MARGIN = 0.6  # a crop shows this much more than the object, on each side, as a share of its size
PICTURE_BUDGET = 3_300_000  # bytes of JPEG in all: a report stays under 5 MB once they are base64


@dataclass
class _Item:
    image: int  # row of tables.image_ids
    title: str
    boxes: list[dict]
    crop: tuple[float, float, float, float] | None = None  # x, y, w, h in pixels of the image
    extra: dict = field(default_factory=dict)


def write_gallery(folder: Path, evaluation, image_root: Path) -> None:
    """Write gallery.json and pictures/ into an evaluation's folder."""
    galleries = choose(evaluation)
    wanted = dict.fromkeys((item.image, item.crop) for items in galleries.values() for item in items)
    opening = coco_file.opening(evaluation.document)
    pictures, lost = _pictures(list(wanted), evaluation.tables.file_names, image_root, opening)
    spent = 0
    made: dict[tuple, dict] = {}
    for key in wanted:  # the first galleries have the first claim on the budget
        if key in pictures and spent < PICTURE_BUDGET:
            content, view, size = pictures[key]
            spent += len(content)
            made[key] = {"file": f"{len(made):03d}.jpg", "view": view, "size": size}
            with atomic_write(folder / "pictures" / made[key]["file"]) as file:
                file.write(content)
    shown = {
        name: [
            {
                **made[item.image, item.crop],
                "file_name": evaluation.tables.file_names[item.image],
                "title": item.title,
                "boxes": item.boxes,
                **item.extra,
            }
            for item in items
            if (item.image, item.crop) in made
        ]
        for name, items in galleries.items()
    }
    note = f"{len(lost)} images could not be opened; the first: {lost[0]}" if lost else ""
    write_json(folder / "gallery.json", {"galleries": shown, "note": note})


def _pictures(
    wanted: list[tuple], file_names: list[str], image_root: Path, opening: Mapping[str, Any]
) -> tuple[dict, list[str]]:
    """{(image, crop): (JPEG, view, size)} of what can be opened, each image once, and why others cannot."""
    from label_tools.pictures.image_paths import refuse_links_out
    from label_tools.pictures.images import open_image

    pictures, lost = {}, []
    for row in sorted({image for image, _ in wanted}):
        try:
            refuse_links_out(image_root, [file_names[row]], "labels")
            image = open_image(image_root / file_names[row], **opening)
        except (InputError, OSError, ValueError) as error:
            lost.append(str(error).replace(f"{image_root}/", ""))  # no path of this machine in a report
            continue
        for key in wanted:
            if key[0] == row:
                pictures[key] = _picture(image, key[1])
    return pictures, lost


def _picture(image, crop: tuple | None) -> tuple[bytes, list[float], list[int]]:
    """JPEG, the part of the image that it shows [x, y, w, h], its size [w, h]."""
    view = (0, 0, image.width, image.height)
    if crop:
        x, y, w, h = crop
        # a crop that hangs over an edge moves inwards, so that crops stay square
        width, height = min(int(np.ceil(w)), image.width), min(int(np.ceil(h)), image.height)
        left = min(max(0, int(x)), image.width - width)
        top = min(max(0, int(y)), image.height - height)
        view = (left, top, width, height)
        image = image.crop((left, top, left + width, top + height))
    scale = min((CROP_SIDE if crop else WHOLE_SIDE) / max(image.size), 4.0 if crop else 1.0)
    if scale != 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue(), [float(v) for v in view], list(image.size)


def choose(evaluation) -> dict[str, list[_Item]]:
    """{"best", "worst", "missed", "false", "suspects"}: which images and places, best or worst first."""
    tables, matches = evaluation.tables, evaluation.matches
    t = iou_index(matches, evaluation.metrics["settings"]["iou"])
    threshold = np.array([evaluation.thresholds[name] for name in tables.class_names])
    kept = tables.det_score[matches.det] >= threshold[tables.det_class[matches.det]]
    right, ignored = matches.right[0, t], matches.ignored[0, t]
    wrong = kept & ~right & ~ignored
    found = np.zeros(len(tables.gt_class), bool)
    found[matches.gt[t][kept & right]] = True
    missed = ~found & ~matches.gt_ignored[0]
    images = len(tables.image_ids)
    image_of = tables.det_image[matches.det]
    num_right = np.bincount(image_of[kept & right], minlength=images)
    num_wrong = np.bincount(image_of[wrong], minlength=images)
    num_missed = np.bincount(tables.gt_image[missed], minlength=images)
    total = 2 * num_right + num_wrong + num_missed
    f1 = np.where(total > 0, 2 * num_right / np.maximum(total, 1), 1.0)

    view = _View(evaluation, kept, right, ignored, found)
    order = np.lexsort((np.arange(images), -num_right, -f1))
    best = [i for i in order if num_right[i]][:MANY_WHOLE]
    order = np.lexsort((np.arange(images), -(num_wrong + num_missed), f1))
    worst = [i for i in order if num_wrong[i] + num_missed[i]][:MANY_WHOLE]

    def whole(i: int) -> _Item:
        title = f"{num_right[i]} right, {num_wrong[i]} false, {num_missed[i]} missed"
        return _Item(int(i), title, view.boxes(int(i)))

    size = tables.gt_bbox[:, 2] * tables.gt_bbox[:, 3]
    rows = np.flatnonzero(missed)
    lost = _spread(rows[np.argsort(-size[rows], kind="stable")], tables.gt_image)
    rows = np.flatnonzero(wrong)
    false = _spread(rows[np.argsort(-tables.det_score[matches.det[rows]], kind="stable")], image_of)
    return {
        "best": [whole(i) for i in best],
        "worst": [whole(i) for i in worst],
        "missed": [view.missed(int(g)) for g in lost],
        "false": [view.false(int(d)) for d in false],
        "suspects": [view.suspect(s) for s in evaluation.suspects[: 2 * MANY_CROPS]],
    }


def _spread(rows: np.ndarray, image_of: np.ndarray, most: int = 2) -> list[int]:
    """The first MANY_CROPS rows, at most `most` of an image while other images have some."""
    taken: dict[int, int] = {}
    first: list[int] = []
    later: list[int] = []
    for row in rows.tolist():
        image = int(image_of[row])
        taken[image] = taken.get(image, 0) + 1
        (first if taken[image] <= most else later).append(row)
    return [*first, *later][:MANY_CROPS]


class _View:
    """Boxes of an image as the report draws them: {"kind": true|right|false|missed, "bbox", "text"}."""

    def __init__(self, evaluation, kept, right, ignored, found) -> None:
        self.tables, self.matches = evaluation.tables, evaluation.matches
        self.kept, self.right, self.ignored, self.found = kept, right, ignored, found
        self.row_of_id = {image_id: row for row, image_id in enumerate(self.tables.image_ids)}

    def boxes(self, image: int) -> list[dict]:
        tables, boxes = self.tables, []
        for g in np.flatnonzero(tables.gt_image == image):
            crowd, found = tables.gt_is_crowd[g], self.found[g]
            kind = "crowd" if crowd else "true" if found else "missed"
            name = tables.class_names[tables.gt_class[g]]
            boxes.append(_box(kind, tables.gt_bbox[g], name if kind == "missed" else "", f"label: {name}"))
        chosen = self.kept & ~self.ignored
        here = np.flatnonzero(chosen & (tables.det_image[self.matches.det] == image))
        best_first = here[np.argsort(-tables.det_score[self.matches.det[here]], kind="stable")]
        return boxes + [self._detection(d) for d in best_first]

    def _detection(self, d: int) -> dict:
        tables, row = self.tables, self.matches.det[d]
        text = f"{tables.class_names[tables.det_class[row]]} {tables.det_score[row]:.2f}"
        return _box("right" if self.right[d] else "false", tables.det_bbox[row], text, f"detection: {text}")

    def missed(self, g: int) -> _Item:
        tables, image = self.tables, int(self.tables.gt_image[g])
        title, bbox = tables.class_names[tables.gt_class[g]], tables.gt_bbox[g]
        return _Item(image, title, _near(self.boxes(image), bbox), _around(bbox))

    def false(self, d: int) -> _Item:
        tables, row = self.tables, self.matches.det[d]
        title = f"{tables.class_names[tables.det_class[row]]} {tables.det_score[row]:.2f}"
        image, bbox = int(tables.det_image[row]), tables.det_bbox[row]
        boxes = [self._detection(d), *_near(self.boxes(image), bbox)]
        return _Item(image, title, [b for i, b in enumerate(boxes) if b not in boxes[:i]], _around(bbox))

    def suspect(self, suspect) -> _Item:
        boxes = []
        if suspect.label_bbox:
            boxes.append(_box("true", suspect.label_bbox, "", f"label: {suspect.label_class}"))
        if suspect.bbox:
            text = f"{suspect.class_name} {suspect.score:.2f}"
            boxes.append(_box("false", suspect.bbox, "", f"detection: {text}"))
        both = corners([box for box in (suspect.bbox, suspect.label_bbox) if box])
        low, high = both[:, :2].min(0), both[:, 2:].max(0)
        crop = _around([*low, *(high - low)])
        extra = {"kind": suspect.kind, "suspicion": suspect.suspicion}
        return _Item(self.row_of_id[suspect.image_id], suspect.text, boxes, crop, extra)


def _box(kind: str, bbox, text: str, hint: str) -> dict:
    return {"kind": kind, "bbox": [round(float(v), 2) for v in bbox], "text": text, "hint": hint}


def _near(boxes: list[dict], bbox, most: int = 4) -> list[dict]:
    """All labels, and of the detections the few that overlap `bbox`: a crop is about one place."""
    target = np.asarray(bbox, float)[None]
    overlap = [iou_of(np.array([box["bbox"]]), target)[0] for box in boxes]
    detections = [i for i, box in enumerate(boxes) if box["kind"] in ("right", "false")]
    best = sorted((i for i in detections if overlap[i] > 0.1), key=lambda i: -overlap[i])[:most]
    return [box for i, box in enumerate(boxes) if i not in detections or i in best]


def _around(bbox) -> tuple[float, float, float, float]:
    """A square around a box with MARGIN on each side, at least 48 pixels wide."""
    x, y, w, h = (float(v) for v in bbox)
    side = max(max(w, h) * (1 + 2 * MARGIN), 48.0)
    return (round(x + w / 2 - side / 2, 2), round(y + h / 2 - side / 2, 2), round(side, 2), round(side, 2))
