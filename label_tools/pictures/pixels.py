"""From the colour modes and depths of image files to 8-bit RGB.

16-bit grey is scaled by its type (65535 -> 255), or by the highest value that a TIFF says itself; 32-bit and float grey
from its lowest to its highest value, without the value that stands for "no data", which becomes black.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

NODATA_TAG, MAX_VALUE_TAG, BITS_TAG = 42113, 281, 258  # of TIFF: GDAL_NODATA, MaxSampleValue, BitsPerSample
DARK = 16  # of 255: what no pixel of a 12-bit picture passes when it is scaled as if it had 16 bits
_NO_DATA = (-9999.0, -99999.0, -32768.0, -32767.0)


class NoWayError(ValueError):
    """A picture that cannot become RGB; the text says why."""


def to_rgb(image: Image.Image) -> Image.Image:
    """A decoded picture as 8-bit RGB. Raises NoWayError."""
    mode = image.mode
    if mode == "RGB":
        return image if type(image) is Image.Image else image.copy()
    tags = getattr(image, "tag_v2", {})
    if mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) * (255.0 / _highest(tags))
    elif mode in ("I", "F"):
        grey = np.asarray(image).astype(np.float64)
        if not np.isfinite(grey).all():
            raise NoWayError("pixels that are not finite numbers")
        grey = _stretched(grey, tags)
    else:
        try:
            return image.convert("RGB")
        except ValueError as error:
            raise NoWayError(f"no way from colour mode {mode} to RGB; save it as RGB") from error
    return Image.fromarray(np.rint(np.minimum(grey, 255)).astype(np.uint8)).convert("RGB")


def bits_of(image: Image.Image) -> int:
    """Bits of a channel in the file, 8 where it does not say: Pillow cuts colours of 16 bits to 8 without a word."""
    if image.format == "PNG":
        file = getattr(image, "fp", None)
        if file is None:
            return 8
        before = file.tell()
        file.seek(24)  # the signature, then IHDR: length, name, width, height, depth
        depth = file.read(1)
        file.seek(before)
        return depth[0] if depth else 8
    stated = getattr(image, "tag_v2", {}).get(BITS_TAG, (8,))
    return max(stated) if isinstance(stated, tuple) else int(stated)


def _highest(tags) -> int:
    stated = tags.get(MAX_VALUE_TAG, 65535)
    stated = max(stated) if isinstance(stated, tuple) else stated
    return stated if 255 < stated < 65535 else 65535


def _stretched(grey: np.ndarray, tags) -> np.ndarray:
    """From the lowest value, black, to the highest, white; pixels without data are black."""
    missing = _without_data(grey, tags)
    there = grey[~missing]
    low, high = (float(there.min()), float(there.max())) if there.size else (0.0, 0.0)
    scaled = (grey - low) * (255.0 / (high - low)) if high > low else np.zeros_like(grey)
    return np.where(missing, 0.0, scaled)


def _without_data(grey: np.ndarray, tags) -> np.ndarray:
    """Pixels of the value that the file names (GDAL's tag), or of one that is known to stand for no data and lies
    farther from all others than they lie apart."""
    try:
        return grey == float(str(tags.get(NODATA_TAG, "")).strip(" \0"))
    except ValueError:
        pass
    for value in (float(grey.min()), float(grey.max())):
        others = grey[grey != value]
        known = value in _NO_DATA or abs(value) > 1e30
        if known and others.size and np.abs(others - value).min() > others.max() - others.min():
            return grey == value
    return np.zeros(grey.shape, dtype=bool)
