"""label_tools.document.coco_file: the same bytes, whole files, repairs that mean one thing; foreign documents."""

from __future__ import annotations

import json
import math
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from label_tools.document import coco_file
from label_tools.files.atomic_write import atomic_write
from label_tools.text.errors import InputError
from tests.conftest import REAL_DATA, needs_real_data

names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12)


def document(**more) -> dict:
    return {
        "info": {"image_root": "pictures"},
        "images": [{"id": 1, "file_name": "ü/a.jpg", "width": 64, "height": 48}],
        "annotations": [
            {
                "id": 1,
                "image_id": 1,
                "category_id": 1,
                "bbox": [1.5, 2, 10, 20],
                "area": 200.0,
                "iscrowd": 0,
                "segmentation": [[1.5, 2.0, 11.5, 2.0, 11.5, 22.0, 1.5, 22.0]],
                "score": 0.25,
            }
        ],
        "categories": [{"id": 1, "name": "猫"}],
        **more,
    }


def test_written_read_written_is_the_same(tmp_path):
    coco_file.write(document(licenses=[{"id": 1}]), tmp_path / "a.json")
    coco_file.write(coco_file.read(tmp_path / "a.json"), tmp_path / "b.json")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()
    assert json.loads((tmp_path / "a.json").read_bytes()) == document(licenses=[{"id": 1}])


def test_the_bytes_are_json_with_sorted_keys_one_annotation_a_line(tmp_path):
    coco_file.write(document(), tmp_path / "a.json")
    text = (tmp_path / "a.json").read_text(encoding="utf-8")
    assert text.startswith('{\n"annotations": [\n  {"area": 200.0, "bbox": [1.5, 2, 10, 20], "category_id": 1,')
    assert list(json.loads(text)) == sorted(json.loads(text))
    assert "猫" in text and text.count("\n") == 12  # 3 lists of one line, each in 2 more; { info }


@given(
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=4, max_size=4),
    st.lists(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=6, max_size=8), max_size=3),
)
def test_a_ready_line_equals_the_encoder(area, bbox, polygons):
    plain = {
        "id": 3,
        "image_id": 2,
        "category_id": 1,
        "bbox": bbox,
        "area": area,
        "iscrowd": 0,
        "segmentation": polygons,
    }
    assert coco_file.annotation_line(3, 2, 1, bbox, area, 0, polygons).encode() == coco_file._json(plain)


@given(st.dictionaries(names, st.none() | st.booleans() | st.integers() | names, max_size=4))
def test_anything_else_in_a_document_is_kept(tmp_path_factory, extra):
    path = tmp_path_factory.mktemp("coco") / "a.json"
    extra = {k: v for k, v in extra.items() if k not in document()}
    coco_file.write({**document(), **extra}, path)
    assert coco_file.read(path) == {**document(), **extra}


@pytest.mark.parametrize("number", [math.nan, math.inf])
def test_what_cannot_be_written_leaves_the_old_file(tmp_path, number):
    coco_file.write(document(), tmp_path / "a.json")
    before = (tmp_path / "a.json").read_bytes()
    with pytest.raises(InputError, match="finite"):
        coco_file.write(document(extra=number), tmp_path / "a.json")
    with pytest.raises(InputError, match="valid text"):
        coco_file.write(document(extra="\ud800"), tmp_path / "a.json")
    assert (tmp_path / "a.json").read_bytes() == before
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_block_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), atomic_write(tmp_path / "a") as file:
        file.write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with pytest.raises(InputError, match="cannot be written"), atomic_write(tmp_path):
        pass


def test_paths():
    images = [{"id": 1, "file_name": "x/a.jpg"}, {"id": 2, "file_name": "../a.jpg"}, {"id": 3, "file_name": "/a.jpg"}]
    assert coco_file.image_path(document(), "/data/set/a.json", images[0]).as_posix() == "/data/set/pictures/x/a.jpg"
    up = document(info={"image_root": "../photos"})
    assert coco_file.image_path(up, "/data/set/a.json", images[0]).as_posix() == "/data/photos/x/a.jpg"
    assert coco_file.image_root({}, "set/a.json").as_posix() == "set"
    for image in images[1:]:
        with pytest.raises(InputError, match="leads out"):
            coco_file.image_path(document(), "/data/set/a.json", image)
    inside = {
        n: coco_file.is_inside(n) for n in ("", ".", "./.", "a\\b", "a/../../b", "a\0", "/a", "//etc/passwd", "..")
    }
    assert not any(inside.values()), inside
    assert all(map(coco_file.is_inside, ("a..b/..c", "...", "./a", ".a")))


def write(tmp_path, content) -> str:
    path = tmp_path / "in.json"
    path.write_text(json.dumps(content))
    return str(path)


def test_repairs_need_no_list_and_losses_do(tmp_path):
    item = document()["annotations"][0]
    path = write(
        tmp_path, document(annotations=[{k: v for k, v in item.items() if k not in ("area", "iscrowd", "id")}])
    )
    assert coco_file.read(path)["annotations"] == [item]  # 10 * 20 = 200 by the polygon
    path = write(tmp_path, document(annotations=[item, {**item, "image_id": 7}]))
    with pytest.raises(InputError, match=r"annotations\[1\]: image_id 7"):
        coco_file.read(path)
    findings: list = []
    assert coco_file.read(path, findings)["annotations"] == [item]
    assert [(f.code, f.level, f.place) for f in findings] == [("B43", "error", "annotations[1]")]


def test_clipping_takes_the_outline_with_it(tmp_path):
    item = {**document()["annotations"][0], "bbox": [54, 8, 20, 20], "segmentation": [[54, 8, 74, 8, 74, 28, 54, 28]]}
    (got,) = coco_file.read(write(tmp_path, document(annotations=[item])))["annotations"]
    assert got["bbox"] == [54, 8, 10, 20] and got["area"] == 200  # 54..64
    assert sorted(got["segmentation"][0]) == sorted([54, 8, 64, 8, 64, 28, 54, 28])


def test_a_document_is_not_changed_by_reading_it():
    from label_tools.document.repair import examine

    given_one = document(annotations=[{**document()["annotations"][0], "id": 0, "bbox": [60, 2, 10, 20]}])
    before = json.dumps(given_one)
    examine(given_one, "x").usable()
    assert json.dumps(given_one) == before


@needs_real_data("coco_official")
def test_the_official_ground_truth_comes_through_unchanged(tmp_path):
    path = REAL_DATA / "coco_official" / "instances_val2014_100.json"
    findings: list = []
    read = coco_file.read(path, findings)
    raw = json.loads(path.read_text())
    assert [c["id"] for c in read["categories"]] == [c["id"] for c in raw["categories"]]
    assert [(a["id"], a["category_id"], a["bbox"], a["area"]) for a in read["annotations"]] == [
        (a["id"], a["category_id"], a["bbox"], a["area"]) for a in raw["annotations"]
    ]
    assert not findings
