"""Choose and write the report's gallery: small JPEGs, with labels and detections kept as numbers.

gallery.json has "images", whole pictures, those with the most errors first, and "crops", places cut from the full
picture so that a small object is still seen. When an image cannot be opened the report says so instead.
"""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.files.write_json_csv import write_json
from label_tools.pictures.find_image import refuse_links_out
from label_tools.pictures.open_image import open_image
from label_tools.pictures.palette import class_colour
from label_tools.shapes import outline, rle
from label_tools.text.errors import InputError
from toolkit.data.boxes import corners
from toolkit.metrics.iou_and_matching import iou_table

WHOLE_SIDES, CROP_SIDE = (640, 520, 420, 340, 280), 240  # pixels of the longer side, as shown
MOST_WHOLE, MOST_CROPS, MOST_SUSPECTS = 200, 12, 24
MOST_DETECTIONS = 60  # of a picture: those with the highest scores
LOWEST_SCORE = 0.1  # detections under it, and under their class's threshold, are not drawn
QUALITY = 78
MARGIN = 0.6  # a crop shows this much more than the object, on each side, as a share of its size
WHOLE_BUDGET, CROP_BUDGET = 2_500_000, 600_000  # bytes of JPEG, which are 4/3 as many in the page
PAGE_BUDGET, BOX_BUDGET = 4_100_000, 1_500_000  # bytes of pictures and boxes in the page: a report stays under 5 MB
BOX_BYTES, NUMBER_BYTES = 130, 7
SAMPLE = 6  # pictures that tell how large all of them may be


@dataclass
class _Item:
    image: int  # row of tables.image_ids
    title: str
    boxes: list[dict]
    crop: tuple[float, float, float, float] | None = None  # x, y, w, h in pixels of the image
    extra: dict = field(default_factory=dict)


def write_gallery(folder: Path, target: Path, evaluation, image_root: Path) -> None:
    """Write gallery.json and pictures/ into `folder`; links to the images themselves start from `target`."""
    view = _View(evaluation)
    whole, crops = view.images()[:MOST_WHOLE], view.crops()
    sizes = np.cumsum([sum(map(_bytes, item.boxes)) for item in whole])
    whole = whole[: max(1, int(np.searchsorted(sizes, BOX_BUDGET)))]
    drawn = int(sizes[len(whole) - 1]) if whole else 0
    budget = min(WHOLE_BUDGET, (PAGE_BUDGET - drawn) * 3 // 4 - CROP_BUDGET)
    everything = [*whole, *(item for items in crops.values() for item in items)]
    store = _Store(folder, evaluation.tables.file_names, image_root, coco_file.opening(evaluation.document), budget)
    store.add(list(dict.fromkeys((item.image, item.crop) for item in everything)))

    def shown(items: list[_Item]) -> list[dict]:
        return [
            {
                **store.made[item.image, item.crop],
                "file_name": evaluation.tables.file_names[item.image],
                "title": item.title,
                "boxes": item.boxes,
                **item.extra,
            }
            for item in items
            if (item.image, item.crop) in store.made
        ]

    tables, lost = evaluation.tables, store.lost
    content = {
        "images": shown(whole),
        "crops": {name: shown(items) for name, items in crops.items()},
        "num_images": len(tables.image_ids),
        "image_root": coco_file.relative(image_root.resolve(), target.resolve()),
        "colours": [
            [name, "#{:02x}{:02x}{:02x}".format(*class_colour(number))]
            for name, number in zip(tables.class_names, tables.category_ids)
        ],
        "lowest_score": LOWEST_SCORE,
        "note": f"{len(lost)} images could not be opened; the first: {lost[0]}" if lost else "",
    }
    write_json(folder / "gallery.json", content)


def _bytes(box: dict) -> int:
    """About how many a box is in the page."""
    return BOX_BYTES + NUMBER_BYTES * sum(map(len, box.get("outline") or []))


class _Store:
    """The pictures of a gallery on disk, within a budget; each image is opened once."""

    def __init__(self, folder: Path, file_names: list[str], image_root: Path, opening: Mapping[str, Any], budget: int):
        self.folder, self.file_names, self.image_root, self.opening = folder, file_names, image_root, opening
        self.budget = budget  # bytes of whole pictures
        self.made: dict[tuple, dict] = {}  # (image, crop) -> {"file", "view", "size"}
        self.lost: list[str] = []

    def add(self, wanted: list[tuple]) -> None:
        """Those wanted first have the first claim on the budget."""
        whole = [key for key in wanted if key[1] is None]
        self.side = WHOLE_SIDES[0]
        sample = [len(_picture(image, None, self.side)[0]) for key in whole[:SAMPLE] if (image := self._open(key[0]))]
        self.lost.clear()
        if sample:
            total = float(np.mean(sample)) * len(whole)  # bytes at the largest side; they go with side^1.6
            fits = [side for side in WHOLE_SIDES if total * (side / WHOLE_SIDES[0]) ** 1.6 < self.budget]
            self.side = fits[0] if fits else WHOLE_SIDES[-1]
        pictures: dict[tuple, tuple] = {}
        for row in dict.fromkeys(image for image, _ in wanted):
            if image := self._open(row):
                pictures |= {key: _picture(image, key[1], self.side) for key in wanted if key[0] == row}
        spent = {True: 0, False: 0}
        for key in wanted:
            is_whole = key[1] is None
            if key in pictures and spent[is_whole] < (self.budget if is_whole else CROP_BUDGET):
                content, view, size = pictures[key]
                spent[is_whole] += len(content)
                self.made[key] = {"file": f"{len(self.made):03d}.jpg", "view": view, "size": size}
                with atomic_write(self.folder / "pictures" / self.made[key]["file"]) as file:
                    file.write(content)

    def _open(self, row: int):
        try:
            refuse_links_out(self.image_root, [self.file_names[row]], "labels")
            return open_image(self.image_root / self.file_names[row], **self.opening)
        except (InputError, OSError, ValueError) as error:
            self.lost.append(str(error).replace(f"{self.image_root}/", ""))  # no path of this machine in a report
            return None


def _picture(image, crop: tuple | None, side: int) -> tuple[bytes, list[float], list[int]]:
    """JPEG, the part of the image that it shows [x, y, w, h], its size [w, h]."""
    view = (0, 0, image.width, image.height)
    if crop:
        x, y, w, h = crop
        # a crop that hangs over an edge moves inwards, so that crops stay square
        width, height = int(min(np.ceil(w), image.width)), int(min(np.ceil(h), image.height))
        left = int(min(max(0, x), image.width - width))
        top = int(min(max(0, y), image.height - height))
        view = (left, top, width, height)
        image = image.crop((left, top, left + width, top + height))
    scale = min((CROP_SIDE if crop else side) / max(image.size), 4.0 if crop else 1.0)
    if scale != 1:
        image = image.resize((max(1, round(image.width * scale)), max(1, round(image.height * scale))))
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=QUALITY, optimize=True)
    return buffer.getvalue(), [float(v) for v in view], list(image.size)


class _View:
    """Labels and detections as the report draws them.

    A box is {"kind": true | missed | crowd | right | false, "class", "bbox", "score", "hint"}, the kind at the class's
    threshold; with masks also "outline", rings [x1, y1, ...]. score: of a label that of the detection that finds it,
    null where none does at any score.
    """

    def __init__(self, evaluation) -> None:
        self.evaluation = evaluation
        self.tables, self.matches = evaluation.tables, evaluation.matches
        tables, matches = self.tables, self.matches
        t = matches.at(evaluation.metrics["settings"]["iou"])
        threshold = np.array([evaluation.thresholds[name] for name in tables.class_names])
        self.score = tables.det_score[matches.det]
        self.right, self.ignored = matches.right[0, t], matches.ignored[0, t]
        least = threshold[tables.det_class[matches.det]]
        self.kept = self.score >= least
        self.drawn = (self.score >= np.minimum(least, LOWEST_SCORE)) & ~self.ignored
        self.wrong = self.kept & ~self.right & ~self.ignored
        self.found_at = np.full(len(tables.gt_class), np.nan)
        self.found_at[matches.gt[t][self.right]] = self.score[self.right]
        self.found = self.found_at >= threshold[tables.gt_class]
        self.missed = ~self.found & ~matches.gt_ignored[0]
        self.image_of = tables.det_image[matches.det]
        self.by_masks = bool(evaluation.metrics.get("segm"))
        self.row_of_id = {image_id: row for row, image_id in enumerate(tables.image_ids)}
        self.rings: dict[int, list] = {}  # of what has been drawn before

    def images(self) -> list[_Item]:
        """Every image, those with the most errors first."""
        tables = self.tables
        images = len(tables.image_ids)
        right = np.bincount(self.image_of[self.kept & self.right], minlength=images)
        wrong = np.bincount(self.image_of[self.wrong], minlength=images)
        missed = np.bincount(tables.gt_image[self.missed], minlength=images)
        doubted = np.zeros(images, np.int64)
        for suspect in self.evaluation.suspects:
            doubted[self.row_of_id[suspect.image_id]] += 1
        made = []
        for i in np.lexsort((np.arange(images), -(wrong + missed))).tolist():
            here = (tables.gt_image == i) & ~self.matches.gt_ignored[0]
            labelled = np.bincount(tables.gt_class[here], minlength=len(tables.class_names))
            objects = [[tables.class_names[k], int(labelled[k])] for k in np.flatnonzero(labelled)]
            title = f"{right[i]} right, {wrong[i]} false, {missed[i]} missed"
            made.append(_Item(i, title, self.boxes(i), None, {"objects": objects, "suspects": int(doubted[i])}))
        return made

    def crops(self) -> dict[str, list[_Item]]:
        """{"missed", "false", "suspects"}: places, worst first."""
        tables = self.tables
        size = tables.gt_bbox[:, 2] * tables.gt_bbox[:, 3]
        rows = np.flatnonzero(self.missed)
        lost = _spread(rows[np.argsort(-size[rows], kind="stable")], tables.gt_image)
        rows = np.flatnonzero(self.wrong)
        false = _spread(rows[np.argsort(-self.score[rows], kind="stable")], self.image_of)
        suspects = self.evaluation.suspects
        owner = np.array([self.row_of_id[s.image_id] for s in suspects], np.int64)
        doubted = _spread(np.arange(len(suspects)), owner, most=3, number=MOST_SUSPECTS)
        return {
            "missed": [self._missed(g) for g in lost],
            "false": [self._false(d) for d in false],
            "suspects": [self._suspect(suspects[s]) for s in doubted],
        }

    def boxes(self, image: int) -> list[dict]:
        tables, boxes = self.tables, []
        for g in np.flatnonzero(tables.gt_image == image):
            kind = "crowd" if tables.gt_is_crowd[g] else "true" if self.found[g] else "missed"
            name, score = tables.class_names[tables.gt_class[g]], self.found_at[g]
            box = _box(kind, name, tables.gt_bbox[g], None if np.isnan(score) else score, f"label: {name}")
            boxes.append({**box, **self._outline(self.evaluation.document["annotations"][tables.gt_row[g]])})
        here = np.flatnonzero(self.drawn & (self.image_of == image))
        best_first = here[np.argsort(-self.score[here], kind="stable")]
        return boxes + [self._detection(d) for d in best_first[:MOST_DETECTIONS]]

    def _detection(self, d: int) -> dict:
        tables, row = self.tables, self.matches.det[d]
        name, score = tables.class_names[tables.det_class[row]], self.score[d]
        kind = "right" if self.right[d] else "false"
        box = _box(kind, name, tables.det_bbox[row], score, f"detection: {name} {score:.2f}", shown=bool(self.kept[d]))
        return {**box, **self._outline(self.evaluation.detections[tables.det_row[row]])}

    def _outline(self, one: dict) -> dict:
        """{"outline": rings} of an annotation or a detection, to be drawn for its box; {} where not all have masks."""
        mask = one.get("segmentation")
        if not self.by_masks or not mask:
            return {}
        if id(mask) not in self.rings:
            width, height = (int(side) for side in self.tables.image_size[self.row_of_id[one["image_id"]]])
            runs = rle.to_runs(mask) if isinstance(mask, dict) else rle.rasterize(mask, height, width)
            tolerance = max(0.5, 0.01 * float(np.hypot(*one["bbox"][2:])))
            self.rings[id(mask)] = outline.edges(runs, height, width, tolerance)
        return {"outline": self.rings[id(mask)]} if self.rings[id(mask)] else {}

    def _missed(self, g: int) -> _Item:
        tables, image = self.tables, int(self.tables.gt_image[g])
        title, bbox = tables.class_names[tables.gt_class[g]], tables.gt_bbox[g]
        return _Item(image, title, _near(self.boxes(image), bbox), _around(bbox))

    def _false(self, d: int) -> _Item:
        tables, row = self.tables, self.matches.det[d]
        title = f"{tables.class_names[tables.det_class[row]]} {self.score[d]:.2f}"
        image, bbox = int(tables.det_image[row]), tables.det_bbox[row]
        boxes = [self._detection(d), *_near(self.boxes(image), bbox)]
        return _Item(image, title, [b for i, b in enumerate(boxes) if b not in boxes[:i]], _around(bbox))

    def _suspect(self, suspect) -> _Item:
        boxes = []
        if suspect.label_bbox:
            hint = f"label: {suspect.label_class}"
            kind = "missed" if suspect.kind == "not found" else "true"
            label = self.evaluation.document["annotations"][suspect.annotation]
            boxes.append({**_box(kind, suspect.label_class, suspect.label_bbox, None, hint), **self._outline(label)})
        if suspect.bbox:
            hint = f"detection: {suspect.class_name} {suspect.score:.2f}"
            found = {"image_id": suspect.image_id, "bbox": suspect.bbox, "segmentation": suspect.mask}
            box = _box("false", suspect.class_name, suspect.bbox, suspect.score, hint)
            boxes.append({**box, **self._outline(found)})
        both = corners([box for box in (suspect.bbox, suspect.label_bbox) if box])
        low, high = both[:, :2].min(0), both[:, 2:].max(0)
        extra = {"kind": suspect.kind}
        return _Item(self.row_of_id[suspect.image_id], suspect.text, boxes, _around([*low, *(high - low)]), extra)


def _spread(rows: np.ndarray, image_of: np.ndarray, most: int = 2, number: int = MOST_CROPS) -> list[int]:
    """The first `number` rows, at most `most` of an image while other images have some."""
    taken: dict[int, int] = {}
    first: list[int] = []
    later: list[int] = []
    for row in rows.tolist():
        image = int(image_of[row])
        taken[image] = taken.get(image, 0) + 1
        (first if taken[image] <= most else later).append(row)
    return [*first, *later][:number]


def _box(kind: str, name: str, bbox, score: float | None, hint: str, shown: bool = True) -> dict:
    box = {"kind": kind, "class": name, "bbox": [round(float(v), 1) for v in bbox], "hint": hint, "shown": shown}
    return {**box, "score": None if score is None else round(float(score), 4)}


def _near(boxes: list[dict], bbox) -> list[dict]:
    """All labels, and of the shown detections the four that overlap `bbox` most: a crop is about one place."""
    overlap = iou_table([box["bbox"] for box in boxes], bbox)[:, 0]
    detections = [i for i, box in enumerate(boxes) if box["kind"] in ("right", "false")]
    close = (i for i in detections if overlap[i] > 0.1 and boxes[i]["shown"])
    best = sorted(close, key=lambda i: -overlap[i])[:4]
    return [box for i, box in enumerate(boxes) if i not in detections or i in best]


def _around(bbox) -> tuple[float, float, float, float]:
    """A square around a box with MARGIN on each side, at least 48 pixels wide."""
    x, y, w, h = (float(v) for v in bbox)
    side = max(max(w, h) * (1 + 2 * MARGIN), 48.0)
    return (round(x + w / 2 - side / 2, 2), round(y + h / 2 - side / 2, 2), round(side, 2), round(side, 2))
