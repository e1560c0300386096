"""Rules of one annotation and of all boxes of a COCO file, by hand, at their bounds."""

from __future__ import annotations

import numpy as np
import pytest

from label_tools.document.coco_file import opening
from label_tools.document.repair import examine, other_format
from label_tools.document.repair_annotation import annotation
from label_tools.document.repair_images_and_categories import grouping_class
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError

IMAGE = {"id": 1, "file_name": "a.jpg", "width": 100, "height": 80}


def read(bbox: list, **more) -> tuple[dict, list[str]]:
    """(the annotation in our dialect, codes of what was said)"""
    said: list[str] = []
    item = {"id": 1, "bbox": bbox, "area": bbox[2] * bbox[3], "iscrowd": 0, "segmentation": [], **more}
    return annotation(item, IMAGE, 1, lambda level, code, text: said.append(code)), said


@pytest.mark.parametrize("bbox", [[5, 6, 10, 1], [5, 6, 1, 10], [0, 0, 100, 80]])
def test_a_sound_box_is_kept(bbox):
    found, said = read(bbox)
    assert found["bbox"] == bbox and not said


@pytest.mark.parametrize("bbox", [[5, 6, 10, 0], [5, 6, 0, 10]])
def test_a_box_without_extent_is_refused(bbox):
    with pytest.raises(RefusedError, match="no extent") as error:
        read(bbox)
    assert error.value.code == "B01"


@pytest.mark.parametrize(
    "bbox, left",
    [
        ([-2, 6, 20, 10], [0, 6, 18, 10]),
        ([5, -2, 10, 20], [5, 0, 10, 18]),
        ([85, 6, 20, 10], [85, 6, 15, 10]),
        ([5, 65, 10, 20], [5, 65, 10, 15]),
    ],
)
def test_a_box_over_one_edge_is_cut_there(bbox, left):
    found, _ = read(bbox, area=3)
    assert found["bbox"] == left and found["area"] == left[2] * left[3]


def test_an_outline_elsewhere_is_left_out_of_a_box_of_one_pixel():
    found, said = read([10, 10, 1, 1], segmentation=[[50, 50, 60, 50, 60, 60]])
    assert said == ["B59"] and found["segmentation"] == [] and found["bbox"] == [10, 10, 1, 1]


@pytest.mark.parametrize("over, code", [(1.5, None), (2.5, "B47")])
def test_boxes_may_leave_their_image_by_two_pixels(over, code):
    """Ten boxes from (50, 50) to (50 + over, 50 + over) as corners, which as sizes leave the image by `over`."""
    bbox, size = np.array([[50, 50, 50 + over, 50 + over]] * 10), np.full((10, 2), 100)
    found = other_format(bbox, size)
    assert (found and found[0]) == code


@pytest.mark.parametrize("crowds, said", [(1, True), (0, False)])
def test_a_tenth_of_crowds_is_said(crowds, said):
    boxes = [[5 * i, 5, 4, 4] for i in range(10)]
    objects = [
        {"id": i + 1, "image_id": 1, "category_id": 1, "bbox": box, "area": 16, "iscrowd": int(i < crowds)}
        for i, box in enumerate(boxes)
    ]
    document = {"images": [IMAGE], "annotations": objects, "categories": [{"id": 1, "name": "a"}]}
    found = examine(document, "a")
    found.usable()
    assert ("B58" in {f.code for f in found.findings}) == said


def test_the_class_that_groups_all_others():
    root = {"id": 0, "name": "parts", "supercategory": "none"}
    below = [{"id": i, "name": f"part {i}", "supercategory": "parts"} for i in (1, 2)]
    assert grouping_class([root, *below]) is root
    assert grouping_class([root, below[0], {**below[1], "supercategory": "none"}]) is None
    assert grouping_class(below) is None and grouping_class([root]) is None


def test_how_pictures_are_opened():
    assert opening({"info": {"max_value": 4095, "max_pixels": 10}}) == {"max_value": 4095, "max_pixels": 10}
    assert opening({"info": {"max_value": None}}) == opening({}) == {}
    for wrong in (0, "4095", True, 2**40):
        with pytest.raises(InputError, match=r"info\.max_value"):
            opening({"info": {"max_value": wrong}})


def test_an_outline_beside_a_box_with_its_corners_swapped_is_kept():
    """Of a box that is not sound, other rules speak: here from (30, 10) 10 to the left, in an outline of 20 x 20."""
    outline = [[15, 10, 35, 10, 35, 30, 15, 30]]
    found, said = read([30, 10, -10, 20], segmentation=outline, area=200)
    assert said == ["B02"] and found["bbox"] == [20, 10, 10, 20] and found["segmentation"] == outline


def test_ids_that_are_texts_are_numbered_from_1():
    images = [{**IMAGE, "id": name, "file_name": f"{name}.jpg"} for name in ("img_b", "img_a")]
    one = {"id": 1, "image_id": "img_a", "category_id": "dog", "bbox": [1, 1, 9, 9], "area": 81, "iscrowd": 0}
    categories = [{"id": name, "name": name} for name in ("cat", "dog")]
    found = examine({"images": images, "annotations": [one], "categories": categories}, "x.json")
    document = found.usable()
    assert [(image["id"], image["file_name"]) for image in document["images"]] == [(1, "img_b.jpg"), (2, "img_a.jpg")]
    assert [(c["id"], c["name"]) for c in document["categories"]] == [(1, "cat"), (2, "dog")]
    assert [(a["image_id"], a["category_id"]) for a in document["annotations"]] == [(2, 2)]
    assert found.image_ids == {"img_b": 1, "img_a": 2} and found.category_ids == {"cat": 1, "dog": 2}
    assert [(f.code, f.place, f.text) for f in found.findings][:2] == [
        ("B49", "images[0]", "id 'img_b' is a text; images numbered"),
        ("B49", "categories[0]", "ids of categories are texts; categories numbered"),
    ]
