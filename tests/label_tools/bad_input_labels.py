"""The cases of `test_bad_input.py` that concern LabelMe files: shapes, files, names."""

from __future__ import annotations

import base64
import json
import os
import unicodedata
from pathlib import Path

import numpy as np

from tests.label_tools.bad_input_makers import BOX, GOOD, Case, H, W, content, good, labelme, picture, png, raw, shape

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]
FULL = np.ones((5, 7))  # a mask of 7 x 5 pixels


def poly(*points, **more) -> dict:
    return shape([list(p) for p in points], "polygon", **more)


def mask(points, array=FULL, **more) -> dict:
    return shape(points, "mask", mask=png(array), **more)


SHAPES = [
    Case("B01", "width 0", labelme(shape([[5, 5], [5, 30]])), "leave out"),
    Case("B01", "a point", labelme(shape([[5, 5], [5, 5]])), "leave out"),
    Case("B01", "circle of radius 0", labelme(shape([[5, 5], [5, 5]], "circle")), "leave out"),
    Case("B02", "corners from bottom right", labelme(shape([[25, 30], [5, 5]])), "accept", 1),
    Case("B02", "corners from top right", labelme(shape([[25, 5], [5, 30]])), "accept", 1),
    Case("B03", "1 point", labelme(shape([[5, 5]])), "leave out"),
    Case("B03", "3 points", labelme(shape(SQUARE[:3])), "leave out"),
    Case("B03", "4 corners", labelme(shape(SQUARE)), "repair", 1),
    Case("B03", "4 corners askew", labelme(shape([[10, 12], *SQUARE[1:]])), "leave out"),
    Case("B03", "5 points", labelme(shape([*SQUARE, [10, 10]])), "leave out"),
    Case("B04", "box", labelme(shape([[70, 5], [90, 30]])), "leave out"),
    Case("B04", "polygon", labelme(poly((-9, -9), (-2, -9), (-2, -2))), "leave out"),
    Case("B04", "circle", labelme(shape([[80, 20], [90, 20]], "circle")), "leave out"),
    Case("B04", "mask", labelme(mask([[70, 5], [76, 9]])), "leave out"),
    Case("B05", "box over the edge", labelme(shape([[50, 5], [70, 30]])), "repair", 1),
    Case("B05", "polygon over the edge", labelme(poly((50, 5), (70, 5), (70, 30), (50, 30))), "repair", 1),
    Case("B05", "circle over the edge", labelme(shape([[60, 20], [68, 20]], "circle")), "repair", 1),
    Case("B05", "a fifth left", labelme(shape([[60, 5], [80, 30]])), "leave out"),
    *(
        Case("B06", name, raw(json.dumps(content([GOOD])).replace("25", text)), "leave out")
        for name, text in (("NaN", "NaN"), ("Infinity", "Infinity"), ("-Infinity", "-Infinity"), ("1e999", "1e999"))
    ),
    Case("B06", "in a polygon", labelme(poly((1, 1), (9, float("nan")), (9, 9))), "leave out"),
    Case("B06", "inf and -inf", labelme(poly((1, 1), (float("inf"), float("-inf")), (9, 9))), "leave out"),
    Case("B07", "2e8", labelme(shape([[5, 5], [2e8, 30]])), "leave out"),
    Case("B07", "3e38", labelme(poly((1, 1), (3e38, 9), (9, 9))), "leave out"),
    Case("B07", "sum overflows", labelme(poly((1, 1), (1.7e308, 1.7e308), (9, 9))), "leave out"),
    Case("B07", "a whole number of 400 digits", labelme(poly((1, 1), (10**400, 9), (9, 9))), "leave out"),
    Case("B07", "eleven times the image", labelme(shape([[5, 5], [700, 30]])), "leave out"),
    Case("B08", "2 points", labelme(poly((1, 1), (9, 9))), "leave out"),
    Case("B08", "on a line", labelme(poly((1, 1), (5, 5), (9, 9))), "leave out"),
    Case("B08", "upright line", labelme(poly((1, 1), (1, 5), (1, 9))), "leave out"),
    Case("B08", "there and back", labelme(poly((1, 1), (9, 1), (5, 5), (9, 1))), "leave out"),
    Case("B10", "bow-tie", labelme(poly((10, 10), (30, 30), (30, 10), (10, 30))), "note", 1),
    Case("B10", "uneven bow-tie", labelme(poly((10, 10), (34, 30), (30, 10), (10, 40))), "note", 1),
    Case("B11", "closed ring", labelme(poly(*SQUARE, (10, 10))), "repair", 1),
    Case("B11", "a point twice", labelme(poly(SQUARE[0], *SQUARE)), "repair", 1),
    Case("B08", "one point four times", labelme(poly((1, 1), (1, 1), (1, 1), (1, 1))), "leave out"),
    Case("B12", "box twice", labelme(GOOD, GOOD), "repair", 1),
    Case("B12", "polygon twice", labelme(poly(*SQUARE), poly(*SQUARE)), "repair", 1),
    Case("B13", "two pieces", labelme(poly(*SQUARE, group_id=1), shape([[40, 10], [50, 20]], group_id=1)), "accept", 1),
    Case("B13", "text", labelme(shape(BOX, group_id="1")), "leave out"),
    Case("B13", "true", labelme(shape(BOX, group_id=True)), "leave out"),
    Case(
        "B13",
        "two labels",
        labelme(shape(BOX, group_id=1), shape([[40, 10], [50, 20]], label="dog", group_id=1)),
        "repair",
        2,
    ),
    *(
        Case("B14", kind, labelme(shape([[5, 5], [25, 30]], kind)), "leave out")
        for kind in ("line", "linestrip", "points", "hexagon", 7)
    ),
    Case("B14", "point", labelme(shape([[5, 5]], "point")), "leave out"),
    *(
        Case(
            "B14",
            f"{kind} made thick",
            labelme(shape([[9, 9], [25, 30]], kind), options=("--thicken-lines", "4")),
            "accept",
            1,
        )
        for kind in ("line", "linestrip")
    ),
    *(
        Case("B14", f"{kind} as box", labelme(shape([[9, 9]], kind), options=("--point-box", "6")), "accept", 1)
        for kind in ("point", "points")
    ),
    Case("B14", "circle of 3 points", labelme(shape([[5, 5], [9, 9], [8, 8]], "circle")), "leave out"),
    Case("B14", "oriented rectangle of 3 points", labelme(shape(SQUARE[:3], "oriented_rectangle")), "leave out"),
    Case(
        "B14",
        "oriented rectangle",
        labelme(shape([[20, 5], [30, 15], [20, 25], [10, 15]], "oriented_rectangle")),
        "accept",
        1,
    ),
    Case("B15", "mask", labelme(mask([[10, 10], [16, 14]])), "accept", 1),
    Case("B15", "mask of 0 and 255", labelme(mask([[10, 10], [16, 14]], FULL * 255)), "accept", 1),
    Case("B15", "points say less", labelme(mask([[10, 10], [12, 12]])), "repair", 1),
    Case("B15", "points say more", labelme(mask([[10, 10], [30, 30]])), "repair", 1),
    Case("B15", "fractions", labelme(mask([[10.4, 10.4], [16.2, 14.9]])), "accept", 1),
    Case("B15", "over the left edge", labelme(mask([[-3, 10], [3, 14]])), "repair", 1),
    Case("B15", "no PNG", labelme(shape([[10, 10], [16, 14]], "mask", mask=None)), "leave out"),
    Case("B15", "PNG cut off", labelme(shape([[10, 10], [16, 14]], "mask", mask=png(FULL)[:40])), "leave out"),
    Case("B15", "no base64", labelme(shape([[10, 10], [16, 14]], "mask", mask="é!")), "leave out"),
    Case("B15", "1 point", labelme(mask([[10, 10]])), "leave out"),
    Case("B15", "points reversed", labelme(mask([[16, 14], [10, 10]])), "leave out"),
    Case("B86", "mask of zeros", labelme(mask([[10, 10], [16, 14]], FULL * 0)), "leave out"),
    Case("B17", "0.001 px", labelme(shape([[5, 5], [5.001, 30]])), "leave out"),
    Case("B17", "1e-30", labelme(poly((0, 1e-30), (9, 0), (5, 0))), "leave out"),
]


def _pair(folder: Path, image: str, path_in_json: str | None = None, json_name: str = "a.json") -> list[str]:
    good(folder)
    picture(folder / image)
    (folder / json_name).parent.mkdir(parents=True, exist_ok=True)
    (folder / json_name).write_text(json.dumps(content([GOOD], image if path_in_json is None else path_in_json)))
    return ["convert", "labelme", str(folder)]


def _path(image: str, path_in_json: str, json_name: str = "a.json"):
    return lambda folder: _pair(folder, image, path_in_json, json_name)


def _outside(folder: Path) -> list[str]:
    picture(folder.parent / "outside.jpg")
    return _pair(folder, "a.jpg", "../outside.jpg")


def _link(folder: Path) -> list[str]:
    picture(folder.parent / "target.jpg")
    good(folder)
    os.symlink(folder.parent / "target.jpg", folder / "a.jpg")
    (folder / "a.json").write_text(json.dumps(content([GOOD])))
    return ["convert", "labelme", str(folder)]


def _two_for_one(folder: Path) -> list[str]:
    _pair(folder, "a.jpg")
    (folder / "b.json").write_text(json.dumps(content([GOOD])))
    return ["convert", "labelme", str(folder)]


def _same_name_twice(folder: Path) -> list[str]:
    _pair(folder, "x/a.jpg", "a.jpg", "x/a.json")
    return _pair(folder, "y/a.jpg", "a.jpg", "y/a.json")


def _absolute_twice(folder: Path) -> list[str]:
    picture(folder / "x" / "b.jpg")
    picture(folder / "y" / "b.jpg")
    return _pair(folder, "a.jpg", "C:\\photos\\b.jpg")


def _unlabelled(*options: str):
    def make(folder: Path) -> list[str]:
        good(folder)
        picture(folder / "a.jpg")
        return ["convert", "labelme", str(folder), *options]

    return make


def _labels(text: str, *shapes: dict, options: tuple[str, ...] = ()):
    def make(folder: Path) -> list[str]:
        (folder.parent / "labels.txt").write_text(text)
        return [*labelme(*shapes)(folder), "--labels", str(folder.parent / "labels.txt"), *options]

    return make


def _out_is_input(folder: Path) -> list[str]:
    return [*_pair(folder, "a.jpg"), "--out", str(folder / "a.json")]


def _out_is_folder(folder: Path) -> list[str]:
    (folder / "kept.json").mkdir()
    return [*labelme(GOOD)(folder), "--out", str(folder / "kept.json")]


def _long_name(folder: Path) -> list[str]:
    return _pair(folder, "a" * 245 + ".jpg")


GBK = json.dumps(content([shape(BOX, label="猫咪的")]), ensure_ascii=False).encode("gbk")
TEXT = json.dumps(content([GOOD]))
FILES = [
    Case("B20", "empty", raw(""), "leave out", text="line 1"),
    Case("B20", "cut off", raw(TEXT[:80]), "leave out", text="line 1 column"),
    Case("B20", "a list", raw("[]"), "leave out"),
    Case("B20", "shapes null", raw(json.dumps(content(None))), "leave out"),
    Case("B20", "shapes an object", raw(json.dumps(content({}))), "leave out"),
    Case("B20", "a number", raw("7"), "leave out"),
    Case("B21", "a config", raw('{"a": 1}'), "note"),
    Case("B21", "a COCO file", raw('{"images": [], "annotations": [], "categories": []}'), "note"),
    Case("B22", "BOM", raw(b"\xef\xbb\xbf" + TEXT.encode()), "repair", 1),
    Case("B23", "UTF-16", raw(TEXT.encode("utf-16")), "repair", 1),
    Case("B23", "UTF-16 without BOM", raw(TEXT.encode("utf-16-le")), "repair", 1),
    Case("B23", "UTF-32", raw(TEXT.encode("utf-32")), "repair", 1),
    Case("B24", "GBK", raw(GBK), "leave out"),
    Case("B24", "cp1252", raw(TEXT.replace("cat", "k\u00e4fer").encode("cp1252")), "leave out"),
    Case("B25", "deep", raw('{"shapes": ' + "[" * 100_000), "leave out"),
    Case("B25", "5000 digits", raw(TEXT.replace("25", "9" * 5000)), "leave out"),
    Case("B25", "a key twice", raw(TEXT.replace('"flags": {}', '"shapes": []', 1)), "leave out", text='"shapes"'),
    Case("B25", "half a surrogate", raw(TEXT.replace("cat", "\\ud800")), "leave out"),
    *(
        Case("B26", name, labelme(bad), "leave out")
        for name, bad in (
            ("label a number", shape(BOX, label=7)),
            ("label null", shape(BOX, label=None)),
            ("points null", shape(None)),
            ("no points", shape([])),
            ("points of one number", shape([[1], [2]])),
            ("points of three", shape([[1, 2, 3]] * 2)),
            ("points as text", shape([["1", "2"], ["3", "4"]])),
            ("points two-letter texts", shape(["ab", "cd"])),
            ("true", shape([[True, 5], [25, 30]])),
            ("points an object", shape({"x": 1})),
            ("flags a list", shape(BOX, flags=[])),
            ("a text", "shape"),
            ("null", None),
            ("a list", []),
        )
    ),
    Case("B26", "imagePath null", labelme(GOOD, imagePath=None), "leave out"),
    Case("B26", "imageWidth a text", labelme(GOOD, imageWidth="64"), "leave out"),
    Case("B27", "another size", labelme(GOOD, imageWidth=W + 1), "leave out"),
    Case("B27", "imageData no image", labelme(GOOD, imageData="aGVsbG8="), "note", 1),
    Case("B27", "imageData no base64", labelme(GOOD, imageData="%%%"), "note", 1),
    Case("B27", "no size at all", labelme(GOOD, imageWidth=None, imageHeight=None), "accept", 1),
    Case("B28", "imageData of another size", labelme(GOOD, imageData=png(np.zeros((20, 20)))), "leave out"),
    Case("B28", "imageData of the same size", labelme(GOOD, imageData=png(np.zeros((H, W)))), "accept", 1),
    Case("B29", "backslashes", _path("sub/a.jpg", "sub\\a.jpg"), "repair", 1),
    Case("B29", "dots and backslashes", _path("images/a.jpg", "..\\images\\a.jpg", "json/a.json"), "repair", 1),
    Case("B30", "drive", _path("a.jpg", "C:\\photos\\a.jpg"), "repair", 1),
    Case("B30", "home", _path("a.jpg", "/home/x/a.jpg"), "repair", 1),
    Case("B30", "in another folder", _path("deep/down/a.jpg", "/home/x/a.jpg"), "repair", 1),
    Case("B30", "two of the name", _absolute_twice, "leave out"),
    Case("B30", "none of the name", _path("a.jpg", "/home/x/b.jpg", "c.json"), "leave out"),
    Case("B30", "renamed", _path("a.jpg", "/home/x/b.jpg"), "repair", 1),
    Case("B31", "etc", _path("a.jpg", "../../../../../../etc/passwd"), "leave out"),
    Case("B30", "etc, absolute", _path("a.jpg", "/etc/passwd"), "leave out"),
    Case("B31", "NUL", _path("a.jpg", "a\0.jpg"), "leave out"),
    Case("B30", "UNC", _path("a.jpg", "\\\\server\\share\\b.jpg", "c.json"), "leave out"),
    Case("B31", "beside the folder", _outside, "leave out", text="--image-root"),
    Case("B31", "symbolic link", _link, "leave out", text="--follow-links"),
    Case("B31", "link allowed", lambda f: [*_link(f), "--follow-links"], "accept", 1),
    Case("B32", "missing", _path("a.jpg", "b.jpg", "c.json"), "leave out"),
    Case("B32", "renamed", _path("a.jpg", "b.jpg"), "repair", 1),
    Case("B32", "other extension", _path("a.jpg", "a.png", "c.json"), "repair", 1),
    Case("B32", "other case", _path("a.JPG", "A.jpg"), "repair", 1),
    Case("B33", "two label files", _two_for_one, "refuse", text="a.json"),
    Case("B33", "one name in two folders", _same_name_twice, "accept", 2),
    Case("B34", "no shapes", labelme(), "accept", 0),
    Case("B34", "no label file", _unlabelled(), "accept", 0),
    Case("B34", "no label file, as negative", _unlabelled("--unlabeled-is-negative"), "accept", 0),
    Case("B35", "unknown", _labels("cat\n", shape(BOX, label="cow")), "refuse", text='"cow" (1, in '),
    Case(
        "B35",
        "left out by wish",
        _labels("cat\n", shape(BOX, label="cow"), options=("--skip-labels", "cow")),
        "accept",
        0,
    ),
    Case("B35", "near", _labels("cat\nhorse\n", shape(BOX, label="hors")), "refuse", text='did you mean "horse"'),
    Case("B36", "blanks", labelme(shape(BOX, label=" cat ")), "repair", 1),
    Case("B36", "decomposed", labelme(shape(BOX, label=unicodedata.normalize("NFD", "café"))), "repair", 1),
    Case("B36", "case", labelme(shape(BOX, label="Cat")), "refuse", text="--merge-case"),
    Case("B36", "case merged", labelme(shape(BOX, label="Cat"), options=("--merge-case",)), "accept", 1),
    Case("B37", "empty", labelme(shape(BOX, label="  ")), "leave out"),
    Case("B37", "10 kB", labelme(shape(BOX, label="x" * 10_000)), "leave out"),
    Case("B37", "escape", labelme(shape(BOX, label="\x1b[31mred")), "leave out"),
    Case("B37", "line break", labelme(shape(BOX, label="a\nb")), "leave out"),
    Case("B37", "a path", labelme(shape(BOX, label="../../etc")), "accept", 1),
    Case("B37", "__ignore__", labelme(shape(BOX, label="__ignore__")), "accept", 1),
    Case("B37", "_background_", labelme(shape(BOX, label="_background_")), "accept", 0),
    *(
        Case("B38", name, _path(name, name), "accept", 1)
        for name in ("猫 ü.jpg", "a b.jpg", "🐱.jpg", "-rf.jpg", "CON.jpg", "a@b:c.jpg", "x.y.z.jpg")
    ),
    Case("B38", "245 letters", _long_name, "accept", 1),
    Case("B39", "output is a label file", _out_is_input, "refuse", text="exists"),
    Case("B39", "output is a folder named as a file", _out_is_folder, "refuse", text="folder"),
    Case("B39", "no such folder", lambda f: ["convert", "labelme", str(f / "nowhere")], "refuse", text="nowhere"),
    Case("B39", "nothing in it", lambda f: ["convert", "labelme", str(f)], "refuse", text="no LabelMe file"),
    Case("B32", "embedded image only", lambda f: _embedded_only(f), "leave out"),
]


def _embedded_only(folder: Path) -> list[str]:
    good(folder)
    (folder / "a.json").write_text(json.dumps(content([GOOD], imageData=base64.b64encode(b"x").decode())))
    return ["convert", "labelme", str(folder)]
