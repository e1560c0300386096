"""VIA, by hand: JSON of version 1 and 2, the CSV, every shape, and which attribute is the class."""

from __future__ import annotations

import json
import math

import pytest

from label_tools.formats.via import CSV_HEAD
from label_tools.readers.convert import to_conversion
from label_tools.readers.program_folder import read_program
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import picture

RECT = {"name": "rect", "x": 10, "y": 8, "width": 30, "height": 28}


def region(shape: dict, **attributes) -> dict:
    return {"shape_attributes": shape, "region_attributes": attributes or {"type": "cat"}}


def read(tmp_path, *regions: dict, project: bool = True, **options):
    picture(tmp_path / "a.jpg")
    entries = {"a.jpg123": {"filename": "a.jpg", "size": 123, "regions": list(regions), "file_attributes": {}}}
    content = {"_via_settings": {}, "_via_img_metadata": entries} if project else entries
    (tmp_path / "via.json").write_text(json.dumps(content))
    return to_conversion(read_program("via", tmp_path, **options))


def test_shapes(tmp_path):
    angle = math.pi / 2  # theta is in radians: the ellipse of 10 x 5 stands upright
    shapes = (
        RECT,
        {"name": "circle", "cx": 20, "cy": 20, "r": 7.5},
        {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 5, "theta": angle},
        {"name": "polygon", "all_points_x": [0, 10, 10], "all_points_y": [0, 0, 10]},
        {"name": "point", "cx": 1, "cy": 1},
        {"name": "polyline", "all_points_x": [0, 10], "all_points_y": [0, 0]},
    )
    conversion = read(tmp_path, *map(region, shapes))
    rect, circle, ellipse, polygon = conversion.records[0].instances
    assert rect.bbox == (10, 8, 30, 28) and circle.bbox == (12.5, 12.5, 15, 15)
    assert ellipse.bbox == pytest.approx((25, 10, 10, 20)) and polygon.area == pytest.approx(50)
    assert conversion.tally.dropped == {"B14": 2}


def test_an_ellipse_of_version_1_lies_flat_and_malformed_points_are_left_out(tmp_path):
    flat = {"name": "ellipse", "cx": 30, "cy": 20, "rx": 10, "ry": 5}  # without theta
    broken = [
        {"name": "polygon", "all_points_x": [0, 10, 10], "all_points_y": [0, 0]},
        {"name": "polygon", "all_points_x": "0", "all_points_y": [0, 0, 10]},
        {"name": "polygon", "all_points_x": [0, 10, 10]},
    ]
    conversion = read(tmp_path, *map(region, (flat, *broken)))
    (ellipse,) = conversion.records[0].instances
    assert ellipse.bbox == (20, 15, 20, 10) and conversion.tally.dropped == {"B26": 3}


@pytest.mark.parametrize("project", [True, False])
def test_project_and_export(tmp_path, project):
    assert read(tmp_path, region(RECT), project=project).records[0].instances[0].label == "cat"


def test_version_1_numbers_its_regions(tmp_path):
    picture(tmp_path / "a.jpg")
    entry = {"filename": "a.jpg", "size": 1, "regions": {"0": region(RECT)}, "fileref": "", "file_attributes": {}}
    (tmp_path / "via.json").write_text(json.dumps({"a.jpg1": entry}))
    assert len(to_conversion(read_program("via", tmp_path)).records[0].instances) == 1


def test_csv(tmp_path):
    picture(tmp_path / "a.jpg")
    picture(tmp_path / "b.jpg")
    shape, attributes = (json.dumps(v).replace('"', '""') for v in (RECT, {"type": "cat"}))
    lines = [f'a.jpg,123,"{{}}",1,0,"{shape}","{attributes}"', 'b.jpg,12,"{}",0,0,"{}","{}"']
    (tmp_path / "via.csv").write_text("\n".join(["#" + CSV_HEAD, *lines]))
    a, b = to_conversion(read_program("via", tmp_path)).records
    assert a.instances[0].bbox == (10, 8, 30, 28) and a.instances[0].label == "cat" and b.instances == []


def test_the_class_is_one_attribute(tmp_path):
    two = region(RECT, quality="good", Class="cat")
    assert read(tmp_path, two).names == ["cat"]  # the usual name, whatever its case
    assert read(tmp_path, two, class_attribute="quality").names == ["good"]
    with pytest.raises(InputError, match="--class-attribute"):
        read(tmp_path, region(RECT, quality="good", colour="red"))
    assert read(tmp_path, region(RECT, kind={"cat": True, "dog": False})).names == ["cat"]  # a checkbox


def test_without_any_attribute_there_is_one_class(tmp_path):
    conversion = read(tmp_path, {"shape_attributes": RECT, "region_attributes": {}})
    assert [one.label for one in conversion.records[0].instances] == ["object"]
    assert any('all are "object": frcnn rename' in f.text for f in conversion.findings)


def test_a_region_without_its_class_is_left_out(tmp_path):
    conversion = read(tmp_path, region(RECT), {"shape_attributes": RECT, "region_attributes": {}})
    assert conversion.tally.dropped == {"B26": 1}


def test_an_image_without_regions_is_named(tmp_path):
    picture(tmp_path / "a.jpg")
    whole = {"filename": "a.jpg", "size": 1, "regions": [region(RECT)], "file_attributes": {}}
    (tmp_path / "via.json").write_text(json.dumps({"a.jpg1": whole, "b.jpg2": {"filename": "b.jpg"}}))
    with pytest.raises(InputError, match="no VIA file: every image needs filename and regions"):
        to_conversion(read_program("via", tmp_path))
