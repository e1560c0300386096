"""The COCO document and the detections as arrays, with everything refused that would give a wrong number.

Ids become row numbers here and nowhere else, so an annotation id of 0, doubled ids or ids written as text
cannot spoil a match (in pycocotools they do, silently).
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np

from label_tools.text.errors import InputError
from toolkit.metrics.box_format import refuse_wrong_format


@dataclass(frozen=True)
class Tables:
    """I images, K classes, G objects, D detections; images and classes in the order of their ids."""

    image_ids: list  # [I]
    file_names: list[str]  # [I]
    image_size: np.ndarray  # [I,2] width, height; 0 where the document has none
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
    warnings: tuple[str, ...]


def read_tables(
    document: dict,
    detections: list,
    document_name: str = "annotations",
    detections_name: str = "detections",
    max_detections: int = 100,
) -> Tables:
    """Arrays of a COCO document and a COCO results list. InputError names the first entry that is no use."""
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise InputError(f'{document_name}: needs a COCO document with a list "{key}"')
    if not isinstance(detections, list):
        found = type(detections).__name__
        raise InputError(f"{detections_name}: found a {found}, needs a list of COCO results")
    warnings: list[str] = []
    images, image_index = _by_id(document["images"], "images", document_name)
    categories, class_index = _by_id(document["categories"], "categories", document_name)
    sizes = [(_number(i.get("width")), _number(i.get("height"))) for i in images]
    gt = _ground_truth(document["annotations"], image_index, class_index, document_name, warnings)
    det = _detections(detections, image_index, class_index, detections_name, warnings)
    image_size = np.array(sizes, float).reshape(-1, 2)
    refuse_wrong_format(gt["bbox"], image_size[gt["image"]], document_name)
    refuse_wrong_format(det["bbox"], image_size[det["image"]], detections_name)
    counts = np.bincount(gt["image"][~gt["is_crowd"]], minlength=1)
    crowded = np.flatnonzero(counts > max_detections)
    if len(crowded):
        most = crowded[np.argmax(counts[crowded])]
        warnings.append(
            f"{len(crowded)} image{'s' * (len(crowded) > 1)} with more than {max_detections} objects, the most in "
            f"{_name(images[most])} ({counts[most]}): only the {max_detections} best detections of a class and image "
            "are judged (COCO's maxDets), the rest cannot be found"
        )
    return Tables(
        image_ids=[image["id"] for image in images],
        file_names=[_name(image) for image in images],
        image_size=image_size,
        category_ids=[category["id"] for category in categories],
        class_names=_class_names(categories, document_name),
        **{f"gt_{key}": value for key, value in gt.items()},
        **{f"det_{key}": value for key, value in det.items()},
        warnings=tuple(warnings),
    )


def _by_id(entries: list, kind: str, where: str) -> tuple[list[dict], dict]:
    """Entries sorted by id, and {id: row}. The number 7 and the text "7" are the same id."""
    checked = []
    for n, entry in enumerate(entries):
        if not isinstance(entry, dict) or _plain_id(entry.get("id")) is None:
            raise InputError(f'{where}, {kind}[{n}]: needs an object with an "id"')
        checked.append({**entry, "id": _plain_id(entry["id"])})
    checked.sort(key=lambda entry: (isinstance(entry["id"], str), entry["id"]))
    index = {entry["id"]: row for row, entry in enumerate(checked)}
    if len(index) < len(checked):
        [(twice, times)] = Counter(entry["id"] for entry in checked).most_common(1)
        raise InputError(f"{where}, {kind}: id {twice!r} is used {times} times, needs ids of their own")
    return checked, index


def _plain_id(value: object) -> int | str | None:
    """7, "7" and 7.0 are the id 7; other text stays text; anything else is no id."""
    if isinstance(value, bool):
        return None
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, str) and value:
        return int(value) if value.isascii() and value.lstrip("-").isdigit() else value
    return None


def _name(image: dict) -> str:
    return str(image.get("file_name", image["id"]))


def _class_names(categories: list[dict], where: str) -> list[str]:
    names = [str(category.get("name", category["id"])) for category in categories]
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"{where}, categories: the name {twice[0]!r} is used more than once")
    return names


def _number(value: object) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 < value < 1e9
    return float(value) if good else 0.0


def _rows(entries: list, key: str, index: dict, where: str) -> np.ndarray:
    """Row number of entry[key] for every entry; names the ids that are not there."""
    try:
        return np.fromiter((index[entry[key]] for entry in entries), np.int64, len(entries))
    except (KeyError, TypeError, IndexError):
        pass  # ids as text, as floats or missing: the slow way says which
    rows, unknown = [], {}
    for n, entry in enumerate(entries):
        if not isinstance(entry, dict) or _plain_id(entry.get(key)) is None:
            raise InputError(f'{where}[{n}]: needs an object with "{key}"')
        row = index.get(_plain_id(entry[key]))
        if row is None:
            unknown.setdefault(entry[key], n)
        rows.append(row)
    if unknown:
        some = ", ".join(repr(item) for item in list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        first = next(iter(unknown.values()))
        raise InputError(f"{where}[{first}]: {key} {some} not in the annotations file ({len(unknown)} unknown)")
    return np.array(rows, np.int64)


def _boxes(entries: list, where: str) -> np.ndarray:
    """[N,4] x, y, w, h; refuses what is not four finite numbers with w, h >= 0."""
    try:
        raw = np.array([entry["bbox"] for entry in entries])
        clean = not entries or (raw.dtype.kind in "iuf" and raw.shape == (len(entries), 4))
        boxes = raw.astype(float).reshape(-1, 4) if clean else raw
    except (KeyError, TypeError, ValueError):
        clean = False
    if not clean:
        for n, entry in enumerate(entries):
            box = entry.get("bbox")
            numbers = isinstance(box, (list, tuple)) and len(box) == 4
            if not numbers or not all(isinstance(v, (int, float)) and not isinstance(v, bool) for v in box):
                raise InputError(f"{where}[{n}]: bbox is {str(box)[:60]}, needs [x, y, width, height]")
        raise InputError(f"{where}: a bbox is not [x, y, width, height]")
    bad = np.flatnonzero(~np.isfinite(boxes).all(1))
    if len(bad):
        raise InputError(f"{where}[{bad[0]}]: bbox is {entries[bad[0]]['bbox']}, needs finite numbers")
    bad = np.flatnonzero((boxes[:, 2:] < 0).any(1))
    if len(bad):
        raise InputError(
            f"{where}[{bad[0]}]: bbox is {entries[bad[0]]['bbox']} with a negative width or height, "
            "needs [x, y, width, height]"
        )
    return boxes


def _ground_truth(entries: list, images: dict, classes: dict, where: str, warnings: list[str]) -> dict:
    where = f"{where}, annotations"
    image, class_ = _rows(entries, "image_id", images, where), _rows(entries, "category_id", classes, where)
    bbox = _boxes(entries, where)
    ids = Counter(str(entry.get("id")) for entry in entries if "id" in entry)
    twice = sum(1 for times in ids.values() if times > 1)
    if twice:
        warnings.append(f"{where}: {twice} ids are used more than once; objects are counted by place instead")
    area = np.array([_area(entry.get("area")) for entry in entries], float)
    return {
        "image": image,
        "class": class_,
        "bbox": bbox,
        "area": np.where(np.isnan(area), bbox[:, 2] * bbox[:, 3], area),
        "is_crowd": np.array([bool(entry.get("iscrowd", 0)) for entry in entries], bool),
        "row": np.arange(len(entries)),
    }


def _area(value: object) -> float:
    good = isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf")
    return float(value) if good else float("nan")


def _detections(entries: list, images: dict, classes: dict, where: str, warnings: list[str]) -> dict:
    image, class_ = _rows(entries, "image_id", images, where), _rows(entries, "category_id", classes, where)
    bbox = _boxes(entries, where)
    try:
        raw = np.array([entry["score"] for entry in entries])
        clean = not entries or (raw.dtype.kind in "iuf" and raw.shape == (len(entries),))
    except (KeyError, TypeError, ValueError):
        clean = False
    if not clean:
        for n, entry in enumerate(entries):
            if not isinstance(entry.get("score"), (int, float)):
                raise InputError(f"{where}[{n}]: score is {str(entry.get('score', 'missing'))[:40]}, needs a number")
        raise InputError(f"{where}: a score is not a number")
    score = raw.astype(float).reshape(len(entries))
    bad = np.flatnonzero(~np.isfinite(score))
    if len(bad):
        raise InputError(f"{where}[{bad[0]}]: score is {score[bad[0]]}, needs a finite number")
    keep = _without_copies(image, score, np.column_stack([class_, bbox]))
    if len(keep) < len(image):
        warnings.append(f"{where}: {len(image) - len(keep)} exact copies of a detection left out")
    return {"image": image[keep], "class": class_[keep], "bbox": bbox[keep], "score": score[keep]}


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
