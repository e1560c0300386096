"""Label Studio, by hand: percent, rotation about the corner, brush strokes bit by bit, names of uploaded files."""

from __future__ import annotations

import base64
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from label_tools.formats.label_studio import decode_rle
from label_tools.readers.convert import to_conversion
from label_tools.readers.program_folder import read_program
from label_tools.readers.which_format import detect
from label_tools.shapes import rle
from label_tools.shapes.instances import RefusedError
from tests.label_tools.bad_input_makers import H, W, encode_rle, picture

BOX = {"x": 25, "y": 50, "width": 50, "height": 25, "rotation": 0, "rectanglelabels": ["cat"]}


def region(value: dict, kind: str = "rectanglelabels", **more) -> dict:
    return {"type": kind, "value": value, "original_width": W, "original_height": H, "image_rotation": 0, **more}


def task(*regions: dict, image: str = "/data/upload/1/90fbb0c7-a.jpg", **more) -> dict:
    return {"id": 1, "data": {"image": image}, "annotations": [{"result": list(regions), **more}]}


def read(tmp_path, *tasks, name: str = "a.jpg"):
    picture(tmp_path / "images" / name)
    (tmp_path / "project.json").write_text(json.dumps(list(tasks)))
    return to_conversion(read_program("labelstudio", tmp_path))


def only(conversion):
    (one,) = conversion.records[0].instances
    return one


def test_percent_of_the_picture(tmp_path):
    one = only(read(tmp_path, task(region(BOX))))
    assert one.bbox == (16, 24, 32, 12) and one.label == "cat"  # of 64 x 48: .25 * 64, .5 * 48, .5 * 64, .25 * 48


def test_a_rotation_is_about_the_corner(tmp_path):
    # the corner (32, 12) stays; 16 wide and 6 high turned clockwise by 90 degrees reach 6 to the left and 16 down
    value = {**BOX, "x": 50, "y": 25, "width": 25, "height": 12.5, "rotation": 90}
    assert only(read(tmp_path, task(region(value)))).bbox == pytest.approx((26, 12, 6, 16))


def test_polygon_and_ellipse(tmp_path):
    polygon = {"points": [[0, 0], [50, 0], [50, 50]], "polygonlabels": ["cat"]}
    ellipse = {"x": 50, "y": 50, "radiusX": 25, "radiusY": 25, "rotation": 0, "ellipselabels": ["dog"]}
    both = read(tmp_path, task(region(polygon, "polygonlabels"), region(ellipse, "ellipselabels")))
    a, b = both.records[0].instances
    assert a.bbox == (0, 0, 32, 24) and a.area == 384 and b.bbox == pytest.approx((16, 12, 32, 24))


def test_a_brush_stroke_by_hand():
    """Eight values: three of 0, five of 255. Lengths of 3 bits are the first of the four sizes."""
    bits = (
        f"{8:032b}{7:05b}{2:04b}{3:04b}{7:04b}{15:04b}"  # 8 values of 8 bits; lengths of 3, 4, 8, 16 bits
        "1" "00" "010" "00000000"  # repeated, first size, 2 + 1 times, 0
        "0" "00" "001" "1111111111111111"  # as they are: 1 + 1 values, 255 and 255
        "1" "00" "010" "11111111"  # 3 times 255
    )  # fmt: skip
    bits += "0" * (-len(bits) % 8)
    data = [int(bits[k : k + 8], 2) for k in range(0, len(bits), 8)]
    assert decode_rle(data, 8).tolist() == [0, 0, 0, 255, 255, 255, 255, 255]
    for wrong in (data[:-4], data[:3], "x", [300], []):
        with pytest.raises(RefusedError):
            decode_rle(wrong, 8)
    with pytest.raises(RefusedError, match="needs 9"):
        decode_rle(data, 9)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(st.integers(0, 255), st.integers(1, 300)), min_size=1, max_size=20))
def test_brush_there_and_back(runs):
    values = np.repeat([v for v, _ in runs], [n for _, n in runs]).astype(np.uint8)
    assert (decode_rle(encode_rle(values), len(values)) == values).all()


def test_a_brush_mask_is_its_alpha(tmp_path):
    mask = np.zeros((H, W), bool)
    mask[5:9, 10:31] = mask[20, 3] = True
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[mask] = 255
    value = {"format": "rle", "rle": encode_rle(pixels.ravel()), "brushlabels": ["cat"]}
    conversion = read(tmp_path, task(region(value, "brushlabels")))
    assert (rle.decode(rle.to_runs(only(conversion).rle), H, W) == mask).all() and not conversion.tally.findings
    pixels[7, 12], pixels[8, 12] = 127, 128  # half covered and more is the object
    value["rle"] = encode_rle(pixels.ravel())
    conversion = read(tmp_path, task(region(value, "brushlabels")))
    mask[7, 12] = False
    assert (rle.decode(rle.to_runs(only(conversion).rle), H, W) == mask).all()
    assert [f.code for f in conversion.tally.findings] == ["B83"]


@pytest.mark.parametrize(
    "image, name",
    [
        ("/data/upload/1/90fbb0c7-a.jpg", "90fbb0c7-a.jpg"),
        ("/data/upload/1/90fbb0c7-a.jpg", "a.jpg"),  # the original, before it was uploaded
        ("/data/local-files/?d=sub/a.jpg", "sub/a.jpg"),
        ("/data/local-files/?d=sub%5Ca.jpg", "sub/a.jpg"),
        ("s3://bucket/sub/a%20b.jpg", "a b.jpg"),
        ("http://localhost:8080/a.jpg?x=1", "a.jpg"),
        ("/image1", "image1.jpg"),
    ],
)
def test_the_picture_of_a_task(tmp_path, image, name):
    assert read(tmp_path, task(region(BOX), image=image), name=name).records[0].file_name == name


def test_of_several_annotations_one_counts(tmp_path):
    wide, high = ({**BOX, "width": 10}, {**BOX, "height": 10})
    both = {
        "id": 7,
        "data": {"image": "a.jpg"},
        "annotations": [
            {"result": [region(BOX)], "was_cancelled": True, "updated_at": "2024-09"},
            {"result": [region(wide)], "updated_at": "2024-02", "ground_truth": False},
            {"result": [region(high)], "updated_at": "2024-01", "ground_truth": True},
        ],
    }
    conversion = read(tmp_path, both)
    assert only(conversion).bbox[3] == pytest.approx(4.8)  # 10 % of 48: the ground truth, though it is older
    assert [f.code for f in conversion.findings] == ["B33"]


def test_what_nobody_labelled_is_no_empty_image(tmp_path):
    picture(tmp_path / "images" / "b.jpg")
    picture(tmp_path / "images" / "c.jpg")
    unseen = {"id": 2, "data": {"image": "b.jpg"}, "annotations": []}
    guessed = {"id": 3, "data": {"image": "c.jpg"}, "annotations": [], "predictions": [{"result": [region(BOX)]}]}
    empty = task(image="d.jpg")
    picture(tmp_path / "images" / "d.jpg")
    conversion = read(tmp_path, task(region(BOX)), unseen, guessed, empty)
    assert [r.file_name for r in conversion.records] == ["a.jpg", "d.jpg"]
    assert conversion.tally.skipped["images that nobody labelled"] == 1


def test_json_min(tmp_path):
    flat = {**BOX, "original_width": W, "original_height": H}
    assert (
        only(read(tmp_path, {"image": "/data/upload/1/a.jpg", "id": 1, "label": [flat], "annotator": 1})).label == "cat"
    )


def test_one_task_one_annotation_and_an_old_version(tmp_path):
    """As its API gives a task, as an annotation is saved to a storage, and as it was called before version 1.0."""
    whole = task(region(BOX))
    (annotation,) = whole["annotations"]
    old = {"id": 1, "data": whole["data"], "completions": [annotation]}
    for content in (whole, {"tasks": [whole]}, {**annotation, "task": {"data": whole["data"]}}, [old]):
        picture(tmp_path / "a.jpg")
        (tmp_path / "7.json").write_text(json.dumps(content))
        assert detect(tmp_path).format == "labelstudio"
        assert only(to_conversion(read_program("labelstudio", tmp_path))).bbox == (16, 24, 32, 12)


def test_a_bitmask_is_a_png_in_a_data_url(tmp_path):
    pixels = np.zeros((H, W, 4), np.uint8)  # black on a transparent ground
    pixels[8:36, 10:40, 3] = 255
    Image.fromarray(pixels).save(file := io.BytesIO(), "PNG")
    url = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    one = only(read(tmp_path, task(region({"imageDataURL": url, "bitmasklabels": ["cat"]}, "bitmasklabels"))))
    assert (rle.decode(rle.to_runs(one.rle), H, W) == (pixels[:, :, 3] > 0)).all()
    small = read(tmp_path, task(region({"imageDataURL": "data:,x", "bitmasklabels": ["cat"]}, "bitmasklabels")))
    assert small.tally.dropped == {"B15": 1}


def test_a_labelled_region_of_a_kind_that_is_not_known_is_counted(tmp_path):
    conversion = read(tmp_path, task(region(BOX), region({"new": [1], "newlabels": ["cat"]}, "newlabels")))
    assert conversion.tally.dropped == {"B14": 1} and len(conversion.records[0].instances) == 1


def test_labels_as_a_tag_of_their_own(tmp_path):
    """<Rectangle> and <Labels>: the region stands twice under one id, once without its label."""
    bare = {k: v for k, v in BOX.items() if k != "rectanglelabels"}
    twice = (region(bare, "rectangle", id="q"), region({**bare, "labels": ["cat"]}, "labels", id="q"))
    conversion = read(tmp_path, task(*twice))
    assert only(conversion).label == "cat" and conversion.tally.dropped == {}


def test_what_is_refused(tmp_path):
    key = region({"x": 1, "y": 1, "width": 0.5, "keypointlabels": ["eye"]}, "keypointlabels")
    conversion = read(tmp_path, task(region(BOX), key))
    assert conversion.tally.dropped == {"B14": 1}
    with pytest.raises(Exception, match="turned by 90 degrees"):
        read(tmp_path, task(region(BOX, image_rotation=90)))
    with pytest.raises(Exception, match="says 640 x 48"):
        read(tmp_path, task(region(BOX, original_width=640)))
