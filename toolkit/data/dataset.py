"""Open the pictures of an index, paste objects in, augment: (image, target) for torchvision's detectors."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from label_tools.pictures import open_image
from label_tools.text.errors import InputError
from toolkit.data import copy_paste
from toolkit.data.coco_index import Index
from toolkit.data.epoch_batches import Key


@dataclass(frozen=True)
class Unreadable:
    """Stands for a sample whose file cannot be read: the reason, with the file's name."""

    reason: str


class DetectionDataset(torch.utils.data.Dataset):
    """dataset[(row, seed)] -> (image uint8 [3,H,W], target), or `Unreadable`.

    target: boxes [n,4] float32 XYXY pixels, labels [n] int64 1..K, image_id int; of an index with outlines also
    packed_masks [P,H,W] uint8. Images without objects give boxes [0,4]. Crowds are not targets. `transform` is an
    `Augment`, or what is called like one.
    With probability `copy_paste` the image gets objects of others first, chosen by (row, seed) alone.
    """

    def __init__(self, index: Index, transform: Any = None, cache_bytes: int = 0, *, copy_paste: float = 0.0) -> None:
        self.index = index
        self.transform = transform
        self.copy_paste = copy_paste
        self.cache_bytes = cache_bytes
        self._cache: dict[int, np.ndarray] = {}

    def __len__(self) -> int:
        return len(self.index)

    def pixels(self, row: int) -> np.ndarray:
        """[H,W,3] uint8 RGB, EXIF applied; the size must be the file's. For a tile, its part of the picture; the
        picture's other tiles are cached, too, while there is room."""
        if row in self._cache:
            return self._cache[row]
        index, path = self.index, self.index.path(row)
        image = np.asarray(open_image.open_image(path, **index.opening))
        height, width = (int(v) for v in (index.sizes if index.cut is None else index.cut.picture_sizes)[row])
        if image.shape[:2] != (height, width):
            raise InputError(
                f"{path}: is {image.shape[1]} x {image.shape[0]} px, the annotations say "
                f"{width} x {height}; boxes would be wrong"
            )
        if index.cut is None:
            return self._kept(row, image)
        of = index.cut.picture_ids
        tile = image  # taken last, so that it is there whatever the cache holds
        for other in [*np.flatnonzero(of == of[row]).tolist(), row]:
            x1, y1, x2, y2 = index.cut.windows[other].tolist()
            if other == row or self.cache_bytes >= 3 * (x2 - x1) * (y2 - y1):
                tile = self._kept(other, image[y1:y2, x1:x2].copy())
        return tile

    def _kept(self, row: int, image: np.ndarray) -> np.ndarray:
        if row not in self._cache and self.cache_bytes >= image.nbytes:
            self.cache_bytes -= image.nbytes
            self._cache[row] = image
        return image

    def sample(self, row: int) -> copy_paste.Sample:
        """The image as it is, its boxes and labels; crowds left out."""
        here = self.index.objects(row)
        real = ~self.index.crowd[here]
        pixels, boxes, masks = self.pixels(row), self.index.boxes[here][real], None
        if self.index.outlines is not None:
            objects = (here.start + np.flatnonzero(real)).tolist()
            masks = self.index.outlines.packed(objects, boxes, *pixels.shape[:2])
        return copy_paste.Sample(pixels, boxes, self.index.labels[here][real], masks)

    def _pasted(self, row: int, seed: int) -> copy_paste.Sample:
        """The sample, by chance with objects of others."""
        rng = np.random.default_rng([seed, row])
        if rng.random() >= self.copy_paste:
            return self.sample(row)
        donors = rng.integers(len(self), size=rng.integers(1, copy_paste.MOST + 1)).tolist()
        return copy_paste.paste(self.sample(row), [self.sample(donor) for donor in donors], rng)

    def __getitem__(self, key: Key) -> tuple[torch.Tensor, dict[str, Any]] | Unreadable:
        row, seed = key
        try:
            image, boxes, labels, masks = self._pasted(row, seed) if self.copy_paste else self.sample(row)
        except InputError as error:  # a DataLoader worker would wrap it in a traceback
            return Unreadable(str(error))
        if self.transform is not None:
            try:
                if masks is None:
                    image, boxes, kept = self.transform(image, boxes, seed)
                else:
                    image, boxes, kept, masks = self.transform.with_masks(image, boxes, masks, seed)
            except Exception as error:  # a pipeline from a file may do anything to an image it does not expect
                return Unreadable(f"{self.index.path(row)}: augmentation failed: {type(error).__name__}: {error}")
            labels = labels[kept]
        target: dict[str, Any] = {
            "boxes": torch.from_numpy(np.array(boxes, dtype=np.float32).reshape(-1, 4)),
            "labels": torch.from_numpy(np.array(labels, dtype=np.int64)),
            "image_id": int(self.index.image_ids[row]),
        }
        if masks is not None:
            target["packed_masks"] = torch.from_numpy(masks)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1), target

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_cache": {}}  # a spawned worker fills its own
