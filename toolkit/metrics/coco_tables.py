"""A COCO document in our dialect and detections with its ids, as arrays; detections of no use are refused.

Ids become row numbers here, so that ids with gaps or from 0 cannot spoil a match (in pycocotools they do, silently).
Where detections have masks they are checked against their image, and there are tables with the overlaps and areas of
the masks; a mask is held as COCO's compressed run lengths and decoded for one image at a time.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from label_tools.document import repair_annotation
from label_tools.document.repair import other_format
from label_tools.shapes import rle
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError
from label_tools.text.messages import counted

MAX_DETECTIONS = 100  # of an image and class, that count
FARTHEST = 1e9  # pixels: a detection that reaches farther is cut there; the area of 1e308 x 1e308 is infinite


@dataclass(frozen=True)
class Tables:
    """I images, K classes, G objects, D detections; images and classes in the order of their ids."""

    image_ids: list  # [I]
    file_names: list[str]  # [I]
    image_size: np.ndarray  # [I,2] width, height
    category_ids: list  # [K]
    class_names: list[str]  # [K]
    gt_image: np.ndarray  # [G]
    gt_class: np.ndarray  # [G]
    gt_bbox: np.ndarray  # [G,4] x, y, w, h
    gt_area: np.ndarray  # [G] the annotation's own area where it has one, else w * h
    gt_is_crowd: np.ndarray  # [G] bool
    gt_row: np.ndarray  # [G] place in document["annotations"]
    det_image: np.ndarray  # [D]
    det_class: np.ndarray  # [D]
    det_bbox: np.ndarray  # [D,4] x, y, w, h
    det_score: np.ndarray  # [D]
    det_area: np.ndarray  # [D] w * h; of the mask in tables by masks
    det_row: np.ndarray  # [D] place in the list of detections
    warnings: tuple[str, ...]
    gt_mask: list[dict] | None = None  # [G] RLE; with det_mask, overlap is that of the masks (`masks.by_masks`)
    det_mask: list[dict] | None = None  # [D] RLE

    def over(self, thresholds: Mapping[str, float]) -> np.ndarray:
        """[D] bool: detections with at least the score {class: score} of their class."""
        return self.det_score >= np.array([thresholds[name] for name in self.class_names])[self.det_class]


def read_tables(document: dict, detections: list, detections_name: str = "detections") -> Tables:
    """Arrays of a COCO document in our dialect (`compute_metrics.read`) and of a COCO results list with its ids.

    Raises InputError, naming the first detection that cannot be used.
    """
    images = sorted(document["images"], key=lambda image: image["id"])
    categories = sorted(document["categories"], key=lambda category: category["id"])
    image_index = {image["id"]: row for row, image in enumerate(images)}
    class_index = {category["id"]: row for row, category in enumerate(categories)}
    image_size = np.array([(i["width"], i["height"]) for i in images], float).reshape(-1, 2)
    gt = _ground_truth(document["annotations"], image_index, class_index)
    warnings: list[str] = []
    det = _detections(detections, image_index, class_index, detections_name, warnings)
    if wrong := other_format(det["bbox"], image_size[det["image"]]):
        raise InputError(f"{detections_name}: {wrong[1]}")
    counts = np.bincount(gt["image"][~gt["is_crowd"]], minlength=1)
    crowded = np.flatnonzero(counts > MAX_DETECTIONS)
    if len(crowded):
        most = crowded[np.argmax(counts[crowded])]
        warnings.append(
            f"{counted(len(crowded), 'image')} with more than {MAX_DETECTIONS} objects, the most in "
            f"{images[most]['file_name']} ({counts[most]}): only the {MAX_DETECTIONS} best detections of a class "
            "and image count (COCO's maxDets), the rest cannot be found"
        )
    return Tables(
        image_ids=[image["id"] for image in images],
        file_names=[image["file_name"] for image in images],
        image_size=image_size,
        category_ids=[category["id"] for category in categories],
        class_names=[category["name"] for category in categories],
        **{f"gt_{key}": value for key, value in gt.items()},
        **{f"det_{key}": value for key, value in det.items()},
        warnings=tuple(warnings),
    )


def _rows(entries: list, key: str, index: dict, where: str) -> np.ndarray:
    """Row number of entry[key] for every entry."""
    try:
        return np.fromiter((index[entry[key]] for entry in entries), np.int64, len(entries))
    except (KeyError, TypeError):
        n, value = next(
            (n, e.get(key) if isinstance(e, dict) else e)
            for n, e in enumerate(entries)
            if not isinstance(e, dict) or not isinstance(e.get(key), Hashable) or e.get(key) not in index
        )
        raise InputError(f"{where}[{n}]: {key} {value!r} not in the annotations file") from None


def _numbers(entries: list, key: str, count: int, where: str, needs: str) -> np.ndarray:
    """[N,count] finite numbers under a key; [N] where count is 1."""
    shape = (count,) if count > 1 else ()
    try:
        raw = np.array([entry[key] for entry in entries])
        clean = not entries or (raw.dtype.kind in "iuf" and raw.shape == (len(entries), *shape))
    except (KeyError, TypeError, ValueError):
        clean = False
    if not clean:
        for n, entry in enumerate(entries):
            found = entry.get(key) if count > 1 else [entry.get(key)]
            fits = isinstance(found, (list, tuple)) and len(found) == count
            if not fits or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in found):
                raise InputError(f"{where}[{n}]: {key} is {str(entry.get(key, 'missing'))[:60]}, needs {needs}")
        raise InputError(f"{where}: a {key} is not {needs}")
    numbers = raw.astype(float).reshape(len(entries), *shape)
    bad = np.flatnonzero(~np.isfinite(numbers).reshape(-1, count).all(1))
    if len(bad):
        raise InputError(f"{where}[{bad[0]}]: {key} is {entries[bad[0]][key]}, needs finite numbers")
    return numbers


def _ground_truth(entries: list, images: dict, classes: dict) -> dict:
    return {
        "image": _rows(entries, "image_id", images, "annotations"),
        "class": _rows(entries, "category_id", classes, "annotations"),
        "bbox": np.array([entry["bbox"] for entry in entries], float).reshape(-1, 4),
        "area": np.array([entry["area"] for entry in entries], float),
        "is_crowd": np.array([bool(entry["iscrowd"]) for entry in entries], bool),
        "row": np.arange(len(entries)),
    }


def _detections(entries: list, images: dict, classes: dict, where: str, warnings: list[str]) -> dict:
    image, class_ = _rows(entries, "image_id", images, where), _rows(entries, "category_id", classes, where)
    bbox = _numbers(entries, "bbox", 4, where, "[x, y, width, height]")
    bad = np.flatnonzero((bbox[:, 2:] < 0).any(1))
    if len(bad):
        raise InputError(
            f"{where}[{bad[0]}]: bbox is {entries[bad[0]]['bbox']} with a negative width or height, "
            "needs [x, y, width, height]"
        )
    bbox = np.clip(bbox, -FARTHEST, FARTHEST)
    score = _numbers(entries, "score", 1, where, "a number")
    keep = _without_copies(image, score, np.column_stack([class_, bbox, _mask_numbers(entries)]))
    if len(keep) < len(image):
        warnings.append(f"{where}: {len(image) - len(keep)} exact copies of a detection left out")
    columns = {"image": image, "class": class_, "bbox": bbox, "score": score, "area": bbox[:, 2] * bbox[:, 3]}
    return {**{name: column[keep] for name, column in columns.items()}, "row": keep}


def _mask_numbers(entries: list) -> np.ndarray:
    """[N] the same number for the same RLE, 0 for none: different masks with the same box are not copies."""
    if not any("segmentation" in entry for entry in entries):
        return np.zeros(len(entries), np.int64)
    numbers: dict[str, int] = {"": 0}
    masks = (entry.get("segmentation") for entry in entries)
    texts = (mask["counts"] if isinstance(mask, dict) and isinstance(mask.get("counts"), str) else "" for mask in masks)
    return np.fromiter((numbers.setdefault(text, len(numbers)) for text in texts), np.int64, len(entries))


def _without_copies(image: np.ndarray, score: np.ndarray, rest: np.ndarray) -> np.ndarray:
    """Rows [M] of [N] that are the first of their kind, in order."""
    order = np.lexsort((image, score))
    alike = (image[order][1:] == image[order][:-1]) & (score[order][1:] == score[order][:-1])
    rows = np.union1d(order[1:][alike], order[:-1][alike])  # few: only these can be copies
    keep = np.ones(len(image), bool)
    if len(rows):
        columns = np.column_stack([image[rows], score[rows], rest[rows]])
        _, first = np.unique(columns, axis=0, return_index=True)
        keep[rows] = False
        keep[rows[first]] = True
    return np.flatnonzero(keep)


def has_masks(detections: list) -> bool:
    """Whether any detection has a segmentation; an empty one is none."""
    return any(isinstance(d, dict) and "segmentation" in d and _given(d["segmentation"]) for d in detections)


def _given(value: object) -> bool:
    return value is not None and not (isinstance(value, (list, dict, str)) and not value)


def with_runs(document: dict, detections: list, where: str) -> tuple[list, list[str]]:
    """(detections with every segmentation as compressed RLE of its image's size, its pixels as "area", and a bbox; what
    is to be said).

    detections: with the ids of `document`; segmentation is RLE, compressed or not, or polygons. A missing bbox is that
    of the mask. Detections without any mask come back as they are.
    Raises InputError, naming the first detection without a mask among others that have one, or with a bad one.
    """
    if not has_masks(detections):
        return detections, []
    images = {image["id"]: image for image in document["images"]}
    found, no_box, empty = [], 0, 0
    for n, detection in enumerate(detections):
        image = images.get(detection["image_id"])
        if image is None:
            raise InputError(f"{where}[{n}]: image_id {detection['image_id']!r} not in the annotations file")
        runs = _runs(detection.get("segmentation"), image, f"{where}[{n}]", detections)
        mask, area = rle.to_rle(runs, image["height"], image["width"]), rle.area(runs)
        one = {**detection, "segmentation": mask, "area": area}
        if not detection.get("bbox"):
            one["bbox"] = list(rle.box(runs, image["height"]))
            no_box += 1
        empty += area == 0
        found.append(one)
    notes = []
    if no_box:
        notes.append(f"{where}: {counted(no_box, 'detection')} without a bbox; the box around the mask is taken")
    if empty:
        notes.append(f"{where}: {counted(empty, 'mask')} without a pixel; wrong wherever they are, as in COCO")
    return found, notes


def _runs(value: object, image: dict, place: str, detections: list) -> np.ndarray:
    if not _given(value):
        number = sum(_given(d.get("segmentation")) for d in detections)
        raise InputError(
            f"{place}: no segmentation, but {number} of {len(detections)} detections have one; needs all or none"
        )
    if not isinstance(value, (dict, list)):
        raise InputError(f"{place}: segmentation is a {type(value).__name__}, needs RLE or a list of polygons")
    height, width = image["height"], image["width"]
    try:
        rle.check_size([height, width])
        if isinstance(value, dict):
            return rle.without_empty(repair_annotation.run_lengths(value, image))
        polygons = repair_annotation.outline(value, image, lambda *_: None)
        return rle.rasterize(polygons, height, width)
    except RefusedError as error:
        raise InputError(f"{place}: {error.text}") from None
    except rle.RleError as error:
        raise InputError(f"{place}: segmentation: {error} ({image['file_name']})") from None


def by_masks(tables: Tables, document: dict, detections: list) -> Tables:
    """`tables` with the masks of the annotations, which all have an outline, and of the detections (`with_runs`)."""
    images = {image["id"]: image for image in document["images"]}
    annotations = [document["annotations"][row] for row in tables.gt_row]
    found = [detections[row] for row in tables.det_row]
    return replace(
        tables,
        gt_mask=[_annotated(annotation, images[annotation["image_id"]]) for annotation in annotations],
        det_mask=[detection["segmentation"] for detection in found],
        det_area=np.array([detection["area"] for detection in found], float),
    )


def _annotated(annotation: dict, image: dict) -> dict:
    value, height, width = annotation["segmentation"], image["height"], image["width"]
    try:
        runs = rle.without_empty(rle.to_runs(value)) if isinstance(value, dict) else rle.rasterize(value, height, width)
    except rle.RleError as error:
        raise InputError(f"annotation {annotation.get('id')} ({image['file_name']}): segmentation: {error}") from None
    return rle.to_rle(runs, height, width)


def tables_by_masks(tables: Tables, document: dict, detections: list) -> tuple[Tables | None, str]:
    """(tables by masks, ""), or (None, why there are none); the reason is "" where no detection has a mask."""
    if not has_masks(detections):
        return None, ""
    annotations = document["annotations"]
    bare = [annotation for annotation in annotations if not annotation.get("segmentation")]
    if bare:
        return None, (
            f"the detections have masks, but {len(bare)} of {counted(len(annotations), 'annotation')} have no outline, "
            f"the first with id {bare[0].get('id')}: evaluated by boxes alone"
        )
    return by_masks(tables, document, detections), ""
