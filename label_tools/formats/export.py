"""A COCO document -> LabelMe, Pascal VOC or YOLO files, one per image, and the counts of what went out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from label_tools.text.errors import InputError

FileText = Callable[[dict, list[dict]], tuple[bytes, int]]  # image, its annotations -> content, objects in it


def export_labelme(annotations: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False) -> dict:
    """Write a LabelMe file per image; returns the counts. Raises InputError."""
    from label_tools.document import coco
    from label_tools.formats.labelme_write import file_bytes, file_content

    annotations, out = coco.file_of(annotations), Path(out)
    document = coco.read(annotations)
    names = {c["id"]: c["name"] for c in document["categories"]}

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        folder = (out / image["file_name"]).parent
        picture = coco.image_path(document, annotations, image)
        content = file_content(image, objects, names, _relative(picture, folder))
        groups = {(s["label"], s["group_id"]) for s in content["shapes"] if s["group_id"] is not None}
        single = sum(s["group_id"] is None for s in content["shapes"])
        return file_bytes(content), single + len(groups)

    return _write_all(document, out, ".json", text, overwrite, {})


def export_voc(
    annotations: str | os.PathLike,
    out: str | os.PathLike,
    *,
    decimals: int = 0,
    one_based: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write a VOC file per image; returns the counts. Raises InputError."""
    from label_tools.document import coco
    from label_tools.formats import voc

    document = coco.read(coco.file_of(annotations))
    names = {c["id"]: c["name"] for c in document["categories"]}

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        kept = [a for a in objects if not coco.is_ignore_region(a)]
        pairs = [(names[a["category_id"]], a) for a in kept]
        return voc.file_text(image, pairs, decimals=decimals, one_based=one_based).encode(), len(kept)

    return _write_all(document, Path(out), ".xml", text, overwrite, _ignored(document, crowds=False))


def export_yolo(
    annotations: str | os.PathLike,
    out: str | os.PathLike,
    *,
    outlines: bool = False,
    copy_images: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write a YOLO file per image, the class names and data.yaml; returns the counts. Raises InputError."""
    import yaml

    from label_tools.document import coco
    from label_tools.formats import yolo

    annotations, out = coco.file_of(annotations), Path(out)
    document = coco.read(annotations)
    numbers = {c["id"]: i for i, c in enumerate(sorted(document["categories"], key=lambda c: c["id"]))}
    names = coco.class_names(document)
    if not overwrite and ((out / "classes.txt").exists() or (out / "data.yaml").exists()):
        raise InputError(f"{out}: holds a data set already; choose another --out, or pass --overwrite")

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        kept = [(numbers[a["category_id"]], a) for a in objects if not a["iscrowd"]]
        return yolo.file_text(image, kept, outlines=outlines).encode(), len(kept)

    counts = _write_all(document, out / "labels", ".txt", text, overwrite, _ignored(document, crowds=True))
    _write(out / "classes.txt", "".join(f"{name}\n" for name in names).encode())
    data = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    _write(out / "data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
    if copy_images:
        for image in document["images"]:
            target = out / "images" / image["file_name"]
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(coco.image_path(document, annotations, image), target)
    return counts


def _write_all(
    document: dict, out: Path, suffix: str, text: FileText, overwrite: bool, dropped: dict[str, int]
) -> dict:
    """One file per image. All names are looked at before the first is written."""
    targets = list(_targets(document, out, suffix, overwrite))
    of_image: dict[int, list[dict]] = {}
    for annotation in document["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    written = 0
    for image, target in zip(document["images"], targets):
        content, objects = text(image, of_image.get(image["id"], []))
        _write(target, content)
        written += objects
    copies = _ignore_copies(document)
    return {
        "files": len(targets),
        "objects_in": len(document["annotations"]) - copies,
        "objects_out": written,
        "dropped": dropped,
    }


def _targets(document: dict, out: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    from label_tools.document.coco import is_inside

    taken: dict[str, str] = {}
    for image in document["images"]:
        name = image["file_name"]
        if not is_inside(name):
            raise InputError(f'image {image["id"]}: file_name "{name}" leads out of the folder')
        target = PurePosixPath(name).with_suffix(suffix).as_posix()
        if other := taken.get(target):
            raise InputError(f'images "{other}" and "{name}" would both be labelled by {target}; rename one')
        taken[target] = name
        if not overwrite and (out / target).exists():
            raise InputError(f"{out / target}: exists; choose another --out, or pass --overwrite")
        yield out / target


def _ignored(document: dict, *, crowds: bool) -> dict[str, int]:
    """What a format without crowd and ignore regions leaves out, counted as objects."""
    from label_tools.document.coco import is_ignore_region

    regions = sum(map(is_ignore_region, document["annotations"])) - _ignore_copies(document)
    crowd = sum(a["iscrowd"] and not is_ignore_region(a) for a in document["annotations"]) if crowds else 0
    counts = {"ignore regions, which the format cannot hold": regions, "crowd regions, which it cannot hold": crowd}
    return {reason: n for reason, n in counts.items() if n}


def _ignore_copies(document: dict) -> int:
    """How many annotations repeat an ignore region for a further class."""
    from label_tools.document.coco import is_ignore_region

    regions = [
        (a["image_id"], json.dumps([a["bbox"], a["segmentation"]]))
        for a in document["annotations"]
        if is_ignore_region(a)
    ]
    return len(regions) - len(set(regions))


def _write(path: Path, content: bytes) -> None:
    from label_tools.text.atomic import atomic_write

    with atomic_write(path, durable=False) as file:
        file.write(content)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError as error:  # Windows: another drive
        raise InputError(f"{path} and {folder}: no relative path from one to the other") from error
