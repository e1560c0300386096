"""COCO files where programs put them: which file of a folder is meant, and where its images lie."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.readers.given_split import parts_in
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import picture


def write(path: Path, file_name: str = "a.jpg", **annotation) -> Path:
    """A COCO file of one image, 64 x 48, with one object."""
    one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400, "iscrowd": 0, **annotation}
    path.parent.mkdir(parents=True, exist_ok=True)
    images = [{"id": 1, "file_name": file_name, "width": 64, "height": 48}]
    path.write_text(
        json.dumps({"images": images, "annotations": [one], "categories": [{"id": 1, "name": "carp"}]}),
    )
    return path


@pytest.mark.parametrize(
    ("file", "name", "image"),
    [
        ("_annotations.coco.json", "a.jpg", "a.jpg"),  # Roboflow
        ("annotations/instances_default.json", "a.jpg", "images/default/a.jpg"),  # CVAT
        ("annotations/instances_Train.json", "Data/a.jpg", "images/Train/Data/a.jpg"),  # CVAT, a subset of its own
        ("annotations/instances_train2017.json", "a.jpg", "train2017/a.jpg"),  # COCO's own
        ("annotations/instances_train2017.json", "a.jpg", "images/train2017/a.jpg"),
        ("annotations/a.json", "a.jpg", "images/a.jpg"),
        ("annotations/a.json", "images/a.jpg", "images/a.jpg"),
        ("result.json", "a.jpg", "images/a.jpg"),  # Label Studio
    ],
)
def test_images_are_found(tmp_path, file, name, image):
    (tmp_path / image).parent.mkdir(parents=True, exist_ok=True)
    picture(tmp_path / image)
    path = write(tmp_path / file, name)
    document = coco_file.read(path)
    assert coco_file.image_path(document, path, document["images"][0]) == tmp_path / image
    assert main(["check", str(path)]) == 0
    assert main(["convert", "coco", str(path), "--out", str(tmp_path / "out" / "annotations.json")]) == 0
    made = coco_file.read(tmp_path / "out" / "annotations.json")
    assert coco_file.image_path(made, tmp_path / "out" / "annotations.json", made["images"][0]).samefile(
        tmp_path / image
    )


def test_images_anywhere_in_the_folder_that_was_given(tmp_path, monkeypatch):
    """The labels lie in annotations/, the images in data/photos/: found by the folder, not by the file alone. Of
    COCO's own files those of objects are meant, not those of captions and key points."""
    picture(tmp_path / "set" / "data" / "photos" / "a.jpg")
    file = write(tmp_path / "set" / "annotations" / "instances_train.json")
    write(tmp_path / "set" / "annotations" / "person_keypoints_train.json", keypoints=[1, 2, 2])
    captions = {**json.loads(file.read_text()), "annotations": [{"id": 1, "image_id": 1, "caption": "a carp"}]}
    (file.parent / "captions_train.json").write_text(json.dumps({**captions, "categories": []}))
    monkeypatch.chdir(tmp_path)
    assert main(["convert", "set", "--out", "o.json"]) == 0
    (image,) = json.loads(Path("o.json").read_text())["images"]
    assert image["file_name"] == "data/photos/a.jpg"
    assert main(["convert", "coco", str(file), "--out", "p.json"]) == 2


def test_what_the_file_says_counts(tmp_path):
    path = write(tmp_path / "annotations" / "x.json")
    picture(tmp_path / "images" / "a.jpg")
    document = {**coco_file.read(path), "info": {"image_root": "elsewhere"}}
    assert coco_file.image_root(document, path) == tmp_path / "annotations" / "elsewhere"
    document["info"] = {}
    document["images"][0]["file_name"] = "../images/a.jpg"  # never followed outwards
    assert coco_file.image_root(document, path) == tmp_path / "annotations"


def test_the_file_of_a_folder(tmp_path):
    with pytest.raises(InputError, match=r"no annotations\.json in it; make it first: frcnn convert"):
        coco_file.file_of(tmp_path)
    roboflow = write(tmp_path / "_annotations.coco.json")
    assert coco_file.file_of(tmp_path) == roboflow
    ours = write(tmp_path / "annotations.json")
    assert coco_file.file_of(tmp_path) == ours


def test_the_parts_of_a_folder(tmp_path):
    assert parts_in(tmp_path) == {}
    files = {part: write(tmp_path / "a" / part / "_annotations.coco.json") for part in ("train", "valid", "test")}
    assert parts_in(tmp_path / "a") == {"train": files["train"], "val": files["valid"], "test": files["test"]}
    train = write(tmp_path / "b" / "annotations" / "instances_train2017.json")
    assert parts_in(tmp_path / "b") == {"train": train}
    write(tmp_path / "b" / "annotations" / "instances_train2014.json")  # two for one part: neither
    assert parts_in(tmp_path / "b") == {}
    ours = write(tmp_path / "a" / "train.json")  # what `split` wrote counts
    assert parts_in(tmp_path / "a") == {"train": ours}


def test_a_turned_box_is_turned_once(tmp_path, capsys):
    # CVAT: 16 x 8 at (20, 20) before the quarter turn, centre (28, 24); after it 8 x 16: (24, 16)
    attributes = {"occluded": False, "rotation": 90.0}
    path = write(tmp_path / "in.json", bbox=[20, 20, 16, 8], area=128, attributes=attributes)
    picture(tmp_path / "a.jpg")
    out = tmp_path / "annotations.json"
    assert main(["convert", "coco", str(path), "--out", str(out)]) == 0
    for file in (path, out):
        (one,) = coco_file.read(file)["annotations"]
        assert one["bbox"] == [24, 16, 8, 16] and one["attributes"] == {"occluded": False}


@pytest.mark.parametrize("angle", [90, "90.0"])
def test_the_rectangle_of_a_turned_box_is_turned_with_it(tmp_path, angle):
    path = write(
        tmp_path / "in.json",
        bbox=[20, 20, 16, 8],
        area=128,
        attributes={"rotation": angle},
        segmentation=[[20, 20, 36, 20, 36, 28, 20, 28]],
    )
    (one,) = coco_file.read(path)["annotations"]
    assert one["bbox"] == [24, 16, 8, 16]
    corners = {(round(x), round(y)) for x, y in zip(one["segmentation"][0][0::2], one["segmentation"][0][1::2])}
    assert corners == {(24, 16), (32, 16), (32, 32), (24, 32)}


def test_an_image_of_another_size_is_named_with_its_rotation(tmp_path, capsys):
    for size, orientation, turned in (((64, 48), 6, " after its EXIF rotation 6"), ((32, 24), 1, "")):
        exif = Image.Exif()
        exif[0x0112] = orientation  # 6: stored 64 x 48, a person sees 48 x 64
        Image.new("RGB", size).save(tmp_path / "a.jpg", exif=exif)
        shown = "48 x 64" if turned else "32 x 24"
        assert main(["convert", "coco", str(write(tmp_path / "a.json")), "--out", str(tmp_path / "out.json")]) == 2
        assert f"says 64 x 48, the image is {shown}{turned}; restore" in capsys.readouterr().err


@pytest.mark.parametrize(("word", "crowd"), [("true", 1), ("False", 0), ("", 0), ("0", 0)])
def test_iscrowd_in_words(tmp_path, word, crowd):
    (one,) = coco_file.read(write(tmp_path / "in.json", iscrowd=word))["annotations"]
    assert one["iscrowd"] == crowd


def test_check_takes_all_parts_of_a_folder(tmp_path, capsys):
    for part in ("train", "valid"):
        write(tmp_path / part / "_annotations.coco.json", f"{part}.jpg")
        picture(tmp_path / part / f"{part}.jpg")
    assert main(["check", str(tmp_path)]) == 0
    assert "in 2 images with 2 annotations" in capsys.readouterr().out
    assert main(["stats", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert "train/_annotations.coco.json" in error and "name one of them" in error
    assert main(["stats", str(tmp_path / "train")]) == 0
    assert main(["check", str(tmp_path), "--fix"]) == 2


def test_sizes_come_from_the_pictures_for_every_command(tmp_path):
    path = write(tmp_path / "in.json")
    document = json.loads(path.read_text())
    document["images"][0].update(width=-1, height=-1)  # as VIA writes it
    path.write_text(json.dumps(document))
    picture(tmp_path / "a.jpg")
    out = tmp_path / "out.json"
    for words in (["rename", str(path), "carp=fish"], ["merge", str(path), str(path)]):
        assert main([*words, "--out", str(out)]) == 0
        (image,) = coco_file.read(out)["images"]
        assert (image["width"], image["height"]) == (64, 48)
    assert main(["export", "yolo", str(path), "--out", str(tmp_path / "yolo")]) == 0


def test_two_white_levels_are_one_where_max_value_says_it(tmp_path, capsys):
    for part, white in (("train", 4095), ("valid", 1023)):
        (tmp_path / part).mkdir()
        Image.fromarray(np.full((48, 64), white, np.uint16)).save(tmp_path / part / f"{part}.png")
        image = {"id": 1, "file_name": f"{part}.png", "width": 64, "height": 48}
        one = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 8, 20, 20], "area": 400, "iscrowd": 0}
        document = {"images": [image], "annotations": [one], "categories": [{"id": 1, "name": "cat"}]}
        (tmp_path / part / "_annotations.coco.json").write_text(json.dumps({"info": {"max_value": white}, **document}))
    words = ["convert", str(tmp_path), "--out", str(tmp_path / "out")]
    assert main(words) == 2 and "one file has one white level" in capsys.readouterr().err
    assert main([*words, "--max-value", "4095"]) == 0, capsys.readouterr().err
    for part in ("train", "val"):
        assert json.loads((tmp_path / "out" / f"{part}.json").read_text())["info"]["max_value"] == 4095
