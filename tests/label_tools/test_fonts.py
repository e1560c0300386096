"""Names in any script: written in a font that has them, or replaced and said, never an empty box."""

from __future__ import annotations

import logging

import numpy as np
import pytest
from PIL import Image, ImageFont, features

from label_tools.pictures import fonts
from label_tools.pictures.fonts import Letters, class_texts, is_writable, plot_families, plot_text, writable

SCRIPTS = {
    "Arabic": "قطة",
    "Chinese": "猫",
    "Japanese": "ねこ",
    "Korean": "고양이",
    "emoji": "🐈",
    "Devanagari": "नमस्ते",
}


@pytest.fixture
def bare(monkeypatch):
    """A computer with the fonts of matplotlib alone."""
    monkeypatch.setattr(fonts, "_system_fonts", lambda bold: [])
    fonts.font_of.cache_clear()
    fonts._say_replaced.cache_clear()
    yield
    fonts.font_of.cache_clear()


def written(text: str, size: int = 24) -> np.ndarray:
    image = Image.new("RGB", (400, 60), "white")
    Letters(size).write(image, (10, 10), text, (0, 0, 0))
    return np.asarray(image).astype(int)


def tofu(size: int = 24) -> np.ndarray:
    """What DejaVu Sans draws for a letter that it does not have."""
    image = Image.new("RGB", (400, 60), "white")
    from PIL import ImageDraw

    face = ImageFont.truetype(fonts._main_path(False), size)
    ImageDraw.Draw(image).text((10, 10 + face.getmetrics()[0]), "\U000f1234", fill=(0, 0, 0), font=face, anchor="ls")
    return np.asarray(image).astype(int)


def test_latin_greek_and_cyrillic_need_no_font_of_the_system(bare):
    assert class_texts({1: "café", 2: "Żółw", 3: "кошка", 4: "γάτα"}) == {1: "café", 2: "Żółw", 3: "кошка", 4: "γάτα"}
    assert (written("кошка") < 128).sum() > 300
    # as Pillow itself writes them
    face = ImageFont.truetype(fonts._main_path(True), 14)
    assert Letters(14, bold=True).getlength("café") == face.getlength("café")


def test_without_matplotlib_the_font_inside_pillow_has_ascii(bare, monkeypatch):
    monkeypatch.setattr(fonts, "_main_path", lambda bold: "")
    assert class_texts({1: "red cell", 2: "кошка"}) == {1: "red cell", 2: "class 2"}
    assert (written("red cell") < 128).sum() > 300


def test_without_a_font_a_class_is_its_number_and_it_is_said_once(bare, caplog):
    with caplog.at_level(logging.WARNING):
        assert class_texts({1: "cat", 7: "猫", 8: "고양이"}) == {1: "cat", 7: "class 7", 8: "class 8"}
        class_texts({1: "cat", 7: "猫", 8: "고양이"})
    assert len(caplog.records) == 1
    assert "class 7 = 猫, class 8 = 고양이; install a font" in caplog.text
    assert writable("猫_1.jpg") == "?_1.jpg" and writable("a\u200db\u202e") == "a\u200db?"  # joined, not turned round
    assert plot_text("猫", "class 7") == "class 7" and plot_families(["cat", "猫"]) == ["DejaVu Sans"]


def test_scripts_that_need_shaping_are_not_written_without_it(bare, monkeypatch):
    """DejaVu Sans has Arabic letters; without libraqm they would stand apart and from left to right."""
    if features.check("raqm"):
        assert is_writable("قطة")
        fonts.font_of.cache_clear()
    monkeypatch.setattr(fonts.features, "check", lambda name: False)
    assert not is_writable("قطة") and is_writable("cat")


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_that_the_system_has_is_drawn_in_it(script):
    name = SCRIPTS[script]
    if not is_writable(name):
        pytest.skip(f"no font of this computer has {script}")
    pixels = written(name)
    assert (pixels < 200).any(axis=2).sum() > 30
    assert np.abs(pixels - tofu()).sum() > 0
    assert class_texts({1: name}) == {1: name}
    # mixed with Latin both are there, and the whole is as long as its parts
    parts = Letters(24)
    assert parts.getlength(f"cat {name}") > parts.getlength("cat ") + 0.5 * parts.getlength(name)


def test_a_formula_sign_and_a_line_break_do_not_reach_matplotlib():
    assert plot_text("a$b$", "class 1") == "a\\$b\\$"
    assert "\n" not in plot_text("a\nb", "class 1")


def test_a_plot_says_which_class_it_cannot_name(caplog):
    """matplotlib knows no emoji, which pictures show where the system has its font."""
    with caplog.at_level(logging.WARNING):
        assert fonts.plot_class_texts({1: "cat", 5: "🔩"}) == {1: "cat", 5: "class 5"}
    assert "class 5 = 🔩" in caplog.text


def test_matplotlib_does_not_warn(tmp_path):
    """Every glyph that is asked for is there: its warning would be an error here."""
    from label_tools.__main__ import main
    from label_tools.document import coco_file

    names = ["cat", *SCRIPTS.values()]
    Image.new("RGB", (64, 64)).save(tmp_path / "a.png")
    box = {"image_id": 1, "bbox": [4, 4, 20, 20], "area": 400, "iscrowd": 0}
    document = {
        "info": {},
        "images": [{"id": 1, "file_name": "a.png", "width": 64, "height": 64}],
        "annotations": [{**box, "id": k, "category_id": k} for k in range(1, len(names) + 1)],
        "categories": [{"id": k, "name": name} for k, name in enumerate(names, start=1)],
    }
    coco_file.write(document, tmp_path / "猫.json")
    assert main(["stats", str(tmp_path / "猫.json"), "--out", str(tmp_path / "s.png")]) == 0
    assert (tmp_path / "s.png").stat().st_size > 10_000
