"""Export a COCO document to the files of other programs, and count the exported objects."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from label_tools.document import coco_file
from label_tools.document.coco_file import ignore_regions_once, is_ignore_region
from label_tools.files.atomic_write import atomic_write
from label_tools.files.marked_folders import together
from label_tools.formats import cvat, labelme, masks, voc, yolo
from label_tools.pictures.find_image import refuse_links_out
from label_tools.pictures.open_image import image_info, sizes_below
from label_tools.text.errors import InputError
from label_tools.text.rule_limits import MAX_PIXELS

KIND = "export"  # in the marker of a folder


def export_labelme(annotations: str | os.PathLike, out: str | os.PathLike, *, overwrite: bool = False) -> dict:
    """Write a LabelMe file per image; returns the counts. Raises InputError."""
    export = _Export(annotations, out, overwrite, left_out=lambda _: False)
    written, targets = 0, export.targets(".json")
    with export.folder() as made:
        for image, objects, file in targets:
            picture = coco_file.image_path(export.document, export.file, image)
            place = (export.out / image["file_name"]).parent
            content = labelme.file_content(image, objects, export.names, coco_file.relative(picture, place))
            _write(made / file, labelme.file_bytes(content))
            groups = {(s["label"], s["group_id"]) for s in content["shapes"] if s["group_id"] is not None}
            written += sum(s["group_id"] is None for s in content["shapes"]) + len(groups)
    return export.counts(len(targets), written)


def export_voc(
    annotations: str | os.PathLike,
    out: str | os.PathLike,
    *,
    decimals: int = 0,
    one_based: bool = False,
    overwrite: bool = False,
) -> dict:
    """Write a VOC file per image; returns the counts. Raises InputError."""
    export = _Export(annotations, out, overwrite, left_out=is_ignore_region)
    targets = export.targets(".xml")
    with export.folder() as made:
        for image, objects, file in targets:
            pairs = [(export.names[a["category_id"]], a) for a in objects]
            _write(made / file, voc.file_text(image, pairs, decimals=decimals, one_based=one_based).encode())
    return export.counts(len(targets))


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

    export = _Export(annotations, out, overwrite, copy_images)
    names = dict(enumerate(export.classes))
    yolo.checked_names(names, export.file)
    numbers = {category_id: export.classes.index(name) for category_id, name in export.names.items()}
    if not overwrite and ((export.out / "classes.txt").exists() or (export.out / "data.yaml").exists()):
        raise InputError(f"{out}: holds a data set already; choose another --out, or pass --overwrite")
    data = {"path": ".", "train": "images", "val": "images", "names": names}
    targets = export.targets(".txt", "labels")
    with export.folder() as made:
        for image, objects, file in targets:
            pairs = [(numbers[a["category_id"]], a) for a in objects]
            _write(made / file, yolo.file_text(image, pairs, outlines=outlines).encode())
        _write(made / "classes.txt", "".join(f"{name}\n" for name in export.classes).encode())
        _write(made / "data.yaml", yaml.safe_dump(data, sort_keys=False, allow_unicode=True).encode())
    return export.counts(len(targets))


def export_coco(
    annotations: str | os.PathLike, out: str | os.PathLike, *, copy_images: bool = False, overwrite: bool = False
) -> dict:
    """Write out/annotations/instances_default.json with COCO's own keys alone, as CVAT and others take it.

    Returns the counts. Raises InputError.
    """
    export = _Export(annotations, out, overwrite, copy_images, left_out=is_ignore_region)
    target = Path("annotations") / "instances_default.json"
    export.refuse_existing(target)
    keys = ("id", "image_id", "category_id", "bbox", "area", "iscrowd", "segmentation")
    kept = [{key: a[key] for key in keys} for a in export.document["annotations"] if not is_ignore_region(a)]
    with export.folder() as made:
        coco_file.write({**export.document, "info": {}, "annotations": kept}, made / target)
    return export.counts(1)


def export_cvat(
    annotations: str | os.PathLike, out: str | os.PathLike, *, copy_images: bool = False, overwrite: bool = False
) -> dict:
    """Write out/annotations.xml, CVAT 1.1 for images; returns the counts. Raises InputError."""
    export = _Export(annotations, out, overwrite, copy_images)
    export.refuse_existing("annotations.xml")
    images = [
        (image, [(export.names[a["category_id"]], a) for a in export.objects[image["id"]]])
        for image in export.document["images"]
    ]
    with export.folder() as made:
        _write(made / "annotations.xml", cvat.document_text(images, export.classes).encode())
    return export.counts(1)


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
    export = _Export(annotations, out, overwrite, copy_images)
    yolo.checked_names(dict(enumerate(export.classes)), export.file)  # a line each in label_names.txt
    if mode not in ("instance", "class"):
        raise InputError(f"mode {mode!r}, needs instance or class")
    if overlays:
        export.refuse_links_out()
    number_of = {category_id: export.classes.index(name) + 1 for category_id, name in export.names.items()}
    plans = []  # (image, file below masks/, its objects, their values)
    for image, objects, file in export.targets(".png", "masks"):
        if mode == "class":
            plans.append((image, file, objects, [number_of[a["category_id"]] for a in objects]))
            continue
        for k, name in enumerate(export.classes, start=1):
            mine = [a for a in objects if number_of[a["category_id"]] == k]
            if mine or (k == 1 and not objects):
                of_class = Path("masks", _folder_name(name), file.relative_to("masks"))
                export.refuse_existing(of_class)
                plans.append((image, of_class, mine, list(range(1, len(mine) + 1))))
    most = max((max(values, default=0) for *_, values in plans), default=0)
    bits = bits or (8 if most <= masks.LARGEST_8_BIT else 16)
    if most > (masks.LARGEST_8_BIT if bits == 8 else masks.LARGEST_16_BIT):
        raise InputError(f"{export.file}: a mask would need the value {most}, more than {bits} bits hold")
    hidden = 0
    with export.folder() as made:
        for image, file, objects, values in plans:
            pixels, lost = masks.paint_values(image, objects, values)
            hidden += len(lost)
            _write(made / file, masks.png(pixels, bits))
        _write(made / "label_names.txt", "".join(f"{name}\n" for name in ("_background_", *export.classes)).encode())
        for image in export.document["images"] if overlays else ():
            objects = export.objects[image["id"]]
            by_class = [number_of[a["category_id"]] for a in objects]
            values = by_class if mode == "class" else [*range(1, len(objects) + 1)]
            pixels, _ = masks.paint_values(image, objects, values)
            picture = coco_file.image_path(export.document, export.file, image)
            _write(
                (made / "overlays" / image["file_name"]).with_suffix(".jpg"),
                masks.overlay(picture, pixels, **export.opening),
            )
    return export.counts(len(plans), export.written - hidden, hidden)


class _Export:
    """A COCO document on its way out: read, its objects by image, its images copied where that is wanted.

    left_out: which annotations the format cannot hold, by default crowd and ignore regions.
    """

    def __init__(
        self,
        annotations: str | os.PathLike,
        out: str | os.PathLike,
        overwrite: bool,
        copy_images: bool = False,
        left_out: Callable[[dict], bool] = lambda annotation: bool(annotation["iscrowd"]),
    ) -> None:
        self.file, self.out, self.overwrite = coco_file.file_of(annotations), Path(out), overwrite
        self.document = coco_file.read(self.file, sizes=sizes_below)
        self.opening = coco_file.opening(self.document, os.fspath(self.file))
        self.names: dict[int, str] = {c["id"]: c["name"] for c in self.document["categories"]}
        self.classes = coco_file.class_names(self.document)
        self.objects: dict[int, list[dict]] = {image["id"]: [] for image in self.document["images"]}
        self.gone: list[dict] = []
        for annotation in self.document["annotations"]:
            (self.gone if left_out(annotation) else self.objects[annotation["image_id"]]).append(annotation)
        self.written = sum(map(len, self.objects.values()))
        self.copies: list[tuple[str, Path]] = []
        if copy_images:
            self.refuse_links_out()
            root = coco_file.image_root(self.document, self.file)
            self.copies = [(image["file_name"], root / image["file_name"]) for image in self.document["images"]]
            for _, path in self.copies:
                # a file that is no image is not copied
                image_info(path, max_pixels=self.opening.get("max_pixels", MAX_PIXELS))

    def refuse_links_out(self) -> None:
        """Raise InputError where an image lies outside the folder of the images, by its name, by a link, or by an
        absolute image_root: a downloaded file could name anything on this machine."""
        names = (image["file_name"] for image in self.document["images"])
        refuse_links_out(coco_file.image_root(self.document, self.file), names, self.file)

    def refuse_existing(self, file: str | Path) -> None:
        path = self.out / file
        if not self.overwrite and path.exists():
            raise InputError(f"{path}: exists; choose another --out, or pass --overwrite")

    def targets(self, suffix: str, below: str = "") -> list[tuple[dict, list[dict], Path]]:
        """(image, its objects, its file from `out`) of each image. Raises InputError before anything is written."""
        taken: dict[str, str] = {}
        found = []
        for image in self.document["images"]:
            name = image["file_name"]
            if not coco_file.is_inside(name):
                raise InputError(f'image {image["id"]}: file_name "{name}" leads out of the folder')
            target = PurePosixPath(name).with_suffix(suffix).as_posix()
            if other := taken.get(target):
                raise InputError(f'images "{other}" and "{name}" would both be labelled by {target}; rename one')
            taken[target] = name
            self.refuse_existing(Path(below, target))
            found.append((image, self.objects[image["id"]], Path(below, target)))
        return found

    @contextmanager
    def folder(self) -> Iterator[Path]:
        """Where to write the files of `out`, by the rules of `together`; images are copied at the end."""
        with together(self.out, KIND, inputs=[self.file], keep=True) as made:
            yield made
            for name, path in self.copies:
                with open(path, "rb") as source, atomic_write(made / "images" / name, durable=False) as file:
                    shutil.copyfileobj(source, file)

    def counts(self, files: int, written: int | None = None, hidden: int = 0) -> dict:
        """Count exported and omitted objects; an ignore region, held once per class, counts once."""
        gone = Counter(map(is_ignore_region, ignore_regions_once(self.gone)))
        dropped = {
            "ignore regions, which the format cannot hold": gone[True],
            "crowd regions, which it cannot hold": gone[False],
            "objects wholly covered by smaller ones": hidden,
        }
        return {
            "files": files,
            "objects_in": len(ignore_regions_once(self.document["annotations"])),
            "objects_out": self.written if written is None else written,
            "dropped": {reason: n for reason, n in dropped.items() if n},
        }


def _folder_name(name: str) -> str:
    """A class's name, where it can be that of a folder on every system. Raises InputError."""
    if not name.strip(". ") or any(c in '<>:"/\\|?*' or not c.isprintable() for c in name):
        raise InputError(f'class "{name}" cannot be the name of a folder; --mode class, or rename it: `frcnn remap`')
    return name


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path, durable=False) as file:
        file.write(content)
