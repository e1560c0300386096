"""CVAT XML, by hand: every shape, turned boxes, masks row by row, groups, and the frames of a video."""

from __future__ import annotations

import numpy as np
import pytest

from label_tools.formats.cvat import document_text
from label_tools.readers.convert import to_conversion
from label_tools.readers.program_folder import read_program
from label_tools.shapes import rle
from tests.label_tools.bad_input_makers import H, W, picture

HEAD = '<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version>'


def objects(tmp_path, shapes: str, size: str = f'width="{W}" height="{H}"'):
    picture(tmp_path / "images" / "a.jpg")
    image = f'<image id="0" name="a.jpg" {size}>{shapes}</image></annotations>'
    (tmp_path / "annotations.xml").write_text(HEAD + image)
    return to_conversion(read_program("cvat", tmp_path))


def test_a_box_and_a_turned_one(tmp_path):
    shapes = (
        '<box label="cat" xtl="10" ytl="8" xbr="40" ybr="36" occluded="1"/>'
        # centre (30, 24), 20 x 10; turned by 90 degrees it is 10 x 20: x 25 to 35, y 14 to 34
        '<box label="cat" xtl="20" ytl="19" xbr="40" ybr="29" rotation="90"/>'
    )
    first, second = objects(tmp_path, shapes).records[0].instances
    assert first.bbox == (10, 8, 30, 28) and first.extra == {"occluded": 1}
    assert second.bbox == pytest.approx((25, 14, 10, 20)) and second.area == pytest.approx(200)


def test_a_box_turned_by_30_degrees_goes_clockwise(tmp_path):
    # half of 20 x 10 is (10, 5); cos 30 = .866, sin 30 = .5. The corner (10, -5) goes to (10*.866 + 5*.5,
    # 10*.5 - 5*.866) = (11.160, .670): on the screen below the centre's height, so the right side sinks
    shapes = '<box label="cat" xtl="20" ytl="19" xbr="40" ybr="29" rotation="30"/>'
    (one,) = objects(tmp_path, shapes).records[0].instances
    assert one.polygons[0][2] == pytest.approx(30 + 11.160, abs=1e-3)
    assert one.polygons[0][3] == pytest.approx(24 + 0.670, abs=1e-3)
    assert one.bbox[2:] == pytest.approx((2 * 11.160, 2 * 9.330), abs=1e-2)


def test_polygon_ellipse_cuboid(tmp_path):
    corners = " ".join(
        f'{axis}{corner}{face}="{value}"'
        for face, shift in ((1, 0), (2, 5))
        for corner, (x, y) in {"tl": (10, 10), "bl": (10, 30), "tr": (30, 10), "br": (30, 30)}.items()
        for axis, value in (("x", x + shift), ("y", y - shift))
    )
    shapes = (
        '<polygon label="cat" points="10,8;40,8;40,36"/>'
        '<ellipse label="cat" cx="30" cy="20" rx="10" ry="5"/>'
        f'<cuboid label="dog" {corners}/>'
    )
    triangle, ellipse, cuboid = objects(tmp_path, shapes).records[0].instances
    assert triangle.bbox == (10, 8, 30, 28) and triangle.area == 420  # 30 * 28 / 2
    assert ellipse.bbox == pytest.approx((20, 15, 20, 10))
    assert ellipse.area == pytest.approx(np.pi * 50, rel=0.03)  # a polygon inside the ellipse
    assert cuboid.bbox == (10, 5, 25, 25)  # x 10 to 35, y 5 to 30


def test_a_mask_row_by_row(tmp_path):
    # 3 x 2 at (5, 7): two zeros, three ones, one zero are 0 0 1 / 1 1 0
    (one,) = (
        objects(tmp_path, '<mask label="cat" rle="2, 3, 1" left="5" top="7" width="3" height="2"/>')
        .records[0]
        .instances
    )
    expected = np.zeros((H, W), bool)
    expected[7, 7] = expected[8, 5] = expected[8, 6] = True
    assert (rle.decode(rle.to_runs(one.rle), H, W) == expected).all()
    assert one.bbox == (5, 7, 3, 2) and one.area == 3


@pytest.mark.parametrize("counts", ["2, 3", "2, 3, 1"])
def test_a_mask_may_leave_out_its_last_zeros(tmp_path, counts):
    shapes = f'<mask label="cat" rle="{counts}" left="5" top="7" width="3" height="2"/>'
    assert objects(tmp_path, shapes).records[0].instances[0].area == 3


def test_what_has_no_area_is_left_out_and_said(tmp_path):
    shapes = (
        '<box label="cat" xtl="10" ytl="8" xbr="40" ybr="36"/><points label="eye" points="1,2"/>'
        '<polyline label="road" points="1,2;3,4"/><skeleton label="man"><points label="x" points="1,2"/></skeleton>'
        '<tag label="night"/><mask label="cat" rle="2, 300" left="5" top="7" width="3" height="2"/>'
    )
    conversion = objects(tmp_path, shapes)
    assert conversion.tally.dropped == {"B14": 3, "B15": 1} and conversion.tally.objects_in == 5
    assert any("tags: 1" in f.text for f in conversion.findings)


def test_a_group_is_one_object(tmp_path):
    shapes = (
        '<polygon label="cat" points="0,0;10,0;10,10;0,10" group_id="3"/>'
        '<polygon label="cat" points="20,0;30,0;30,10;20,10" group_id="3"/>'
        '<polygon label="cat" points="40,0;50,0;50,10;40,10" group_id="0"/>'
        '<polygon label="cat" points="40,20;50,20;50,30;40,30" group_id="0"/>'  # 0: in no group
    )
    conversion = objects(tmp_path, shapes)
    first, second, third = conversion.records[0].instances
    assert len(first.polygons) == 2 and first.area == 200 and first.bbox == (0, 0, 30, 10)
    assert second.bbox == (40, 0, 10, 10) and third.bbox == (40, 20, 10, 10) and conversion.tally.merged == 1


def test_another_size_than_the_image_has(tmp_path):
    with pytest.raises(Exception, match="says 99 x 48"):
        objects(tmp_path, '<box label="cat" xtl="1" ytl="1" xbr="9" ybr="9"/>', 'width="99" height="48"')


@pytest.mark.parametrize("owner", ["task", "job", ""])
def test_frames_of_a_video(tmp_path, owner):
    for k in range(4):
        picture(tmp_path / "images" / f"frame_{k:06d}.PNG")
    box = '<box frame="{}" outside="{}" keyframe="1" xtl="{}" ytl="8" xbr="40" ybr="36"/>'
    (tmp_path / "annotations.xml").write_text(
        f"{HEAD}<meta>{f'<{owner}>' if owner else ''}<original_size><width>{W}</width><height>{H}</height>"
        f"</original_size>{f'</{owner}>' if owner else ''}</meta>"
        f'<track id="0" label="car">{box.format(0, 0, 10)}{box.format(1, 0, 11)}{box.format(2, 1, 12)}</track>'
        f'<track id="1" label="man">{box.format(1, 0, 20)}</track></annotations>'
    )
    conversion = to_conversion(read_program("cvat", tmp_path))
    found = {r.file_name: [(i.label, i.bbox[0]) for i in r.instances] for r in conversion.records}
    # frame 2 is looked at and empty, frame 3 nobody has looked at
    assert found == {
        "frame_000000.PNG": [("car", 10)],
        "frame_000001.PNG": [("car", 11), ("man", 20)],
        "frame_000002.PNG": [],
    }


def test_a_video_of_another_size(tmp_path):
    picture(tmp_path / "frame_000000.png")
    size = "<original_size><width>640</width><height>480</height></original_size>"
    track = '<track id="0" label="c"><box frame="0" outside="0" xtl="1" ytl="1" xbr="9" ybr="9"/></track>'
    (tmp_path / "annotations.xml").write_text(f"{HEAD}<meta>{size}</meta>{track}</annotations>")
    assert read_program("cvat", tmp_path).tally.dropped == {"B52": 1}
    (tmp_path / "frame_000000.png").unlink()
    (lost,) = read_program("cvat", tmp_path).tally.findings
    assert lost.code == "B32" and "ffmpeg" in lost.fix


def test_a_subset_is_a_folder(tmp_path):
    for part in ("train", "val"):
        picture(tmp_path / "images" / part / "a.jpg")
    image = '<image id="{}" name="a.jpg" subset="{}"><box label="c" xtl="1" ytl="1" xbr="9" ybr="9"/></image>'
    (tmp_path / "annotations.xml").write_text(f"{HEAD}{image.format(0, 'train')}{image.format(1, 'val')}</annotations>")
    records = to_conversion(read_program("cvat", tmp_path)).records
    assert [r.file_name for r in records] == ["train/a.jpg", "val/a.jpg"]


def test_written_elements():
    image = {"file_name": "s/a.jpg", "width": 8, "height": 6}
    box = {"bbox": [1.5, 1.0, 3.0, 2.0], "segmentation": [[1.5, 1.0, 4.5, 1.0, 4.5, 3.0, 1.5, 3.0]]}
    mask = np.zeros((6, 8), bool)
    mask[2, 3] = mask[3, 4] = True
    runs = {"bbox": [3, 2, 2, 2], "segmentation": rle.to_rle(rle.encode(mask), 6, 8)}
    text = document_text([(image, [("a & b", box), ("c", runs)])], ["a & b", "c"])
    assert '<image id="0" name="s/a.jpg" width="8" height="6">' in text and "<name>a &amp; b</name>" in text
    assert 'xtl="1.5" ytl="1.0" xbr="4.5" ybr="3.0"' in text
    assert 'rle="0, 1, 2, 1" left="3" top="2" width="2" height="2"' in text  # 1 0 / 0 1
