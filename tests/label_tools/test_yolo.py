"""YOLO, by hand: fractions to pixels and back, outlines, class names, where the labels lie."""

from __future__ import annotations

import pytest

from label_tools.commands.convert import convert_yolo
from label_tools.formats.yolo import file_text, read_names
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import picture

IMAGE = {"file_name": "a.jpg", "width": 64, "height": 48}


def folder(tmp_path, text: str, names: str = "cat\ndog\n", where: str = "labels/a.txt"):
    picture(tmp_path / where.replace("labels", "images").replace(".txt", ".jpg"))
    (tmp_path / where).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / where).write_text(text)
    (tmp_path / "classes.txt").write_text(names)
    return tmp_path


def test_a_box_by_hand(tmp_path):
    # centre (.5, .5) of 64 x 48 is (32, 24); a quarter of 64 is 16, half of 48 is 24
    (one,) = convert_yolo(folder(tmp_path, "1 0.5 0.5 0.25 0.5\n")).records[0].instances
    assert one.label == "dog" and one.bbox == (24, 12, 16, 24) and one.area == 384


def test_an_outline_by_hand(tmp_path):
    (one,) = convert_yolo(folder(tmp_path, "0 0.25 0.25 0.75 0.25 0.75 0.75\n")).records[0].instances
    assert list(one.polygons[0]) == [16, 12, 48, 12, 48, 36] and one.area == 384  # 32 * 24 / 2


def test_written_lines():
    box = {"bbox": [24, 12, 16, 24], "iscrowd": 0, "segmentation": []}
    assert file_text(IMAGE, [(1, box)]) == "1 0.500000000 0.500000000 0.250000000 0.500000000\n"
    outline = {**box, "segmentation": [[16, 12, 48, 12, 48, 36]]}
    assert file_text(IMAGE, [(0, outline)], outlines=True).startswith("0 0.250000000 0.250000000 0.75")
    assert file_text(IMAGE, [(0, outline)]) == file_text(IMAGE, [(0, box)])
    two = {**box, "segmentation": [[16, 12, 48, 12, 48, 36]] * 2}
    assert file_text(IMAGE, [(0, two)], outlines=True) == file_text(IMAGE, [(0, box)])


def test_labels_beside_and_below(tmp_path):
    folder(tmp_path, "0 .5 .5 .5 .5\n", where="labels/train/x/a.txt")
    assert convert_yolo(tmp_path, strict=True).records[0].file_name == "train/x/a.jpg"
    flat = tmp_path / "flat"
    picture(flat / "b.jpg")
    (flat / "b.txt").write_text("0 .5 .5 .5 .5\n")
    (flat / "classes.txt").write_text("cat\n")
    assert len(convert_yolo(flat, strict=True).records) == 1


@pytest.mark.parametrize(
    "text, names", [("names: [cat, dog]", ["cat", "dog"]), ("names:\n  0: cat\n  1: dog", ["cat", "dog"])]
)
def test_data_yaml(tmp_path, text, names):
    (tmp_path / "data.yaml").write_text(text)
    assert read_names(tmp_path) == names


@pytest.mark.parametrize("text", ["names: {0: cat, 2: dog}", "names: 7", "nc: 2", "[", "- !!python/object:os.system x"])
def test_data_yaml_that_gives_no_names(tmp_path, text):
    (tmp_path / "data.yaml").write_text(text)
    with pytest.raises(InputError, match=r"data\.yaml"):
        read_names(tmp_path)


def test_names_by_option_and_none_at_all(tmp_path):
    source = folder(tmp_path, "1 .5 .5 .5 .5\n")
    assert convert_yolo(source, labels=["a", "b"]).records[0].instances[0].label == "b"
    (source / "classes.txt").unlink()
    with pytest.raises(InputError, match="--labels"):
        convert_yolo(source)
