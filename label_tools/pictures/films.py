"""Read films and cameras frame by frame, and write films (OpenCV, with its FFmpeg). No other module opens either."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files import marked_folders
from label_tools.pictures.unread_files import FILMS
from label_tools.text.errors import InputError

_LOG = logging.getLogger(__name__)
FEWEST = 0.95  # of the frames that a film claims, else it is cut off; the claim is often a little wrong
USUAL_RATE = 25.0  # frames a second, where a film or camera states none


@dataclass(frozen=True)
class Frame:
    """number: from 0; time: seconds from the start; pixels [H,W,3] uint8 RGB, upright."""

    number: int
    time: float
    pixels: np.ndarray


def frame_name(film: str, number: int) -> str:
    """The file name of a frame's picture. `split` keeps pictures of one film together by these names."""
    return f"{film}_frame{number:06d}.jpg"


def is_film(path: Path) -> bool:
    """Whether a file's name says that it is a film."""
    return path.suffix.lower() in FILMS


class Film:
    """A film or, by number, a camera. Raises InputError where it cannot be opened.

    name: of the film, without its ending; rate: frames a second; frames: how many it says it has, 0 for a camera.
    """

    def __init__(self, source: Path | int) -> None:
        cv2 = _opencv()
        self.source = source
        self.is_camera = isinstance(source, int)
        self.name = f"camera{source}" if isinstance(source, int) else source.stem
        if isinstance(source, Path):
            if not source.is_file():
                raise InputError(f"{source}: not found; needs a film")
            if not source.stat().st_size:
                raise InputError(f"{source}: the file is empty; needs a film")
        self._capture: Any = cv2.VideoCapture(source if isinstance(source, int) else str(source))
        if not self._capture.isOpened():
            if self.is_camera:
                raise InputError(f"camera {source}: cannot be opened; needs the number of a camera of this machine")
            raise InputError(f"{source}: no film that can be read: damaged, cut off, or of a kind that OpenCV lacks")
        rate = float(self._capture.get(cv2.CAP_PROP_FPS))
        self.rate = rate if 0 < rate <= 1000 else USUAL_RATE
        count = int(self._capture.get(cv2.CAP_PROP_FRAME_COUNT))
        self.frames = count if 0 < count < 10**9 and not self.is_camera else 0
        there, self._first = self._capture.read()
        if not there:
            raise InputError(f"{source}: holds no frame that can be read")

    def __iter__(self) -> Iterator[Frame]:
        """Iterate over the frames, once. Logs a warning if a film ends long before it should."""
        number, there, pixels = 0, True, self._first
        try:
            while there:
                yield Frame(number, number / self.rate, np.ascontiguousarray(pixels[:, :, ::-1]))
                number += 1
                there, pixels = self._capture.read()
        finally:
            self._capture.release()
        if number < FEWEST * self.frames:
            _LOG.warning(f"{self.source}: ends after {number} of {self.frames} frames: damaged or cut off")


@contextmanager
def film_writer(path: Path, rate: float) -> Iterator[Callable[[np.ndarray], None]]:
    """Yield a function that adds a frame [H,W,3] uint8 RGB to a film; it appears at `path`, complete, after the block.

    All frames get the size of the first. MPEG-4 in .mp4, which OpenCV can write on every system. Raises InputError.
    """
    cv2 = _opencv()
    writer: Any = None
    size = (0, 0)

    def write(pixels: np.ndarray) -> None:
        nonlocal writer, size
        if writer is None:
            size = (pixels.shape[1], pixels.shape[0])
            writer = cv2.VideoWriter(str(made), cv2.VideoWriter_fourcc(*"mp4v"), rate, size)
            if not writer.isOpened():
                raise InputError(f"{path}: OpenCV cannot write a film of {size[0]} x {size[1]} px here")
        writer.write(np.ascontiguousarray(pixels[: size[1], : size[0], ::-1]))

    with marked_folders.one_file(path, "film") as made:
        try:
            yield write
        finally:
            if writer is not None:
                writer.release()


def _opencv() -> Any:
    """Import OpenCV with its own log turned off: this module reports errors, in one line each."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    import cv2

    return cv2
