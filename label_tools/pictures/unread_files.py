"""Report picture files beside the photographs that are not read (HEIC, films), with the way to convert them."""

from __future__ import annotations

import importlib.util
import os
from collections import Counter
from collections.abc import Iterable

HEIC_SUFFIXES = (".heic", ".heif")
HAS_HEIC = importlib.util.find_spec("pillow_heif") is not None
FILMS = {".mp4": "MP4", ".mov": "MOV", ".avi": "AVI", ".mkv": "MKV", ".webm": "WebM", ".m4v": "M4V", ".mts": "MTS"}
_RAW = {".cr2": "raw", ".cr3": "raw", ".nef": "raw", ".arw": "raw", ".dng": "raw", ".rw2": "raw", ".orf": "raw"}
_PHOTOGRAPHS = ({} if HAS_HEIC else dict.fromkeys(HEIC_SUFFIXES, "HEIC")) | {".avif": "AVIF"} | _RAW
HEIC_REMEDY = "export it as JPEG (magick photo.heic photo.jpg), or install pillow-heif (the extra [heic])"


def not_read_below(folder: str | os.PathLike) -> str:
    """`not_read` of all files below a folder."""
    return not_read(name for _, _, names in os.walk(os.fspath(folder)) for name in names)


def not_read(names: Iterable[str | os.PathLike]) -> str:
    """`not read: 2 HEIC, 1 MP4; ...` with the ways out, for the names of all files of a folder; "" for none."""
    kinds: Counter[str] = Counter()
    for name in names:
        suffix = os.path.splitext(os.fspath(name))[1].lower()
        if kind := _PHOTOGRAPHS.get(suffix) or FILMS.get(suffix):
            kinds[kind] += 1
    if not kinds:
        return ""
    ways = []
    if kinds["HEIC"]:
        ways.append(f"HEIC: {HEIC_REMEDY.replace('export it', 'export them')}")
    if kinds.keys() & {"AVIF", "raw"}:
        ways.append("AVIF and raw: export them as JPEG")
    if kinds.keys() & set(FILMS.values()):
        ways.append(
            "films: save pictures of one (frcnn frames FILM --out DIR), or detect in it (frcnn predict RUN FILM)"
        )
    return f"not read: {', '.join(f'{count} {kind}' for kind, count in kinds.items())}; {'; '.join(ways)}"
