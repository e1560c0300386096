"""Read a COCO file as arrays of boxes and labels.

The file's ids become labels 1..K in the order of its categories; 0 is background. Labels become ids again in
`boxes.result_entries`.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file, large_file
from label_tools.files.fast_json import numbers
from label_tools.pictures import open_image
from label_tools.pictures.find_image import refuse_links_out
from label_tools.text.errors import InputError
from toolkit.data import packed_masks


@dataclass(frozen=True)
class Cut:
    """The tiles that the N rows of an `Index` are: squares of `size` pixels with an `overlap`; windows [N,4] int32 XYXY
    pixels of their pictures; picture_ids [N] and picture_sizes [N,2] int32 (height, width)."""

    size: int
    overlap: int
    windows: np.ndarray
    picture_ids: np.ndarray
    picture_sizes: np.ndarray


@dataclass(frozen=True)
class Index:
    """A COCO file as flat arrays: nothing for forked workers to copy page by page (pytorch#13246).

    image_ids [N] int64; sizes [N,2] int32 (height, width); boxes [M,4] float32 XYXY pixels; labels [M] int64 1..K;
    crowd [M] bool; row i owns boxes[first[i]:first[i+1]]. opening: `coco_file.opening`.
    """

    image_root: Path
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    image_ids: np.ndarray
    sizes: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    crowd: np.ndarray
    first: np.ndarray
    names: np.ndarray  # all file names as one buffer of UTF-8 bytes
    name_ends: np.ndarray
    fingerprint: str
    opening: Mapping[str, Any] = field(default_factory=dict)
    outlines: packed_masks.Outlines | None = None  # of a network with masks
    cut: Cut | None = None  # where the rows are tiles of pictures

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def num_pictures(self) -> int:
        """Pictures that the rows are of: of tiles fewer than rows."""
        return len(self) if self.cut is None else len(np.unique(self.cut.picture_ids))

    def name(self, row: int) -> bytes:
        start = self.name_ends[row - 1] if row else 0
        return self.names[start : self.name_ends[row]].tobytes()

    def path(self, row: int) -> Path:
        return self.image_root / self.name(row).decode()

    def objects(self, row: int) -> slice:
        return slice(int(self.first[row]), int(self.first[row + 1]))

    def class_counts(self) -> np.ndarray:
        """[K] objects of each class, crowds left out."""
        return np.bincount(self.labels[~self.crowd] - 1, minlength=len(self.classes))

    def classes_with_objects(self) -> set[str]:
        """Names of the classes that some annotation has, crowds included."""
        return {self.classes[label - 1] for label in np.unique(self.labels)}


def read_index(annotations: Path, check_files: bool = True) -> Index:
    """Read, check and flatten a COCO file. Refuses what would poison training, naming file and annotation."""
    document = coco_file.read(annotations, sizes=open_image.sizes_below)
    return index_of(document, coco_file.image_root(document, annotations), str(annotations), check_files)


def read_large_index(annotations: Path, image_root: Path | None = None) -> Index | None:
    """`read_index` of a large file that needs no repair, in a tenth of the memory; None for any other."""
    digest = hashlib.sha256()
    parts = [lambda entries, text=text: digest.update(text(entries)) for text in _FINGERPRINTS]
    found = large_file.columns(annotations, *parts)
    if found is None or "max_value" in found.info:
        return None
    first = {"info": found.info, "images": [{"file_name": name} for name in found.first_names]}
    order = np.argsort(found.image, kind="stable")
    sizes, owner = found.sizes, found.image[order]
    label_of = {c["id"]: i + 1 for i, c in enumerate(found.categories)}
    numbers, place = np.unique(found.category_ids[order], return_inverse=True)
    index = Index(
        image_root=image_root or coco_file.image_root(first, annotations),
        classes=tuple(str(c["name"]) for c in found.categories),
        category_ids=tuple(int(c["id"]) for c in found.categories),
        image_ids=found.image_ids,
        sizes=sizes,
        boxes=_to_xyxy(found.bbox[order], sizes[owner], [], str(annotations)),
        labels=np.array([label_of[number] for number in numbers.tolist()], dtype=np.int64)[place],
        crowd=found.crowd[order],
        first=np.searchsorted(owner, np.arange(len(sizes) + 1)),
        names=found.names,
        name_ends=found.name_ends,
        fingerprint=digest.hexdigest(),
        opening=coco_file.opening(first, str(annotations)),
    )
    _check_files(index, str(annotations))
    return index


def index_of(document: dict[str, Any], image_root: Path, where: str, check_files: bool = True) -> Index:
    """The Index of a COCO document, as `coco_file.read` gives it, whose file names are relative to `image_root`."""
    categories = document["categories"]
    label_of = {c["id"]: i + 1 for i, c in enumerate(categories)}
    if not document["images"]:
        raise InputError(f"{where}: has no images")
    kept, owner = _by_image(document)
    sizes = np.array([[i["height"], i["width"]] for i in document["images"]], dtype=np.int32)
    xywh = np.array([a["bbox"] for a in kept], dtype=np.float64).reshape(-1, 4)
    boxes = _to_xyxy(xywh, sizes[owner], kept, where)
    names = [str(i["file_name"]).encode() for i in document["images"]]
    index = Index(
        image_root=image_root,
        classes=tuple(str(c["name"]) for c in categories),
        category_ids=tuple(int(c["id"]) for c in categories),
        image_ids=np.array([i["id"] for i in document["images"]], dtype=np.int64),
        sizes=sizes,
        boxes=boxes,
        labels=np.array([label_of[a["category_id"]] for a in kept], dtype=np.int64),
        crowd=np.array([bool(a.get("iscrowd", 0)) for a in kept], dtype=bool),
        first=np.searchsorted(owner, np.arange(len(sizes) + 1)),
        names=np.frombuffer(b"".join(names), dtype=np.uint8),
        name_ends=np.cumsum([len(n) for n in names]),
        fingerprint=_fingerprint(document),
        opening=coco_file.opening(document, where),
    )
    if check_files:
        _check_files(index, where)
    return index


def _check_files(index: Index, where: str) -> None:
    """Raise InputError for the first image that is not there, leads elsewhere or is too large."""
    root, rows = f"{index.image_root}{os.sep}", range(len(index))
    folders: set[str] = set()
    asked = []  # rows of which the file alone, by its name, does not tell that it lies where it seems to
    for row in rows:
        name = index.name(row).decode()
        folder = os.path.dirname(name)
        if folder not in folders or not _is_plain_file(root + name):
            folders.add(folder)
            asked.append(row)
    refuse_links_out(index.image_root, (index.name(row).decode() for row in asked), where)
    most = index.opening.get("max_pixels", open_image.MAX_PIXELS)
    for row in np.flatnonzero(index.sizes[:, 0].astype(np.int64) * index.sizes[:, 1] > most)[:1].tolist():
        raise InputError(f"{index.path(row)}: {open_image.too_large(index.sizes[row, 1], index.sizes[row, 0], most)}")
    for row in asked:
        if not os.path.isfile(index.path(row)):
            raise InputError(
                f"{where}, image {index.image_ids[row]}: {index.path(row)} not found; "
                f"needs the file there, or --images with its folder"
            )


def _is_plain_file(path: str) -> bool:
    try:
        return stat.S_ISREG(os.lstat(path).st_mode)
    except (OSError, ValueError):
        return False


def _by_image(document: dict[str, Any]) -> tuple[list[dict[str, Any]], np.ndarray]:
    """The annotations in the order of their images, and the row of each one's image."""
    rows = {image["id"]: i for i, image in enumerate(document["images"])}
    owner = np.array([rows[a["image_id"]] for a in document["annotations"]], dtype=np.int64)
    order = np.argsort(owner, kind="stable")
    return [document["annotations"][i] for i in order], owner[order]


def without_outline(document: dict[str, Any]) -> list[int]:
    """Ids of the annotations without an outline, crowds left out."""
    return [a["id"] for a in document["annotations"] if not a.get("iscrowd") and not a.get("segmentation")]


def with_outlines(index: Index, document: dict[str, Any]) -> Index:
    """The index of `document` with the outlines of its objects, which count in its fingerprint, too."""
    found = packed_masks.outlines_of(_by_image(document)[0])
    digest = hashlib.sha256(index.fingerprint.encode())
    digest.update(found.text.tobytes())
    return replace(index, outlines=found, fingerprint=digest.hexdigest())


def _to_xyxy(xywh: np.ndarray, sizes: np.ndarray, annotations: list[dict], where: str) -> np.ndarray:
    """[M,4] float32 XYXY. A NaN box would end the process by SIGSEGV inside torchvision (vision#9273)."""
    height, width = sizes[:, 0], sizes[:, 1]
    x1, y1 = xywh[:, 0], xywh[:, 1]
    x2, y2 = x1 + xywh[:, 2], y1 + xywh[:, 3]
    with np.errstate(invalid="ignore"):
        outside = (x1 < -1) | (y1 < -1) | (x2 > width + 1) | (y2 > height + 1)  # 1 px: other tools' rounding
    problems = [
        (~np.isfinite(xywh).all(axis=1), "bbox {0} is not finite"),
        ((xywh[:, 2:] <= 0).any(axis=1), "bbox {0} has no width or height"),
        (outside, "bbox {0} leaves the image"),
    ]
    for bad, text in problems:
        if bad.any():
            i = int(np.argmax(bad))
            raise InputError(
                f"{where}, annotation {annotations[i]['id']}: {text.format(xywh[i].tolist())} "
                f"(image {annotations[i]['image_id']}, {width[i]} x {height[i]} px); "
                f"needs [x, y, w, h] in pixels inside the image; `frcnn check --fix` can repair it"
            )
    boxes = np.stack([x1.clip(0), y1.clip(0), np.minimum(x2, width), np.minimum(y2, height)], axis=1)
    return boxes.astype(np.float32)


def _fingerprint(document: dict[str, Any]) -> str:
    """SHA-256 over what training sees: classes in order, images, boxes."""
    digest = hashlib.sha256()
    if "max_value" in coco_file.opening(document):
        digest.update(f"v{document['info']['max_value']}\n".encode())
    for key, text in zip(("categories", "images", "annotations"), _FINGERPRINTS, strict=True):
        for start in range(0, len(document[key]), 10_000):
            digest.update(text(document[key][start : start + 10_000]))
    return digest.hexdigest()


_FINGERPRINTS: tuple[Callable[[list[dict]], bytes], ...] = (  # of categories, images and annotations
    lambda entries: "".join([f"c{c['id']}:{c['name']}\n" for c in entries]).encode(),
    lambda entries: "".join([f"i{i['id']}:{i['file_name']}:{i['width']}x{i['height']}\n" for i in entries]).encode(),
    lambda entries: "".join(
        [
            f"a{a['image_id']}:{a['category_id']}:{box}:{a.get('iscrowd', 0)}\n"
            for a, box in zip(entries, _texts([a["bbox"] for a in entries]), strict=True)
        ]
    ).encode(),
)


def _texts(boxes: list[list[float]]) -> list[str]:
    """Format boxes as `str` does, several times as fast."""
    if not all(type(box) is list for box in boxes):
        return [str(box) for box in boxes]
    return [f"[{text}]" for text in numbers(boxes)[2:-2].split("], [")] if boxes else []
