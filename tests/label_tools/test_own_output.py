"""What our commands leave among the photographs is taken neither for labels nor for photographs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from label_tools.__main__ import main
from label_tools.pictures.own_output import drawing_paths, is_drawing, is_ours
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import BOX, content, picture, shape


@pytest.fixture
def photos(tmp_path) -> Path:
    folder = tmp_path / "photos"
    for k in range(6):  # sizes apart, so that no two look alike
        picture(folder / f"{k}.jpg", (64 + 8 * k, 48))
        label = content([shape(BOX, label="cat"), shape([[30, 5], [50, 20]], label="dog")], f"{k}.jpg")
        (folder / f"{k}.json").write_text(json.dumps({**label, "imageWidth": 64 + 8 * k}))
    return folder


def leave_everything(photos: Path, capsys) -> None:
    """Every file that a label command can leave in the folder of the photographs."""
    path = str(photos / "annotations.json")
    for words in (
        ["convert", "labelme", str(photos), "--out", path],
        ["check", path, "--fix"],
        ["split", path, "--duplicates", "off"],
        ["draw", path, "--out", str(photos / "pictures")],
        ["stats", path, "--out", str(photos / "stats.png")],
        ["rename", path, "cat=lion", "--out", str(photos / "renamed.json")],
        ["merge", str(photos / "train.json"), str(photos / "val.json"), "--out", str(photos / "both.json")],
        ["convert", "coco", path, "--out", str(photos / "again.json")],
    ):
        assert main(words) == 0, words
    capsys.readouterr()
    for name, words in (
        ("account", ["convert", "labelme", str(photos), "--out", path]),
        ("check", ["check", path]),
        ("split", ["split", path, "--duplicates", "off"]),
        ("counts", ["export", "voc", path, "--out", str(photos / "voc")]),
    ):
        assert main([*words, "--json"]) == 0
        (photos / f"{name}.json").write_text(capsys.readouterr().out)


def test_a_second_conversion_sees_no_file_of_ours(photos, capsys):
    path = photos / "annotations.json"
    leave_everything(photos, capsys)
    detection = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (photos / "detections.json").write_text(json.dumps([detection]))
    ours = {p.name for p in photos.rglob("*.json") if not p.stem.isdecimal()}
    assert {"train.json", "split.json", "stats.json", "annotations.repaired.json", "conversion.json"} <= ours
    assert len(ours) >= 15
    for more in ([], ["--unlabeled-is-negative"]):
        before = path.read_bytes()
        assert main(["convert", "labelme", str(photos), "--out", str(path), *more]) == 0
        said = capsys.readouterr()
        assert said.err == "" and len(said.out.splitlines()) == 2, said  # no finding, nothing passed over
        assert path.read_bytes() == before
    assert main(["check", str(photos)]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 0 notes in 6 images with 12 annotations\n"


def test_drawings_are_no_photographs_of_other_formats(photos, capsys):
    leave_everything(photos, capsys)
    words = ["convert", "voc", str(photos / "voc"), "--image-root", str(photos), "--unlabeled-is-negative"]
    assert main([*words, "--out", str(photos / "o.json")]) == 0
    assert capsys.readouterr().out.startswith(f"{photos / 'o.json'}: 6 images (0 without objects), 12 objects")


def test_a_photograph_named_like_a_part_is_not_lost(photos, capsys):
    """train.json is of no photograph: train.jpg is one without labels."""
    picture(photos / "train.jpg")
    leave_everything(photos, capsys)
    main(["convert", "labelme", str(photos), "--out", str(photos / "annotations.json")])
    assert "images without labels: 1" in capsys.readouterr().out


def test_only_what_is_ours(tmp_path):
    assert not is_ours([]) and not is_ours([1]) and not is_ours([{"bbox": [1, 2, 3, 4]}])
    assert not is_ours({}) and not is_ours({"shapes": []})
    assert not is_ours({"images": [], "annotations": [], "categories": []})  # a COCO file of others: said (B21)
    assert not is_ours({"info": "text", "images": [], "annotations": [], "categories": []})
    assert not is_drawing(picture(tmp_path / "a.jpg")) and not is_drawing(tmp_path / "nowhere.jpg")
    shutil.copy(picture(tmp_path / "b.png"), tmp_path / "c.jpg")
    assert not is_drawing(tmp_path / "c.jpg")


def test_each_picture_has_a_drawing_of_its_own(tmp_path):
    names = ["a.jpg", "a.png", "a.png.jpg", "a.png.jpg.jpg", "b.jpeg", "b.jpeg.JPG", "C.png", "c.png.jpg", "x/a.png"]
    paths = drawing_paths(tmp_path / "out", {name: tmp_path / name for name in names})
    made = [path.relative_to(tmp_path / "out").as_posix() for path in paths.values()]
    assert made == [
        "a.jpg",
        "a.png.jpg",
        "a.png.jpg.jpg",  # that of a.png.jpg, whose own name is taken
        "a.png.jpg.jpg.jpg",
        "b.jpeg",
        "b.jpeg.JPG.jpg",  # b.jpeg + .jpg is nobody's, and still: the rule looks at the names alone
        "C.png.jpg",
        "c.png.jpg.jpg",  # on Windows and macOS C.png.jpg is the same file
        "x/a.png.jpg",
    ]
    assert len({name.lower() for name in made}) == len(names)


def test_somebodys_file_in_the_place_of_a_drawing(tmp_path):
    picture(tmp_path / "out" / "a.jpg")
    with pytest.raises(InputError, match=r"a\.jpg: was not drawn by frcnn, and is never overwritten"):
        drawing_paths(tmp_path / "out", {"a.jpg": picture(tmp_path / "a.jpg")})
