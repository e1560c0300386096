"""Names of classes and files from elsewhere: nothing moves a cursor, forges a line, a cell, a tag or a command."""

from __future__ import annotations

import csv
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import pytest

from label_tools.text.errors import say
from tests.label_tools.bad_input_makers import BOX, content, picture, shape
from tests.toolkit.test_evaluate_run import save_network
from toolkit.__main__ import main

CONTROL = [
    "a\nb",
    "a\rb",
    "\x1b[31mred",
    "\x9b31mred",
    "a\u2028b",
    "a\u2029b",
    "a\u202eb",
    "a\u200bb",
    "\ufeffa",
    "a\tb",
]
SHEETS = ["=1+1", "+1", "-1+2", "@SUM(A1)", "=cmd|' /C calc'!A0"]
MARKUP = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "</style><b>",
    "&lt;b&gt;",
    "javascript:alert(1)",
]
PRINT = ["a|b", "`a`", "[a](b)", "\\textbf{a}", "a_b^c~d#e%f&g", "$x$", "%s %d", "{0}", "{{7*7}}", "{% raw %}"]
SHELL = ["$(reboot)", "; reboot", "-rf", "--help", "..", "CON", "a\\b", "x" * 200, "ё" * 100, "🙂", "é", "null"]
NAMES = [*CONTROL, *SHEETS, *MARKUP, *PRINT, *SHELL]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.found += [tag, *(name for name, _ in attrs)]


def tags(page: Path) -> set[str]:
    parser = Tags()
    parser.feed(page.read_text(encoding="utf-8"))
    return set(parser.found)


def tour(folder: Path, name: str, capsys) -> set[str]:
    """Every command on a set whose class, folder and pictures are called so; -> the exit codes."""
    stem = "".join(c for c in name if c not in "/\0")[:90].strip() or "x"
    photos = folder / ("photos " + stem)
    for number in range(4):
        picture(photos / f"{stem}{number}.png", (64 + 8 * number, 48))
        label = content([shape(BOX, label=name), shape([[30, 5], [50, 20]], label="dog")], f"{stem}{number}.png")
        (photos / f"{stem}{number}.json").write_text(json.dumps({**label, "imageWidth": 64 + 8 * number}))
    labels, codes = photos / "annotations.json", set()

    def run(*words) -> int:
        code = main([str(word) for word in words])
        said = capsys.readouterr()
        for text in (said.out, said.err):
            bad = {c for c in text.replace("\n", "") if not c.isprintable()}
            assert not bad, (words, bad, text)
        codes.add(code)
        return code

    run("check", photos)
    run("convert", "labelme", photos, "--out", labels)
    if not labels.exists():
        return codes
    run("convert", "coco", labels, "--out", folder / "again.json", "--json")
    run("check", labels, "--fix")
    run("stats", labels)
    run("split", labels, "--duplicates", "off", "--out", folder / "parts")
    run("draw", labels, "--out", folder / "drawn", "--sheet-only")
    run("rename", labels, "dog=wolf", "--out", folder / "renamed.json")
    run("rename", labels, "nowhere=wolf", "--out", folder / "renamed.json")
    run("merge", labels, folder / "again.json", "--out", folder / "both.json")
    for program in ("labelme", "voc", "yolo", "coco", "cvat", "masks"):
        run("export", program, labels, "--out", folder / program)
    document = json.loads(labels.read_text())
    detections = [
        {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.5}
        for a in document["annotations"]
    ]
    (folder / "d.json").write_text(json.dumps(detections))
    out = folder / "evaluated"
    run("evaluate", "--annotations", labels, "--detections", folder / "d.json", "--out", out, "--resamples", "5")
    for shape_of in ("--markdown", "--latex", "--json"):
        run("evaluate", "--annotations", labels, "--detections", folder / "d.json", "--out", out, shape_of)
    run("report", out)
    plain = folder.parent / "plain.html"
    if not plain.exists():
        shutil.copy(out / "report.html", plain)
    assert tags(out / "report.html") <= tags(plain) | {"title"}, name
    for path in out.glob("*.csv"):
        with open(path, newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert len({len(row) for row in rows}) == 1
        assert not [cell for row in rows for cell in row if re.match(r"[=+@]|-\D", cell)], path
    return codes


@pytest.fixture
def folder(tmp_path, capsys) -> Path:
    tour(tmp_path / "plain", "cat", capsys)
    return tmp_path


@pytest.mark.parametrize("name", ['\x1b[31m<b onclick=x>=\u202e|_"', "a\u2028b"])
def test_a_hostile_name_through_every_command(folder, capsys, name):
    assert tour(folder / "hostile", name, capsys) <= {0, 1, 2}


@pytest.mark.slow
def test_forty_hostile_names_through_every_command(folder, capsys):
    assert len(NAMES) >= 40
    for number, name in enumerate(NAMES):
        assert tour(folder / str(number), name, capsys) <= {0, 1, 2}, name


def test_hostile_pictures_through_the_commands_of_a_network(tmp_path, capsys):
    from tests.toolkit.evaluation_fixtures import draw_images, scene

    document, _ = scene(1, images=2)
    name = "a\x1b[31m\u202eb\n\x9bc"
    for number, image in enumerate(document["images"]):
        image["file_name"] = f"{name}{number}.jpg"
    document["categories"][0]["name"] = "<b>\u202e"
    draw_images(document, tmp_path / name)
    save_network(tmp_path)
    (tmp_path / name / "notes.jpg").write_text("no picture")
    for words in (
        ["predict", tmp_path, tmp_path / name, "--out", tmp_path / "out"],
        ["predict", tmp_path, tmp_path / name, "--out", tmp_path / "other", "--json"],
        ["prelabel", tmp_path, tmp_path / name, "--out", tmp_path / "drafts"],
        ["predict", tmp_path, tmp_path / f"no{name}"],
        ["train", tmp_path / name, "--dry-run"],
    ):
        assert main([str(word) for word in words]) in (0, 1, 2)
        said = capsys.readouterr()
        for text in (said.out, said.err):
            assert not {c for c in text.replace("\n", "") if not c.isprintable()}, (words, text)


def test_the_log_of_a_training_holds_no_control_character(tmp_path):
    from toolkit.training.progress import Progress

    progress = Progress(tmp_path / "train.log", quiet=True)
    progress.line("warning: no picture \x1b[31m\u202e.jpg")
    progress.close()
    assert "no picture \\x1b[31m\\x202e.jpg" in (tmp_path / "train.log").read_text()


def test_json_stays_json(capsys):
    say(json.dumps({"a\u2028": "\x9b\u202eé"}, ensure_ascii=False))
    text = capsys.readouterr().out
    assert json.loads(text) == {"a\u2028": "\x9b\u202eé"} and "é" in text
    assert all(c.isprintable() for c in text.replace("\n", ""))
