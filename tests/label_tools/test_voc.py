"""Pascal VOC, by hand: two ways to count pixels, rounding, names that need escaping."""

from __future__ import annotations

import pytest

from label_tools.formats.voc import corners_of, file_text
from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_images import VOC
from tests.label_tools.bad_input_makers import picture

IMAGE = {"file_name": "sub/a & b.jpg", "width": 64, "height": 48}


def instances(tmp_path, xml: str, **options) -> list:
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(xml)
    return convert(tmp_path, "voc", strict=True, **options).records[0].instances


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
    conversion = convert(tmp_path, "voc", strict=True)
    assert conversion.image_root.name == "JPEGImages"
    document = conversion.document(tmp_path / "a.json")
    assert document["images"][0]["file_name"] == "x/a.jpg" and document["annotations"][0]["difficult"] == 1


def test_a_turned_box_of_rolabelimg(tmp_path):
    # centre (30, 24), 20 x 10, turned by a quarter: 10 x 20
    box = "<cx>30</cx><cy>24</cy><w>20</w><h>10</h><angle>1.5707963267948966</angle>"
    turned = f"<object><type>robndbox</type><name>ship</name><robndbox>{box}</robndbox></object>"
    corners = "<xmin>1</xmin><ymin>2</ymin><xmax>9</xmax><ymax>8</ymax>"
    plain = f"<object><type>bndbox</type><name>ship</name><bndbox>{corners}</bndbox></object>"
    head = "<annotation><filename>a.jpg</filename><size><width>64</width><height>48</height></size>"
    first, second = instances(tmp_path, f"{head}{turned}{plain}</annotation>")
    assert first.bbox == pytest.approx((25, 14, 10, 20)) and len(first.polygons[0]) == 8
    assert second.bbox == (1, 2, 8, 6)
    thin = turned.replace("<w>20", "<w>1").replace("1.5707963267948966", "0")  # a pixel wide is enough, none is not
    assert instances(tmp_path, f"{head}{thin}</annotation>")[0].bbox == (29.5, 19, 1, 10)
    with pytest.raises(InputError, match=r"B01 .*box of 0 x 10 has no extent"):
        instances(tmp_path, f"{head}{thin.replace('<w>1', '<w>0')}</annotation>")


def test_outlines_of_labelme_on_the_web(tmp_path):
    """Points as elements, the size as rows and columns; what was deleted is no object, a mask is left out with its
    reason. The triangle of 16 x 12 has the area 96."""
    picture(tmp_path / "a.jpg")
    points = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in ((8, 8), (24, 8), (24, 20)))
    objects = f"<object><name>cat</name><deleted>0</deleted><polygon>{points}</polygon></object>"
    objects += f"<object><name>dog</name><deleted>1</deleted><polygon>{points}</polygon></object>"
    objects += "<object><name>fox</name><segm><mask>m.png</mask></segm></object>"
    size = "<imagesize><nrows>48</nrows><ncols>64</ncols></imagesize>"
    (tmp_path / "a.xml").write_text(f"<annotation><filename>a.jpg</filename>{objects}{size}</annotation>")
    conversion = convert(tmp_path, "voc")
    (one,) = conversion.records[0].instances
    assert (one.label, one.bbox, one.area) == ("cat", (8, 8, 16, 12), 96)
    assert [(f.code, f.place) for f in conversion.findings] == [("B14", 'object[2] "fox"')]
    (tmp_path / "a.xml").write_text((tmp_path / "a.xml").read_text().replace("<ncols>64", "<ncols>60"))
    with pytest.raises(InputError, match="says 60 x 48, the image is 64 x 48"):
        convert(tmp_path, "voc")


def test_a_box_that_cvat_turned(tmp_path):
    # corners 20, 14 to 40, 34 of a 20 x 4 box about (30, 24): turned by 90 degrees it is 4 x 20
    rotation = "<attributes><attribute><name>rotation</name><value>90.0</value></attribute></attributes>"
    xml = VOC.format("a.jpg", 20, 22, 40, 26).replace("</bndbox>", f"</bndbox>{rotation}")
    assert instances(tmp_path, xml)[0].bbox == pytest.approx((28, 14, 4, 20))
    (said,) = convert(tmp_path, "voc").findings
    assert (said.code, said.level) == ("B57", "note") and said.text.startswith("turned by 90 degrees")


def test_the_path_of_labelimg_counts_where_the_filename_is_stale(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    xml = VOC.format("stale.jpg", 1, 2, 9, 8).replace("<filename>", "<path>C:\\photos\\a.jpg</path><filename>")
    (tmp_path / "c.xml").write_text(xml)
    assert [r.file_name for r in convert(tmp_path, "voc").records] == ["a.jpg"]


def test_without_a_filename_the_label_files_own_name_counts(tmp_path):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_text(VOC.format("", 1, 2, 9, 8))
    conversion = convert(tmp_path, "voc")
    assert [r.file_name for r in conversion.records] == ["a.jpg"]
    assert any("no <filename>" in f.text for f in conversion.findings)


@pytest.mark.parametrize("encoding", ["gb2312", "Shift_JIS", "utf-16"])
def test_encodings_of_several_bytes_a_letter(tmp_path, encoding):
    xml = VOC.format("a.jpg", 1, 2, 9, 8).replace("cat", "\u732b")
    head = f'<?xml version="1.0" encoding="{encoding}"?>'
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.xml").write_bytes((head + xml).encode(encoding))
    (one,) = convert(tmp_path, "voc").records[0].instances
    assert one.label == "\u732b"
    (tmp_path / "a.xml").write_bytes((head + "<!DOCTYPE a [<!ENTITY b 'c'>]><annotation/>").encode(encoding))
    assert "entities" in convert_voc_error(tmp_path)


def convert_voc_error(folder) -> str:
    with pytest.raises(InputError) as error:
        convert(folder, "voc")
    return str(error.value)
