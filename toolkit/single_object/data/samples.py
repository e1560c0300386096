"""Data of a baseline in memory: pictures of one size and their objects."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.data.boxes import bbox

Object = tuple[int, int, Sequence[float]]  # the row of its image, label, box XYXY pixels


class One(NamedTuple):
    """At most one object an image. Where `present` is False, `labels` is 0 and `boxes` are zeros."""

    present: Tensor  # [N] bool
    labels: Tensor  # [N] int64, 0..K-1
    boxes: Tensor  # [N,4] XYXY pixels, half-open


@dataclass(frozen=True)
class Samples:
    """N images and M objects. `owner` tells the image of an object; objects stand in the order of their images."""

    name: str
    classes: tuple[str, ...]
    images: Tensor  # [N,C,H,W] uint8
    owner: Tensor  # [M] int64
    labels: Tensor  # [M] int64, 0..K-1
    boxes: Tensor  # [M,4] float32 XYXY pixels, half-open
    files: tuple[str, ...] = ()
    left_out: Counter = field(default_factory=Counter)  # reason -> images of the source that are not here

    def __post_init__(self) -> None:
        count, (height, width) = len(self.images), self.size
        if not len(self.owner) == len(self.labels) == len(self.boxes):
            raise InputError(f"{self.name}: {len(self.labels)} labels, {len(self.boxes)} boxes, needs as many of each")
        if not len(self.owner):
            return
        if int(self.owner.min()) < 0 or int(self.owner.max()) >= count:
            raise InputError(f"{self.name}: an object belongs to image {int(self.owner.max())} of {count}")
        if int(self.labels.min()) < 0 or int(self.labels.max()) >= len(self.classes):
            raise InputError(f"{self.name}: label {int(self.labels.max())}, needs 0 to {len(self.classes) - 1}")
        edge = torch.tensor([width, height, width, height])
        fine = torch.isfinite(self.boxes) & (self.boxes >= 0) & (self.boxes <= edge)
        fine = fine.all(1) & (self.boxes[:, 2:] > self.boxes[:, :2]).all(1)
        if not fine.all():
            row = int((~fine).nonzero()[0])
            raise InputError(
                f"{self.name}, image {self.file(int(self.owner[row]))}: box {self.boxes[row].tolist()} is empty or "
                f"outside of {width} x {height} pixels"
            )

    @classmethod
    def of(cls, name: str, classes: tuple[str, ...], images: np.ndarray, objects: list[Object], **more: Any) -> Samples:
        """From images [N,C,H,W] uint8 and a row (image, label, box) for each object."""
        return cls(
            name,
            classes,
            torch.from_numpy(images),
            torch.tensor([row for row, _, _ in objects], dtype=torch.int64),
            torch.tensor([label for _, label, _ in objects], dtype=torch.int64),
            torch.tensor([box for _, _, box in objects]).float().reshape(-1, 4),
            **more,
        )

    def __len__(self) -> int:
        return len(self.images)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of every image."""
        return int(self.images.shape[2]), int(self.images.shape[3])

    def file(self, row: int) -> str:
        return self.files[row] if self.files else f"{self.name}_{row:05d}"

    def per_image(self) -> Tensor:
        """Number of objects of each image, [N]."""
        return torch.bincount(self.owner, minlength=len(self))

    def one(self) -> One:
        """The single object of each image. Raises InputError naming an image that has several."""
        counts = self.per_image()
        if len(counts) and int(counts.max()) > 1:
            row = int(counts.argmax())
            raise InputError(
                f"{self.name}, image {self.file(row)}: {int(counts[row])} objects, a single-object baseline needs one"
            )
        present = counts > 0
        labels = torch.zeros(len(self), dtype=torch.int64)
        boxes = torch.zeros(len(self), 4)
        labels[self.owner], boxes[self.owner] = self.labels, self.boxes
        return One(present, labels, boxes)

    def first(self, count: int) -> Samples:
        """The first `count` images with their objects."""
        mine = self.owner < count
        return replace(
            self,
            images=self.images[:count],
            owner=self.owner[mine],
            labels=self.labels[mine],
            boxes=self.boxes[mine],
            files=self.files[:count],
        )

    def coco(self) -> dict[str, Any]:
        """The COCO document of these pictures (in their own pixels), for `toolkit.evaluation.compute_metrics`."""
        height, width = self.size
        images = [
            {"id": row + 1, "file_name": self.file(row), "width": width, "height": height} for row in range(len(self))
        ]
        rows = zip(self.owner.tolist(), self.labels.tolist(), map(bbox, self.boxes.tolist()), strict=True)
        annotations = [
            {
                "id": number,
                "image_id": owner + 1,
                "category_id": label + 1,
                "iscrowd": 0,
                "bbox": box,
                "area": box[2] * box[3],
            }
            for number, (owner, label, box) in enumerate(rows, 1)
        ]
        categories = [{"id": i, "name": name} for i, name in enumerate(self.classes, 1)]
        return {"info": {}, "images": images, "annotations": annotations, "categories": categories}

    def about(self) -> str:
        """`shapes5: 1000 images 32 x 32, 1000 objects of 5 classes; left out: ...`."""
        height, width = self.size
        text = f"{self.name}: {counted(len(self), 'image')} {width} x {height}, "
        text += f"{counted(len(self.labels), 'object')} of {counted(len(self.classes), 'class', 'classes')}"
        empty = int((self.per_image() == 0).sum())
        text += f", {counted(empty, 'image')} without any" if empty else ""
        reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(self.left_out.items()))
        return f"{text}; left out: {reasons}" if reasons else text


def shared(a: Samples, b: Samples) -> int:
    """Number of pictures of `b` that are also in `a`, pixel by pixel."""

    def digests(samples: Samples) -> list[bytes]:
        return [hashlib.blake2b(image.numpy().tobytes(), digest_size=16).digest() for image in samples.images]

    known = set(digests(a))
    return sum(digest in known for digest in digests(b))


def fingerprint(samples: Samples) -> str:
    """SHA-256 (first 16 digits) of pictures and objects: the same in every process for the same data."""
    digest = hashlib.sha256(repr((samples.classes, tuple(samples.images.shape))).encode())
    for tensor in (samples.images, samples.owner, samples.labels, samples.boxes):
        digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:16]
