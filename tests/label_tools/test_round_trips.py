"""COCO to each format and back: what comes out is what went in, as far as the format can hold it."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from label_tools.formats.export import (
    export_coco,
    export_cvat,
    export_labelme,
    export_masks,
    export_voc,
    export_yolo,
)
from label_tools.formats.voc import corners_of
from label_tools.readers.convert import convert
from label_tools.readers.which_format import detect
from label_tools.shapes import rle
from tests.label_tools.bad_input_makers import H, W, encode_rle, labelme, picture, save_coco, shape

numbers = st.floats(0, 48, allow_nan=False)
boxes = st.tuples(numbers, numbers, st.floats(1, 40), st.floats(1, 40)).map(
    lambda b: (b[0], b[1], min(b[2], W - b[0]), min(b[3], H - b[1]))
)
good_boxes = boxes.filter(lambda b: b[2] >= 1 and b[3] >= 1)
rings = st.tuples(st.integers(3, 9), st.floats(5, 20), st.floats(22, 40), st.floats(22, 26), st.randoms()).map(
    lambda t: [
        v
        for k in range(t[0])
        for r in [t[1] * t[4].uniform(0.5, 1)]
        for v in (t[2] + r * math.cos(2 * math.pi * k / t[0]), t[3] + r * math.sin(2 * math.pi * k / t[0]))
    ]
)


def annotation(kind: str, value, number: int) -> dict:
    base = {"id": number, "image_id": 1, "category_id": 1 + number % 2, "iscrowd": 0}
    if kind == "box":
        x, y, w, h = value
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        return {**base, "bbox": [x, y, w, h], "area": w * h, "segmentation": [corners]}
    if kind == "polygon":
        from label_tools.shapes.geometry import polygon_area, polygon_box

        return {**base, "bbox": list(polygon_box(value)), "area": polygon_area(value), "segmentation": [value]}
    runs = rle.encode(value)
    box = list(map(float, rle.box(runs, H)))
    return {**base, "bbox": box, "area": float(value.sum()), "segmentation": rle.to_rle(runs, H, W)}


def masks_strategy():
    return st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).random((H, W)) < np.random.default_rng(seed).random()
    )


objects = st.one_of(
    st.tuples(st.just("box"), good_boxes),
    st.tuples(st.just("polygon"), rings),
    st.tuples(st.just("mask"), masks_strategy().filter(lambda m: m.any())),
)
quick = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def distinct(items: list) -> list:
    """The objects, numbered, without those that the converter would rightly call drawn twice."""
    kept: list[dict] = []
    for kind, value in items:
        one = annotation(kind, value, len(kept) + 1)
        if not any(k["bbox"] == one["bbox"] and k["segmentation"] == one["segmentation"] for k in kept):
            kept.append(one)
    return kept


@quick
@given(st.lists(objects, min_size=1, max_size=6))
def test_coco_labelme_coco_is_exact(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save_coco(folder, [{**one, "iscrowd": k % 2} for k, one in enumerate(distinct(items))])
    export_labelme(start, folder / "labels")
    conversion = convert(folder / "labels", "labelme", image_root=folder / "images", labels=["cat", "dog"], strict=True)
    conversion.write(folder / "end.json")
    first, last = json.loads(start.read_text()), json.loads((folder / "end.json").read_text())
    assert first["images"] == last["images"] and first["categories"] == last["categories"]
    for a, b in zip(first["annotations"], last["annotations"], strict=True):
        assert a["category_id"] == b["category_id"] and a["iscrowd"] == b["iscrowd"]
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-9) and b["area"] == pytest.approx(a["area"], rel=1e-9)
        if isinstance(a["segmentation"], dict):
            assert a["segmentation"] == b["segmentation"]
        else:
            assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-9)


@quick
@given(st.lists(good_boxes, min_size=1, max_size=6), st.integers(0, 4), st.booleans())
def test_coco_voc_coco_is_within_its_decimals(tmp_path_factory, items, decimals, one_based):
    folder = tmp_path_factory.mktemp("trip")
    size = {"width": W, "height": H}
    # rounding can make two boxes equal, which the reader rightly calls drawn twice
    apart = {tuple(corners_of(list(b), size, decimals, one_based)): b for b in items}
    start = save_coco(folder, distinct([("box", b) for b in apart.values()]))
    export_voc(start, folder / "voc", decimals=decimals, one_based=one_based)
    options = {"image_root": folder / "images", "labels": ["cat", "dog"]}
    end = convert(folder / "voc", "voc", one_based=one_based, **options).document("x")
    # an edge moves by half a unit; a box that would close or leave the image moves by one
    slack = 2 * 10.0**-decimals + 1e-9
    first = json.loads(start.read_text())["annotations"]
    for a, b in zip(first, end["annotations"], strict=True):
        assert a["category_id"] == b["category_id"] and b["bbox"] == pytest.approx(a["bbox"], abs=slack)


@quick
@given(
    st.lists(
        st.one_of(st.tuples(st.just("box"), good_boxes), st.tuples(st.just("polygon"), rings)), min_size=1, max_size=6
    )
)
def test_coco_yolo_coco_is_within_a_millionth(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save_coco(folder, distinct(items))
    export_yolo(start, folder / "yolo", outlines=True)
    end = convert(folder / "yolo", "yolo", images=folder / "images").document("x")
    for a, b in zip(json.loads(start.read_text())["annotations"], end["annotations"], strict=True):
        assert a["category_id"] == b["category_id"]
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-6)
        assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-6)


@quick
@given(st.lists(objects, min_size=1, max_size=6))
def test_coco_cvat_coco_is_exact(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save_coco(folder, distinct(items))
    export_cvat(start, folder / "cvat")
    conversion = convert(folder / "cvat" / "annotations.xml", image_root=folder / "images", labels=["cat", "dog"])
    assert conversion.findings == []
    same(start, conversion.document(folder / "x.json"))


@quick
@given(st.lists(st.tuples(rings, rings), min_size=1, max_size=3, unique_by=str))
def test_several_outlines_of_one_object_stay_one_object(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save_coco(folder, [annotation("polygon", a, k + 1) for k, (a, _) in enumerate(items)])
    document = json.loads(start.read_text())
    for one, (_, b) in zip(document["annotations"], items):
        moved = [v + (0.25, 0.5)[k % 2] for k, v in enumerate(b)]
        one["segmentation"].append(moved)
        xs, ys = [p[0::2] for p in one["segmentation"]], [p[1::2] for p in one["segmentation"]]
        x, y = min(map(min, xs)), min(map(min, ys))
        one["bbox"] = [x, y, max(map(max, xs)) - x, max(map(max, ys)) - y]
    start.write_text(json.dumps(document))
    export_cvat(start, folder / "cvat")
    end = convert(folder / "cvat", image_root=folder / "images", labels=["cat", "dog"]).document("x")
    for a, b in zip(json.loads(start.read_text())["annotations"], end["annotations"], strict=True):
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-9)
        assert [list(p) for p in b["segmentation"]] == a["segmentation"]


@quick
@given(st.lists(objects, min_size=1, max_size=6))
def test_coco_with_its_own_keys_alone_is_exact(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save_coco(folder, distinct(items))
    export_coco(start, folder / "coco", copy_images=True)
    conversion = convert(folder / "coco" / "annotations" / "instances_default.json", image_root=folder / "coco/images")
    same(start, conversion.document(folder / "x.json"))


def same(start, end: dict) -> None:
    """Boxes to a billionth of a pixel, outlines and masks bit for bit."""
    first = json.loads(start.read_text())
    assert first["images"] == end["images"] and first["categories"] == end["categories"]
    for a, b in zip(first["annotations"], end["annotations"], strict=True):
        assert a["category_id"] == b["category_id"] and b["bbox"] == pytest.approx(a["bbox"], abs=1e-9)
        if isinstance(a["segmentation"], dict):
            assert a["segmentation"] == b["segmentation"]
        else:
            assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-9)


@settings(quick, max_examples=8)
@given(st.integers(0, 2**32 - 1), st.sampled_from([1, 2, 40, 300, 700]), st.sampled_from(["instance", "class"]))
def test_coco_masks_coco_is_bit_equal(tmp_path_factory, seed, count, mode):
    """Objects side by side, up to 350 of a class (over 255: 16 bits): the masks are those that went in."""
    folder = tmp_path_factory.mktemp("trip")
    owner = np.random.default_rng(seed).integers(0, count + 1, (H, W))
    items = [("mask", owner == k) for k in range(1, count + 1) if (owner == k).any()]
    start = save_coco(folder, distinct(items))
    export_masks(start, folder / "masks", mode=mode, overlays=False, copy_images=True)
    found = detect(folder / "masks")
    assert found.format == "masks"
    end = convert(folder / "masks", labels=["_background_", "cat", "dog"]).document("x")
    masks = {}
    for name, document in (("in", json.loads(start.read_text())), ("out", end)):
        of_class: dict[int, list] = {}
        for a in document["annotations"]:
            of_class.setdefault(a["category_id"], []).append(rle.decode(rle.to_runs(a["segmentation"]), H, W))
        masks[name] = of_class
    assert masks["in"].keys() == masks["out"].keys()
    for category, those in masks["in"].items():
        back = masks["out"][category]
        if mode == "class":  # one object a class
            assert len(back) == 1 and (np.any(those, axis=0) == back[0]).all()
        else:
            assert sorted(m.tobytes() for m in those) == sorted(m.tobytes() for m in back)


def test_coco_coco_is_exact_and_renumbers(tmp_path):
    picture(tmp_path / "b.jpg")
    picture(tmp_path / "a.jpg")
    document = {
        "images": [{"id": i, "file_name": name, "width": W, "height": H} for i, name in ((70, "b.jpg"), (9, "a.jpg"))],
        "annotations": [
            {
                "id": 5,
                "image_id": 70,
                "category_id": 90,
                "bbox": [1, 2, 3, 4],
                "area": 12,
                "iscrowd": 1,
                "segmentation": [],
                "mine": True,
            }
        ],
        "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}],
    }
    (tmp_path / "in.json").write_text(json.dumps(document))
    end = convert(tmp_path / "in.json", "coco").document(tmp_path / "out.json")
    assert [i["file_name"] for i in end["images"]] == ["a.jpg", "b.jpg"]
    assert end["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert end["annotations"] == [
        {
            "id": 1,
            "image_id": 2,
            "category_id": 2,
            "bbox": [1.0, 2.0, 3.0, 4.0],
            "area": 12.0,
            "iscrowd": 1,
            "segmentation": [],
            "mine": True,
        }
    ]


def test_ignore_regions_go_round(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    labelme(shape([[30, 5], [50, 20]], label="__ignore__"), shape([[5, 5], [25, 30]], label="dog"))(folder)
    account = convert(folder, "labelme").write(tmp_path / "a.json")
    assert account["ignore_regions"] == 1 and account["objects_out"] == 3 and account["annotations_written"] == 4
    written = [a for a in json.loads((tmp_path / "a.json").read_text())["annotations"] if a["iscrowd"]]
    assert [a["category_id"] for a in written] == [1, 2] and written[0]["bbox"] == written[1]["bbox"]
    counts = export_labelme(tmp_path / "a.json", tmp_path / "back")
    assert counts["objects_in"] == counts["objects_out"] == 3
    convert(tmp_path / "back", "labelme", image_root=folder, strict=True).write(tmp_path / "b.json")
    assert (
        json.loads((tmp_path / "b.json").read_text())["annotations"]
        == json.loads((tmp_path / "a.json").read_text())["annotations"]
    )
    again = convert(tmp_path / "a.json", "coco").account(tmp_path / "c.json")
    assert again["objects_in"] == 4 and again["merged"] == 1 and again["objects_out"] == 3
    for counts in (export_voc(tmp_path / "a.json", tmp_path / "v"), export_yolo(tmp_path / "a.json", tmp_path / "y")):
        assert counts["objects_in"] == counts["objects_out"] + sum(counts["dropped"].values()) == 3


def label_studio_file(folder, items: list) -> None:
    """Percent of the picture; a mask as the RLE of an RGBA picture, and again as a bitmask."""
    regions = []
    for kind, value in items:
        if kind == "box":
            shape = dict(zip(("x", "y", "width", "height"), (100 * v / s for v, s in zip(value, (W, H, W, H)))))
        elif kind == "polygon":
            shape = {"points": [[100 * x / W, 100 * y / H] for x, y in zip(value[0::2], value[1::2])]}
        else:
            rgba = np.zeros((H, W, 4), np.uint8)
            rgba[value] = 255
            shape = {"format": "rle", "rle": encode_rle(rgba.ravel())}
        regions.append({"value": {**shape, "labels": ["cat"]}, "original_width": W, "original_height": H})
    tasks = [{"data": {"image": "a.jpg"}, "annotations": [{"result": regions}]}]
    (folder / "project.json").write_text(json.dumps(tasks))


def via_file(folder, items: list) -> None:
    regions = []
    for kind, value in items:
        rect = {"name": "rect", **dict(zip(("x", "y", "width", "height"), value))}
        outline = {"name": "polygon", "all_points_x": list(value[0::2]), "all_points_y": list(value[1::2])}
        regions.append({"shape_attributes": rect if kind == "box" else outline, "region_attributes": {"class": "cat"}})
    (folder / "via.json").write_text(json.dumps({"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": regions}}))


def unity_file(folder, items: list) -> None:
    """A frame of SOLO: boxes in pixels, an instance mask of a colour an object."""
    colours, instances, values = np.zeros((H, W, 3), np.uint8), [], []
    for number, (kind, value) in enumerate(items, 1):
        if kind == "box":
            box = {"origin": list(value[:2]), "dimension": list(value[2:])}
            values.append({"instanceId": number, "labelName": "cat", **box})
        else:
            colours[value] = (number, 0, 255)
            instances.append({"instanceId": number, "labelName": "cat", "color": [number, 0, 255, 255]})
    Image.fromarray(colours).save(folder / "mask.png")
    marks = [
        {"@type": "x.BoundingBox2DAnnotation", "values": values},
        {"@type": "x.InstanceSegmentationAnnotation", "filename": "mask.png", "instances": instances},
    ]
    capture = {"filename": "a.jpg", "dimension": [W, H], "annotations": marks}
    (folder / "step0.frame_data.json").write_text(json.dumps({"frame": 0, "captures": [capture]}))


KINDS = {"label_studio": ("box", "polygon", "mask"), "via": ("box", "polygon"), "unity": ("box", "mask")}


@settings(quick, max_examples=15)
@pytest.mark.parametrize("program", KINDS)
@given(items=st.lists(objects, min_size=1, max_size=6))
def test_what_the_programs_write_that_are_read_alone(tmp_path_factory, program, items):
    """By a writer of this test: boxes and outlines to a millionth of a pixel, masks bit for bit."""
    items = [item for item in items if item[0] in KINDS[program]] or [("box", (10.25, 8.5, 20.0, 12.125))]
    if program == "unity":  # the masks come first, and none lies over another
        masks = [item for item in items if item[0] == "mask"][:1]
        items = masks + [item for item in items if item[0] == "box"]
    items = [item for k, item in enumerate(items) if not any(same_item(item, one) for one in items[:k])]
    folder = tmp_path_factory.mktemp("trip")
    picture(folder / "a.jpg")
    globals()[f"{program}_file"](folder, items)
    found = convert(folder, strict=True).document("x")["annotations"]
    for a, b in zip((annotation(kind, value, 1) for kind, value in items), found, strict=True):
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-6)
        if isinstance(a["segmentation"], dict):
            assert a["segmentation"] == b["segmentation"]
        else:
            assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-6)


def same_item(a: tuple, b: tuple) -> bool:
    return a[0] == b[0] and np.array_equal(a[1], b[1])
