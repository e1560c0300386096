"""A COCO document -> the files of other programs, and the counts of what went out."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath

from label_tools.files.atomic_write import atomic_write
from label_tools.files.marked_folders import together
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError

KIND = "export"  # in the marker of a folder
FileText = Callable[[dict, list[dict]], tuple[bytes, int]]  # image, its annotations -> content, objects in it


def export_labelme(annotations: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False) -> dict:
    """Write a LabelMe file per image; returns the counts. Raises InputError."""
    from label_tools.document import coco_file
    from label_tools.formats.labelme_write import file_bytes, file_content

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    names = {c["id"]: c["name"] for c in document["categories"]}

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        folder = (out / image["file_name"]).parent
        picture = coco_file.image_path(document, annotations, image)
        content = file_content(image, objects, names, _relative(picture, folder))
        groups = {(s["label"], s["group_id"]) for s in content["shapes"] if s["group_id"] is not None}
        single = sum(s["group_id"] is None for s in content["shapes"])
        return file_bytes(content), single + len(groups)

    with together(out, KIND, inputs=[annotations], keep=True) as made:
        return _write_all(document, out, made, ".json", text, overwrite, {})


def export_voc(
    annotations: str | os.PathLike,
    out: str | os.PathLike,
    *,
    decimals: int = 0,
    one_based: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write a VOC file per image; returns the counts. Raises InputError."""
    from label_tools.document import coco_file
    from label_tools.formats import voc

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    names = {c["id"]: c["name"] for c in document["categories"]}

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        kept = [a for a in objects if not coco_file.is_ignore_region(a)]
        pairs = [(names[a["category_id"]], a) for a in kept]
        return voc.file_text(image, pairs, decimals=decimals, one_based=one_based).encode(), len(kept)

    with together(out, KIND, inputs=[annotations], keep=True) as made:
        return _write_all(document, out, made, ".xml", text, overwrite, _ignored(document, crowds=False))


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

    from label_tools.document import coco_file
    from label_tools.formats import yolo

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    copies = _copies(document, annotations, copy_images)
    numbers = {c["id"]: i for i, c in enumerate(sorted(document["categories"], key=lambda c: c["id"]))}
    names = coco_file.class_names(document)
    yolo.checked_names(dict(enumerate(names)), annotations)
    if not overwrite and ((out / "classes.txt").exists() or (out / "data.yaml").exists()):
        raise InputError(f"{out}: holds a data set already; choose another --out, or pass --overwrite")

    def text(image: dict, objects: list[dict]) -> tuple[bytes, int]:
        kept = [(numbers[a["category_id"]], a) for a in objects if not a["iscrowd"]]
        return yolo.file_text(image, kept, outlines=outlines).encode(), len(kept)

    data = {"path": ".", "train": "images", "val": "images", "names": dict(enumerate(names))}
    with together(out, KIND, inputs=[annotations], keep=True) as made:
        dropped = _ignored(document, crowds=True)
        counts = _write_all(document, out / "labels", made / "labels", ".txt", text, overwrite, dropped)
        _write(made / "classes.txt", "".join(f"{name}\n" for name in names).encode())
        _write(made / "data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
        _copy(copies, made / "images")
    return counts


def export_coco(
    annotations: str | os.PathLike, out: str | os.PathLike, *, copy_images: bool = False, overwrite: bool = False
) -> dict:
    """Write out/annotations/instances_default.json with COCO's own keys alone, as CVAT and others take it.

    Returns the counts. Raises InputError.
    """
    from label_tools.document import coco_file

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    copies = _copies(document, annotations, copy_images)
    target = Path("annotations") / "instances_default.json"
    _refuse_existing(out / target, overwrite)
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
    kept = [{key: a[key] for key in keys} for a in document["annotations"] if not coco_file.is_ignore_region(a)]
    with together(out, KIND, inputs=[annotations], keep=True) as made:
        coco_file.write({**document, "info": {}, "annotations": kept}, made / target)
        _copy(copies, made / "images")
    return _counts(document, 1, len(kept), _ignored(document, crowds=False))


def export_cvat(
    annotations: str | os.PathLike, out: str | os.PathLike, *, copy_images: bool = False, overwrite: bool = False
) -> dict:
    """Write out/annotations.xml, CVAT 1.1 for images; returns the counts. Raises InputError."""
    from label_tools.document import coco_file
    from label_tools.formats import cvat

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    copies = _copies(document, annotations, copy_images)
    _refuse_existing(out / "annotations.xml", overwrite)
    names = {c["id"]: c["name"] for c in document["categories"]}
    kept = _of_images(document)
    images = [(i, [(names[a["category_id"]], a) for a in kept[i["id"]]]) for i in document["images"]]
    with together(out, KIND, inputs=[annotations], keep=True) as made:
        _write(made / "annotations.xml", cvat.document_text(images, coco_file.class_names(document)).encode())
        _copy(copies, made / "images")
    return _counts(document, 1, sum(map(len, kept.values())), _ignored(document, crowds=True))


def export_masks(
    annotations: str | os.PathLike,
    out: str | os.PathLike,
    *,
    mode: str = "instance",
    bits: int | None = None,
    overlays: bool = True,
    copy_images: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write masks with the names of their photographs, label_names.txt and overlays; returns the counts.

    mode: "instance", out/masks/CLASS/a.png, where the objects of that class are 1, 2, ...; "class", out/masks/a.png,
    where the k-th class is k. bits: 8, with a palette, or 16; None: 8 where the values fit. An image without objects
    has an empty mask (of the first class). Raises InputError.
    """
    from label_tools.document import coco_file
    from label_tools.formats import masks_write, yolo
    from label_tools.pictures.find_image import refuse_links_out

    annotations, out = coco_file.file_of(annotations), Path(out)
    document = coco_file.read(annotations, sizes=sizes_below)
    copies = _copies(document, annotations, copy_images)
    names = coco_file.class_names(document)
    yolo.checked_names(dict(enumerate(names)), annotations)  # a line each in label_names.txt
    if mode not in ("instance", "class"):
        raise InputError(f"mode {mode!r}, needs instance or class")
    if overlays:
        files = (image["file_name"] for image in document["images"])
        refuse_links_out(coco_file.image_root(document, annotations), files, annotations)
    number_of = {c["id"]: names.index(c["name"]) + 1 for c in document["categories"]}
    kept = _of_images(document)
    plans = []  # (image, file, its objects, their values)
    for image, target in zip(document["images"], _targets(document, out / "masks", ".png", overwrite)):
        objects = kept[image["id"]]
        if mode == "class":
            plans.append((image, target, objects, [number_of[a["category_id"]] for a in objects]))
            continue
        for k, name in enumerate(names, start=1):
            mine = [a for a in objects if number_of[a["category_id"]] == k]
            if mine or (k == 1 and not objects):
                file = out / "masks" / _folder_name(name) / target.relative_to(out / "masks")
                _refuse_existing(file, overwrite)
                plans.append((image, file, mine, list(range(1, len(mine) + 1))))
    most = max((max(values, default=0) for *_, values in plans), default=0)
    bits = bits or (8 if most <= masks_write.LARGEST_8_BIT else 16)
    if most > (masks_write.LARGEST_8_BIT if bits == 8 else masks_write.LARGEST_16_BIT):
        raise InputError(f"{annotations}: a mask would need the value {most}, more than {bits} bits hold")
    hidden = 0
    with together(out, KIND, inputs=[annotations], keep=True) as made:
        for image, file, objects, values in plans:
            pixels, lost = masks_write.paint_values(image, objects, values)
            hidden += len(lost)
            _write(made / file.relative_to(out), masks_write.png(pixels, bits))
        _write(made / "label_names.txt", "".join(f"{name}\n" for name in ("_background_", *names)).encode())
        for image in document["images"] if overlays else ():
            objects = kept[image["id"]]
            by_class = [number_of[a["category_id"]] for a in objects]
            values = by_class if mode == "class" else [*range(1, len(objects) + 1)]
            pixels, _ = masks_write.paint_values(image, objects, values)
            file = (made / "overlays" / image["file_name"]).with_suffix(".jpg")
            _write(file, masks_write.overlay(coco_file.image_path(document, annotations, image), pixels))
        _copy(copies, made / "images")
    dropped = _ignored(document, crowds=True)
    if hidden:
        dropped["objects of which nothing is to be seen below smaller ones"] = hidden
    return _counts(document, len(plans), sum(map(len, kept.values())) - hidden, dropped)


def _of_images(document: dict) -> dict[int, list[dict]]:
    """Image id -> its annotations, without crowd and ignore regions."""
    kept: dict[int, list[dict]] = {image["id"]: [] for image in document["images"]}
    for annotation in document["annotations"]:
        if not annotation["iscrowd"]:
            kept[annotation["image_id"]].append(annotation)
    return kept


def _folder_name(name: str) -> str:
    """A class's name, where it can be that of a folder on every system. Raises InputError."""
    if not name.strip(". ") or any(c in '<>:"/\\|?*' or not c.isprintable() for c in name):
        raise InputError(f'class "{name}" cannot be the name of a folder; --mode class, or rename it: `frcnn remap`')
    return name


def _copies(document: dict, annotations: Path, wanted: bool) -> dict[str, Path]:
    """{file_name: the image} of what --copy-images is to copy; nothing is copied yet.

    Raises InputError for what is missing or no image, and for what lies outside the folder of the images, by its name,
    by a link, or by an absolute image_root: a file from elsewhere could name anything on this machine.
    """
    from label_tools.document import coco_file
    from label_tools.pictures.find_image import refuse_links_out
    from label_tools.pictures.open_image import image_info

    if not wanted:
        return {}
    root = coco_file.image_root(document, annotations)
    names = [image["file_name"] for image in document["images"]]
    refuse_links_out(root, names, annotations)
    for name in names:
        image_info(root / name)  # a file that is no image is not copied
    return {name: root / name for name in names}


def _copy(copies: dict[str, Path], folder: Path) -> None:
    for name, path in copies.items():
        with open(path, "rb") as source, atomic_write(folder / name, durable=False) as file:
            shutil.copyfileobj(source, file)


def _refuse_existing(path: Path, overwrite: bool) -> None:
    if not overwrite and path.exists():
        raise InputError(f"{path}: exists; choose another --out, or pass --overwrite")


def _counts(document: dict, files: int, written: int, dropped: dict[str, int]) -> dict:
    objects = len(document["annotations"]) - _ignore_copies(document)
    return {"files": files, "objects_in": objects, "objects_out": written, "dropped": dropped}


def _write_all(
    document: dict, out: Path, made: Path, suffix: str, text: FileText, overwrite: bool, dropped: dict[str, int]
) -> dict:
    """One file per image, written to `made` for `out`. All names are looked at before the first is written."""
    targets = list(_targets(document, out, suffix, overwrite))
    of_image: dict[int, list[dict]] = {}
    for annotation in document["annotations"]:
        of_image.setdefault(annotation["image_id"], []).append(annotation)
    written = 0
    for image, target in zip(document["images"], targets):
        content, objects = text(image, of_image.get(image["id"], []))
        _write(made / target.relative_to(out), content)
        written += objects
    return _counts(document, len(targets), written, dropped)


def _targets(document: dict, out: Path, suffix: str, overwrite: bool) -> Iterator[Path]:
    from label_tools.document.coco_file import is_inside

    taken: dict[str, str] = {}
    for image in document["images"]:
        name = image["file_name"]
        if not is_inside(name):
            raise InputError(f'image {image["id"]}: file_name "{name}" leads out of the folder')
        target = PurePosixPath(name).with_suffix(suffix).as_posix()
        if other := taken.get(target):
            raise InputError(f'images "{other}" and "{name}" would both be labelled by {target}; rename one')
        taken[target] = name
        _refuse_existing(out / target, overwrite)
        yield out / target


def _ignored(document: dict, *, crowds: bool) -> dict[str, int]:
    """What a format without crowd and ignore regions leaves out, counted as objects."""
    from label_tools.document.coco_file import is_ignore_region

    regions = sum(map(is_ignore_region, document["annotations"])) - _ignore_copies(document)
    crowd = sum(a["iscrowd"] and not is_ignore_region(a) for a in document["annotations"]) if crowds else 0
    counts = {"ignore regions, which the format cannot hold": regions, "crowd regions, which it cannot hold": crowd}
    return {reason: n for reason, n in counts.items() if n}


def _ignore_copies(document: dict) -> int:
    """How many annotations repeat an ignore region for a further class."""
    from label_tools.document.coco_file import is_ignore_region

    regions = [
        (a["image_id"], json.dumps([a["bbox"], a["segmentation"]]))
        for a in document["annotations"]
        if is_ignore_region(a)
    ]
    return len(regions) - len(set(regions))


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, durable=False) as file:
        file.write(content)


def _relative(path: Path, folder: Path) -> str:
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError as error:  # Windows: another drive
        raise InputError(f"{path} and {folder}: no relative path from one to the other") from error
