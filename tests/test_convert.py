"""Whole conversions: real data, every round trip, the account, the command line."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from label_tools import coco, rle
from label_tools.__main__ import main
from label_tools.classes import class_table, read_labels
from label_tools.convert import convert_coco, convert_labelme, convert_masks, convert_voc, convert_yolo
from label_tools.errors import InputError
from label_tools.export import export_labelme, export_voc, export_yolo
from tests.bad_input_makers import BOX, GOOD, H, W, content, labelme, picture, png, shape
from tests.conftest import SHARED

REPOSITORY = Path(__file__).resolve().parents[1]
real = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data sets are not here")
numbers = st.floats(0, 48, allow_nan=False)
boxes = st.tuples(numbers, numbers, st.floats(1, 40), st.floats(1, 40)).map(
    lambda b: (b[0], b[1], min(b[2], W - b[0]), min(b[3], H - b[1]))
)
good_boxes = boxes.filter(lambda b: b[2] >= 1 and b[3] >= 1)
rings = st.tuples(st.integers(3, 9), st.floats(5, 20), st.floats(22, 40), st.floats(22, 26), st.randoms()).map(
    lambda t: [v for k in range(t[0]) for r in [t[1] * t[4].uniform(0.5, 1)]
               for v in (t[2] + r * math.cos(2 * math.pi * k / t[0]), t[3] + r * math.sin(2 * math.pi * k / t[0]))]
)  # fmt: skip


def annotation(kind: str, value, number: int) -> dict:
    base = {"id": number, "image_id": 1, "category_id": 1 + number % 2, "iscrowd": 0}
    if kind == "box":
        x, y, w, h = value
        corners = [x, y, x + w, y, x + w, y + h, x, y + h]
        return {**base, "bbox": [x, y, w, h], "area": w * h, "segmentation": [corners]}
    if kind == "polygon":
        from label_tools.geometry import polygon_area, polygon_box

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


def save(folder: Path, annotations: list[dict]) -> Path:
    picture(folder / "images" / "sub" / "a.jpg")
    path = folder / "start.json"
    coco.write(
        {
            "info": {"image_root": "images"},
            "images": [{"id": 1, "file_name": "sub/a.jpg", "width": W, "height": H}],
            "annotations": annotations,
            "categories": [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        },
        path,
    )
    return path


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
    start = save(folder, distinct(items))
    export_labelme(start, folder / "labels")
    conversion = convert_labelme(folder / "labels", image_root=folder / "images", labels=["cat", "dog"], strict=True)
    conversion.write(folder / "end.json")
    first, last = json.loads(start.read_text()), json.loads((folder / "end.json").read_text())
    assert first["images"] == last["images"] and first["categories"] == last["categories"]
    for a, b in zip(first["annotations"], last["annotations"], strict=True):
        assert a["category_id"] == b["category_id"]
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-9) and b["area"] == pytest.approx(a["area"], rel=1e-9)
        if isinstance(a["segmentation"], dict):
            assert a["segmentation"] == b["segmentation"]
        else:
            assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-9)


@quick
@given(st.lists(good_boxes, min_size=1, max_size=6), st.integers(0, 4), st.booleans())
def test_coco_voc_coco_is_within_its_decimals(tmp_path_factory, items, decimals, one_based):
    folder = tmp_path_factory.mktemp("trip")
    start = save(folder, distinct([("box", b) for b in items]))
    export_voc(start, folder / "voc", decimals=decimals, one_based=one_based)
    end = convert_voc(folder / "voc", image_root=folder / "images", one_based=one_based).document("x")
    # an edge moves by half a unit; a box that would close or leave the image moves by one
    slack = 2 * 10.0**-decimals + 1e-9
    first = json.loads(start.read_text())["annotations"]
    if len(first) == len(end["annotations"]):  # rounding can make two boxes equal
        for a, b in zip(first, end["annotations"]):
            assert b["bbox"] == pytest.approx(a["bbox"], abs=slack)


@quick
@given(
    st.lists(
        st.one_of(st.tuples(st.just("box"), good_boxes), st.tuples(st.just("polygon"), rings)), min_size=1, max_size=6
    )
)
def test_coco_yolo_coco_is_within_a_millionth(tmp_path_factory, items):
    folder = tmp_path_factory.mktemp("trip")
    start = save(folder, distinct(items))
    export_yolo(start, folder / "yolo", outlines=True)
    end = convert_yolo(folder / "yolo", images=folder / "images").document("x")
    for a, b in zip(json.loads(start.read_text())["annotations"], end["annotations"], strict=True):
        assert a["category_id"] == b["category_id"]
        assert b["bbox"] == pytest.approx(a["bbox"], abs=1e-6)
        assert np.allclose(a["segmentation"], b["segmentation"], rtol=0, atol=1e-6)


def test_coco_coco_is_exact_and_renumbers(tmp_path):
    picture(tmp_path / "b.jpg")
    picture(tmp_path / "a.jpg")
    document = {
        "images": [{"id": i, "file_name": name, "width": W, "height": H} for i, name in ((70, "b.jpg"), (9, "a.jpg"))],
        "annotations": [{"id": 5, "image_id": 70, "category_id": 90, "bbox": [1, 2, 3, 4], "area": 12, "iscrowd": 1,
                         "segmentation": [], "mine": True}],
        "categories": [{"id": 90, "name": "cat"}, {"id": 3, "name": "dog"}],
    }  # fmt: skip
    (tmp_path / "in.json").write_text(json.dumps(document))
    end = convert_coco(tmp_path / "in.json").document(tmp_path / "out.json")
    assert [i["file_name"] for i in end["images"]] == ["a.jpg", "b.jpg"]
    assert end["categories"] == [{"id": 1, "name": "dog"}, {"id": 2, "name": "cat"}]
    assert end["annotations"] == [{"id": 1, "image_id": 2, "category_id": 2, "bbox": [1.0, 2.0, 3.0, 4.0], "area": 12.0,
                                   "iscrowd": 1, "segmentation": [], "mine": True}]  # fmt: skip


def test_ignore_regions_go_round(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    labelme(shape([[30, 5], [50, 20]], label="__ignore__"), shape([[5, 5], [25, 30]], label="dog"))(folder)
    account = convert_labelme(folder).write(tmp_path / "a.json")
    assert account["ignore_regions"] == 1 and account["objects_out"] == 3 and account["annotations_written"] == 4
    written = [a for a in json.loads((tmp_path / "a.json").read_text())["annotations"] if a["iscrowd"]]
    assert [a["category_id"] for a in written] == [1, 2] and written[0]["bbox"] == written[1]["bbox"]
    counts = export_labelme(tmp_path / "a.json", tmp_path / "back")
    assert counts["objects_in"] == counts["objects_out"] == 3
    convert_labelme(tmp_path / "back", image_root=folder, strict=True).write(tmp_path / "b.json")
    assert (
        json.loads((tmp_path / "b.json").read_text())["annotations"]
        == json.loads((tmp_path / "a.json").read_text())["annotations"]
    )
    again = convert_coco(tmp_path / "a.json").account(tmp_path / "c.json")
    assert again["objects_in"] == 4 and again["merged"] == 1 and again["objects_out"] == 3
    for counts in (export_voc(tmp_path / "a.json", tmp_path / "v"), export_yolo(tmp_path / "a.json", tmp_path / "y")):
        assert counts["objects_in"] == counts["objects_out"] + sum(counts["dropped"].values()) == 3


def test_same_input_same_bytes_wherever_it_lies_and_however_many_processes(tmp_path):
    results = []
    for name, jobs in (("one", 1), ("two", 2)):
        folder = tmp_path / name / "data"
        for k in range(130):
            picture(folder / f"s{k % 3}" / f"{k}.png", (32, 32))
            box = [[1 + k % 7, 2], [20, 21.5 + k % 3]]
            data = content(
                [shape(box, label=f"c{k % 4}"), shape([[1, 1]], "point")], f"{k}.png", imageWidth=32, imageHeight=32
            )
            (folder / f"s{k % 3}" / f"{k}.json").write_text(json.dumps(data))
        convert_labelme(folder, jobs=jobs).write(folder / "annotations.json")
        results.append([(folder / f).read_bytes() for f in ("annotations.json", "conversion.json")])
    assert results[0] == results[1]
    assert str(tmp_path).encode() not in results[0][0] + results[0][1]
    account = json.loads(results[0][1])
    assert account["objects_in"] == 260 and account["dropped"] == {"B14": 130} and account["objects_out"] == 130


def test_a_second_run_over_its_own_output(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    argv = [*labelme(GOOD)(folder), "--out", str(folder / "annotations.json")]
    assert main(argv) == 0
    first = (folder / "annotations.json").read_bytes()
    assert main(argv) == 0  # its own files are no labels, and may be replaced
    assert (folder / "annotations.json").read_bytes() == first


def test_labels_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("__ignore__\n_background_\n dog \n\ncat\n", encoding="utf-8-sig")
    assert read_labels(path) == ["__ignore__", "_background_", "dog", "cat"]
    for bad, match in (("cat\ncat\n", "line 2.*twice"), ("\n", "no class"), ("_background_\n", "no class")):
        path.write_text(bad)
        with pytest.raises(InputError, match=match):
            read_labels(path)


def test_a_refused_label_names_the_files_that_hold_it():
    files = {"dgo": ["a.json", "b.json", "c.json", "d.json"], "Dog": ["a.json"], "dog": ["b.json"]}
    with pytest.raises(InputError, match=r'"dgo" \(7, in a.json, b.json, c.json and 1 more\), did you .*frcnn rename'):
        class_table({"dgo": 7}, ["dog"], files=files)
    with pytest.raises(InputError, match=r'"dog" \(5, in b.json\), "Dog" \(1, in a.json\)'):
        class_table({"Dog": 1, "dog": 5}, None, files=files)


def test_class_table():
    assert class_table({"b": 1, "a": 2, "__ignore__": 3}, None)[0] == ["a", "b"]
    names, spelling = class_table({"Cat": 1, "cat": 5, "CAT": 2}, None, merge_case=True)
    assert names == ["cat"] and set(spelling.values()) == {"cat"}
    assert class_table({"Cat": 1}, ["dog", "cat"], merge_case=True)[1] == {"Cat": "cat"}
    assert class_table({"cat": 1, "Cat": 2}, ["cat", "Cat"])[0] == ["cat", "Cat"]  # both are wanted
    with pytest.raises(InputError, match=r'"cat" \(5\), "Cat" \(1\)'):
        class_table({"Cat": 1, "cat": 5}, None)
    with pytest.raises(InputError, match=r'"dgo" \(3\), did you mean "dog"\?; "\\x1b" \(1\)'):
        class_table({"dgo": 3, "\x1b": 1, "cat": 1}, ["cat", "dog"])


def test_exports_refuse_to_overwrite_and_to_collide(tmp_path):
    start = save(tmp_path, distinct([("box", (1, 2, 30, 20))]))
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
    start = save(tmp_path, distinct([("box", (1, 2, 30, 20))]))
    export_yolo(start, tmp_path / "y", copy_images=True)
    (tmp_path / "y" / "classes.txt").unlink()
    assert (tmp_path / "y" / "images" / "sub" / "a.jpg").is_file()
    conversion = convert_yolo(tmp_path / "y")  # names from data.yaml, images beside
    assert conversion.names == ["cat", "dog"] and conversion.records[0].instances[0].label == "dog"


def test_command_line(tmp_path, capsys):
    folder = tmp_path / "in"
    folder.mkdir()
    argv = labelme(shape([[1, 1]], "point"), GOOD)(folder)
    assert main([*argv, "--out", str(tmp_path / "a.json"), "--json"]) == 0
    said = capsys.readouterr()
    assert json.loads(said.out) == json.loads((tmp_path / "a.conversion.json").read_text())
    assert said.err.count("\n") == 1 and "B14" in said.err and "--point-box" in said.err
    assert main(["export", "voc", str(tmp_path / "a.json"), "--out", str(tmp_path / "v")]) == 0
    assert "2 files, 2 of 2 objects" in capsys.readouterr().out
    assert main(["export", "yolo", str(tmp_path / "a.json"), "--out", str(tmp_path / "y"), "--json"]) == 0
    assert main(["export", "labelme", str(tmp_path / "a.json"), "--out", str(tmp_path / "l")]) == 0
    assert (
        main(["convert", "voc", str(tmp_path / "v"), "--image-root", str(folder), "--out", str(tmp_path / "b.json")])
        == 0
    )
    assert (
        main(["convert", "yolo", str(tmp_path / "y"), "--images", str(folder), "--out", str(tmp_path / "c.json")]) == 0
    )
    assert main(["convert", "coco", str(tmp_path / "c.json"), "--out", str(tmp_path / "d.json")]) == 0
    assert (tmp_path / "c.json").read_bytes() == (tmp_path / "d.json").read_bytes()
    assert main(["convert", "coco", str(tmp_path / "c.json"), "--out", str(tmp_path / "c.json")]) == 2


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from label_tools.__main__ import main\n"
        "try: main(['convert', 'labelme', '--help'])\n"
        "except SystemExit: pass\n"
        "print(sorted({'torch', 'pycocotools', 'matplotlib', 'yaml', 'cv2'} & set(sys.modules)), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"


@real
def test_labelme_example_agrees_with_what_labelme_made_of_it():
    """labelme's own COCO file and object masks. Its boxes come from a raster, so up to 1 px wider; ids from 0;
    `__ignore__` it leaves out; it writes group pieces in one object, as we do."""
    example = SHARED / "labelme_example"
    ours = convert_labelme(example / "data_annotated", labels=read_labels(example / "labels.txt"))
    document = ours.document("x")
    theirs = json.loads((example / "data_dataset_coco" / "annotations.json").read_text())
    their_names = {c["id"]: c["name"] for c in theirs["categories"]}
    our_names = {c["id"]: c["name"] for c in document["categories"]}
    assert [our_names[i] for i in sorted(our_names)] == [n for n in their_names.values() if n[0] != "_"]
    total = 0
    for image in document["images"]:
        (their_id,) = [i["id"] for i in theirs["images"] if Path(i["file_name"]).name == image["file_name"]]
        mine = [a for a in document["annotations"] if a["image_id"] == image["id"] and not coco.is_ignore_region(a)]
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
    from label_tools.geometry import polygon_area

    return polygon_area(flat)


def _clipped(a: dict, image: dict) -> bool:
    return a["bbox"][0] + a["bbox"][2] >= image["width"] or a["bbox"][1] + a["bbox"][3] >= image["height"]


@real
def test_labelme_example_masks_agree_with_its_object_masks():
    """IoU >= 0.99 where no other object lies. Its script paints an outline's own pixels too, half a pixel more all
    around (which alone takes IoU to 0.95 on the smallest object), so ours are painted the same way here."""
    example = SHARED / "labelme_example"
    ours = convert_labelme(example / "data_annotated", labels=read_labels(example / "labels.txt"))
    for record in ours.records:
        masks = example / "data_dataset_voc" / "SegmentationObject" / (Path(record.file_name).stem + ".png")
        painted = np.asarray(Image.open(masks))
        kept = [i for i in record.instances if i.label != "__ignore__"]  # it paints no ignore regions
        objects = [paint(i.polygons, painted.shape) for i in kept]
        for k, mask in enumerate(objects):
            alone = ~np.any([m for j, m in enumerate(objects) if j != k] or [np.zeros_like(mask)], axis=0)
            scores = [(mask & (painted == v) & alone).sum() / max(((mask | (painted == v)) & alone).sum(), 1)
                      for v in np.unique(painted) if v]  # fmt: skip
            assert max(scores) >= 0.99, (record.file_name, k, max(scores))


def paint(polygons, shape: tuple[int, int]) -> np.ndarray:
    from PIL import ImageDraw

    canvas = Image.new("1", shape[::-1])
    for flat in polygons:
        ImageDraw.Draw(canvas).polygon(list(flat), outline=1, fill=1)
    return np.array(canvas)


@real
def test_pennfudan_boxes_are_torchvisions_plus_the_last_pixel():
    """423 ids lie in the 170 masks (its publication counts 345 labelled people); masks_to_boxes gives the last pixel
    itself, we its far side: x2 and y2 differ by exactly 1."""
    torchvision = pytest.importorskip("torchvision")
    import torch

    source = SHARED / "pennfudan"
    conversion = convert_masks(source, mode="instance", class_name="person")
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


@real
def test_raccoon_through_every_format(tmp_path):
    """LabelMe -> COCO -> VOC -> COCO -> YOLO -> COCO -> LabelMe -> COCO. The corners are whole pixels, so VOC is exact;
    YOLO holds a billionth of the side, under a millionth of a pixel."""
    source = SHARED / "raccoon"
    convert_labelme(source, strict=True).write(tmp_path / "1.json")
    export_voc(tmp_path / "1.json", tmp_path / "voc")
    convert_voc(tmp_path / "voc", image_root=source, strict=True).write(tmp_path / "2.json")
    export_yolo(tmp_path / "2.json", tmp_path / "yolo")
    convert_yolo(tmp_path / "yolo", images=source, strict=True).write(tmp_path / "3.json")
    export_labelme(tmp_path / "3.json", tmp_path / "labelme")
    convert_labelme(tmp_path / "labelme", image_root=source, strict=True).write(tmp_path / "4.json")
    documents = [json.loads((tmp_path / f"{k}.json").read_text()) for k in (1, 2, 3, 4)]
    assert all(len(d["annotations"]) == 217 and len(d["images"]) == 200 for d in documents)
    for k, slack in ((1, 0.0), (2, 1e-6), (3, 1e-6)):
        for a, b in zip(documents[0]["annotations"], documents[k]["annotations"]):
            assert b["bbox"] == pytest.approx(a["bbox"], abs=slack)
            assert (a["image_id"], a["category_id"]) == (b["image_id"], b["category_id"])
    assert documents[2]["annotations"] == documents[3]["annotations"]


def test_embedded_images_are_extracted_on_request(tmp_path):
    import base64

    data = base64.b64encode(picture(tmp_path / "x.jpg").read_bytes()).decode()
    folder = tmp_path / "labels"
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "a.json").write_text(json.dumps(content([shape(BOX)], imageData=data)))
    (folder / "b.json").write_text(json.dumps(content([shape(BOX)], imageData=png(np.zeros((H, W))))))
    conversion = convert_labelme(folder, extract_images=tmp_path / "images", strict=True)
    conversion.write(tmp_path / "out" / "annotations.json")
    document = coco.read(tmp_path / "out" / "annotations.json")
    assert [i["file_name"] for i in document["images"]] == ["images/b.png", "images/sub/a.jpg"]
    paths = [coco.image_path(document, tmp_path / "out" / "annotations.json", i) for i in document["images"]]
    assert all(p.is_file() for p in paths) and paths[1].read_bytes() == (tmp_path / "x.jpg").read_bytes()
    assert sorted(os.listdir(folder)) == ["b.json", "sub"]
