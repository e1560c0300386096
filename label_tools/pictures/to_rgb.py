"""Convert images of any colour mode and bit depth to 8-bit RGB.

Channels of 16 bits are scaled by the highest value that the user or the file itself states, else by their type
(65535 -> 255); 32-bit and float grey by the user's highest value, else from its lowest to its highest. Pixels of the
value that stands for "no data", and NaN, become black.
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
from PIL import Image

NODATA_TAG, MAX_VALUE_TAG, BITS_TAG = 42113, 281, 258  # of TIFF: GDAL_NODATA, MaxSampleValue, BitsPerSample
DARK = 16  # of 255: what no pixel of a 12-bit picture passes when it is scaled as if it had 16 bits
_CHUNKS = 32  # of a PNG, before its pixels, that are looked at
_NO_DATA = (-9999.0, -99999.0, -32768.0, -32767.0)


def nearly_black(bits: int, picture: Image.Image) -> str:
    """The warning on a picture whose values use so little of their `bits` bits in the file that it is black as
    RGB; "" of any other."""
    extrema: Any = picture.getextrema()  # of RGB, a pair a channel
    highest = max(high for _, high in extrema)
    if bits <= 8 or not 0 < highest <= DARK:
        return ""
    return f"nearly black: its values use little of the {bits} bits, the highest becomes {highest} of 255"


class NoWayError(ValueError):
    """A picture that cannot be converted to RGB; the text says why."""


def to_rgb(image: Image.Image, max_value: float | None = None) -> Image.Image:
    """Convert a decoded picture to 8-bit RGB. max_value: the white level beyond 8 bits. Raises NoWayError."""
    mode = image.mode
    if mode == "RGB":
        return image if type(image) is Image.Image else image.copy()
    tags = getattr(image, "tag_v2", {})
    if mode.startswith("I;16"):
        grey = np.asarray(image).astype(np.float32) * (255.0 / highest_value(tags, max_value))
    elif mode in ("I", "F"):
        grey = np.asarray(image).astype(np.float64)
        if np.isinf(grey).any():
            raise NoWayError("pixels that are infinite")
        grey = _stretched(grey, tags, max_value)
    else:
        try:
            return image.convert("RGB")
        except ValueError as error:
            raise NoWayError(f"no way from colour mode {mode} to RGB; save it as RGB") from error
    return Image.fromarray(_to_bytes(grey)).convert("RGB")


def _to_bytes(values: np.ndarray) -> np.ndarray:
    return np.rint(np.clip(values, 0, 255)).astype(np.uint8)


def low_bytes(image: Image.Image) -> bool:
    """Make a picture of 16-bit colours that is not decoded yet give the low byte of each value, where Pillow gives the
    high one: it reads the bytes in the wrong order. False: the file holds no such colours."""
    swapped = {
        "RGB;16L": "RGB;16B",
        "RGB;16B": "RGB;16L",
        "RGB;16N": f"RGB;16{'B' if sys.byteorder == 'little' else 'L'}",
    }
    swapped |= {f"{x}{k[3:]}": f"{x}{v[3:]}" for x in ("RGBA", "RGBX") for k, v in list(swapped.items())}
    tiles = getattr(image, "tile", [])  # what is still to be decoded
    if not tiles or any(_raw_mode(tile) not in swapped for tile in tiles):
        return False
    for k, tile in enumerate(tiles):
        raw = swapped[_raw_mode(tile)]
        tiles[k] = tile._replace(args=raw if isinstance(tile.args, str) else (raw, *tile.args[1:]))
    return True


def _raw_mode(tile) -> str:
    return tile.args if isinstance(tile.args, str) else str(tile.args[0]) if tile.args else ""


def from_16_bits(high: Image.Image, low: Image.Image, highest: float) -> Image.Image:
    """Convert 16-bit colours, given as high and low bytes, to RGB; `highest` becomes white."""
    values = np.asarray(high)[..., :3].astype(np.float32) * 256 + np.asarray(low)[..., :3]
    return Image.fromarray(_to_bytes(values * (255.0 / highest)))


def bits_of(image: Image.Image) -> int:
    """Bits per channel in the file, 8 if not stated: Pillow cuts 16-bit colours to 8 without a warning."""
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


def png_tags(image: Image.Image) -> dict[int, int]:
    """{BITS_TAG: the bits that a PNG's values had before they were stored as 16, by its chunk sBIT}; {} without one."""
    file = getattr(image, "fp", None)
    if image.format != "PNG" or file is None:
        return {}
    before, found = file.tell(), b""
    file.seek(8)
    for _ in range(_CHUNKS):
        head = file.read(8)
        length, kind = int.from_bytes(head[:4], "big"), head[4:]
        if len(head) < 8 or kind in (b"sBIT", b"IDAT"):
            found = file.read(min(length, 4)) if kind == b"sBIT" else b""
            break
        file.seek(length + 4, 1)
    file.seek(before)
    return {BITS_TAG: max(found)} if found else {}


def highest_value(tags, max_value: float | None = None) -> float:
    """The white level of 16-bit channels: the user's, else the file's, else 65535."""
    if max_value:
        return max_value
    stated, bits = (max(v) if isinstance(v, tuple) else v for v in (tags.get(MAX_VALUE_TAG, 0), tags.get(BITS_TAG, 16)))
    return stated if 255 < stated < 65535 else 2**bits - 1 if 8 < bits < 16 else 65535


def _stretched(grey: np.ndarray, tags, max_value: float | None) -> np.ndarray:
    """Stretch values to black (lowest) to white (highest), or 0 to `max_value`. Pixels without data are black."""
    missing = np.isnan(grey)
    missing[~missing] = _without_data(grey[~missing], tags)
    if max_value:
        return np.where(missing, 0.0, grey * (255.0 / max_value))
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
    for value in (float(grey.min()), float(grey.max())) if grey.size else ():
        others = grey[grey != value]
        known = value in _NO_DATA or abs(value) > 1e30
        if known and others.size and np.abs(others - value).min() > others.max() - others.min():
            return grey == value
    return np.zeros(grey.shape, dtype=bool)
