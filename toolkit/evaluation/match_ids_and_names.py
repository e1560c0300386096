"""Match the images and classes of detections with those of the annotations, by id or by name.

A result may name its image by the annotations' id, by `file_name`, or by the name's stem (as Ultralytics does), and its
class by id or by name. What has one meaning is taken and told; nothing is guessed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import PurePosixPath
from typing import Any

from label_tools.document.repairs_found import Examined, key_of
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.data.boxes import bbox

CLASS_KEYS = ("category_name", "label", "class_name", "class", "name")
NAME_KEYS = ("file_name", *CLASS_KEYS)
WORTH_A_HINT = 0.1  # AP under which other class numbers are tried


def to_our_ids(detections: list, found: Examined, where: str) -> tuple[list, list[str]]:
    """(COCO results with the ids of `found.document`, what was done about theirs). Raises InputError."""
    if not all(isinstance(d, dict) for d in detections):
        number = next(n for n, d in enumerate(detections) if not isinstance(d, dict))
        raise InputError(f"{where}[{number}]: found a {type(detections[number]).__name__}, needs an object")
    notes: list[str] = []
    document = found.usable()
    by_id = {key: image["id"] for key, image in _keys(document["images"], found.image_ids)}
    classes = {key: one["id"] for key, one in _keys(document["categories"], found.category_ids)}
    if _are_ours(detections, by_id, classes):
        return detections, []
    theirs = {key_of(d.get("image_id")) for d in detections}
    if theirs and theirs.isdisjoint(by_id) and theirs <= (numbers := _by_number(document["images"])).keys():
        by_id = numbers
        notes.append(f"{where}: no image_id is one of the annotations'; all are numbers in file names, matched by them")
    images = _matched(detections, "image_id", by_id, _by_name(found), _file_of, "file_name", where, notes)
    names = {one["name"]: one["id"] for one in document["categories"]}
    categories = _matched(detections, "category_id", classes, names, _class_of, "class name", where, notes)
    pairs = zip(detections, images, categories, strict=True)
    return [{**d, "image_id": image, "category_id": category} for d, image, category in pairs], notes


def _are_ours(detections: list[dict], images: dict[Any, int], classes: dict[Any, int]) -> bool:
    """Whether all have ids of the annotations that are ours, too, and no name that could say otherwise."""
    if not set(NAME_KEYS).isdisjoint(set().union(*detections)):
        return False
    for key, ids in (("image_id", images), ("category_id", classes)):
        values = [d.get(key) for d in detections]
        if set(map(type, values)) != {int} or any(ids.get(value) != value for value in set(values)):
            return False
    return True


def _keys(entries: list[dict], theirs: dict[Any, int]) -> list[tuple[Any, dict]]:
    of_ours = {ours: key for key, ours in theirs.items()}
    return [(of_ours.get(entry["id"], entry["id"]), entry) for entry in entries]


def _by_name(found: Examined) -> dict[str, int]:
    """Image ids by file name, last part of it, and stem, as far as they are the only ones."""
    names: dict[str, list[int]] = {}
    for image in found.usable()["images"]:
        path = PurePosixPath(image["file_name"])
        for name in {image["file_name"], path.name, path.stem}:
            names.setdefault(name, []).append(image["id"])
    return {name: ids[0] for name, ids in names.items() if len(ids) == 1}


def _file_of(detection: dict) -> str | None:
    name = detection.get("file_name")
    return name.replace("\\", "/") if isinstance(name, str) and name else None


def _class_of(detection: dict) -> str | None:
    return next((detection[key] for key in CLASS_KEYS if isinstance(detection.get(key), str)), None)


def _matched(
    detections: list[dict],
    key: str,
    ids: dict[Any, int],
    names: dict[str, int],
    name_of: Callable[[dict], str | None],
    what: str,
    where: str,
    notes: list[str],
) -> list[int]:
    """Our id of each detection: its `key` where that is one of `ids`, else its name; a name that contradicts wins."""
    result: list[int] = []
    unknown: Counter = Counter()
    by_name = contradicted = 0
    first = -1
    for n, detection in enumerate(detections):
        value = detection.get(key)
        number = ids.get(value if type(value) is int else key_of(value))
        name = name_of(detection)
        named = None if name is None else names.get(name, names.get(PurePosixPath(name).name))
        if number is None and named is None and isinstance(value, str):
            named = names.get(value, names.get(PurePosixPath(value).stem))
        if named is not None:
            by_name += number is None
            contradicted += number is not None and number != named
        elif number is None:
            unknown[repr(value) if value is not None else f"{what} {name!r}" if name else "missing"] += 1
            first = n if first < 0 else first
        result.append(named if named is not None else number)  # type: ignore[arg-type]
    if unknown:
        some = ", ".join(list(unknown)[:5]) + (", ..." if len(unknown) > 5 else "")
        raise InputError(
            f"{where}[{first}]: {key} {some} not in the annotations file ({len(unknown)} unknown); "
            f"needs its ids, or a {what} that it has{_shifted(detections, key, ids)}"
        )
    total = counted(len(detections), "detection")
    if contradicted:
        notes.append(f"{where}: the {what} of {contradicted} of {total} contradicts their {key}; matched by {what}")
    elif by_name:
        notes.append(f"{where}: {by_name} of {total} matched by {what}")
    return result


def _shifted(detections: list[dict], key: str, ids: dict[Any, int]) -> str:
    """A hint where all class numbers one higher, or lower, would be known: who counts from 0 has such."""
    numbers = {key_of(d.get(key)) for d in detections}
    if key != "category_id" or not all(isinstance(number, int) for number in numbers):
        return ""
    for step, word in ((1, "higher"), (-1, "lower")):
        if {number + step for number in numbers} <= ids.keys():
            return f"; with every category_id one {word} it would have all: are the class numbers shifted?"
    return ""


def numbering_hint(
    document: dict, detections: list[dict], ap: float | None, ap_of: Callable[[list], float | None]
) -> str:
    """A line where classes one higher or lower, images by the number in their names, or boxes written in another way
    give a far better AP, or ""."""
    if ap is None or ap >= WORTH_A_HINT or not detections:
        return ""
    order = sorted(category["id"] for category in document["categories"])
    higher = dict(pairwise(order))
    renumbered = {
        "with every class one higher": ("category_id", higher),
        "with every class one lower": ("category_id", {above: below for below, above in higher.items()}),
    }
    numbers = _by_number(document["images"])
    if any(number != image for number, image in numbers.items()):
        renumbered["with image_id as the number in file_name"] = ("image_id", numbers)
    others = {
        f"{how} it would be": [{**d, key: other[d[key]]} for d in detections if d[key] in other]
        for how, (key, other) in renumbered.items()
    }
    for how, read in _OTHER_BOXES.items():
        boxes = [read(*d["bbox"]) for d in detections]
        others[f"with bbox as {how} it would be"] = [
            {**d, "bbox": box} for d, box in zip(detections, boxes) if min(box[2:]) > 0
        ]
    for how, changed in others.items():
        try:
            better = ap_of(changed) if changed else None
        except InputError:  # what is left of them by numbers looks like boxes of another kind
            continue
        if better is not None and better > ap + WORTH_A_HINT:
            return (
                f"AP {ap:.3f}; {how} {better:.3f}: are the detections numbered, or their boxes written, in another way?"
            )
    return ""


_OTHER_BOXES: dict[str, Callable[..., list[float]]] = {
    "the corners [x1, y1, x2, y2]": lambda *corners: bbox(corners),
    "centre and size [cx, cy, width, height]": lambda cx, cy, w, h: [cx - w / 2, cy - h / 2, w, h],
}


def _by_number(images: list[dict]) -> dict[int, int]:
    """Image ids by the number that their file names are, as Ultralytics counts them: 000012.jpg is 12."""
    stems = [(PurePosixPath(image["file_name"]).stem, image["id"]) for image in images]
    numbers = [(int(stem), image_id) for stem, image_id in stems if stem.isascii() and stem.isdecimal()]
    count = Counter(number for number, _ in numbers)
    return {number: image_id for number, image_id in numbers if count[number] == 1}
