"""Augmentation by albumentations, as named levels and as a file. The only room that knows albumentations.

Version 2.0.8 is the last under MIT. Its traps, all handled here: every DataLoader worker has the same random stream
(we seed per image), labels pass through float32 (we pass row numbers), it looks for updates at import, a reflecting
border makes copies of objects (borders are constant).
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.text.errors import InputError
from toolkit.data import packed_masks

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")  # it imports OpenCV, which reads this once

LEVELS = ("none", "light", "zoom", "medium", "strong")
MIN_VISIBLE = 0.3  # a box of which less than this stays inside is no longer a target
MIN_SIZE = 2.0  # pixels


class Augment:
    """(image [H,W,3] uint8, boxes [N,4] XYXY, seed) -> (image, boxes [n,4], rows kept [n]); a function of its
    arguments alone, whatever the worker, epoch or process."""

    def __init__(self, transforms: list[Any]) -> None:
        import albumentations as A

        self.compose = A.Compose(
            transforms,
            bbox_params=A.BboxParams(
                format="pascal_voc",
                label_fields=["rows"],
                clip=True,
                filter_invalid_bboxes=True,
                min_visibility=MIN_VISIBLE,
                min_width=MIN_SIZE,
                min_height=MIN_SIZE,
                check_each_transform=False,  # once, at the end: the same boxes, a third of the time
            ),
        )

    def __call__(self, image: np.ndarray, boxes: np.ndarray, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self._apply(image, boxes, seed)[:3]

    def with_masks(
        self, image: np.ndarray, boxes: np.ndarray, packed: np.ndarray, seed: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """The same with masks [P,H,W] of `packed_masks.pack` -> also those of the rows kept. A box goes around what is
        left of its mask, as a turned box would be too large; an object with nothing left is not kept."""
        if not len(boxes):
            image, boxes, kept, _ = self._apply(image, boxes, seed)
            return image, boxes, kept, np.zeros((0, *image.shape[:2]), np.uint8)
        image, _, kept, planes = self._apply(image, boxes, seed, mask=np.ascontiguousarray(packed.transpose(1, 2, 0)))
        packed = np.ascontiguousarray(planes.reshape(*planes.shape[:2], -1).transpose(2, 0, 1))
        boxes = packed_masks.tight_boxes(packed, int(kept.max(initial=-1)) + 1)[kept]
        large = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf) >= MIN_SIZE
        return image, boxes[large], kept[large], packed_masks.chosen(packed, kept[large].tolist())

    def _apply(
        self, image: np.ndarray, boxes: np.ndarray, seed: int, **mask: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray, Any]:
        self.compose.set_random_seed(seed)
        result = self.compose(image=image, bboxes=boxes, rows=np.arange(len(boxes)), **mask)
        kept = np.asarray(result["rows"], dtype=np.int64).reshape(-1)
        _check_image(result["image"])
        return result["image"], np.asarray(result["bboxes"], np.float32).reshape(-1, 4), kept, result.get("mask")


def _check_image(image: Any) -> None:
    """Refuse what a pipeline from a file may make of an image: numbers that the network would scale again."""
    found = f"{type(image).__name__} of {image.dtype}, shape {tuple(image.shape)}"
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
        raise InputError(
            f"gives an image as {found}; needs an array of uint8, [height, width, 3]; leave out "
            f"Normalize, ToFloat, ToTensorV2 and the like: the network does their work"
        )


def build(augment: str) -> Augment | None:
    """The pipeline of a level or of a file that albumentations can read; None for `none`."""
    if augment == "none":
        return None
    if augment in LEVELS:
        return Augment(_level(augment))
    pipeline = Augment(_from_file(Path(augment)))
    try:  # one picture, to see what comes out of it
        pipeline(np.zeros((512, 512, 3), np.uint8), np.array([[100, 100, 300, 300]], np.float32), 0)
    except InputError as error:
        raise InputError(f"--augment {augment}: {error}") from None
    except Exception:  # it may need larger pictures, and gets them in training; else that names the picture
        pass
    return pipeline


def _level(name: str) -> list[Any]:
    import albumentations as A
    import cv2

    fill = {"border_mode": cv2.BORDER_CONSTANT, "fill": (124, 116, 104)}  # ImageNet's mean colour
    light = [A.HorizontalFlip(p=0.5), A.RandomBrightnessContrast(0.15, 0.15, p=0.3)]
    if name == "light":
        return light
    if name == "zoom":  # other sizes and places; never turned, which makes boxes loose
        zoom = A.Affine(scale=(0.7, 1.4), translate_percent=(-0.12, 0.12), p=0.8, **fill)
        return [*light, zoom, A.HueSaturationValue(8, 20, 10, p=0.3)]
    colour = [
        A.HueSaturationValue(8, 20, 10, p=0.3),
        A.OneOf([A.GaussianBlur((3, 5), p=1), A.GaussNoise(std_range=(0.01, 0.05), per_channel=False, p=1)], p=0.15),
    ]
    if name == "medium":
        return [
            *light,
            A.Affine(scale=(0.8, 1.25), translate_percent=(-0.08, 0.08), rotate=(-5, 5), p=0.5, **fill),
            *colour,
        ]
    return [
        *light,
        A.VerticalFlip(p=0.5),
        A.RandomRotate90(p=0.5),
        A.Affine(scale=(0.6, 1.5), translate_percent=(-0.15, 0.15), rotate=(-15, 15), p=0.7, **fill),
        *colour,
        A.RandomGamma((70, 140), p=0.3),
        A.ImageCompression(quality_range=(50, 95), p=0.2),
    ]


def _from_file(path: Path) -> list[Any]:
    import albumentations as A

    if not path.is_file():
        raise InputError(f"--augment {path}: needs one of {', '.join(LEVELS)}, or a file that albumentations saved")
    try:
        load_as = "json" if path.suffix.lower() == ".json" else "yaml"
        loaded = A.load(str(path), data_format=load_as)
    except Exception as error:  # the file names arbitrary classes and arguments
        raise InputError(f"--augment {path}: albumentations cannot read it: {str(error).splitlines()[0]}") from None
    # a Compose inside ours would check boxes by itself; of OneOf and others the kind must stay
    return [A.Sequential(list(loaded.transforms), p=loaded.p)] if isinstance(loaded, A.Compose) else [loaded]
