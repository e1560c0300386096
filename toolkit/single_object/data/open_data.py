"""`--data`: a generator's name, an original PurdueShapes5 file, or the user's own labelled folder.

Of a COCO file each image gives one object:

    dominant   images with exactly one object whose area reaches `min_area`; smaller ones beside it do not matter.
               The homework asks for 200 x 200 pixels in COCO's 640 x 480: 13 % of the image. Its code counts each
               class for itself, so that a bus and a pizza in one image both pass; here all classes count together
    largest    every image with an object: the one with the largest box

Pictures are resized to size x size, boxes with them (x and y each by its own factor). Crowds never count.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.document import coco_file
from label_tools.pictures import open_image
from label_tools.pictures.find_image import refuse_links_out
from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.single_object.data import drawn_dominant_largest, purdue_shapes5
from toolkit.single_object.data.digits import draw_digit_grid, draw_digits
from toolkit.single_object.data.samples import Object, Samples

SELECTIONS = ("dominant", "largest")
DRAWN = ("shapes5", "digits", "digit_grid", "dominant", "largest")
_TRAIN_SEED, _VAL_SEED = 0, 1  # of the drawn sets; the same for every run, so that runs can be compared


@dataclass(frozen=True)
class Selection:
    """How one object is chosen. min_area: a share of the image, or pixels of the original image when 1 or more."""

    kind: str = "dominant"
    size: int = 256
    min_area: float = 0.13
    classes: tuple[str, ...] = ()  # only these; empty: all of the file
    keep_empty: bool = False  # keep images without an object, for networks with a presence output

    def __post_init__(self) -> None:
        if self.kind not in SELECTIONS:
            raise InputError(f"--select {self.kind}: needs {' or '.join(SELECTIONS)}")
        if not 16 <= self.size <= 2048:
            raise InputError(f"--size {self.size}: needs 16 to 2048 pixels")
        if not self.min_area > 0:
            raise InputError(f"--min-area {self.min_area}: needs a share under 1, or pixels")


def open_data(
    data: str, val: Path | None, train_images: int, val_images: int, selection: Selection
) -> tuple[Samples, Samples]:
    """-> (training, validation) samples.

    data: `shapes5`, `shapes5-noise20` (per cent), `digits`, `digit_grid`, `dominant`, `largest`: drawn, as many as
    asked for. A folder with train.json and val.json (made by `frcnn split`), a COCO file together with `val`, a
    Pascal VOC folder (Annotations, JPEGImages, ImageSets/Main/train.txt and val.txt), or a PurdueShapes5 .gz file
    together with `val`: read whole.
    """
    if is_drawn(data):
        name, _, noise = data.partition("-noise")
        if noise and name != "shapes5":
            raise InputError(f"--data {data}: only shapes5 has noise variants")
        if selection.classes:
            raise InputError(f"--classes {' '.join(selection.classes)}: chooses from files, --data {data} is drawn")
        if val:
            raise InputError(f"--val {val}: is for files, --data {data} is drawn, with its validation pictures")
        share = int(noise or 0) / 100
        return (draw(name, "train", train_images, selection, share), draw(name, "val", val_images, selection, share))
    path = Path(data)
    parts = check_files(path, val)
    if parts is None:
        return _voc(path, selection)
    if path.suffix == ".gz":
        if selection.classes:
            raise InputError(f"--classes {' '.join(selection.classes)}: {path} is read whole")
        pair = [purdue_shapes5.read_purdue(part) for part in parts]
    else:
        pair = [read_coco(part, selection) for part in parts]
    if pair[0].classes != pair[1].classes:
        raise InputError(
            f"{parts[1]}: has the classes {', '.join(pair[1].classes)}, {parts[0]} has "
            f"{', '.join(pair[0].classes)}; needs the same in the same order"
        )
    return pair[0], pair[1]


def is_drawn(data: str) -> bool:
    """Whether `--data` names pictures that we draw, not a file or folder."""
    return re.fullmatch(rf"({'|'.join(DRAWN)})(-noise\d{{1,2}})?", data) is not None


def draw(name: str, part: str, count: int, selection: Selection, noise: float = 0.0) -> Samples:
    """`count` drawn pictures of part "train" or "val"; of `selection` the size and keep_empty count."""
    seed = _TRAIN_SEED if part == "train" else _VAL_SEED
    if name == "shapes5":
        return purdue_shapes5.draw_shapes5(count, seed=seed, noise=noise)
    if name in ("dominant", "largest"):
        return drawn_dominant_largest.draw(name, count, side=selection.size, seed=seed, keep_empty=selection.keep_empty)
    return (draw_digits if name == "digits" else draw_digit_grid)(count, seed=seed, part=part)


def _voc(path: Path, selection: Selection) -> tuple[Samples, Samples]:
    """Train and val of a Pascal VOC folder; its corners count from 1, see the conversion's `one_based`."""
    conversion = convert(path, "voc", one_based=True)
    document = conversion.document(path / "annotations.json")
    pair = []
    for part in ("train", "val"):
        listed = path / "ImageSets" / "Main" / f"{part}.txt"
        try:
            names = {line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"{listed}: cannot be read; a VOC folder lists its parts there; or use `frcnn convert` "
                "and `frcnn split`"
            ) from None
        images = [i for i in document["images"] if Path(i["file_name"]).stem in names]
        samples = choose({**document, "images": images}, conversion.image_root, selection, f"{path} {part}")
        lost = len(names) - len({Path(i["file_name"]).stem for i in images})
        samples.left_out.update({f"listed in {part}.txt, without labels that can be read": lost} if lost else {})
        pair.append(samples)
    return pair[0], pair[1]


def check_files(path: Path, val: Path | None = None) -> tuple[Path, Path] | None:
    """The files to train on and to validate on, None for a VOC folder. Refuses what is not there, reads nothing."""
    if not path.exists():
        raise InputError(
            f"--data {path}: not found; needs {', '.join(DRAWN)}, a folder of `frcnn split`, a COCO file "
            "with --val, or a PurdueShapes5 .gz file with --val"
        )
    if path.is_dir() and (path / "Annotations").is_dir():
        if val:
            raise InputError(f"--val {val}: a VOC folder has its own, ImageSets/Main/val.txt in {path}")
        return None
    if path.is_dir():
        pair = path / "train.json", val or path / "val.json"
        if not pair[0].is_file():
            raise InputError(
                f"{path}: holds no train.json; `frcnn convert` and `frcnn split` make one from LabelMe, "
                "masks, VOC, YOLO or COCO"
            )
    elif val is None:
        raise InputError(f"{path}: needs --val FILE to validate on")
    else:
        pair = path, val
    if not pair[1].is_file():
        raise InputError(f"{pair[1]}: not found; needs a file to validate on")
    return pair


def read_coco(annotations: Path, selection: Selection) -> Samples:
    """Samples of a COCO file. Raises InputError when nothing is left; `left_out` counts the images not taken."""
    document = coco_file.read(annotations, sizes=open_image.sizes_below)
    return choose(document, coco_file.image_root(document, annotations), selection, str(annotations))


def choose(document: coco_file.Document, root: Path, selection: Selection, name: str) -> Samples:
    """The same from a document in memory, `file_name` starting from `root`."""
    refuse_links_out(root, (image["file_name"] for image in document["images"]), name)
    opening = coco_file.opening(document, name)
    wanted = _wanted(document, selection.classes, name)
    classes = tuple(wanted.values())
    label_of = {category_id: label for label, category_id in enumerate(wanted)}
    by_image: dict[int, list[dict]] = {}
    for annotation in document["annotations"]:
        if not annotation["iscrowd"] and annotation["category_id"] in wanted:
            by_image.setdefault(annotation["image_id"], []).append(annotation)
    left_out: Counter = Counter()
    files: list[str] = []
    pixels: list[np.ndarray] = []
    objects: list[Object] = []
    for image in sorted(document["images"], key=lambda image: image["file_name"]):
        chosen, reason = pick(by_image.get(image["id"], []), image, selection)
        if chosen is None and not (selection.keep_empty and reason == "without an object"):
            left_out[reason] += 1
            continue
        if chosen is not None:
            objects.append((len(files), label_of[chosen["category_id"]], scaled(chosen["bbox"], image, selection.size)))
        pixels.append(square(root / image["file_name"], image, selection.size, opening))
        files.append(image["file_name"])
    if not objects:
        found = ", ".join(f"{count} {reason}" for reason, count in sorted(left_out.items()))
        found = found or (f"{counted(len(files), 'image')} without any" if files else "no images")
        way = "; try --select largest or a smaller --min-area" if selection.kind == "dominant" else ""
        raise InputError(f"{name}: no image has a {selection.kind} object ({found}){way}")
    about = f"{selection.kind} of {Path(name).name}"
    return Samples.of(about, classes, np.stack(pixels), objects, files=tuple(files), left_out=left_out)


def pick(annotations: list[dict], image: dict, selection: Selection) -> tuple[dict | None, str]:
    """-> (the chosen annotation, ""), or (None, why this image has none)."""
    if not annotations:
        return None, "without an object"
    if selection.kind == "largest":
        return max(annotations, key=lambda a: (a["bbox"][2] * a["bbox"][3], -a["id"])), ""
    least = selection.min_area
    if least < 1:
        least *= image["width"] * image["height"]
    large = [a for a in annotations if a["area"] >= least]
    if len(large) == 1:
        return large[0], ""
    return None, "with several dominant objects" if large else "without a dominant object"


def scaled(bbox: Sequence[float], image: dict, size: int) -> list[float]:
    """COCO bbox in the image's pixels -> XYXY in size x size."""
    x, y, width, height = bbox
    across, down = size / image["width"], size / image["height"]
    corners = (x * across, y * down, (x + width) * across, (y + height) * down)
    return [min(max(v, 0.0), float(size)) for v in corners]


def square(path: Path, image: dict, size: int, opening: Mapping[str, Any]) -> np.ndarray:
    """The picture as [3,size,size] uint8, opened by `opening`; refused when not as large as the document says."""
    picture = open_image.open_image(path, **opening)
    check_size(picture.size, image, path)
    resized = picture.resize((size, size), Image.Resampling.BILINEAR)
    return np.ascontiguousarray(np.asarray(resized).transpose(2, 0, 1))


def check_size(size: tuple[int, int], image: dict, path: Path) -> None:
    """Refuse a picture whose size differs from its labels': its boxes would be misplaced."""
    if size != (image["width"], image["height"]):
        raise InputError(
            f"{path}: is {size[0]} x {size[1]} pixels, its labels say {image['width']} x {image['height']}"
        )


def _wanted(document: coco_file.Document, names: tuple[str, ...], where: str) -> dict[int, str]:
    """{category id: name} of the classes asked for, in the order of their ids."""
    known = {c["id"]: c["name"] for c in sorted(document["categories"], key=lambda c: c["id"])}
    missing = set(names) - set(known.values())
    if missing:
        raise InputError(f"{where}: has no class {', '.join(sorted(missing))}; it has {', '.join(known.values())}")
    return {i: name for i, name in known.items() if not names or name in names}
