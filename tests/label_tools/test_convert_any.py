"""`convert SRC` without a format: who wrote it, where the result goes, and the split that the set already has."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from label_tools.__main__ import main
from label_tools.formats.image_records import ImageRecord
from label_tools.readers.given_split import given_parts, part_named
from tests.conftest import REAL_DATA, needs_real_data
from tests.label_tools.bad_input_images import VOC
from tests.label_tools.bad_input_makers import GOOD, annotation, content, picture

CVAT = (
    '<annotations><version>1.1</version><image id="0" name="a.jpg" width="64" height="48">'
    '<box label="cat" xtl="5" ytl="6" xbr="25" ybr="30"/></image></annotations>'
)


def test_what_is_said_and_where_it_goes(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "photos" / "a.jpg")
    (tmp_path / "photos" / "a.json").write_text(json.dumps(content([GOOD])))
    assert main(["convert", "photos"]) == 0
    assert "photos: LabelMe (a.json: `shapes`" in capsys.readouterr().err
    assert (tmp_path / "photos" / "annotations.json").is_file()  # it lies in the working folder

    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    assert main(["convert", str(tmp_path / "photos")]) == 0
    assert (work / "photos" / "annotations.json").is_file()  # elsewhere: a folder of its name, there nothing is added
    assert main(["convert", str(tmp_path / "photos"), "--out", "x.json", "--labels", "l.txt"]) == 2  # no such file


def test_each_program_by_name_and_without(tmp_path, capsys):
    picture(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(CVAT)
    for words in (["cvat", str(tmp_path)], [str(tmp_path)], [str(tmp_path / "annotations.xml")]):
        out = tmp_path / "out" / f"{len(words)}.json"
        assert main(["convert", *words, "--out", str(out)]) == 0
        assert json.loads(out.read_text())["annotations"][0]["bbox"] == [5, 6, 20, 24]


def test_no_format_and_no_folder(tmp_path, capsys):
    with pytest.raises(SystemExit) as stop:
        main(["convert", "labelmee", str(tmp_path)])
    assert stop.value.code == 2 and "did you mean labelme?" in capsys.readouterr().err
    assert main(["convert", str(tmp_path)]) == 2  # an empty folder
    assert "no labels of a program that is known" in capsys.readouterr().err


def test_the_wrong_format_is_told_which_it_is(tmp_path, capsys):
    picture(tmp_path / "a.jpg")
    (tmp_path / "annotations.xml").write_text(CVAT)
    out = ["--out", str(tmp_path / "o.json")]
    for words in (["voc", str(tmp_path)], ["labelme", str(tmp_path)], ["coco", str(tmp_path / "annotations.xml")]):
        assert main(["convert", *words, *out]) == 2
        said = capsys.readouterr().err
        assert "it holds CVAT XML" in said and "`frcnn convert cvat " in said and said.count("\n") == 1
    (tmp_path / "annotations.xml").unlink()
    (tmp_path / "a.json").write_text(json.dumps([{"image": "a.jpg", "annotations": []}]))
    assert main(["convert", "labelme", str(tmp_path), *out]) == 2
    assert "CreateML, which is not read" in capsys.readouterr().err


@pytest.mark.parametrize(
    "name, part",
    [
        ("train", "train"),
        ("valid", "val"),
        ("VAL", "val"),
        ("validation", "val"),
        ("train2017", "train"),
        ("testing", "test"),
    ]
    + [(name, None) for name in ("trainer", "testdata1", "tests", "images", "value", "latest", "train17")],
)
def test_names_of_parts(name, part):
    assert part_named(name) == part


def records(*names: str, source: str = "x.json") -> list[ImageRecord]:
    return [ImageRecord(name, 64, 48, [], source) for name in names]


def test_a_split_where_every_image_has_its_part(tmp_path):
    some = records("images/val/b.jpg", "images/train/a.jpg")
    assert {k: [r.file_name for r in v] for k, v in given_parts(tmp_path, some).items()} == {
        "train": ["images/train/a.jpg"],
        "val": ["images/val/b.jpg"],
    }
    assert given_parts(tmp_path, records("train/a.jpg", "train/b.jpg")) == {}  # one part is none
    assert given_parts(tmp_path, records("train/a.jpg", "val/b.jpg", "c.jpg")) == {}
    assert given_parts(tmp_path, records("train/val/a.jpg", "val/train/b.jpg")).keys() == {"train", "val"}  # innermost


def test_only_a_file_of_many_images_names_their_part(tmp_path):
    def of_files(*sources: str) -> list[ImageRecord]:
        return [ImageRecord(f"{k}.jpg", 64, 48, [], str(tmp_path / name)) for k, name in enumerate(sources)]

    assert given_parts(tmp_path, of_files("train.json, image 1", "instances_val.json, image 7")).keys() == {
        "train",
        "val",
    }
    assert given_parts(tmp_path, of_files("dog_train.json", "dog_test.json")) == {}  # LabelMe's, called as their images
    assert given_parts(tmp_path, of_files("train/a.json", "val/b.xml")).keys() == {"train", "val"}  # by their folders


def test_pascal_vocs_lists(tmp_path):
    for name, lists in {"a": ["train", "trainval"], "b": ["val", "trainval"], "c": ["train", "val"]}.items():
        for part in lists:
            file = tmp_path / "ImageSets" / "Main" / f"{part}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text((file.read_text() if file.exists() else "") + name + "\n")
    assert given_parts(tmp_path, records("a.jpg", "b.jpg")).keys() == {"train", "val"}
    assert given_parts(tmp_path, records("a.jpg", "b.jpg", "c.jpg")) == {}  # c is in both


@pytest.mark.parametrize(("train", "val"), [("train.txt", "val.txt"), ("data/train.txt", "data/valid.txt")])
def test_lists_of_yolo_and_darknet(tmp_path, train, val):
    """A path a line, from wherever they were trained: the names count."""
    (tmp_path / "data").mkdir()
    (tmp_path / train).write_text("./images/a.jpg\n/home/me/x/b 1.jpg\n")
    (tmp_path / val).write_text("data\\images\\c.2.jpg\n")
    parts = given_parts(tmp_path, records("a.jpg", "b 1.jpg", "c.2.jpg"))
    assert {part: len(some) for part, some in parts.items()} == {"train": 2, "val": 1}


def test_a_split_set_gives_its_parts(tmp_path, capsys):
    for part, name in (("train", "a"), ("valid", "b"), ("test", "c")):
        picture(tmp_path / "set" / part / "images" / f"{name}.jpg")
        (tmp_path / "set" / part / "labels").mkdir()
        (tmp_path / "set" / part / "labels" / f"{name}.txt").write_text(f"{'abc'.index(name) % 2} .5 .5 .25 .5\n")
    (tmp_path / "set" / "data.yaml").write_text("names: [cat, dog]\n")
    assert main(["convert", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    for part, file_name, category in (("train", "train/images/a.jpg", 1), ("val", "valid/images/b.jpg", 2)):
        document = json.loads((tmp_path / "out" / f"{part}.json").read_text())
        assert [i["file_name"] for i in document["images"]] == [file_name]
        assert [a["category_id"] for a in document["annotations"]] == [category]
        assert [c["name"] for c in document["categories"]] == ["cat", "dog"]  # in every part
    account = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert account["parts"] == {"train": 1, "val": 1, "test": 1} and account["objects_out"] == 3
    capsys.readouterr()
    assert main(["convert", str(tmp_path / "set"), "--out", str(tmp_path / "one.json")]) == 0  # a file: all in one
    assert len(json.loads((tmp_path / "one.json").read_text())["images"]) == 3
    assert "is split already (train, val, test)" in capsys.readouterr().out


def test_a_coco_file_a_part(tmp_path):
    for part, name in (("train", "cat"), ("valid", "dog")):
        picture(tmp_path / "set" / part / f"{name}.jpg")
        document = {
            "images": [{"id": 7, "file_name": f"{name}.jpg", "width": 64, "height": 48}],
            "annotations": [annotation(image_id=7)],
            "categories": [{"id": 1, "name": "cat"}],
        }
        (tmp_path / "set" / part / "_annotations.coco.json").write_text(json.dumps(document))
    assert main(["convert", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 0
    val = json.loads((tmp_path / "out" / "val.json").read_text())
    assert val["images"][0]["file_name"] == "valid/dog.jpg" and val["info"]["image_root"] == "../set"
    (tmp_path / "set" / "other.json").write_text((tmp_path / "set" / "train" / "_annotations.coco.json").read_text())
    assert main(["convert", str(tmp_path / "set"), "--out", str(tmp_path / "out")]) == 2  # which part is other.json?


def test_a_file_of_somebody_is_not_replaced(tmp_path, capsys):
    for part in ("train", "val"):
        picture(tmp_path / part / f"{part}.jpg")
        (tmp_path / part / f"{part}.xml").write_text(VOC.format(f"{part}.jpg", 5, 6, 25, 30))
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "val.json").write_text("mine")
    assert main(["convert", str(tmp_path), "--out", str(tmp_path / "out")]) == 2
    assert (tmp_path / "out" / "val.json").read_text() == "mine" and not (tmp_path / "out" / "train.json").exists()


@needs_real_data("bccd", "raccoon", "pennfudan", "coco128")
@pytest.mark.parametrize(
    "name, code, counts",
    [
        # two boxes of 0 x 0; its own lists of 205, 87 and 72 images
        ("bccd", 1, {"train": (205, None), "val": (87, None), "test": (72, None), "all": 4886}),
        ("raccoon", 0, {"annotations": (200, 217), "all": 217}),
        ("pennfudan", 0, {"annotations": (170, 423), "all": 423}),
        # two label files of images that are not among the 128; a missing label file is an image without labels
        ("coco128/object_detection", 1, {"train": (126, None), "val": (128, None), "all": 1827}),
        ("coco128/instance_segmentation", 0, {"train": (100, None), "val": (100, None), "all": 1458}),
    ],
)
def test_real_sets_by_their_folder_alone(tmp_path, monkeypatch, name, code, counts):
    monkeypatch.chdir(tmp_path)
    before = {p.name for p in (REAL_DATA / name).iterdir()}
    assert main(["convert", str(REAL_DATA / name)]) == code
    assert {p.name for p in (REAL_DATA / name).iterdir()} == before
    folder = tmp_path / Path(name).name
    total = counts.pop("all")
    objects = 0
    for part, (images, of_part) in counts.items():
        document = json.loads((folder / f"{part}.json").read_text())
        assert len(document["images"]) == images and of_part in (None, len(document["annotations"]))
        objects += len(document["annotations"])
    assert objects == total
    shutil.rmtree(folder)
