"""`export`: nothing is overwritten, nothing collides, and what comes beside the labels."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from label_tools.document import coco_file
from label_tools.formats.export import (
    export_coco,
    export_cvat,
    export_labelme,
    export_masks,
    export_voc,
    export_yolo,
)
from label_tools.formats.masks import voc_colours
from label_tools.pictures.open_image import image_info
from label_tools.pictures.own_output import is_drawing
from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from tests.label_tools.bad_input_makers import annotation, picture, save_coco


def test_exports_refuse_to_overwrite_and_to_collide(tmp_path):
    start = save_coco(tmp_path, [annotation(id=1, category_id=2)])
    for export in (export_labelme, export_voc, export_yolo, export_cvat, export_coco, export_masks):
        export(start, tmp_path / export.__name__)
        with pytest.raises(InputError, match="--overwrite"):
            export(start, tmp_path / export.__name__)
        export(start, tmp_path / export.__name__, overwrite=True)
        assert not (tmp_path / export.__name__ / "images").exists()  # copied where that is asked for
    document = json.loads(start.read_text())
    document["images"].append({**document["images"][0], "id": 2, "file_name": "sub/a.png"})
    coco_file.write(document, start)
    with pytest.raises(InputError, match=r"sub/a\.json"):
        export_labelme(start, tmp_path / "new")
    assert not (tmp_path / "new").exists()


def test_yolo_data_yaml_and_images(tmp_path):
    start = save_coco(tmp_path, [annotation(id=1, category_id=2)])
    export_yolo(start, tmp_path / "y", copy_images=True)
    (tmp_path / "y" / "classes.txt").unlink()
    with pytest.raises(InputError, match="holds a data set already"):  # data.yaml is enough
        export_yolo(start, tmp_path / "y")
    assert (tmp_path / "y" / "images" / "sub" / "a.jpg").is_file()
    conversion = convert(tmp_path / "y", "yolo")  # names from data.yaml, images beside
    assert conversion.names == ["cat", "dog"] and conversion.records[0].instances[0].label == "dog"


def block(number: int, label: int, x: float, w: int, h: int = 10) -> dict:
    corners = [x, 10, x + w, 10, x + w, 10 + h, x, 10 + h]
    return annotation(id=number, category_id=label, bbox=[x, 10, w, h], area=w * h, segmentation=[corners])


def test_masks_by_hand(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10), block(2, 1, 30, 10), block(3, 2, 8, 4, 5)])
    counts = export_masks(start, tmp_path / "m")
    assert counts == {"files": 2, "objects_in": 3, "objects_out": 3, "dropped": {}}
    cats = Image.open(tmp_path / "m" / "masks" / "cat" / "sub" / "a.png")
    values = np.asarray(cats)
    assert cats.mode == "P" and set(np.unique(values)) == {0, 1, 2} and (values == 1).sum() == 100
    assert (tmp_path / "m" / "label_names.txt").read_text() == "_background_\ncat\ndog\n"
    overlay = tmp_path / "m" / "overlays" / "sub" / "a.jpg"
    assert image_info(overlay, max_pixels=10_000).width == 64 and is_drawing(overlay)

    export_masks(start, tmp_path / "c", mode="class", bits=16, overlays=False)
    values = np.asarray(Image.open(tmp_path / "c" / "masks" / "sub" / "a.png"))
    # the dog of 4 x 5 lies on the cat of 10 x 10, though it is not the last one for that reason
    assert values.dtype == np.uint16 and (values == 2).sum() == 20 and (values == 1).sum() == 180


def test_an_image_without_objects_has_an_empty_mask_of_the_first_class(tmp_path):
    export_masks(save_coco(tmp_path, []), tmp_path / "m")
    masks = list((tmp_path / "m" / "masks").rglob("*.png"))
    assert [path.relative_to(tmp_path / "m" / "masks").as_posix() for path in masks] == ["cat/sub/a.png"]
    assert not np.asarray(Image.open(masks[0])).any()


def test_pictures_are_opened_as_the_document_says(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10)])
    document = coco_file.read(start)
    deep = tmp_path / "deep.png"
    Image.fromarray(np.full((48, 64), 4095, np.uint16)).save(deep)
    document["images"][0]["file_name"] = deep.name
    coco_file.write({**document, "info": {"image_root": ".", "max_value": 4095}}, start)
    export_masks(start, tmp_path / "m")
    # 12 bits, all white: beside the object the overlay is white, where it would be 4095 / 257 = 16 as 16 bits
    overlay = np.asarray(Image.open(tmp_path / "m" / "overlays" / "deep.jpg"))
    assert overlay[40:, 40:].min() > 250
    coco_file.write({**document, "info": {"image_root": ".", "max_pixels": 3071}}, start)  # 48 * 64 = 3072
    with pytest.raises(InputError, match="more than the limit of 3071"):
        export_yolo(start, tmp_path / "y", copy_images=True)


def test_the_colours_are_pascal_vocs():
    # its first: 1 (128, 0, 0), 2 (0, 128, 0), 3 (128, 128, 0), 8 (64, 0, 0), 255 (224, 224, 192)
    colours = voc_colours()
    assert [tuple(colours[k].tolist()) for k in (0, 1, 2, 3, 8, 255)] == [
        (0, 0, 0), (128, 0, 0), (0, 128, 0), (128, 128, 0), (64, 0, 0), (224, 224, 192)
    ]  # fmt: skip


def test_an_object_behind_another_is_counted_as_lost(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10), block(2, 1, 5.05, 10)])  # the same pixels
    counts = export_masks(start, tmp_path / "m", overlays=False)
    assert counts["objects_out"] == 1 and sum(counts["dropped"].values()) == 1


def test_a_class_that_cannot_be_a_folder(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10)])
    document = json.loads(start.read_text())
    document["categories"][0]["name"] = "cat/dog"
    start.write_text(json.dumps(document))
    with pytest.raises(InputError, match="--mode class"):
        export_masks(start, tmp_path / "m", overlays=False)
    assert not (tmp_path / "m").exists()
    export_masks(start, tmp_path / "m", mode="class", overlays=False)


def test_too_many_values_for_8_bits(tmp_path):
    start = save_coco(tmp_path, [block(k + 1, 1, k % 60, 1, 1 + k // 60) for k in range(256)])
    with pytest.raises(InputError, match="256, more than 8 bits"):
        export_masks(start, tmp_path / "m", bits=8)


def test_a_line_break_in_a_class_name_is_refused_before_anything_is_written(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10)])
    document = json.loads(start.read_text())
    document["categories"][0]["name"] = "a\nb"
    start.write_text(json.dumps(document))
    with pytest.raises(InputError, match="control characters"):
        export_yolo(start, tmp_path / "y")
    assert not (tmp_path / "y").exists()


@pytest.mark.parametrize("export", [export_yolo, export_cvat, export_coco, export_masks])
def test_only_images_of_the_folder_are_copied(tmp_path, export):
    """What a COCO file from elsewhere names may be any file of this machine: by its root, its name, a link."""
    (tmp_path / "secret").mkdir()
    (tmp_path / "secret" / "passwd").write_text("root")
    picture(tmp_path / "secret" / "own.jpg")
    start = save_coco(tmp_path, [block(1, 1, 5, 10)])
    good = json.loads(start.read_text())
    (tmp_path / "images" / "link.jpg").symlink_to(tmp_path / "secret" / "own.jpg")
    for root, name, words in (
        (str(tmp_path / "secret"), "own.jpg", "absolute"),
        ("secret", "passwd", "passwd"),
        ("images", "link.jpg", "leads out"),
        ("images", "no.jpg", "no such file|does not exist"),
    ):
        document = {**good, "info": {"image_root": root}, "images": [{**good["images"][0], "file_name": name}]}
        start.write_text(json.dumps(document))
        with pytest.raises(InputError, match=words):
            export(start, tmp_path / "out", copy_images=True)
        assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("export", [export_labelme, export_cvat, export_masks, export_voc, export_yolo])
def test_run_lengths_without_a_pixel_leave_the_box(tmp_path, export):
    start = save_coco(tmp_path, [{**block(1, 1, 5, 10), "segmentation": {"size": [48, 64], "counts": [3072]}}])
    counts = export(start, tmp_path / "out")
    assert counts["objects_out"] == 1 and counts["dropped"] == {}
    if export in (export_labelme, export_cvat):
        (one,) = convert(tmp_path / "out", image_root=tmp_path / "images").records[0].instances
        assert one.bbox == (5, 10, 10, 10)


def test_crowds_that_masks_cannot_hold_are_counted(tmp_path):
    start = save_coco(tmp_path, [block(1, 1, 5, 10), {**block(2, 1, 30, 10), "iscrowd": 1}])
    counts = export_masks(start, tmp_path / "m", overlays=False)
    assert counts["objects_out"] == 1 and counts["dropped"] == {"crowd regions, which it cannot hold": 1}
    assert export_yolo(start, tmp_path / "y")["dropped"] == counts["dropped"]
