"""Which program wrote a folder or file, and how that is known; programs that are not read are named with a way out."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from label_tools.__main__ import main
from label_tools.formats.via import CSV_HEAD
from label_tools.readers.which_format import detect
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_images import VOC
from tests.label_tools.bad_input_makers import GOOD, annotation, content, picture

COCO = {"images": [], "annotations": [annotation()], "categories": []}
VIA = {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": []}}
STUDIO = [{"id": 1, "data": {"image": "a.jpg"}, "annotations": []}]
UNITY = {"frame": 0, "captures": []}
CVAT = '<annotations><version>1.1</version><image id="0" name="a.jpg"/></annotations>'
CREATEML = [
    {"image": "a.jpg", "annotations": [{"label": "c", "coordinates": {"x": 1, "y": 1, "width": 1, "height": 1}}]}
]
SUPERVISELY = {"size": {"height": 4, "width": 4}, "objects": []}


@pytest.mark.parametrize(
    "name, text, found",
    [
        ("a.json", json.dumps(content([GOOD])), "labelme"),
        ("_annotations.coco.json", json.dumps(COCO), "coco"),
        ("a.json", json.dumps({**COCO, "annotations": [{"segmentation": [[0, 0, 9, 0, 9, 9]]}]}), "coco"),
        ("via.json", json.dumps(VIA), "via"),
        ("via.csv", CSV_HEAD + "\n", "via"),
        ("project.json", json.dumps(STUDIO), "labelstudio"),
        ("step0.frame_data.json", json.dumps(UNITY), "unity"),
        ("annotations.xml", CVAT, "cvat"),
        ("a.xml", VOC.format("a.jpg", 1, 2, 9, 8), "voc"),
        ("labels/a.txt", "0 .5 .5 .1 .1\n", "yolo"),
        ("labels/a.txt", "cat .5 .5 .1 .1\n", "yolo"),  # by a class's name, which the reader refuses
    ],
)
def test_each_by_what_is_in_it(tmp_path, name, text, found):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    (tmp_path / "README.txt").write_text("5 photographs")
    (tmp_path / "broken.json").write_text("{")
    for source in (tmp_path, tmp_path / name):
        detected = detect(source)
        assert detected.format == found and (name if source == tmp_path else (tmp_path / name).name) in detected.why


@pytest.mark.parametrize(
    "name, text, words",
    [
        ("_annotations.createml.json", json.dumps(CREATEML), "CreateML.*COCO"),
        ("ann/a.jpg.json", json.dumps(SUPERVISELY), "Supervisely.*COCO"),
        ("default.json", json.dumps({"info": {}, "categories": {}, "items": []}), "Datumaro.*COCO"),
        ("_annotations.csv", "filename,width,height,class,xmin,ymin,xmax,ymax\n", "CSV.*COCO"),
        ("table.csv", "image_id,x1,y1,x2,y2,label\n", "CSV.*COCO"),
        ("table.csv", "image_name,label_name,bbox\n", "CSV.*COCO"),
        ("train/a.tfrecord", "\0\0", "TFRecord.*COCO"),
        ("export.json", json.dumps({"name": "x", "tags": [], "assets": {}}), "VoTT.*Pascal VOC"),
        ("labelTxt/a.txt", "1 2 9 2 9 8 1 8 ship 0\n", "DOTA.*COCO"),
        ("annotations/captions_val.json", json.dumps({**COCO, "annotations": [{"caption": "a cat"}]}), "captions"),
        ("panoptic.json", json.dumps({**COCO, "annotations": [{"segments_info": []}]}), "panoptic"),
        ("d.json", json.dumps([annotation(score=0.5)]), "detector found"),
        ("label_2/000001.txt", "Car 0.00 0 -1.6 10 8 40 36 1.6 1.7 3.6 -0.6 1.7 46.7 -1.6\n", "KITTI.*COCO"),
        ("gt/gt.txt", "1,1,10,8,30,28,1,1,1\n", "MOT.*COCO"),
        ("_annotations.csv", "p.jpg,10,8,40,36,cat\n", "CSV.*COCO"),
        ("_annotations.csv", "filename;class;x_min;y_min;x_max;y_max\n", "CSV.*COCO"),
        ("a.csv", "annotation_id,annotator,id,image,label\n", "Label Studio's CSV.*JSON"),
        (
            "annotations.json",
            json.dumps([{"version": 0, "tags": [], "shapes": [], "tracks": []}]),
            "a CVAT backup.*COCO",
        ),
        ("annotations.json", json.dumps([{"shapes": [], "tracks": []}]), "a CVAT backup.*COCO"),
        ("a.json", json.dumps([{"imagefilename": "a.jpg", "annotation": CREATEML[0]["annotations"]}]), "CreateML"),
        ("a.json", json.dumps({"info": {"description": "ISAT"}, "objects": []}), "ISAT.*COCO"),
        ("a.json", json.dumps({"imgHeight": 4, "imgWidth": 4, "objects": []}), "Cityscapes.*COCO"),
        ("a.json", json.dumps([{"name": "a.jpg", "labels": [{"box2d": {}}]}]), "BDD100K.*COCO"),
        ("export.zip", "PK", "an archive; unpack it"),
        ("notes.csv", "who,when\n", "no labels of a program that is known"),
        ("notes.txt", "what lies in this folder\n", "no labels of a program that is known"),
    ],
)
def test_what_is_not_read_is_named_with_its_way_out(tmp_path, name, text, words):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=words):
        detect(tmp_path)
    if "known" not in words:
        with pytest.raises(InputError, match=words):
            detect(tmp_path / name)


def test_two_kinds_in_one_folder(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(content([GOOD])))
    (tmp_path / "a.xml").write_text(VOC.format("a.jpg", 1, 2, 9, 8))
    with pytest.raises(InputError, match=r"`frcnn convert labelme .*` or `frcnn convert voc"):
        detect(tmp_path)


def test_our_own_file_among_labels_is_no_second_kind(tmp_path):
    ours = {"info": {"image_root": "."}, **COCO}
    (tmp_path / "annotations.json").write_text(json.dumps(ours))
    assert detect(tmp_path).format == "coco"
    (tmp_path / "detections.json").write_text(json.dumps([annotation(score=0.5)]))
    assert detect(tmp_path).format == "coco"
    (tmp_path / "a.json").write_text(json.dumps(content([GOOD])))
    assert detect(tmp_path).format == "labelme"


def masks(folder, *values: list[int], under: str = "") -> None:
    for k, some in enumerate(values):
        picture(folder / "images" / f"{k}.jpg")
        pixels = np.zeros((48, 64), np.uint8)
        for x, value in enumerate(some):
            pixels[4:20, 10 * x : 10 * x + 6] = value
        (folder / "masks" / under).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(folder / "masks" / under / f"{k}.png")


@pytest.mark.parametrize(
    "values, under, mode, named",
    [
        (([1], [1, 2, 3]), "", "instance", "object"),
        (([255], [255]), "", "binary", "object"),
        (([1], [1, 2]), "person", "instance", None),
    ],
)
def test_masks_whose_values_can_mean_one_thing(tmp_path, values, under, mode, named):
    masks(tmp_path, *values, under=under)
    detected = detect(tmp_path)
    assert detected.format == "masks" and detected.options["mode"] == mode
    assert detected.options.get("class_name") == named


@pytest.mark.parametrize("values", [([1, 2], [1, 2]), ([1], [2]), ([1], [1, 3])])
def test_masks_that_can_be_ids_or_classes_are_not_guessed(tmp_path, values):
    masks(tmp_path, *values)
    with pytest.raises(InputError, match="--mode instance"):
        detect(tmp_path)


@pytest.mark.parametrize(
    ("photos", "drawn"), [("Images", "Masks"), ("JPEGImages", "SegmentationObject"), ("imgs", "labels")]
)
def test_masks_in_other_folders_are_named_with_their_command(tmp_path, photos, drawn):
    masks(tmp_path, [1], [1, 2, 3])
    (tmp_path / "images").rename(tmp_path / photos)
    (tmp_path / "masks").rename(tmp_path / drawn)
    folders = f"--images {tmp_path / photos} --masks {tmp_path / drawn}"
    command = f"frcnn convert masks {tmp_path} {folders} --mode instance|class|binary"
    with pytest.raises(InputError, match=re.escape(command)):
        detect(tmp_path)


def test_a_broken_file_is_told_where_there_is_nothing_else(tmp_path):
    (tmp_path / "annotations.xml").write_text(CVAT[:-5])
    with pytest.raises(InputError, match=r"annotations\.xml: no valid XML"):
        detect(tmp_path)


def test_an_empty_folder(tmp_path):
    with pytest.raises(InputError, match="no labels of a program that is known"):
        detect(tmp_path)
    with pytest.raises(InputError, match="no such file"):
        detect(tmp_path / "x")


def test_detections_in_a_folder_hide_no_other_error(tmp_path, capsys):
    (tmp_path / "detections.json").write_text(json.dumps([annotation(score=0.5)]))
    masks(tmp_path, [1, 2])
    words = ["convert", "masks", str(tmp_path), "--mode", "binary", "--class", "c", "--out", str(tmp_path / "o.json")]
    for name in ("images", "masks"):  # where they are not looked for
        (tmp_path / name).rename(tmp_path / f"my_{name}")
        words += [f"--{name}", str(tmp_path / f"my_{name}")]
    assert main(words) == 2 and "are not a binary mask" in capsys.readouterr().err
    for name in ("my_images", "my_masks"):
        shutil.rmtree(tmp_path / name)
    assert main(["convert", "labelme", str(tmp_path)]) == 2 and "no LabelMe file" in capsys.readouterr().err
    assert main(["convert", str(tmp_path)]) == 2 and "a detector found" in capsys.readouterr().err
    (tmp_path / "a.json").write_text("{cut off")
    assert main(["convert", str(tmp_path)]) == 2 and "a.json, line 1" in capsys.readouterr().err
