"""Unity Perception, by hand: a SOLO frame and a captures file, boxes and masks by colour."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from label_tools.readers.convert import to_conversion
from label_tools.readers.program_folder import read_program
from label_tools.shapes import rle
from tests.label_tools.bad_input_makers import H, W, picture

SOLO = "type.unity.com/unity.solo."


def save_mask(path) -> np.ndarray:
    """Two instances: red in two pieces, blue in one. Returns where it is red."""
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[..., 3] = 255
    pixels[5:10, 8:20, 0] = pixels[30, 40, 0] = 255
    pixels[20:30, 30:50, 2] = 255
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)
    return pixels[..., 0] == 255


def box(instance: int, label: str, x: int) -> dict:
    return {"instanceId": instance, "labelId": 1, "labelName": label, "origin": [x, 8], "dimension": [10, 12]}


def solo(folder, *annotations: dict) -> None:
    picture(folder / "sequence.0" / "step0.camera.png")
    capture = {
        "@type": SOLO + "RGBCamera",
        "id": "camera",
        "filename": "step0.camera.png",
        "dimension": [float(W), float(H)],
        "annotations": list(annotations),
    }
    content = {"frame": 0, "sequence": 0, "step": 0, "captures": [capture], "metrics": []}
    (folder / "sequence.0" / "step0.frame_data.json").write_text(json.dumps(content))
    (folder / "metadata.json").write_text(json.dumps({"unityVersion": "2022", "totalFrames": 1}))


def test_solo_boxes_and_masks(tmp_path):
    red = save_mask(tmp_path / "sequence.0" / "step0.camera.mask.png")
    mask = {
        "@type": SOLO + "InstanceSegmentationAnnotation",
        "filename": "step0.camera.mask.png",
        "instances": [
            {"instanceId": 1, "labelId": 1, "labelName": "crate", "color": [255, 0, 0, 255]},
            {"instanceId": 2, "labelId": 1, "labelName": "crate", "color": [0, 0, 255, 255]},
        ],
    }
    boxes = {"@type": SOLO + "BoundingBox2DAnnotation", "values": [box(1, "crate", 8), box(3, "barrel", 30)]}
    points = {"@type": SOLO + "KeypointAnnotation", "values": []}
    solo(tmp_path, boxes, mask, points)
    conversion = to_conversion(read_program("unity", tmp_path))
    (record,) = conversion.records
    first, second, third = record.instances
    assert record.file_name == "sequence.0/step0.camera.png" and conversion.names == ["barrel", "crate"]
    assert (rle.decode(rle.to_runs(first.rle), H, W) == red).all()  # the mask, not its box again
    assert second.bbox == (30, 20, 20, 10) and third.bbox == (30, 8, 10, 12) and third.label == "barrel"
    assert any("KeypointAnnotation" in f.text for f in conversion.findings)
    assert not conversion.tally.skipped  # the mask is not a photograph without labels
    moved = Image.open(tmp_path / "sequence.0" / "step0.camera.mask.png").transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    moved.save(tmp_path / "sequence.0" / "step0.camera.mask.png")
    again = read_program("unity", tmp_path).records[0].instances[0]
    assert (rle.decode(rle.to_runs(again.rle), H, W) == red[::-1]).all()  # as it is now


def test_a_sensor_that_is_no_camera(tmp_path):
    solo(tmp_path, {"@type": SOLO + "BoundingBox2DAnnotation", "values": [box(1, "crate", 8)]})
    file = tmp_path / "sequence.0" / "step0.frame_data.json"
    content = json.loads(file.read_text())
    content["captures"] += [{"@type": "lidar", "filename": "step0.lidar.pcd", "annotations": []}, {"@type": "imu"}]
    file.write_text(json.dumps(content))
    conversion = to_conversion(read_program("unity", tmp_path), strict=True)
    assert len(conversion.records) == 1 and not conversion.tally.skipped


def test_a_colour_without_a_pixel_and_a_mask_that_is_missing(tmp_path):
    save_mask(tmp_path / "sequence.0" / "m.png")
    kind = SOLO + "InstanceSegmentationAnnotation"
    instance = {"instanceId": 1, "labelName": "crate", "color": [1, 2, 3, 255]}
    lost = {"instanceId": 2, "labelName": "crate", "color": [255, 0, 0, 255]}
    outside = {"instanceId": 3, "labelName": "crate", "color": [255, 0, 0, 255]}
    solo(
        tmp_path,
        {"@type": kind, "filename": "m.png", "instances": [instance]},
        {"@type": kind, "filename": "no.png", "instances": [lost]},
        {"@type": kind, "filename": "../../m.png", "instances": [outside]},
        {"@type": SOLO + "BoundingBox2DAnnotation", "values": [box(4, "crate", 8)]},
    )
    conversion = to_conversion(read_program("unity", tmp_path))
    assert conversion.tally.dropped == {"B86": 1, "B32": 1, "B31": 1} and len(conversion.records[0].instances) == 1


def test_the_older_captures(tmp_path):
    """Paths start from the set's root; the class of a mask's instance stands with its box."""
    picture(tmp_path / "RGB1" / "rgb_2.png")
    red = save_mask(tmp_path / "InstanceSegmentation1" / "Instance_2.png")
    values = {
        "label_id": 1,
        "label_name": "crate",
        "instance_id": "1",
        "x": 8.0,
        "y": 5.0,
        "width": 33.0,
        "height": 26.0,
    }
    color = {"r": 255, "g": 0, "b": 0, "a": 255}
    annotations = [
        {"id": "i", "annotation_definition": "b", "values": [values]},
        {
            "id": "j",
            "annotation_definition": "m",
            "filename": "InstanceSegmentation1/Instance_2.png",
            "values": [{"instance_id": "1", "color": color}],
        },
    ]
    capture = {"id": "c", "step": 0, "filename": "RGB1/rgb_2.png", "format": "PNG", "annotations": annotations}
    folder = tmp_path / "Dataset1"
    folder.mkdir()
    (folder / "captures_000.json").write_text(json.dumps({"version": "0.0.1", "captures": [capture]}))
    (folder / "sensors.json").write_text(json.dumps({"version": "0.0.1", "sensors": []}))
    (record,) = to_conversion(read_program("unity", tmp_path)).records
    (one,) = record.instances
    assert record.file_name == "RGB1/rgb_2.png" and one.label == "crate"
    assert (rle.decode(rle.to_runs(one.rle), H, W) == red).all() and one.bbox == (8, 5, 33, 26)


@pytest.mark.parametrize("dimension", [[1], "64", [64, "x"], {"w": 1}])
def test_a_dimension_that_is_none(tmp_path, dimension):
    solo(tmp_path, {"@type": SOLO + "BoundingBox2DAnnotation", "values": [box(1, "crate", 8)]})
    path = tmp_path / "sequence.0" / "step0.frame_data.json"
    content = json.loads(path.read_text())
    content["captures"][0]["dimension"] = dimension
    path.write_text(json.dumps(content))
    reading = read_program("unity", tmp_path)
    assert reading.records == [] and reading.tally.dropped == {"B26": 1}
