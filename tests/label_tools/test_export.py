"""`export`: nothing is overwritten, nothing collides, and what comes beside the labels."""

from __future__ import annotations

import json

import pytest

from label_tools.document import coco
from label_tools.formats.export import export_labelme, export_voc, export_yolo
from label_tools.readers.convert import convert_yolo
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import annotation, save_coco


def test_exports_refuse_to_overwrite_and_to_collide(tmp_path):
    start = save_coco(tmp_path, [annotation(id=1, category_id=2)])
    for export in (export_labelme, export_voc, export_yolo):
        export(start, tmp_path / export.__name__)
        with pytest.raises(InputError, match="--overwrite"):
            export(start, tmp_path / export.__name__)
        export(start, tmp_path / export.__name__, overwrite=True)
    document = json.loads(start.read_text())
    document["images"].append({**document["images"][0], "id": 2, "file_name": "sub/a.png"})
    coco.write(document, start)
    with pytest.raises(InputError, match=r"sub/a\.json"):
        export_labelme(start, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_yolo_data_yaml_and_images(tmp_path):
    start = save_coco(tmp_path, [annotation(id=1, category_id=2)])
    export_yolo(start, tmp_path / "y", copy_images=True)
    (tmp_path / "y" / "classes.txt").unlink()
    assert (tmp_path / "y" / "images" / "sub" / "a.jpg").is_file()
    conversion = convert_yolo(tmp_path / "y")  # names from data.yaml, images beside
    assert conversion.names == ["cat", "dog"] and conversion.records[0].instances[0].label == "dog"
