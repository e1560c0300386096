"""Films and cameras, frame by frame, and films written: the one place that opens either (OpenCV, with its FFmpeg)."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.files import marked_folders
from label_tools.pictures.unread_files import FILMS
from label_tools.text.errors import InputError

_LOG = logging.getLogger(__name__)
FEWEST = 0.95  # of the frames that a film says it has, or it is cut off; the number is often a little wrong
USUAL_RATE = 25.0  # frames a second, where a film or camera says none


@dataclass(frozen=True)
class Frame:
    """number: from 0; time: seconds from the start; pixels [H,W,3] uint8 RGB, upright."""

    number: int
    time: float
    pixels: np.ndarray


def frame_name(film: str, number: int) -> str:
    """How the picture of a frame is called. `split` keeps pictures of one film together by these names."""
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
        """The frames, once. Logs a warning where a film ends long before it should."""
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


class FilmWriter:
    """A film that is at `path` when it is closed, whole, and nowhere before. `with` it.

    MPEG-4 in .mp4: what OpenCV writes everywhere. Raises InputError when it cannot be written.
    """

    def __init__(self, path: Path, rate: float) -> None:
        self.path, self.rate = path, rate
        self._writer: Any = None
        self._size = (0, 0)
        self._place = marked_folders.one_file(path, "film")

    def __enter__(self) -> FilmWriter:
        self._made = self._place.__enter__()
        return self

    def write(self, pixels: np.ndarray) -> None:
        """Add a frame [H,W,3] uint8 RGB, of the first one's size."""
        cv2 = _opencv()
        height, width = pixels.shape[:2]
        if self._writer is None:
            self._size = (width, height)
            code = cv2.VideoWriter_fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._made), code, self.rate, self._size)
            if not self._writer.isOpened():
                raise InputError(f"{self.path}: OpenCV cannot write a film of {width} x {height} px here")
        self._writer.write(np.ascontiguousarray(pixels[: self._size[1], : self._size[0], ::-1]))

    def __exit__(self, kind: type[BaseException] | None, *rest: Any) -> bool | None:
        if self._writer is not None:
            self._writer.release()
        return self._place.__exit__(kind, *rest)


def _opencv() -> Any:
    """OpenCV, which says nothing by itself: what a film lacks is said here, in one line."""
    os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
    os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")  # AV_LOG_QUIET
    import cv2

    return cv2
