"""A large COCO file read in pieces gives what reading it as a whole gives, or is left to that."""

from __future__ import annotations

import json

import pytest

from label_tools.document import coco_file, large_file
from label_tools.document.repair import examine
from label_tools.text.errors import InputError


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    pytest.importorskip("msgspec")
    monkeypatch.setattr(large_file, "LEAST", 1)
    monkeypatch.setattr(large_file, "PIECE", 100)


def document(objects: int = 9) -> dict:
    """Lists within objects, and texts that look like the end of an object."""
    box = {"image_id": 1, "category_id": 1, "area": 4.0, "iscrowd": 0, "segmentation": []}
    return {
        "info": {"image_root": "a }, { b", "inner": {"annotations": []}},
        "annotations": [
            {**box, "id": i, "bbox": [i, 0.5, 2, 2], "note": '"}, {"id": 1', "parts": [{"a": 1}, {"b": [2]}]}
            for i in range(1, objects + 1)
        ],
        "categories": [{"id": 1, "name": "cat"}],
        "images": [{"id": 1, "file_name": "ä.jpg", "width": 640, "height": 480}],
    }


@pytest.mark.parametrize("indent", [None, 1])
@pytest.mark.parametrize("objects", [0, 1, 9])
def test_pieces_are_the_whole(tmp_path, indent, objects):
    path = tmp_path / "a.json"
    path.write_text(json.dumps(document(objects), indent=indent))
    found = coco_file.read_raw(path)
    assert found == document(objects) and list(found) == list(document(objects))


def test_several_pieces_come_where_an_object_ends(tmp_path):
    coco_file.write(
        {**document(), "annotations": [{"id": i, "bbox": [1, 2, 3, 4]} for i in range(50)]}, tmp_path / "a.json"
    )
    with large_file.opened(tmp_path / "a.json") as sections:
        assert sections is not None
        pieces = list(sections.pieces("annotations"))
    assert len(pieces) > 10 and [one["id"] for piece in pieces for one in piece] == list(range(50))


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"images": [], "images": [1], "annotations": [], "categories": []}', "given twice"),
        ('{"images": [], "annotations": [{"id": 1, "id": 2}], "categories": []}', "given twice"),
        ('{"images": [], "annotations": [{}, {]}', "line 1 column 37"),
        ('{"images": [], "annotations": [], "categories": 3}', 'no list "categories"'),
        ('[{"images": []}]', "list at the top"),
        ("", "empty"),
    ],
)
def test_bad_files_are_refused_as_small_ones(tmp_path, text, says):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(InputError, match=says):
        coco_file.read_raw(tmp_path / "a.json")


def test_objects_in_any_order_are_known_again():
    """Twins and ids used twice, where images and ids first rise and then do not."""
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 64, "height": 64} for i in (1, 2)]
    made = [(1, 1, 5), (2, 1, 6), (5, 2, 5), (4, 1, 5), (5, 1, 7), (3, 2, 5), (6, 2, 6)]  # id, image, left edge
    rest = {"category_id": 1, "area": 4.0, "iscrowd": 0, "segmentation": []}
    annotations = [{**rest, "id": i, "image_id": image, "bbox": [x, 0, 2, 2]} for i, image, x in made]
    given = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    found = examine(given, "a.json")
    kept, findings = found.usable()["annotations"], found.findings
    # 4 is the first again, 3 the third; the second 5 is another object with an id that was there
    assert [(a["id"], a["image_id"], a["bbox"][0]) for a in kept] == [
        (1, 1, 5),
        (2, 1, 6),
        (3, 2, 5),
        (4, 1, 7),
        (5, 2, 6),
    ]
    assert [(f.code, f.place) for f in findings] == [
        ("B12", "annotations[3]"),
        ("B12", "annotations[5]"),
        ("B40", "annotations[4]"),
    ]


def test_an_id_given_twice_behind_a_falling_one_is_found():
    """The ids rise again after 2; the second 4 is found all the same."""
    images = [{"id": 1, "file_name": "1.jpg", "width": 64, "height": 64}]
    rest = {"image_id": 1, "category_id": 1, "area": 4.0, "iscrowd": 0, "segmentation": []}
    annotations = [{**rest, "id": i, "bbox": [5 * k, 0, 2, 2]} for k, i in enumerate((1, 3, 2, 4, 4))]
    given = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": "cat"}]}
    found = examine(given, "a.json")
    assert [a["id"] for a in found.usable()["annotations"]] == [1, 2, 3, 4, 5]
    assert [(f.code, f.place) for f in found.findings] == [("B40", "annotations[4]")]


def test_a_copy_differs_in_its_image_root(tmp_path):
    coco_file.write(document(), tmp_path / "a.json")
    coco_file.copy_large(tmp_path / "a.json", tmp_path / "b.json", "../pictures")
    found = json.loads((tmp_path / "b.json").read_text())
    assert found == {**document(), "info": {**document()["info"], "image_root": "../pictures"}}
