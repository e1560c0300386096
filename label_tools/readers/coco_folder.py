"""Read a COCO file of any program, or several as one set, into a Reading."""

from __future__ import annotations

import os
from array import array
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from label_tools.document import coco_file, repair
from label_tools.files.pause_gc import collector_paused
from label_tools.formats.image_records import ImageRecord, Tally, new_record
from label_tools.formats.labelme import IGNORE_LABEL
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.reading import Reading, with_bar
from label_tools.shapes.instances import Instance, RefusedError
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR
from label_tools.text.rule_limits import MAX_PIXELS


def read_coco(
    source: str | os.PathLike,
    *,
    files: Sequence[str | os.PathLike] = (),
    max_value: float | None = None,
    **reading: Any,
) -> Reading:
    """Read a COCO file of any program and its images' headers; its class names are in the order of their ids.

    files: several files in the folder `source`, such as train/_annotations.coco.json and valid/..., which are read as
    one set. max_value: the white level, in place of those that the files state. reading: the keywords of `_read_file`,
    the same for each file. Raises InputError.
    """
    readings = [_read_file(file, **reading) for file in files or [source]]
    for one in readings if max_value is not None else ():
        one.opening["max_value"] = max_value
    return _joined(source, readings) if files else readings[0]


@collector_paused()
def _read_file(
    source: str | os.PathLike,
    *,
    image_root: str | os.PathLike | None = None,
    follow_links: bool = False,
    max_pixels: int = MAX_PIXELS,
    crowd_as_object: bool = False,
    search: str | os.PathLike | None = None,
    unlabeled_is_negative: bool = False,
) -> Reading:
    """image_root: by default the one that the file states, else its folder; search: the folder to search instead, if
    the first pictures are not there. crowd_as_object: annotations with iscrowd 1 are objects. unlabeled_is_negative:
    changes nothing here, as a COCO file lists its images itself."""
    source = Path(source)
    raw = coco_file.read_raw(source)
    root = Path(image_root if image_root is not None else coco_file.image_root(raw, source))
    if not root.is_dir():
        raise InputError(f"{root}: no such folder")
    there = any(os.path.isfile(root / name) for name in coco_file.first_names(raw))
    if image_root is None and search is not None and not there:
        root = Path(search)
    found = repair.examine(raw, str(source), sizes_below(root), crowd_as_object=crowd_as_object)
    document, findings = found.usable(), found.findings
    opening = coco_file.opening(raw, str(source))
    most = max(max_pixels, opening.get("max_pixels", MAX_PIXELS))
    images = ImageFolder(root, max_pixels=most, follow_links=follow_links)
    errors = [f for f in findings if f.level == ERROR]
    left_out = Counter(f.code for f in errors if not f.place.startswith("images["))
    images_left_out = [f.code for f in errors if f.place.startswith("images[")]  # with all their objects
    if copies := sum(f.code == "B12" for f in findings):
        left_out["B12"] += copies
    tally = Tally(len(raw["annotations"]), 0, left_out, findings)
    if images_left_out:
        tally.skipped["images left out"] += len(images_left_out)
        gone = len(raw["annotations"]) - len(document["annotations"]) - tally.dropped.total()
        tally.dropped.update({images_left_out[0]: gone} if gone else {})
    names = {c["id"]: c["name"] for c in document["categories"]}
    of_image = coco_file.by_image(document)
    document["annotations"].clear()  # each goes when its object is made
    raw["annotations"].clear()
    records = []
    for image in with_bar(document["images"]):
        annotations = of_image.pop(image["id"])
        try:
            record = _coco_image(image, images, str(source), tally)
        except RefusedError as error:
            tally.drop_image(error, str(source), f'image {image["id"]} "{image["file_name"]}"', len(annotations))
            continue
        record.instances = [_coco_instance(a, names) for a in coco_file.ignore_regions_once(annotations)]
        tally.merged += len(annotations) - len(record.instances)
        records.append(record)
    return Reading(source, root, records, tally, [names[i] for i in sorted(names)], opening)


def _joined(source: str | os.PathLike, readings: Sequence[Reading]) -> Reading:
    names = list(dict.fromkeys(name for one in readings for name in one.names or ()))
    root = Path(os.path.commonpath([os.path.abspath(one.image_root) for one in readings]))
    tally = Tally()
    for one in readings:
        below = os.path.relpath(os.path.abspath(one.image_root), root).replace(os.sep, "/")
        tally.add(one.tally)
        for record in one.records if below != "." else ():
            record.file_name = f"{below}/{record.file_name}"
    records = [record for one in readings for record in one.records]
    opening = coco_file.joined_opening((one.source, one.opening) for one in readings)
    return Reading(Path(source), root, records, tally, names, opening)


def _coco_image(image: dict, images: ImageFolder, source: str, tally: Tally) -> ImageRecord:
    remark = tally.remarks(source, f"image {image['id']}")
    path = images.find(image["file_name"], images.root, remark)
    info = images.info(path)
    if (image["width"], image["height"]) != (info.width, info.height):
        text = f"says {image['width']} x {image['height']}, the image is {info.width} x {info.height}"
        if (image["width"], image["height"]) == info.stored_size:
            text += f" after its EXIF rotation {info.orientation}"
        raise RefusedError("B52", text, "restore the image that was labelled, or save it upright")
    return new_record(images, path, info, f"{source}, image {image['id']}", remark)


def _coco_instance(annotation: dict, names: dict[int, str]) -> Instance:
    ours = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation", "label")
    extra = {k: v for k, v in annotation.items() if k not in ours}
    ignored = coco_file.is_ignore_region(annotation)
    shape = annotation["segmentation"]
    x, y, w, h = map(float, annotation["bbox"])
    return Instance(
        IGNORE_LABEL if ignored else names[annotation["category_id"]],
        (x, y, w, h),
        float(annotation["area"]),
        () if isinstance(shape, dict) else tuple(array("d", p) for p in shape),
        shape if isinstance(shape, dict) else None,
        bool(annotation["iscrowd"]),
        f"annotation {annotation['id']}",
        extra or None,
    )
