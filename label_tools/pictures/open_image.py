"""Open image files: formats, limits, EXIF rotation, modes. No other module opens one.

Everything that converts, checks, trains, evaluates or predicts reads its pixels here, so a box and the pixels
under it always mean the same picture: the one that a person saw, with the EXIF orientation applied.

Formats are recognised by content, never by extension; the pixel limit is checked before decoding; a damaged
file is refused and never filled up. Rows B60 to B70 of `bad_input.md` have the whole policy.
"""

from __future__ import annotations

import logging
import os
import re
import struct
import warnings
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from io import BytesIO
from pathlib import Path
from threading import Lock
from typing import BinaryIO

import numpy as np
from PIL import Image

from label_tools.document.coco_file import is_inside
from label_tools.pictures.to_rgb import (
    BITS_TAG,
    NoWayError,
    bits_of,
    from_16_bits,
    highest_value,
    low_bytes,
    png_tags,
    to_rgb,
)
from label_tools.pictures.unread_files import HAS_HEIC, HEIC_REMEDY, HEIC_SUFFIXES
from label_tools.text.errors import InputError
from label_tools.text.rule_limits import MAX_PIXELS

# silence Pillow's log, which names no file ("More samples per pixel ..."): an ImageError reports it
logging.getLogger("PIL").addHandler(logging.NullHandler())
FORMATS: tuple[str, ...] = ("JPEG", "PNG", "BMP", "TIFF", "WEBP", "GIF", "MPO")
SUFFIXES: tuple[str, ...] = (".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".mpo")
if HAS_HEIC:
    from pillow_heif import register_heif_opener

    register_heif_opener()
    FORMATS, SUFFIXES = (*FORMATS, "HEIF"), (*SUFFIXES, *HEIC_SUFFIXES)
LOSSY_FORMATS = ("JPEG", "MPO", "WEBP", "GIF")  # not fit to hold the ids of a mask
_PLUGINS = tuple(f for f in FORMATS if f != "MPO")  # Pillow reads MPO, the format of phones, as a kind of JPEG
_ORIENTATION = 0x0112
_TAIL = 1 << 16  # bytes at a PNG's end in which a late EXIF chunk is looked for
_END_IN = 4096  # bytes at a file's end in which its format's own end is looked for
_TURN = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_PILLOW_LIMIT = Lock()  # Pillow's own pixel limit is one global value

Source = str | os.PathLike | bytes


_OTHER_FORMATS = {
    b"%!PS": "PostScript",
    b"%PDF": "PDF",
    b"8BPS": "Photoshop",
    b"SIMP": "FITS",
    b"\x00\x00\x00\x0c": "JPEG 2000",
}


class ImageError(InputError):
    """An image that cannot be used. code: the row of `bad_input.md`; text: the message without the file."""

    def __init__(self, code: str, name: str, text: str) -> None:
        super().__init__(f"{name}: {text}")
        self.code, self.text = code, text


@dataclass(frozen=True, slots=True)
class ImageInfo:
    """The header of an image file. width and height are those after EXIF rotation."""

    width: int
    height: int
    format: str
    mode: str
    orientation: int
    frames: int
    bits: int = 8  # of a channel, in the file

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) as the pixels lie in the file, before the rotation."""
        return (self.height, self.width) if self.orientation >= 5 else (self.width, self.height)


def image_size(path: Source, *, max_pixels: int = MAX_PIXELS) -> tuple[int, int]:
    """(width, height) after EXIF rotation, from the header alone. Raises ImageError naming the file."""
    info = image_info(path, max_pixels=max_pixels)
    return info.width, info.height


def image_info(path: Source, *, max_pixels: int = MAX_PIXELS, frames: bool = False) -> ImageInfo:
    """The header of `path` (a path, or the bytes of a file); nothing is decoded. Raises ImageError.

    frames: count the frames too, which reads through GIF and TIFF files; without it `frames` is 1.
    """
    if not frames and not isinstance(path, bytes) and (plain := _plain_jpeg(path)):
        width, height, mode = plain
        if width * height > max_pixels:
            raise ImageError("B66", _name(path), too_large(width, height, max_pixels))
        return ImageInfo(width, height, "JPEG", mode, 1, 1)
    with _opened(path, max_pixels) as image:
        width, height = image.size
        orientation = _orientation(image)
        info = ImageInfo(width, height, image.format or "", image.mode, orientation, 1, bits_of(image))
        if orientation >= 5 and image.format != "TIFF":  # Pillow reports TIFF sizes already turned
            info = replace(info, width=height, height=width)
        return replace(info, frames=int(getattr(image, "n_frames", 1))) if frames else info


def may_be_cut_off(path: str | os.PathLike, kind: str) -> bool:
    """Whether a JPEG or PNG lacks its end marker in its last bytes. False for other formats.

    Only decoding is certain: some programs omit the end marker, and telephones append a film of megabytes.
    """
    if kind not in ("JPEG", "MPO", "PNG"):
        return False
    with open(path, "rb", buffering=0) as file:
        file.seek(max(os.fstat(file.fileno()).st_size - _END_IN, 0))
        tail = file.read()
    if kind == "PNG":
        return b"IEND" not in tail
    # behind the last start of a scan: a thumbnail in the header has an end of its own
    return tail.rfind(b"\xff\xd9") <= tail.rfind(b"\xff\xda")


def open_image(path: Source, *, max_pixels: int = MAX_PIXELS, max_value: float | None = None) -> Image.Image:
    """The picture as a person sees it: RGB, 8 bits, EXIF rotation applied. Raises ImageError naming the file.

    max_value: the white level of a picture of more than 8 bits, such as 4095 for 12; None: as the file states.
    """
    with _opened(path, max_pixels) as image:
        tags = getattr(image, "tag_v2", None) or png_tags(image)  # what the values mean
        highest = highest_value(tags, max_value)
        if highest != 65535 and bits_of(image) == 16 and low_bytes(image):
            image.load()
            with _opened(path, max_pixels) as high:
                high.load()
                return from_16_bits(_turned(high), _turned(image), highest)
        image.load()
        upright = _turned(image)
        vars(upright)["tag_v2"] = tags
        return _to_rgb(upright, _name(path), max_value)


def upright_rgb(image: Image.Image, name: str = "image") -> Image.Image:
    """`open_image` of a picture that is open already. Raises ImageError with `name`."""
    return _to_rgb(_turned(image), name)


def open_mask(path: Source, *, max_pixels: int = MAX_PIXELS) -> tuple[np.ndarray, str, str]:
    """(pixel values as stored, the file's format, Pillow's mode): what a mask holds, and whether it can hold ids.

    Values are [H,W] ids or palette indices, or [H,W,C] when there are channels. No palette is applied and nothing is
    scaled: an id stays an id. EXIF rotation is applied, as for pictures. Raises ImageError naming the file.
    """
    with _opened(path, max_pixels) as image:
        kind, mode = image.format or "", image.mode
        image.load()
        return np.asarray(_turned(image)), kind, mode


@contextmanager
def _opened(path: Source, max_pixels: int) -> Iterator[Image.Image]:
    """Open Pillow's image, check the limits; anything that Pillow raises in the block becomes an ImageError."""
    name = _name(path)
    try:
        # Pillow warns about what we check ourselves: large images, broken EXIF, transparency in palettes
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            source = BytesIO(path) if isinstance(path, bytes) else path
            with _pillow_limit(max_pixels), Image.open(source, formats=_PLUGINS) as image:
                width, height = image.size
                if width * height > max_pixels:
                    raise ImageError("B66", name, too_large(width, height, max_pixels))
                if getattr(image, "tag_v2", {}).get(284) == 2 and bits_of(image) > 8:
                    text = "a TIFF of over 8 bits whose bands lie one after another, which Pillow misreads; "
                    raise ImageError("B62", name, f"{text}gdal_translate -co INTERLEAVE=PIXEL in.tif out.tif")
                yield image
    except (InputError, KeyboardInterrupt):
        raise
    except FileNotFoundError as error:
        raise ImageError("B32", name, "no such file") from error
    except Image.DecompressionBombError as error:
        raise ImageError("B66", name, _limit(max_pixels)) from error
    except Image.UnidentifiedImageError as error:
        raise ImageError(*_why_unidentified(path, name)) from error
    except Exception as error:  # Pillow's plugins raise almost anything on a damaged file
        if isinstance(error, OSError) and error.errno and error.strerror:
            raise ImageError("B39", name, f"cannot be read: {error.strerror}") from error
        raise ImageError("B65", name, f"damaged image: {error or type(error).__name__}") from error


def too_large(width: int, height: int, max_pixels: int) -> str:
    """The message for an image over the limit."""
    return f"{width} x {height} pixels, {_limit(max_pixels)}"


def _limit(max_pixels: int) -> str:
    fix = "a higher --max-pixels raises it (to train: of `frcnn convert`)"
    return f"more than the limit of {max_pixels}; {fix}; `frcnn predict --tiles` reads a TIFF in parts"


@contextmanager
def _pillow_limit(max_pixels: int) -> Iterator[None]:
    """Lift Pillow's own limit (about 179 MP) where the caller allows more; ours still holds."""
    if max_pixels <= 2 * (Image.MAX_IMAGE_PIXELS or max_pixels):
        yield
        return
    with _PILLOW_LIMIT:
        before, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS = before


def _plain_jpeg(path: Source) -> tuple[int, int, str] | None:
    """(width, height, mode) of a JPEG without EXIF, XMP or anything else of note, in a third of Pillow's time.

    None: not that simple, or not sound; then Pillow is asked.
    """
    try:
        with open(path, "rb", buffering=0) as file:
            head = file.read(4096)
    except (OSError, ValueError):
        return None
    if head[:3] != b"\xff\xd8\xff":
        return None
    at = 2
    while at + 10 <= len(head) and head[at] == 0xFF:
        kind = head[at + 1]
        if kind in (0xC0, 0xC1, 0xC2):  # baseline, extended, progressive: the frame's header
            precision, height, width, channels = struct.unpack_from(">BHHB", head, at + 4)
            if precision != 8 or not width or not height or channels not in (1, 3):
                return None
            return width, height, "RGB" if channels == 3 else "L"
        if kind not in (0xE0, 0xDB, 0xC4, 0xDD, 0xFE):  # JFIF, tables, restart interval, comment
            return None
        at += 2 + (head[at + 2] << 8 | head[at + 3])
    return None


def _turned(image: Image.Image) -> Image.Image:
    # asked after load(): Pillow turns TIFF while it decodes, and then no longer reports an orientation
    turn = _TURN.get(_orientation(image))
    return image.transpose(turn) if turn is not None else image


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation, 1 to 8; 1 for anything else or unreadable."""
    try:
        if image.format == "PNG" and "exif" not in image.info and (late := _late_png_exif(image)):
            exif = Image.Exif()
            exif.load(late)
        else:
            exif = Image.Image.getexif(image)  # PngImageFile.getexif would decode the whole image
        value = exif.get(_ORIENTATION, 1)
    except Exception:  # a corrupt EXIF block says nothing about the pixels
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def camera_and_hour(path: Path) -> tuple[str, str]:
    """("Canon EOS 5D", "14 h") of a photograph by its EXIF block; "" for what it does not say, or cannot be opened."""
    try:
        with _opened(path, MAX_PIXELS) as image:
            exif = image.getexif()
            camera = " ".join(str(exif[tag]).strip(" \0") for tag in (271, 272) if exif.get(tag))
            taken = str(exif.get_ifd(34665).get(36867) or exif.get(306) or "")
    except Exception:  # a file of any kind, with any EXIF block
        return "", ""
    hour = re.fullmatch(r"\d{4}:\d\d:\d\d (\d\d):\d\d:\d\d", taken)
    return camera, f"{hour[1]} h" if hour else ""


def _late_png_exif(image: Image.Image) -> bytes | None:
    """The eXIf chunk behind a PNG's pixels, which Pillow reads only after decoding; None if there is none."""
    file: BinaryIO | None = getattr(image, "fp", None)
    if file is None:
        return None
    before = file.tell()
    try:
        file.seek(0, os.SEEK_END)
        file.seek(max(file.tell() - _TAIL, 0))
        tail = file.read(_TAIL)
    finally:
        file.seek(before)
    at = tail.rfind(b"eXIf")
    if at < 4:
        return None
    (length,) = struct.unpack_from(">I", tail, at - 4)
    end = at + 4 + length
    checked = len(tail) >= end + 4 and tail[end : end + 4] == struct.pack(">I", zlib.crc32(tail[at:end]))
    return tail[at + 4 : end] if checked else None  # unchecked: four letters among the pixels


def _to_rgb(image: Image.Image, name: str, max_value: float | None = None) -> Image.Image:
    try:
        return to_rgb(image, max_value)
    except NoWayError as error:
        raise ImageError("B62", name, str(error)) from error


def _why_unidentified(path: Source, name: str) -> tuple[str, str, str]:
    """(code, name, text) of a file that is none of our formats."""
    if isinstance(path, bytes):
        head = path[:32]
    else:
        with open(path, "rb") as file:
            head = file.read(32)
    if not head:
        return "B65", name, "the file is empty"
    if head[4:8] == b"ftyp" and head[8:12] in (b"heic", b"heix", b"hevc", b"mif1", b"msf1", b"avif", b"avis"):
        if HAS_HEIC and head[8:10] != b"av":
            return "B65", name, "damaged image: no readable HEIC"
        return "B64", name, f"HEIC and AVIF are not read; {HEIC_REMEDY}"
    if not head.strip(b"\0"):
        return "B65", name, "no image: the file holds only zero bytes"
    if head.lstrip()[:1] in (b"<", b"{"):
        return "B65", name, "no image: the file holds text (HTML, XML or JSON)"
    if head[:4] in (b"II*\0", b"MM\0*") and (bands := _tiff_bands(path)):
        text = f"a TIFF of {bands[0]} bands of {bands[1]} bits; 1, 3 or 4 bands are read. Choose three: "
        return "B62", name, f"{text}gdal_translate -b 1 -b 2 -b 3 -ot Byte -scale in.tif out.tif"
    formats = ", ".join(FORMATS)
    if other := _OTHER_FORMATS.get(head[:4]):
        return "B67", name, f"a {other} file; only these formats are read: {formats}"
    return "B65", name, f"no readable image of one of the formats {formats}"


def _tiff_bands(path: Source) -> tuple[int, int] | None:
    """(bands, bits of the deepest) of a TIFF with a layout that Pillow does not know; None where it is damaged."""
    from PIL.TiffImagePlugin import ImageFileDirectory_v2

    try:
        with BytesIO(path) if isinstance(path, bytes) else open(path, "rb") as file:
            tags = ImageFileDirectory_v2(file.read(8))
            file.seek(tags.next)
            tags.load(file)
            bits = tags[BITS_TAG]
    except Exception:  # whatever a damaged directory raises
        return None
    return (len(bits), max(bits)) if len(bits) > 1 else None


def _name(path: Source) -> str:
    return "embedded image" if isinstance(path, bytes) else os.fspath(path)


def sizes_below(root: str | os.PathLike) -> Callable[[str], tuple[int, int] | None]:
    """file_name -> (width, height) of the picture below `root`; None where there is none that can be opened."""

    def size(file_name: str) -> tuple[int, int] | None:
        if not is_inside(file_name):
            return None
        try:
            info = image_info(Path(root, file_name))
        except InputError:
            return None
        return info.width, info.height

    return size
