"""LabelMe files, shape by shape: what each becomes, in numbers that can be checked by hand."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.formats.image_records import Tally
from label_tools.formats.labelme import ImageRecord, Options, read_shapes
from label_tools.readers.convert import convert
from label_tools.shapes.geometry import turn_points
from label_tools.shapes.rle import decode, to_runs
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import BOX, GOOD, H, W, content, picture, png, shape

SQUARE = [[10, 10], [30, 10], [30, 30], [10, 30]]


def read(*shapes, **options):
    """The instances of shapes in an image of 64 x 48, and the tally."""
    tally = Tally()
    return read_shapes(
        list(shapes), ImageRecord("a.jpg", W, H, [], "a.json"), "a.json", Options(**options), tally
    ), tally


def one(*shapes, **options):
    instances, tally = read(*shapes, **options)
    assert len(instances) == 1, tally.findings
    return instances[0]


def mask_of(instance) -> np.ndarray:
    return decode(to_runs(instance.rle), H, W)


@pytest.mark.parametrize("corners", [[[5, 5], [25, 30]], [[25, 30], [5, 5]], [[25, 5], [5, 30]], [[5, 30], [25, 5]]])
def test_rectangle(corners):
    box = one(shape(corners))
    assert box.bbox == (5, 5, 20, 25) and box.area == 500  # 25 - 5 and 30 - 5: no +1
    assert [list(p) for p in box.polygons] == [[5, 5, 25, 5, 25, 30, 5, 30]]


def test_rectangle_of_fractions():
    assert one(shape([[1.2, 2.5], [3.0, 40.25]])).bbox == pytest.approx((1.2, 2.5, 1.8, 37.75), abs=1e-12)


def test_polygon_and_no_shape_type_of_version_3():
    for kind in ("polygon", None):
        square = one(shape(SQUARE, kind))
        assert square.bbox == (10, 10, 20, 20) and square.area == 400
    old = {"label": "cat", "points": SQUARE, "line_color": None, "fill_color": None}
    assert one(old).area == 400


def test_circle():
    circle = one(shape([[30, 20], [33, 24]], "circle"))  # radius sqrt(9 + 16) = 5
    assert circle.bbox == (25, 15, 10, 10)
    assert circle.area == pytest.approx(math.pi * 25)
    cut = one(shape([[60, 20], [68, 20]], "circle"))  # 8 around 60: 4 beyond the edge at 64
    assert cut.bbox == pytest.approx((52, 12, 12, 16), abs=0.02)


def test_oriented_rectangle():
    # a square of diagonal 20 on its corner: area 20 * 20 / 2
    tilted = one(shape([[20, 5], [30, 15], [20, 25], [10, 15]], "oriented_rectangle"))
    assert tilted.bbox == (10, 5, 20, 20) and tilted.area == 200


@pytest.mark.parametrize("value", [1, 255])
def test_mask(value):
    pixels = np.zeros((5, 7))
    pixels[1:4, 2:6] = value
    pixels[2, 3] = 0  # a hole
    mask = one(shape([[10, 20], [16, 24]], "mask", mask=png(pixels)))
    assert mask.area == 11 and mask.bbox == (12, 21, 4, 3)
    expected = np.zeros((H, W), bool)
    expected[20:25, 10:17] = pixels > 0
    assert (mask_of(mask) == expected).all()


def test_mask_points_that_are_no_whole_numbers_keep_the_whole_png():
    mask = one(shape([[9.6, 20.4], [12.0, 21.0]], "mask", mask=png(np.ones((5, 7)))))
    assert mask.bbox == (10, 20, 7, 5)  # 9.6 -> 10, 20.4 -> 20


def test_mask_over_the_edge():
    mask, tally = read(shape([[-3, 45], [3, 49]], "mask", mask=png(np.ones((5, 7)))))
    assert mask[0].bbox == (0, 45, 4, 3)  # columns -3..3 and rows 45..49 of a 64 x 48 image
    assert [f.code for f in tally.findings] == ["B15"]


def test_lines_and_points_are_counted_and_become_objects_on_request():
    shapes = [
        shape([[10, 20], [30, 20]], "line"),
        shape([[10, 40], [30, 40]], "linestrip"),
        shape([[50, 10]], "point"),
        shape([[50, 30], [54, 34]], "points"),
    ]
    instances, tally = read(*shapes)
    assert instances == [] and tally.dropped == {"B14": 4} and tally.objects_in == 0  # objects_in: by the file
    instances, tally = read(*shapes, thicken_lines=4, point_box=6)
    # lines reach half the thickness beyond their ends: 8..32; two boxes 47..53 and 51..57
    assert [i.bbox for i in instances] == [(8, 18, 24, 4), (8, 38, 24, 4), (47, 7, 6, 6), (47, 27, 10, 10)]
    assert instances[3].area == 36 + 36 - 2 * 2 and len(instances[3].polygons) == 2


def test_a_bent_linestrip_counts_its_corner_once():
    strip = one(shape([[10, 10], [30, 10], [30, 30]], "linestrip"), thicken_lines=4)
    assert strip.bbox == (8, 8, 24, 24)
    assert strip.area == 24 * 4 + 20 * 4  # 24 x 4 along, 4 x 24 down, sharing 4 x 4


def test_groups():
    a, b = shape(SQUARE, "polygon", group_id=7), shape([[40, 10], [50, 20]], group_id=7)
    joined, tally = read(a, b, shape([[40, 30], [50, 40]]))
    assert len(joined) == 2 and tally.merged == 1
    assert joined[0].bbox == (10, 10, 40, 20) and joined[0].area == 400 + 100 and len(joined[0].polygons) == 2
    overlapping = one(shape([[10, 10], [30, 30]], group_id=0), shape([[20, 10], [40, 30]], group_id=0))
    assert overlapping.area == 30 * 20  # 10..40 by 10..30: what both hold counts once
    apart, tally = read(a, shape([[40, 10], [50, 20]], label="dog", group_id=7))
    assert len(apart) == 2 and tally.merged == 0 and [f.code for f in tally.findings] == ["B13"]


def test_a_group_with_a_mask_is_a_mask():
    mask = shape([[40, 10], [42, 12]], "mask", mask=png(np.ones((3, 3))), group_id=1)
    joined = one(shape([[10, 10], [30, 30]], group_id=1), mask)
    expected = np.zeros((H, W), bool)
    expected[10:30, 10:30] = expected[10:13, 40:43] = True
    assert (mask_of(joined) == expected).all() and joined.area == 409


def test_bow_tie():
    tie, tally = read(shape([[10, 10], [30, 30], [30, 10], [10, 30]], "polygon"))
    assert tie[0].bbox == (10, 10, 20, 20)
    assert tie[0].area == pytest.approx(200, rel=0.06)  # two triangles of 20 * 10 / 2, counted in pixels
    assert [f.code for f in tally.findings] == ["B10"]


def test_ignore_background_crowd():
    instances, tally = read(
        shape(BOX, label="__ignore__"),
        shape(BOX, label="_background_"),
        shape([[40, 10], [50, 20]], flags={"crowd": True}),
    )
    assert [(i.label, i.crowd) for i in instances] == [("__ignore__", True), ("cat", True)]
    assert tally.dropped == {"label _background_": 1}


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turned_points_follow_the_turned_pixels(orientation):
    stored = np.zeros((30, 50), np.uint8)
    stored[4:10, 7:20] = 255
    from label_tools.formats.masks import turn_pixels

    upright = turn_pixels(stored, orientation)
    height, width = upright.shape
    flat = turn_points([7, 4, 20, 10], orientation, width, height)
    rows, columns = np.nonzero(upright)
    xs, ys = sorted(flat[0::2]), sorted(flat[1::2])
    assert (xs, ys) == ([columns.min(), columns.max() + 1], [rows.min(), rows.max() + 1])
    exif = Image.Exif()
    exif[0x0112] = orientation
    from PIL import ImageOps

    image = Image.fromarray(stored)
    image.getexif()[0x0112] = orientation
    assert (np.asarray(ImageOps.exif_transpose(image)) == upright).all()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_drawn_on_the_upright_picture_fit_its_pixels(tmp_path, orientation):
    """labelme shows the upright picture: whatever the file's rotation, the box lies over the white block."""
    from label_tools.pictures.open_image import open_image
    from tests.label_tools.test_open_image import STORED, exif

    upright = np.zeros((48, 64, 3), np.uint8)
    upright[10:30, 5:45] = 255
    Image.fromarray(np.ascontiguousarray(STORED[orientation](upright))).save(tmp_path / "a.png", exif=exif(orientation))
    (tmp_path / "a.json").write_text(json.dumps(content([shape([[5, 10], [45, 30]])], "a.png")))
    conversion = convert(tmp_path, "labelme")
    assert conversion.findings == []
    document = conversion.document(tmp_path / "out.json")
    x, y, w, h = map(int, document["annotations"][0]["bbox"])
    pixels = np.asarray(open_image(tmp_path / "a.png"))
    assert (pixels[y : y + h, x : x + w] == 255).all() and pixels.sum() == w * h * 3 * 255
    assert (document["images"][0]["width"], document["images"][0]["height"]) == (64, 48)


def versions() -> list[dict]:
    """The same polygon as the versions of the program wrote it."""
    points = SQUARE
    v3 = {
        "flags": {},
        "shapes": [{"label": "cat", "line_color": None, "fill_color": None, "points": points}],
        "lineColor": [0, 255, 0, 128],
        "fillColor": [255, 0, 0, 128],
        "imagePath": "a.jpg",
        "imageData": None,
    }
    v4 = content([{"label": "cat", "points": points, "group_id": None, "shape_type": "polygon", "flags": {}}])
    v5 = content([{**v4["shapes"][0], "description": "", "mask": None}], version="5.5.0")
    v6 = content([{**v5["shapes"][0], "description": None}], version="6.3.1")
    v7 = content([{**v5["shapes"][0], "locked": True}], version="7.9.1", reviewed_by="me")
    return [{**v3, "version": "3.16.7"}, v3, {**v4, "version": "4.5.6"}, v5, v6, v7]


@pytest.mark.parametrize("number", range(6))
def test_every_version_of_the_format(tmp_path, number):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(json.dumps(versions()[number]))
    conversion = convert(tmp_path, "labelme", strict=True)
    assert [i.area for r in conversion.records for i in r.instances] == [400]


def test_embedded_image_beside_its_file(tmp_path):
    import base64

    data = base64.b64encode(picture(tmp_path / "a.jpg").read_bytes()).decode()
    (tmp_path / "a.json").write_text(json.dumps(content([GOOD], imageData=data)))
    assert len(convert(tmp_path, "labelme", strict=True).records) == 1


def test_not_reviewed_is_left_out_until_asked_for(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    (tmp_path / "a.json").write_text(json.dumps(content([GOOD], flags={"reviewed": False})))
    (tmp_path / "b.json").write_text(json.dumps(content([GOOD], "b.jpg", flags={"reviewed": True})))
    account = convert(tmp_path, "labelme").account(tmp_path / "x.json")
    assert account["objects_out"] == 1 and account["dropped"] == {"not reviewed": 1}
    both = convert(tmp_path, "labelme", options=Options(include_unreviewed=True)).account(tmp_path / "x.json")
    assert both["objects_out"] == 2


def test_one_file_alone(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    path = tmp_path / "a.json"
    path.write_text(json.dumps(content([GOOD])))
    assert len(convert(path, "labelme").records) == 1


def test_a_refused_label_file_does_not_make_its_image_a_negative(tmp_path):
    for name in ("a", "b", "c", "d"):
        picture(tmp_path / f"{name}.jpg")
    (tmp_path / "a.json").write_text(json.dumps(content([GOOD])))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "other.json").write_text(json.dumps(content([GOOD], "c.jpg", imageWidth=5)))
    conversion = convert(tmp_path, "labelme", unlabeled_is_negative=True)
    assert [r.file_name for r in conversion.records] == ["a.jpg", "d.jpg"]


def test_labels_apart_from_their_images(tmp_path):
    picture(tmp_path / "images" / "x" / "a.jpg")
    labels = tmp_path / "labels" / "x" / "a.json"
    labels.parent.mkdir(parents=True)
    labels.write_text(json.dumps(content([GOOD], "../../images/x/a.jpg")))
    with pytest.raises(InputError, match="--image-root"):
        convert(tmp_path / "labels", "labelme", strict=True)
    conversion = convert(tmp_path / "labels", "labelme", image_root=tmp_path / "images", strict=True)
    document = conversion.document(Path(tmp_path / "labels" / "annotations.json"))
    assert document["info"]["image_root"] == "../images" and document["images"][0]["file_name"] == "x/a.jpg"
