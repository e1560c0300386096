"""The index of a large file is that of reading it as a whole, or is left to that."""

from __future__ import annotations

import copy
import dataclasses
import json
import random

import numpy as np
import pytest

from label_tools.document import coco_file, large_file
from tests.toolkit.evaluation_fixtures import draw_images, scene
from toolkit.data.coco_index import index_of, read_index, read_large_index
from toolkit.training.train_val_test import read_labels


@pytest.fixture
def document(monkeypatch) -> dict:
    pytest.importorskip("msgspec")
    monkeypatch.setattr(large_file, "LEAST", 1)
    monkeypatch.setattr(large_file, "PIECE", 300)
    made, _ = scene(1, images=8)
    made = {**made, "info": {"image_root": "images"}}
    for number, one in enumerate(made["annotations"], 1):
        one.update(id=number, iscrowd=0, segmentation=[])
    box = made["annotations"][0]["bbox"]
    x, y, w, h = box
    made["annotations"][0]["segmentation"] = [[x, y, x + w, y, x + w, y + h]]
    random.Random(0).shuffle(made["annotations"])
    made["images"].reverse()
    return made


def same(one, other) -> None:
    for field in dataclasses.fields(one):
        left, right = getattr(one, field.name), getattr(other, field.name)
        if isinstance(left, np.ndarray):
            assert left.dtype == right.dtype or left.dtype.kind == right.dtype.kind == "i", field.name
            np.testing.assert_array_equal(left, right, err_msg=field.name)
        else:
            assert left == right, field.name


def test_the_index_is_the_same(tmp_path, document):
    draw_images(document, tmp_path / "images")
    path = tmp_path / "train.json"
    path.write_text(json.dumps(document))
    found = read_large_index(path)
    assert found is not None
    same(found, read_index(path))
    train = read_labels({"train": path}, None)["train"]
    assert train.document is None and train.index.fingerprint == found.fingerprint
    (tmp_path / "run").mkdir()
    train.keep(tmp_path / "run")
    kept = coco_file.read(tmp_path / "run" / "train.json")
    assert kept == {**document, "info": {"image_root": "../images"}}
    same(read_large_index(tmp_path / "run" / "train.json"), dataclasses.replace(found, image_root=tmp_path / "images"))
    assert train.whole() == document
    (tmp_path / "images" / document["images"][0]["file_name"]).unlink()
    with pytest.raises(Exception, match=r"train\.json, image \d+: .* not found"):
        read_large_index(path)


CHANGES: dict[str, dict[str, list]] = {
    "annotations": {
        "id": [0, "5", 2, 2.0, None, 2**70],
        "image_id": [99, "1", 1.0, True],
        "category_id": [77, None],
        "iscrowd": [1, 2, None, True],
        "area": [0, None, 1e305],
        "bbox": [[1, 1, 0, 5], [-1, 1, 5, 5], [600, 1, 500, 5], [1, 1, 5], [1, 1, "5", 5], None, [1, 1, 300, 1]],
        "segmentation": [None, [[1, 2, 3]], [[1, 2, 3, 4, 5, "6"]], {"size": [1, 1]}, [[500, 400, 501, 400, 501, 401]]],
        "attributes": [{"rotation": 30}],
    },
    "images": {
        "id": ["1", 1.0, 10**30, -(2**64)],
        "file_name": ["", "a\\b.jpg", "a" * 300, 3],
        "width": [0, None, 640.0],
        "height": [10**7, "480"],
    },
    "categories": {"id": ["1", 2**70], "name": [" nut", "", None, "a\rb"]},
}


@pytest.mark.parametrize("kind", CHANGES)
def test_what_has_anything_to_say_is_no_plain_file(tmp_path, document, kind):
    """Whatever `coco_file.read` repairs, leaves out, remarks or refuses is left to it; and the rest gives the same."""
    path, plain = tmp_path / "train.json", 0
    draw_images(document, tmp_path / "images")
    for key, value in ((key, value) for key, values in CHANGES[kind].items() for value in values):
        made = copy.deepcopy(document)
        made[kind][1][key] = value
        path.write_text(json.dumps(made))
        findings: list = []
        try:
            read = coco_file.read(path, findings)
            silent = not findings and read == made
        except Exception:
            silent = False
        found = read_large_index(path)
        assert found is None or silent, (key, value)
        if found is not None:
            plain += 1
            same(found, index_of(read, tmp_path / "images", str(path)))
    assert plain <= 2  # an id no other has, one crowd among many


def test_twins_corners_and_groups_are_no_plain_file(tmp_path, document):
    draw_images(document, tmp_path / "images")
    path, rows = tmp_path / "train.json", document["annotations"]
    corners = [{**a, "bbox": [*a["bbox"][:2], a["bbox"][0] + a["bbox"][2], a["bbox"][1] + a["bbox"][3]]} for a in rows]
    fractions = [{**a, "bbox": [0.1, 0.1, 0.5, 0.5]} for a in rows]
    group = [{"id": 9, "name": "all"}, *({**c, "supercategory": "all"} for c in document["categories"])]
    for change in (
        {"annotations": [*rows, {**rows[0], "id": 999}]},
        {"annotations": corners},
        {"annotations": fractions},
        {"annotations": [{**a, "iscrowd": 1} for a in rows]},
        {"annotations": []},
        {"images": []},
        {"images": [*document["images"], {**document["images"][0], "id": 999}]},
        {"categories": group},
        {"categories": []},
        {"info": []},
        {"info": {"image_root": "images", "max_value": 4095}},
    ):
        path.write_text(json.dumps({**document, **change}))
        assert read_large_index(path) is None, change.keys()
