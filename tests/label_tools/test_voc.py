"""Pascal VOC, by hand: two ways to count pixels, rounding, names that need escaping."""

from __future__ import annotations

import pytest

from label_tools.commands.convert import convert_voc
from label_tools.formats.voc import corners_of, file_text
from tests.label_tools.bad_input_images import VOC
from tests.label_tools.bad_input_makers import picture

IMAGE = {"file_name": "sub/a & b.jpg", "width": 64, "height": 48}


def instances(tmp_path, xml: str, **options) -> list:
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(xml)
    return convert_voc(tmp_path, strict=True, **options).records[0].instances


def test_corners_count_from_0_unless_said(tmp_path):
    xml = VOC.format("a.jpg", 5, 10, 25, 30)
    assert instances(tmp_path, xml)[0].bbox == (5, 10, 20, 20)  # 25 - 5
    # Pascal VOC's own: pixels 5 to 25 counted from 1 are 21 pixels, the first of them has index 4
    assert instances(tmp_path, xml, one_based=True)[0].bbox == (4, 9, 21, 21)


@pytest.mark.parametrize(
    "bbox, decimals, one_based, expected",
    [
        ([5, 10, 20, 20], 0, False, ["5", "10", "25", "30"]),
        ([5, 10, 20, 20], 0, True, ["6", "11", "25", "30"]),  # 20 pixels, the first is the 6th, the last the 25th
        ([5.4, 10.6, 20, 20], 0, False, ["5", "11", "25", "31"]),
        ([5.26, 10, 20, 20], 1, False, ["5.3", "10.0", "25.3", "30.0"]),
        ([5.3, 10, 0.4, 20], 0, False, ["5", "10", "6", "30"]),  # would close: stays a pixel wide
        ([63.6, 10, 0.4, 20], 0, False, ["63", "10", "64", "30"]),  # ... and within the image of 64
    ],
)
def test_written_corners(bbox, decimals, one_based, expected):
    assert corners_of(bbox, IMAGE, decimals, one_based) == expected


def test_names_are_escaped_and_crowds_difficult(tmp_path):
    objects = [
        ("cat <&> dog", {"bbox": [5, 10, 20, 20], "iscrowd": 0}),
        ("crowd", {"bbox": [1, 1, 9, 9], "iscrowd": 1}),
    ]
    text = file_text({**IMAGE, "file_name": "a.jpg"}, objects)
    read = instances(tmp_path, text)
    assert [(i.label, i.extra) for i in read] == [("cat <&> dog", None), ("crowd", {"difficult": 1})]
    assert "<filename>sub/a &amp; b.jpg</filename>" in file_text(IMAGE, [])


def test_difficult_and_folders_are_kept(tmp_path):
    picture(tmp_path / "JPEGImages" / "x" / "a.jpg")
    (tmp_path / "Annotations").mkdir()
    xml = VOC.format("a.jpg", 5, 10, 25, 30).replace("</name>", "</name><difficult>1</difficult>")
    (tmp_path / "Annotations" / "a.xml").write_text(xml)
    conversion = convert_voc(tmp_path, strict=True)
    assert conversion.image_root.name == "JPEGImages"
    document = conversion.document(tmp_path / "a.json")
    assert document["images"][0]["file_name"] == "x/a.jpg" and document["annotations"][0]["difficult"] == 1
