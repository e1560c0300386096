"""`check`: every rule about documents, objects and parts; the command, its exit codes, --json and --fix."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.rules.check import check_document, examine_files
from label_tools.rules.objects_and_classes import pairwise_iou
from label_tools.text.findings import SHOWN
from tests.conftest import REAL_DATA, needs_real_data


def sound(boxes=((10, 10, 20, 20), (40, 30, 30, 20)), count: int = 2) -> dict:
    """A document without a fault: `count` images of 100 x 80, the same boxes in each, classes a and b in turn."""
    annotations = [
        {
            "id": 1 + len(boxes) * i + k,
            "image_id": i + 1,
            "category_id": 1 + k % 2,
            "bbox": [float(v) for v in box],
            "area": float(box[2] * box[3]),
            "iscrowd": 0,
            "segmentation": [],
        }
        for i in range(count)
        for k, box in enumerate(boxes)
    ]
    return {
        "info": {"image_root": "."},
        "images": [{"id": i + 1, "file_name": f"{i}.png", "width": 100, "height": 80} for i in range(count)],
        "annotations": annotations,
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }


def found(document: dict) -> list[tuple[str, str, str]]:
    """(level, code, place) of all findings about the annotations alone."""
    return [(f.level, f.code, f.place) for f in check_document(document, None)]


def with_(document: dict, key: str, index: int, **changes) -> dict:
    document[key][index].update(changes)
    return document


def test_a_sound_document_has_no_findings():
    assert check_document(sound(), None) == []


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        # ambiguities: every one is listed, not only the first
        (with_(sound(), "images", 1, id=1), ("error", "B42", "images[1]")),
        (with_(sound(), "images", 1, id="1"), ("error", "B42", "images[1]")),
        (with_(sound(), "images", 1, file_name="0.png"), ("error", "B42", "images[1]")),
        (with_(sound(), "images", 0, width=0), ("error", "B26", 'images[0] "0.png"')),
        (with_(sound(), "images", 0, file_name=None), ("error", "B26", "images[0]")),
        (with_(sound(), "categories", 1, name="a "), ("error", "B44", "categories[1]")),
        (with_(sound(), "categories", 1, id=1), ("error", "B44", "categories[1]")),
        (with_(sound(), "annotations", 2, category_id=9), ("error", "B43", "annotations[2]")),
        ({**sound(), "categories": []}, ("error", "B44", "categories")),
        # what the reader leaves out
        (with_(sound(), "annotations", 0, image_id=77), ("error", "B43", "annotations[0]")),
        (with_(sound(), "annotations", 0, bbox=[1, 1, 0, 5]), ("error", "B01", "annotations[0]")),
        (with_(sound(), "annotations", 0, bbox=[200, 1, 5, 5]), ("error", "B04", "annotations[0]")),
        (with_(sound(), "annotations", 0, bbox=[float("nan"), 1, 5, 5]), ("error", "B06", "annotations[0]")),
        (with_(sound(), "annotations", 0, bbox=[1, 1, 0.2, 5]), ("error", "B17", "annotations[0]")),
        # what it repairs
        (with_(sound(), "annotations", 0, id=0), ("warning", "B41", "annotations[0]")),
        (with_(sound(), "annotations", 1, id=1), ("warning", "B40", "annotations[1]")),
        (with_(sound(), "annotations", 1, id=-1), ("warning", "B40", "annotations[1]")),
        (with_(sound(), "annotations", 0, image_id="1"), ("warning", "B49", "annotations[0]")),
        (with_(sound(), "annotations", 0, area=None), ("warning", "B50", "annotations[0]")),
        (with_(sound(), "annotations", 0, bbox=[90, 10, 20, 20]), ("warning", "B05", "annotations[0]")),
        # what is only suspicious
        (with_(sound(), "categories", 1, name="A"), ("warning", "B36", "categories[1]")),
        ({**sound(), "categories": [*sound()["categories"], {"id": 3, "name": "c"}]}, ("warning", "B54", "categories")),
        ({**sound(), "annotations": []}, ("error", "B54", "annotations")),
        (with_(sound(), "annotations", 0, bbox=[10, 10, 7, 20], area=140), ("note", "B17", "annotations")),
    ],
)
def test_one_fault_one_finding(document, expected):
    assert expected in found(document)
    # a category that is lost makes its annotations point nowhere (B43)
    errors = [f for f in found(document) if f[0] == "error" and (f[1] != "B43" or expected[1] == "B43")]
    assert errors == [expected] * (expected[0] == "error")


def test_all_ambiguities_are_listed():
    document = with_(with_(sound(), "images", 1, id=1), "categories", 1, name="a")
    document["annotations"][3]["category_id"] = 9
    assert {code for _, code, _ in found(document)} == {"B42", "B43", "B44"}


def test_corner_and_fraction_boxes_are_recognised():
    # x2 = 60 and y2 = 60 as width and height leave an image of 100 x 80
    corners = sound(boxes=((50, 50, 60, 60), (45, 40, 90, 70)))
    assert [(f.code, f.level) for f in check_document(corners, None)] == [("B47", "error")]
    fractions = sound(boxes=((0.1, 0.1, 0.2, 0.2), (0.5, 0.5, 0.3, 0.3)))
    assert [(f.code, f.level) for f in check_document(fractions, None)] == [("B48", "error")]


def test_near_duplicates():
    # 20x20 and 20x19 inside it: IoU 380/400 = 0.95; 20x17: 0.85, below the limit
    (finding,) = check_document(sound(boxes=((10, 10, 20, 20), (10, 10, 20, 19)), count=1), None)
    assert (finding.code, finding.level, finding.place) == (
        "B12",
        "warning",
        "annotation 2 of 0.png (object[1], at 10, 10)",
    )
    assert '"b" covers the same place as "a", annotation 1 of 0.png (object[0], at 10, 10) (IoU 0.95)' in finding.text
    assert check_document(sound(boxes=((10, 10, 20, 20), (10, 10, 20, 17)), count=1), None) == []


def test_crowds_cover_objects_by_nature():
    document = with_(sound(boxes=((10, 10, 20, 20), (10, 10, 20, 20))), "annotations", 1, iscrowd=1)
    document["annotations"][3]["iscrowd"] = 1
    # class b has crowds only, and half of all objects are crowds
    assert [f.code for f in check_document(document, None)] == ["B54", "B58"]


@given(st.lists(st.tuples(*[st.integers(0, 9)] * 2, *[st.integers(1, 9)] * 2), min_size=1, max_size=8))
@settings(max_examples=60, deadline=None)
def test_iou_against_counted_pixels(boxes):
    masks = np.zeros((len(boxes), 20, 20), dtype=bool)
    for mask, (x, y, w, h) in zip(masks, boxes):
        mask[y : y + h, x : x + w] = True
    flat = masks.reshape(len(boxes), -1).astype(int)
    shared = flat @ flat.T
    areas = flat.sum(1)
    expected = shared / (areas[:, None] + areas[None] - shared)
    assert pairwise_iou(np.array(boxes, dtype=float)) == pytest.approx(expected)


@pytest.mark.parametrize(("bottom", "apart"), [(26, True), (28.4, True), (28.5, False)])
def test_box_and_outline_apart(bottom, apart):
    document = with_(sound(), "annotations", 0, segmentation=[[10, 10, 30, 10, 30, bottom, 10, bottom]])
    # the box reaches to 30: 1.5 pixels are allowed
    assert found(document) == [("warning", "B16", "annotation 1 of 0.png (object[0], at 10, 10)")] * apart


def test_a_box_of_8_pixels_is_not_small():
    assert found(with_(sound(), "annotations", 0, bbox=[10, 10, 8, 20], area=160)) == []


def test_area_of_something_else():
    document = with_(sound(), "annotations", 0, segmentation=[[10, 10, 30, 10, 30, 30, 10, 30]], area=1.0)
    assert found(document) == [("note", "B50", "annotation 1 of 0.png (object[0], at 10, 10)")]


def test_the_hidden_plus_one():
    document = sound(boxes=((10, 10, 21, 21), (40, 30, 31, 21)))
    for annotation in document["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["segmentation"] = [[x, y, x + w - 1, y, x + w - 1, y + h - 1, x, y + h - 1]]
    (finding,) = check_document(document, None)
    assert finding.code == "B16" and "by 1 x 1 pixels" in finding.text
    for annotation in document["annotations"]:
        annotation["bbox"] = [*annotation["bbox"][:2], annotation["bbox"][2] - 1, annotation["bbox"][3] - 1]
    assert check_document(document, None) == []
    for annotation in document["annotations"]:  # rounded outwards, by less than a pixel
        annotation["bbox"] = [*annotation["bbox"][:2], annotation["bbox"][2] + 0.4, annotation["bbox"][3] + 0.4]
    assert check_document(document, None) == []


@needs_real_data("labelme_example")
def test_labelmes_own_script_is_caught():
    path = REAL_DATA / "labelme_example" / "data_dataset_coco" / "annotations.json"
    (result,) = examine_files([path])
    assert {f.code for f in result.findings} == {"B16", "B41", "B54"}


# --- several parts ---------------------------------------------------------------------------------------------


def write(folder: Path, name: str, document: dict) -> Path:
    for image in document["images"]:
        path = folder / image["file_name"]
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            rng = np.random.default_rng(list(image["file_name"].encode()))
            small = Image.fromarray(rng.integers(0, 256, (5, 6, 3), dtype=np.uint8))
            small.resize((image["width"], image["height"])).save(path)
    coco_file.write(document, folder / name)
    return folder / name


def part(names: str) -> dict:
    document = sound(count=len(names))
    for image, name in zip(document["images"], names):
        image["file_name"] = f"{name}.png"
    return document


def codes(results) -> list[tuple[str, str, str]]:
    return [(Path(f.file).name, f.level, f.code) for r in results for f in r.findings]


def test_clean_parts(tmp_path):
    paths = [write(tmp_path, "train.json", part("abc")), write(tmp_path, "val.json", part("de"))]
    assert codes(examine_files(paths, decode=True)) == []


def test_one_file_in_two_parts_is_found_without_decoding(tmp_path):
    paths = [write(tmp_path, "train.json", part("abc")), write(tmp_path, "val.json", part("cd"))]
    assert codes(examine_files(paths)) == [("val.json", "error", "B53")]


def test_a_copy_in_another_part_is_found_by_its_pixels(tmp_path):
    paths = [write(tmp_path, "train.json", part("abc")), write(tmp_path, "val.json", part("de"))]
    Image.open(tmp_path / "a.png").save(tmp_path / "e.png", compress_level=1)
    assert codes(examine_files(paths)) == []
    results = examine_files(paths, decode=True)
    assert codes(results) == [("train.json", "error", "B53")]
    assert results[0].findings[0].text == f"the same picture in two parts: a.png ({paths[0]}), e.png ({paths[1]})"
    Image.open(tmp_path / "a.png").resize((50, 40)).resize((100, 80)).save(tmp_path / "e.png")
    assert codes(examine_files(paths, decode=True)) == [("train.json", "warning", "B53")]


def test_copies_by_name_in_two_parts_are_told_with_the_first(tmp_path):
    def named(name: str, *files: str) -> Path:
        document = part("x" * len(files))
        for image, file in zip(document["images"], files):
            image["file_name"] = file
        return write(tmp_path, name, document)

    train = named("train.json", "p_aug1.png", "p_aug2.png", "q_aug1.png")
    assert codes(examine_files([train, named("val.json", "r_aug1.png")])) == []  # p's copies lie in one part
    results = examine_files([train, named("val.json", "p_aug3.png", "q.png")])
    assert codes(results) == [("train.json", "warning", "B53")]
    said = "2 photographs with copies in two parts, by their names; the first: "
    first = f"p_aug1.png ({train}), p_aug2.png ({train}), p_aug3.png ({tmp_path / 'val.json'})"
    assert results[0].findings[0].text == said + first


def test_a_copy_in_the_same_part_is_no_leak(tmp_path):
    paths = [write(tmp_path, "train.json", part("abc")), write(tmp_path, "val.json", part("de"))]
    Image.open(tmp_path / "a.png").save(tmp_path / "b.png", compress_level=1)
    assert codes(examine_files(paths, decode=True)) == [("train.json", "warning", "B53")]


def test_a_class_of_val_that_train_lacks(tmp_path):
    train = part("abc")
    for annotation in train["annotations"]:
        annotation["category_id"] = 1
    paths = [write(tmp_path, "train.json", train), write(tmp_path, "val.json", part("de"))]
    results = codes(examine_files(paths))
    assert ("val.json", "warning", "B54") in results and ("train.json", "warning", "B54") in results


def test_parts_with_other_categories(tmp_path):
    other = with_(part("de"), "categories", 1, name="zebra")
    paths = [write(tmp_path, "train.json", part("abc")), write(tmp_path, "val.json", other)]
    assert codes(examine_files(paths)) == [("val.json", "error", "B54")]


# --- the command -----------------------------------------------------------------------------------------------


def test_exit_codes_and_the_worst_first(tmp_path, capsys):
    path = write(tmp_path, "a.json", part("abc"))
    assert main(["check", str(path)]) == 0
    assert capsys.readouterr().out == "0 errors, 0 warnings, 0 notes in 3 images with 6 annotations\n"
    document = with_(with_(part("abc"), "annotations", 0, id=0), "annotations", 3, bbox=[1, 1, 0, 9])
    assert main(["check", str(write(tmp_path, "b.json", document))]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[:2] for line in lines[:-1]] == [["error", "B01"], ["warning", "B41"]]
    assert lines[-1] == "1 error, 1 warning, 0 notes in 3 images with 6 annotations"
    assert main(["check", str(tmp_path / "nowhere.json")]) == 2
    (said,) = capsys.readouterr().err.splitlines()
    needed = "a COCO file (`frcnn convert` makes one) is needed"
    assert said == f"error: {tmp_path / 'nowhere.json'}: no such file, {needed}"


def test_a_list_of_classes_is_no_coco_file(tmp_path, capsys):
    (tmp_path / "labels.txt").write_text("bolt\nhex_nut\n")
    assert main(["check", str(tmp_path / "labels.txt")]) == 2
    assert "labels.txt: is no JSON, it begins with 'bolt'; a COCO file is needed" in capsys.readouterr().err


def test_json_holds_every_finding(tmp_path, capsys):
    document = part("abc")
    document["annotations"] = [{**document["annotations"][0], "id": k, "bbox": [1, 1, 0, 9]} for k in range(1, 40)]
    path = write(tmp_path, "a.json", document)
    assert main(["check", str(path), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["counts"] == {"error": 40, "warning": 0, "note": 0}  # 39 boxes, and nothing is left
    assert data["files"] == [{"file": str(path), "images": 3, "annotations": 39}]
    first = data["findings"][0]
    assert set(first) == {"code", "level", "file", "place", "text", "fix"} and first["code"] == "B01"
    main(["check", str(path)])
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == SHOWN["error"] + 1 + 1 + 1
    assert lines[SHOWN["error"]] == "error B01 ... and 19 more like it (--all shows them)"
    main(["check", str(path), "--all"])
    assert len(capsys.readouterr().out.splitlines()) == 39 + 1 + 1


def test_fix_writes_a_copy_that_is_clean(tmp_path, capsys):
    document = with_(with_(part("abc"), "annotations", 0, id=0), "annotations", 3, bbox=[1, 1, 0, 9])
    document["images"].append({"id": 9, "file_name": "gone.png", "width": 100, "height": 80})
    path = write(tmp_path, "a.json", document)
    (tmp_path / "gone.png").unlink()
    before = path.read_bytes()
    out = tmp_path / "deep" / "repaired.json"
    assert main(["check", str(path), "--fix", "--out", str(out)]) == 0
    assert "left out 1 image and 1 annotation" in capsys.readouterr().err
    assert path.read_bytes() == before
    copy = coco_file.read(out)
    assert [a["id"] for a in copy["annotations"]] == [1, 2, 3, 4, 5] and len(copy["images"]) == 3
    assert coco_file.image_path(copy, out, copy["images"][0]).is_file()
    assert main(["check", str(out)]) == 0
    assert main(["check", str(path), "--fix"]) == 0
    assert (tmp_path / "a.repaired.json").exists()


def test_fix_never_overwrites_and_never_guesses(tmp_path, capsys):
    path = write(tmp_path, "a.json", part("abc"))
    before = path.read_bytes()
    assert main(["check", str(path), "--fix", "--out", str(path)]) == 2
    assert "never overwritten" in capsys.readouterr().err and path.read_bytes() == before
    double = write(tmp_path, "b.json", with_(part("abc"), "images", 1, id=1))
    assert main(["check", str(double), "--fix"]) == 2
    assert "not repaired" in capsys.readouterr().err and not (tmp_path / "b.repaired.json").exists()
    assert main(["check", str(path), str(double), "--fix"]) == 2
    assert main(["check", str(path), "--out", str(tmp_path / "c.json")]) == 2


# --- LabelMe folders -------------------------------------------------------------------------------------------


def labelme(folder: Path, name: str, *shapes: dict) -> None:
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(list(name.encode()))
    Image.fromarray(rng.integers(0, 256, (80, 100, 3), dtype=np.uint8)).save(folder / f"{name}.png")
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": f"{name}.png",
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 100,
    }
    (folder / f"{name}.json").write_text(json.dumps(content))


def rectangle(label: str, x1: float, y1: float, x2: float, y2: float) -> dict:
    return {"label": label, "points": [[x1, y1], [x2, y2]], "shape_type": "rectangle", "group_id": None, "flags": {}}


def test_labelme_folder(tmp_path, capsys):
    folder = tmp_path / "labels"
    labelme(
        folder, "a", rectangle("cat", 10, 10, 40, 40), rectangle("cat", 10, 10, 40, 41), rectangle("dog", 5, 5, 5, 9)
    )
    labelme(folder, "b", rectangle("dog", 20, 20, 60, 60))
    assert main(["check", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f'error B01 {folder}/a.json, shapes[2] "dog"')
    # 30x30 within 30x31: IoU 900/930
    assert lines[1].startswith(
        f'warning B12 {folder}/a.json, shapes[1] "cat": "cat" covers the same place as "cat", shapes[0]'
    )
    assert lines[2] == "1 error, 1 warning, 0 notes in 2 images with 4 annotations"


def test_labelme_folder_with_two_spellings_is_looked_at_all_the_same(tmp_path, capsys):
    folder = tmp_path / "labels"
    labelme(folder, "a", rectangle("cat", 10, 10, 40, 40), rectangle("Cat", 10, 10, 40, 41))
    assert main(["check", str(folder)]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(f"error B36 {folder}: labels that differ only in upper and lower case")
    assert lines[1].startswith("warning B12")
    (tmp_path / "labels.txt").write_text("dog\n")
    assert main(["check", str(folder), "--labels", str(tmp_path / "labels.txt")]) == 1
    assert "error B36" in capsys.readouterr().out
    assert main(["check", str(folder), "--fix"]) == 2


def test_labelme_folder_repaired_into_a_new_one(tmp_path, capsys):
    folder, out = tmp_path / "labels", tmp_path / "fixed"
    labelme(folder, "a", rectangle("cat", 10, 10, 40, 40), rectangle("dog", 5, 5, 5, 9))
    before = (folder / "a.json").read_bytes()
    assert main(["check", str(folder), "--fix", "--out", str(out)]) == 0
    assert (folder / "a.json").read_bytes() == before
    fixed = json.loads((out / "a.json").read_text())
    assert [shape["label"] for shape in fixed["shapes"]] == ["cat"]
    assert (out / fixed["imagePath"]).resolve() == (folder / "a.png").resolve()
    assert main(["check", str(folder), "--fix", "--out", str(out)]) == 2  # not empty any more
    capsys.readouterr()


def test_the_repaired_copy_of_the_working_folder_lies_beside_it(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "labels"
    labelme(folder, "a", rectangle("cat", 10, 10, 40, 40))
    monkeypatch.chdir(folder)
    assert main(["check", ".", "--fix"]) == 0
    assert (tmp_path / "labels.repaired" / "a.json").is_file() and "labels.repaired" in capsys.readouterr().err


@pytest.mark.parametrize("code", ["B33", "B34", "B35"])
def test_a_fault_of_a_whole_folder_has_its_row(tmp_path, capsys, code):
    folder, labels = tmp_path / "labels", tmp_path / "labels.txt"
    labelme(folder, "a", rectangle("cat", 10, 10, 40, 40))
    labels.write_text("dog\n" if code == "B35" else "cat\n")
    if code == "B33":
        (folder / "b.json").write_bytes((folder / "a.json").read_bytes())
    if code == "B34":
        (folder / "a.png").unlink()
    assert main(["check", str(folder), "--labels", str(labels)]) == 1
    assert f"error {code} {folder}: " in capsys.readouterr().out


def test_empty_folder(tmp_path, capsys):
    assert main(["check", str(tmp_path)]) == 2
    assert "no LabelMe file" in capsys.readouterr().err


# --- any input -------------------------------------------------------------------------------------------------

scalar = st.one_of(st.none(), st.booleans(), st.integers(-3, 200), st.floats(), st.text(max_size=4), st.just([]))
box = st.one_of(scalar, st.lists(st.one_of(st.floats(), st.integers(-50, 200), scalar), max_size=5))
entry = st.fixed_dictionaries(
    {},
    optional={
        "id": scalar,
        "image_id": scalar,
        "category_id": scalar,
        "bbox": box,
        "area": scalar,
        "iscrowd": scalar,
        "segmentation": st.one_of(
            box,
            st.lists(box, max_size=2),
            st.fixed_dictionaries({}, optional={"size": box, "counts": st.one_of(scalar, box)}),
        ),
        "file_name": st.one_of(st.text(max_size=6), scalar),
        "width": scalar,
        "height": scalar,
        "name": st.one_of(st.text(max_size=4), scalar),
    },
)


@given(
    st.lists(st.one_of(entry, scalar), max_size=4),
    st.lists(st.one_of(entry, scalar), max_size=4),
    st.lists(st.one_of(entry, scalar), max_size=3),
    st.integers(0, 3),
)
@settings(max_examples=200, deadline=None)
def test_any_document_gives_findings_and_nothing_else(images, annotations, categories, mixed):
    base = sound()
    document = {
        "images": [*base["images"][: mixed % 3], *images],
        "annotations": [*base["annotations"][:mixed], *annotations],
        "categories": [*base["categories"][: 1 + mixed % 2], *categories],
    }
    for finding in check_document(document, Path("nowhere")):
        assert finding.code and finding.text and "\n" not in finding.line()
