"""Fonts for text on pictures and plots, in any script for which this computer has a font.

DejaVu Sans, which matplotlib brings, has Latin, Greek and Cyrillic. For other letters the fonts of the system are
searched, once for each letter. Where none has them, or where a script needs shaping (Arabic, Devanagari, ...) and
Pillow was built without libraqm, the caller writes something else: a class its number (`class_texts`), a file name
question marks. An empty box is never written.
"""

from __future__ import annotations

import importlib.util
import logging
import unicodedata
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont, features

from label_tools.pictures.palette import Colour
from label_tools.text.errors import one_line

_LOG = logging.getLogger(__name__)
_EMOJI_SIZE = 109  # pixels: the one size of Noto Color Emoji
_SHAPED = ((0x0590, 0x08FF), (0x0900, 0x0DFF), (0x0E00, 0x109F), (0x1780, 0x17FF), (0xFB1D, 0xFDFF), (0xFE70, 0xFEFC))
_RIGHT_TO_LEFT = ("R", "AL")
_JOINERS = "\u200c\u200d"  # of an emoji of several, and in scripts that are shaped
_NO_INK = ("Mn", "Me", "Cf", "Cc")  # marks, joiners and variation selectors go with the letter before them


class Letters:
    """Measure and write texts in one font size, with whatever fonts have their letters."""

    def __init__(self, size: int, bold: bool = False) -> None:
        self.size, self.bold = size, bold
        self._main = _main_path(bold)
        self._ascent, self._descent = _font(self._main, size).getmetrics()

    def getlength(self, text: str) -> float:
        return sum(self._width(*run) for run in self._runs(text))

    def write(self, image: Image.Image, xy: tuple[float, float], text: str, fill: Colour, anchor: str = "la") -> None:
        """Write onto an RGB image. anchor: l, m or r of the text, and a (top) or m (middle) of the line, at `xy`."""
        runs = self._runs(text)
        widths = [self._width(*run) for run in runs]
        x = xy[0] - sum(widths) * {"l": 0.0, "m": 0.5, "r": 1.0}[anchor[0]]
        base = xy[1] + (self._ascent if anchor[1] == "a" else (self._ascent - self._descent) / 2)
        draw = ImageDraw.Draw(image)
        for (piece, path), width in zip(runs, widths, strict=True):
            if _is_bitmap(path):
                self._paste_emoji(image, (x, base), piece, path)
            else:
                draw.text((x, base), piece, fill=fill, font=_font(path, self.size), anchor="ls")
            x += width

    def _runs(self, text: str) -> list[tuple[str, str]]:
        """Pieces of `text` that one font has, in the order in which they stand on the line, with their fonts."""
        runs: list[tuple[str, str]] = []
        for letter in text:
            path = runs[-1][1] if runs and unicodedata.category(letter) in _NO_INK else None
            path = path or (font_of(letter, self.bold, near=runs[-1][1] if runs else "") or self._main)
            if runs and runs[-1][1] == path:
                runs[-1] = (runs[-1][0] + letter, path)
            else:
                runs.append((letter, path))
        first = next((b for b in map(unicodedata.bidirectional, text) if b in ("L", *_RIGHT_TO_LEFT)), "L")
        return runs[::-1] if first in _RIGHT_TO_LEFT else runs

    def _width(self, piece: str, path: str) -> float:
        if _is_bitmap(path):
            return _font(path, _EMOJI_SIZE).getlength(piece) * self.size / _EMOJI_SIZE
        return _font(path, self.size).getlength(piece)

    def _paste_emoji(self, image: Image.Image, place: tuple[float, float], piece: str, path: str) -> None:
        large = _font(path, _EMOJI_SIZE)
        tile = Image.new("RGBA", (max(1, round(large.getlength(piece))), round(1.3 * _EMOJI_SIZE)))
        ImageDraw.Draw(tile).text((0, _EMOJI_SIZE), piece, font=large, anchor="ls", embedded_color=True)
        scale = self.size / _EMOJI_SIZE
        tile = tile.resize((max(1, round(tile.width * scale)), max(1, round(tile.height * scale))))
        image.paste(tile, (round(place[0]), round(place[1] - self.size)), tile)


def is_writable(text: str) -> bool:
    """Whether this computer can write a text: a font for every letter, and the shaping that its script needs."""
    return all(unicodedata.category(letter) in _NO_INK or font_of(letter) is not None for letter in text)


def class_texts(names: Mapping[int, str]) -> dict[int, str]:
    """Category id -> text on pictures: the name, or `class 3` if no font of this computer can write it.

    What is replaced is logged, with the numbers and the names.
    """
    missing = {number: name for number, name in names.items() if not is_writable(name)}
    if missing:
        _say_replaced(tuple(missing.items()))
    return {number: f"class {number}" if number in missing else name for number, name in names.items()}


@lru_cache(maxsize=100)
def _say_replaced(missing: tuple[tuple[int, str], ...]) -> None:
    legend = ", ".join(f"class {number} = {one_line(name)}" for number, name in missing)
    advice = "; install a font that has them, for example fonts-noto-cjk or fonts-noto-core"
    shaping = "" if features.check("raqm") else ", or its shaping (a Pillow with libraqm)"
    _LOG.warning("no font of this computer has these names%s: pictures say %s%s", shaping, legend, advice)


def writable(text: str) -> str:
    """`text` with a question mark for each letter that cannot be printed or has no font here."""
    return "".join(c if (c.isprintable() or c in _JOINERS) and is_writable(c) else "?" for c in text)


def shorten(text: str, letters: Letters, width: float) -> str:
    """`writable(text)`, its middle replaced by ... until it is at most `width` pixels wide."""
    text = writable(text[:300])
    if letters.getlength(text) <= width:
        return text
    for keep in range(len(text) - 1, 1, -1):
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        if letters.getlength(short) <= width:
            return short
    return "…"


def plot_families(texts: list[str]) -> list[str]:
    """Fonts, the first of them DejaVu Sans, with which matplotlib writes `texts`: for rcParams["font.family"]."""
    from matplotlib import font_manager

    families = ["DejaVu Sans"]
    for path in dict.fromkeys(font_of(letter) for text in texts for letter in text):
        if path and path != _main_path(False) and not _is_bitmap(path):
            font_manager.fontManager.addfont(path)
            family = font_manager.FontProperties(fname=path).get_name()
            families += [family] * (family not in families)
    return families


def plot_class_texts(names: Mapping[int, str]) -> dict[int, str]:
    """`class_texts` for matplotlib: `plot_text` of each, `class 3` for emoji, too; what is replaced is logged."""
    texts = {number: plot_text(text, f"class {number}") for number, text in class_texts(names).items()}
    missing = [(n, names[n]) for n, text in texts.items() if is_writable(names[n]) and text == f"class {n}" != names[n]]
    if missing:
        legend = ", ".join(f"class {number} = {one_line(name)}" for number, name in missing)
        _LOG.warning("matplotlib cannot write these names: plots say %s", legend)
    return texts


def plot_text(text: str, instead: str) -> str:
    """Escape `text` for matplotlib; `instead` if its letters would become empty boxes.

    A dollar sign would start a formula. Before version 3.11 matplotlib shaped no script, and it knows no emoji.
    """
    import matplotlib

    shapes = tuple(map(int, matplotlib.__version__.split(".")[:2])) >= (3, 11)
    good = is_writable(text) and not any(_is_bitmap(font_of(c) or "") or (_is_shaped(c) and not shapes) for c in text)
    return one_line(text if good else instead).replace("$", r"\$")


@lru_cache(maxsize=20_000)
def font_of(letter: str, bold: bool = False, near: str = "") -> str | None:
    """The file of a font that has `letter`, or None. near: the font to prefer if it has the letter."""
    if _is_shaped(letter) and not features.check("raqm"):
        return None
    code, main = ord(letter), _main_path(bold)
    if main and 0x20 < code < 0x250:  # Latin: known without opening a font, which needs matplotlib
        return main
    if not main and letter.isascii():  # the small font inside Pillow
        return main
    for path in (near, main):
        if path and code in _codes(path) and (path != near or not letter.isascii() or not _is_bitmap(path)):
            return path
    # a bitmap of an emoji last: its font has digits, too
    return next((path for path in _system_fonts(bold) if code in _codes(path)), None)


def _is_shaped(letter: str) -> bool:
    return any(low <= ord(letter) <= high for low, high in _SHAPED)


def _is_bitmap(path: str) -> bool:
    return "coloremoji" in Path(path).stem.lower().replace("-", "")


@lru_cache(maxsize=2)
def _main_path(bold: bool) -> str:
    """The path of matplotlib's DejaVu Sans, or "" for the small font inside Pillow."""
    spec = importlib.util.find_spec("matplotlib")  # found, not imported: that takes a second
    for folder in (spec.submodule_search_locations if spec else None) or ():
        path = Path(folder) / "mpl-data" / "fonts" / "ttf" / f"DejaVuSans{'-Bold' * bold}.ttf"
        if path.is_file():
            return str(path)
    return ""


@lru_cache(maxsize=64)
def _font(path: str, size: int) -> ImageFont.FreeTypeFont:
    font = ImageFont.truetype(path, size) if path else ImageFont.load_default(size)
    assert isinstance(font, ImageFont.FreeTypeFont)  # the default one is, too, when a size is asked for
    return font


@lru_cache(maxsize=2)
def _system_fonts(bold: bool) -> list[str]:
    """The font files of this computer, plain sans-serif ones first. Empty without matplotlib, which finds them."""
    try:
        from matplotlib.font_manager import findSystemFonts
    except ImportError:
        return []

    def plainness(path: str) -> tuple:
        name = Path(path).stem.lower()
        styled = any(word in name for word in ("italic", "oblique", "light", "thin", "black", "condensed", "mono"))
        return "emoji" in name, styled, "serif" in name, "sans" not in name, ("bold" in name) != bold, len(name), name

    return sorted(findSystemFonts(), key=plainness)


@lru_cache(maxsize=1000)
def _codes(path: str) -> frozenset[int]:
    """The code points that a font file has glyphs for."""
    try:
        from matplotlib.ft2font import FT2Font

        return frozenset(FT2Font(path).get_charmap())
    except ImportError:
        return frozenset()
    except Exception:  # a font of bitmaps alone, or a broken file
        try:
            from fontTools.ttLib import TTFont

            with TTFont(path, fontNumber=0, lazy=True) as font:
                return frozenset(font.getBestCmap() or ())
        except Exception:
            return frozenset()
