"""Detect in many pictures: read ahead, in batches of one size, results in order.

What is found in a picture depends on it alone: an image is padded to the largest of its batch, and a network answers
differently to a padded image, so only neighbours of one size share a batch. Memory holds the batch and what is read
ahead of it, whatever the number of pictures.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from label_tools.document import coco_file
from label_tools.pictures.find_image import refuse_links_out
from label_tools.text.errors import InputError
from toolkit.prediction.detector import Detector, Found, category_map
from toolkit.prediction.picture_sources import Picture


class Seen(NamedTuple):
    """A picture, its pixels [H,W,3] uint8 (None: it cannot be read), what was found at any score, and the error."""

    picture: Picture
    pixels: np.ndarray | None
    found: Found
    error: str = ""


def detect_pictures(
    detector: Detector, pictures: Iterable[Picture], *, batch_size: int = 4, workers: int = 0
) -> Iterator[Seen]:
    """Every picture with all its detections, in order; one that cannot be read with an error instead.

    workers: threads that read ahead; Pillow decodes without Python's lock, and an image needs no copy to another
    process. 0: each is read when its turn comes.
    """
    batch: list[tuple[Picture, np.ndarray]] = []
    for picture, pixels, error in _opened(detector, pictures, workers, batch_size):
        if batch and (pixels is None or pixels.shape != batch[0][1].shape or len(batch) == batch_size):
            yield from _detected(detector, batch)
            batch = []
        if pixels is None:
            yield Seen(picture, None, [], error)
        else:
            batch.append((picture, pixels))
    if batch:
        yield from _detected(detector, batch)


def _detected(detector: Detector, batch: list[tuple[Picture, np.ndarray]]) -> Iterator[Seen]:
    found = detector.detect([pixels for _, pixels in batch])
    for (picture, pixels), one in zip(batch, found, strict=True):
        yield Seen(picture, pixels, one)


def _opened(
    detector: Detector, pictures: Iterable[Picture], workers: int, batch_size: int
) -> Iterator[tuple[Picture, np.ndarray | None, str]]:
    open_one = partial(_open, opening=detector.opening, by_windows=detector.reads_windows)
    if not workers:
        yield from map(open_one, pictures)
        return
    rest = iter(pictures)
    with ThreadPoolExecutor(workers, "frcnn-pictures") as pool:
        try:
            waiting = deque(pool.submit(open_one, one) for one in islice(rest, workers + batch_size))
            while waiting:
                opened = waiting.popleft().result()
                waiting.extend(pool.submit(open_one, one) for one in islice(rest, 1))
                yield opened
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _open(picture: Picture, opening: Mapping[str, Any], by_windows: bool) -> tuple[Picture, np.ndarray | None, str]:
    try:
        return picture, picture.open(opening, by_windows=by_windows), ""
    except InputError as error:
        return picture, None, str(error)


def check_files(document: dict[str, Any], image_root: Path) -> None:
    """Raises InputError for the first image of a COCO document whose file is not there."""
    for image in document["images"]:
        path = image_root / str(image["file_name"])
        if not path.is_file():
            raise InputError(
                f"image {image['id']}: {path} not found; needs the file there, or --images with its folder"
            )


def detect_document(
    detector: Detector,
    document: dict[str, Any],
    image_root: Path,
    *,
    batch_size: int = 4,
    workers: int = 0,
    each: Callable[[int, int], None] | None = None,
) -> Found:
    """COCO results [{image_id, category_id, bbox XYWH, score}] of every image of a COCO document.

    The detector's classes must be the document's, by name; category ids are the document's. `each(done, total)` is
    called after every image. Raises InputError for a picture that cannot be read or has another size than its labels.
    """
    ids = category_map(detector, document)
    images: Sequence[dict[str, Any]] = document["images"]
    refuse_links_out(image_root, (str(i["file_name"]) for i in images), "the labels")
    opening = coco_file.opening(document)
    pictures = [Picture(str(i["file_name"]), image_root / str(i["file_name"]), opening=opening) for i in images]
    check_files(document, image_root)
    results: Found = []
    seen = detect_pictures(detector, pictures, batch_size=batch_size, workers=workers)
    for done, (image, one) in enumerate(zip(images, seen, strict=True), 1):
        if one.pixels is None:
            raise InputError(f"{one.error}; fix it, or remove it from the labels")
        height, width = one.pixels.shape[:2]
        if (width, height) != (image["width"], image["height"]):
            raise InputError(
                f"{one.picture.path}: is {width} x {height} px, the annotations say "
                f"{image['width']} x {image['height']}; boxes would be wrong"
            )
        results += [{**d, "image_id": image["id"], "category_id": ids[d["category_id"]]} for d in one.found]
        if each:
            each(done, len(images))
    return results
