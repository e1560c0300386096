"""Real data sets beside what others made of them: labelme's own scripts, torchvision, a second and third format."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.document import coco_file
from label_tools.formats.export import export_labelme, export_voc, export_yolo
from label_tools.readers.classes import read_labels
from label_tools.readers.convert import convert
from label_tools.shapes import rle
from tests.conftest import REAL_DATA, needs_real_data

pytestmark = needs_real_data("labelme_example", "pennfudan", "raccoon")


def test_labelme_example_agrees_with_what_labelme_made_of_it():
    """labelme's own COCO file and object masks. Its boxes come from a raster, so up to 1 px wider; ids from 0;
    `__ignore__` it leaves out; it writes group pieces in one object, as we do."""
    example = REAL_DATA / "labelme_example"
    ours = convert(example / "data_annotated", "labelme", labels=read_labels(example / "labels.txt"))
    document = ours.document("x")
    theirs = json.loads((example / "data_dataset_coco" / "annotations.json").read_text())
    their_names = {c["id"]: c["name"] for c in theirs["categories"]}
    our_names = {c["id"]: c["name"] for c in document["categories"]}
    assert [our_names[i] for i in sorted(our_names)] == [n for n in their_names.values() if n[0] != "_"]
    total = 0
    for image in document["images"]:
        (their_id,) = [i["id"] for i in theirs["images"] if Path(i["file_name"]).name == image["file_name"]]
        mine = [
            a for a in document["annotations"] if a["image_id"] == image["id"] and not coco_file.is_ignore_region(a)
        ]
        yours = [a for a in theirs["annotations"] if a["image_id"] == their_id]
        assert sorted(our_names[a["category_id"]] for a in mine) == sorted(their_names[a["category_id"]] for a in yours)
        for a in mine:
            same = [b for b in yours if their_names[b["category_id"]] == our_names[a["category_id"]]]
            b = min(same, key=lambda b: np.abs(np.subtract(a["bbox"], b["bbox"])).max())
            corners = [np.array([x, y, x + w, y + h]) for x, y, w, h in (a["bbox"], b["bbox"])]
            assert np.abs(corners[0] - corners[1]).max() <= 1.0
            if a["area"] == pytest.approx(sum(map(_area, a["segmentation"])), rel=1e-9) and not _clipped(a, image):
                assert sorted(map(len, a["segmentation"])) == sorted(map(len, b["segmentation"]))
                assert sorted(a["segmentation"]) == sorted(b["segmentation"])
            total += 1
    assert total == 12


def _area(flat: list[float]) -> float:
    from label_tools.shapes.geometry import polygon_area

    return polygon_area(flat)


def _clipped(a: dict, image: dict) -> bool:
    return a["bbox"][0] + a["bbox"][2] >= image["width"] or a["bbox"][1] + a["bbox"][3] >= image["height"]


def test_labelme_example_masks_agree_with_its_object_masks():
    """IoU >= 0.99 where no other object lies. Its script paints an outline's own pixels too, half a pixel more all
    around (which alone takes IoU to 0.95 on the smallest object), so ours are painted the same way here."""
    example = REAL_DATA / "labelme_example"
    ours = convert(example / "data_annotated", "labelme", labels=read_labels(example / "labels.txt"))
    for record in ours.records:
        masks = example / "data_dataset_voc" / "SegmentationObject" / (Path(record.file_name).stem + ".png")
        painted = np.asarray(Image.open(masks))
        kept = [i for i in record.instances if i.label != "__ignore__"]  # it paints no ignore regions
        objects = [paint(i.polygons, painted.shape) for i in kept]
        for k, mask in enumerate(objects):
            alone = ~np.any([m for j, m in enumerate(objects) if j != k] or [np.zeros_like(mask)], axis=0)
            scores = [
                (mask & (painted == v) & alone).sum() / max(((mask | (painted == v)) & alone).sum(), 1)
                for v in np.unique(painted)
                if v
            ]
            assert max(scores) >= 0.99, (record.file_name, k, max(scores))


def paint(polygons, shape: tuple[int, int]) -> np.ndarray:
    from PIL import ImageDraw

    canvas = Image.new("1", shape[::-1])
    for flat in polygons:
        ImageDraw.Draw(canvas).polygon(list(flat), outline=1, fill=1)
    return np.array(canvas)


def test_pennfudan_boxes_are_torchvisions_plus_the_last_pixel():
    """423 ids lie in the 170 masks (its publication counts 345 labelled people); masks_to_boxes gives the last pixel
    itself, we its far side: x2 and y2 differ by exactly 1."""
    torchvision = pytest.importorskip("torchvision")
    import torch

    source = REAL_DATA / "pennfudan"
    conversion = convert(source, "masks", mode="instance", class_name="person")
    assert len(conversion.records) == 170 and sum(len(r.instances) for r in conversion.records) == 423
    assert conversion.tally.dropped == {}
    for record in conversion.records[::10]:
        ids = np.array(Image.open(source / "masks" / (Path(record.file_name).stem + "_mask.png")))
        found = np.unique(ids)[1:]
        theirs = torchvision.ops.masks_to_boxes(torch.from_numpy(ids[None] == found[:, None, None])).numpy()
        ours = np.array([i.bbox for i in record.instances])
        ours[:, 2:] += ours[:, :2]
        assert (ours - theirs == [0, 0, 1, 1]).all()
        for value, one in zip(found, record.instances):
            assert (rle.decode(rle.to_runs(one.rle), *ids.shape) == (ids == value)).all()


def test_raccoon_through_every_format(tmp_path):
    """LabelMe -> COCO -> VOC -> COCO -> YOLO -> COCO -> LabelMe -> COCO. The corners are whole pixels, so VOC is exact;
    YOLO holds a billionth of the side, under a millionth of a pixel."""
    source = REAL_DATA / "raccoon"
    convert(source, "labelme", strict=True).write(tmp_path / "1.json")
    export_voc(tmp_path / "1.json", tmp_path / "voc")
    convert(tmp_path / "voc", "voc", image_root=source, strict=True).write(tmp_path / "2.json")
    export_yolo(tmp_path / "2.json", tmp_path / "yolo")
    convert(tmp_path / "yolo", "yolo", images=source, strict=True).write(tmp_path / "3.json")
    export_labelme(tmp_path / "3.json", tmp_path / "labelme")
    convert(tmp_path / "labelme", "labelme", image_root=source, strict=True).write(tmp_path / "4.json")
    documents = [json.loads((tmp_path / f"{k}.json").read_text()) for k in (1, 2, 3, 4)]
    assert all(len(d["annotations"]) == 217 and len(d["images"]) == 200 for d in documents)
    for k, slack in ((1, 0.0), (2, 1e-6), (3, 1e-6)):
        for a, b in zip(documents[0]["annotations"], documents[k]["annotations"]):
            assert b["bbox"] == pytest.approx(a["bbox"], abs=slack)
            assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
    assert documents[2]["annotations"] == documents[3]["annotations"]
