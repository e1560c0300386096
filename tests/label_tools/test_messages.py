"""What is printed counts as a person does: 1 image, 2 images."""

from __future__ import annotations

import json
import re

import pytest

from label_tools.__main__ import main
from label_tools.text.messages import counted, near_names, near_paths, table_lines, unknown
from tests.label_tools.bad_input_makers import BOX, content, picture, shape

NOUNS = "images|objects|annotations|classes|files|pictures|points|boxes|regions|shapes|labels|errors|warnings|notes"


@pytest.mark.parametrize(
    ("number", "words", "expected"),
    [
        (1, ("image",), "1 image"),
        (0, ("image",), "0 images"),
        (2, ("class", "classes"), "2 classes"),
        (1, ("class", "classes"), "1 class"),
    ],
)
def test_counted(number, words, expected):
    assert counted(number, *words) == expected


def test_unknown_names_and_near_ones():
    models = ["fasterrcnn_resnet50_fpn", "ssd"]
    known = "known: fasterrcnn_resnet50_fpn, ssd"
    assert unknown("--model", "resnet50", models) == (
        f"--model resnet50: unknown; did you mean fasterrcnn_resnet50_fpn? {known}"
    )
    assert unknown("--model", "xyz", models) == f"--model xyz: unknown; {known}"
    # two at most, the nearest first
    assert near_names("resnet10", ["resnet18", "resnet101", "resnet100"]) == "; did you mean resnet101 or resnet100?"
    assert near_names("xyz", models) == ""


def test_a_table_has_its_first_column_on_the_left():
    assert table_lines([("", "train", "val"), ("images", "81", "5"), ("a", "7", "12")]) == [
        "        train  val",
        "images     81    5",
        "a           7   12",
    ]


def test_near_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos").mkdir()
    for name in ("annotations.json", "val.json", "vat.json", "annotations.jpg"):
        (tmp_path / "photos" / name).touch()
    assert near_paths("photos/anotations.json") == "; did you mean photos/annotations.json?"
    assert near_paths("phtos/val.json") == "; did you mean photos/val.json?"  # the folder is the slip
    assert near_paths("phtos") == "; did you mean photos?"
    assert near_paths(tmp_path / "photos" / "vax.json") == (
        f"; did you mean {tmp_path}/photos/vat.json or {tmp_path}/photos/val.json?"
    )
    for nothing in ("nowhere.json", "phtos/nowhere.json", "photos/val.json/x", "a/b/c", "../" * 3 + "q_.json"):
        assert near_paths(nothing) == "", nothing


def test_no_line_of_any_command_says_1_images(tmp_path, capsys):
    """One image with one object of one class, one ignore region, one point that is left out, one broken file."""
    photos = tmp_path / "photos"
    picture(photos / "a.jpg")
    picture(photos / "b.jpg")
    shapes = [shape(BOX), shape([[40, 5], [50, 20]], label="__ignore__"), shape([[3, 3]], "point")]
    (photos / "a.json").write_text(json.dumps(content(shapes)))
    (photos / "broken.json").write_text("{")
    (photos / "other.json").write_text('{"a": 1}')
    path, out = str(photos / "annotations.json"), str(tmp_path / "out")
    lines = ""
    for words in (
        ["convert", "labelme", str(photos), "--out", path],
        ["check", path],
        ["check", str(photos)],
        ["check", path, "--fix", "--out", str(tmp_path / "fixed.json")],
        ["check", str(photos), "--fix", "--out", str(tmp_path / "fixed")],
        ["split", path, "--train", "1", "--val", "0", "--test", "0", "--out", out],
        ["split", path, "--train", ".5", "--val", ".5", "--test", "0", "--out", out],
        ["draw", path, "--out", out],
        ["stats", path],
        ["export", "voc", path, "--out", out],
        ["rename", path, "cat=dog", "--out", str(tmp_path / "renamed.json")],
        ["merge", path, str(tmp_path / "fixed.json"), "--out", str(tmp_path / "merged.json")],
    ):
        main(words)
        said = capsys.readouterr()
        assert said.out + said.err, words
        lines += said.out + said.err
    assert lines.count("1 image ") > 3 and lines.count("1 object") >= 1  # the pattern below looks at something
    assert "each 64 x 48 pixels" in lines
    wrong = [line for line in lines.splitlines() if re.search(rf"\b1 ({NOUNS})\b", line)]
    assert not wrong, wrong
