"""One reader of COCO: check, convert, train and evaluate give the same verdict on the same document."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
from PIL import Image

from label_tools.document.repairs_found import DocumentError
from label_tools.readers.convert import convert
from label_tools.rules.check import examine_files
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR
from toolkit.data.coco_index import read_index
from toolkit.evaluation.compute_metrics import Settings
from toolkit.evaluation.evaluate_files import evaluate_files

W, H = 100, 80
NAN, INF = float("nan"), float("inf")


def sound() -> dict:
    """Two images, two classes, three objects."""
    boxes = [(1, 1, [10, 10, 20, 20]), (1, 2, [50, 30, 30, 40]), (2, 1, [5, 5, 60, 60])]
    return {
        "images": [{"id": i, "file_name": f"{i}.png", "width": W, "height": H} for i in (1, 2)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": c, "bbox": b, "area": b[2] * b[3], "iscrowd": 0, "segmentation": []}
            for n, (i, c, b) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "bolt"}],
    }


def changed(key: str, row: int, **values) -> dict:
    """`sound` with values of one entry changed; a value of ... takes the key away."""
    document = sound()
    entry = {**document[key][row], **values}
    document[key][row] = {k: v for k, v in entry.items() if v is not ...}
    return document


def more(key: str, *entries) -> dict:
    document = sound()
    document[key] += entries
    return document


def image(**values) -> dict:
    return changed("images", 0, **values)


def first(**values) -> dict:
    return changed("annotations", 0, **values)


def category(**values) -> dict:
    return changed("categories", 1, **values)


def renamed(key: str, ids: dict) -> dict:
    document = sound()
    for entry in document[key]:
        entry["id"] = ids[entry["id"]]
    for annotation in document["annotations"]:
        of = {"images": "image_id", "categories": "category_id"}[key]
        annotation[of] = ids[annotation[of]]
    return document


def boxes(*values: list) -> dict:
    document = sound()
    document["annotations"] = [{**document["annotations"][0], "id": n, "bbox": b} for n, b in enumerate(values, 1)]
    return document


OBJECT = sound()["annotations"][0]
RLE = {"size": [H, W], "counts": [10 * H, 20 * H, (W - 30) * H]}
EDGE = [[5.0 * n, 4.0 * n, 20, 20] for n in range(17)] + [[90, 10, 20, 20], [90, 40, 20, 20], [30, 70, 20, 20]]

# name -> (document, objects that are left, code of what refuses it or of what is left out)
ACCEPTED = {
    "sound": (sound(), 3),
    "no objects of a class": (more("categories", {"id": 3, "name": "washer"}), 3),
    "an image without objects": (more("images", {"id": 3, "file_name": "3.png", "width": W, "height": H}), 3),
    "gaps in ids": (renamed("categories", {1: 1, 2: 90}), 3),
    "category id 0": (renamed("categories", {1: 0, 2: 1}), 3),
    "image id 0": (renamed("images", {1: 0, 2: 1}), 3),
    "large image ids": (renamed("images", {1: 10**12, 2: 7}), 3),
    "image ids as digits": (renamed("images", {1: "1", 2: "2"}), 3),
    "image ids as names": (renamed("images", {1: "img_a", 2: "img_b"}), 3),
    "image ids as floats": (renamed("images", {1: 1.0, 2: 2.0}), 3),
    "category ids as names": (renamed("categories", {1: "n", 2: "b"}), 3),
    "image_id as text": (first(image_id="1"), 3),
    "category_id as float": (first(category_id=1.0), 3),
    "annotation id 0": (first(id=0), 3),
    "annotation ids twice": (first(id=2), 3),
    "annotation id missing": (first(id=...), 3),
    "annotation id a text": (first(id="a"), 3),
    "bbox of numbers as text": (first(bbox=["1", "1", "5", "5"]), 3),
    "area missing": (first(area=...), 3),
    "area NaN": (first(area=NAN), 3),
    "area 0": (first(area=0), 3),
    "iscrowd missing": (first(iscrowd=...), 3),
    "iscrowd null": (first(iscrowd=None), 3),
    "iscrowd as text": (first(iscrowd="0"), 3),
    "iscrowd true": (first(iscrowd=True), 3),
    "a crowd": (first(iscrowd=1, segmentation=RLE), 3),
    "segmentation missing": (first(segmentation=...), 3),
    "segmentation null": (first(segmentation=None), 3),
    "an outline": (first(segmentation=[[10, 10, 30, 10, 30, 30]]), 3),
    "a flat outline": (first(segmentation=[10, 10, 30, 10, 30, 30]), 3),
    "an outline of two points": (first(segmentation=[[1, 1, 5, 5]]), 3),
    "an outline with NaN": (first(segmentation=[[1, 1, NAN, 5, 5, 9]]), 3),
    "a broken RLE beside a box": (first(segmentation={"size": [H, W], "counts": [5]}), 3),
    "an RLE of another size": (first(segmentation={"size": [5, 5], "counts": [25]}), 3),
    "segmentation a text": (first(segmentation="x"), 3),
    "bbox from the outline": (first(bbox=None, segmentation=[[10, 10, 30, 10, 30, 30]]), 3),
    "a negative extent": (first(bbox=[30, 30, -20, -20]), 3),
    "over the edge": (first(bbox=[90, 10, 20, 20]), 3),
    "over the edge by rounding": (first(bbox=[80, 10, 20.0000001, 20]), 3),
    "three of twenty over the edge": (boxes(*EDGE), 20),
    "turned by CVAT": (first(attributes={"rotation": 90.0}), 3),
    "the same object twice": (more("annotations", {**OBJECT, "id": 9}), 3),
    "the same image twice": (more("images", sound()["images"][0]), 3),
    "the same category twice": (more("categories", {"id": 1, "name": "nut"}), 3),
    "a name twice, one unused": (more("categories", {"id": 3, "name": "nut"}), 3),
    "blanks in a name": (category(name=" bolt "), 3),
    "a backslash in a path": (image(file_name=".\\1.png"), 3),
    "no size": (image(width=..., height=...), 3),
    "size -1": (image(width=-1, height=-1), 3),
    "size as text": (image(width="100", height="80"), 3),
    "one class and null": (
        {
            **first(category_id=None),
            "categories": [{"id": 1, "name": "nut"}],
            "annotations": [{**OBJECT, "category_id": None}],
        },
        1,
    ),
}
LEFT_OUT = {  # an object cannot be used: check and convert leave it out and say so, train and evaluate refuse the file
    "no extent": (first(bbox=[1, 1, 0, 5]), 2, "B01"),
    "outside": (first(bbox=[200, 1, 5, 5]), 2, "B04"),
    "nearly outside": (first(bbox=[95, 1, 50, 50]), 2, "B05"),
    "bbox NaN": (first(bbox=[NAN, 1, 5, 5]), 2, "B06"),
    "bbox infinite": (first(bbox=[1, 1, INF, 5]), 2, "B06"),
    "bbox of 1e308": (first(bbox=[1, 1, 1e308, 5]), 2, "B07"),
    "bbox of 400 digits": (first(bbox=[1, 1, 10**400, 5]), 2, "B07"),
    "bbox of 400 digits beside an outline": (
        first(bbox=[10**400, 1, 5, 5], segmentation=[[1, 1, 6, 1, 6, 6]]),
        2,
        "B07",
    ),
    "under a pixel": (first(bbox=[1, 1, 0.2, 5]), 2, "B17"),
    "bbox of words": (first(bbox=["one", "1", "5", "5"]), 2, "B26"),
    "bbox of three": (first(bbox=[1, 1, 5]), 2, "B26"),
    "no bbox at all": (first(bbox=...), 2, "B26"),
    "an annotation that is a text": (
        changed("annotations", 0) | {"annotations": ["x", *sound()["annotations"][1:]]},
        2,
        "B26",
    ),
    "an unknown image": (first(image_id=77), 2, "B43"),
    "category_id null": (first(category_id=None), 2, "B43"),
    "iscrowd 7": (first(iscrowd=7), 2, "B51"),
    "a crowd with a broken RLE": (first(iscrowd=1, segmentation={"size": [H, W], "counts": [5]}), 2, "B51"),
}
REFUSED = {
    "no category": ({**sound(), "categories": []}, "B44"),
    "an unknown category": (first(category_id=9), "B43"),
    "an image id twice": (image(id=2), "B42"),
    "a file name twice": (image(file_name="2.png"), "B42"),
    "a category id twice": (category(id=1), "B44"),
    "a category name twice": (category(name="nut"), "B44"),
    "a category without a name": (category(name=...), "B26"),
    "a line break in a name": (category(name="a\nb"), "B37"),
    "an image without a name": (image(file_name=...), "B26"),
    "a size of half a pixel": (image(width=0.5), "B26"),
    "corners": (boxes([50, 50, 60, 60], [45, 40, 90, 70]), "B47"),
    "fractions": (boxes([0.1, 0.1, 0.2, 0.2], [0.5, 0.5, 0.3, 0.3]), "B48"),
}


def written(document: dict, folder: Path) -> Path:
    for n in (1, 2, 3):
        Image.new("RGB", (W, H), (60 * n, 90, 40)).save(folder / f"{n}.png")
    path = folder / "labels.json"
    path.write_text(json.dumps(document))
    (folder / "detections.json").write_text("[]")
    return path


def checked(path: Path) -> tuple[int | None, set[str]]:
    """(objects left, codes of its errors) by `check`; None where the file is refused."""
    (result,) = examine_files([path])
    codes = {f.code for f in result.findings if f.level == ERROR}
    return (None if result.document is None else len(result.document["annotations"])), codes


def converted(path: Path) -> tuple[int | None, set[str]]:
    try:
        conversion = convert(path, "coco")
    except DocumentError as error:
        return None, {error.code}
    document = conversion.document(path.parent / "out.json")
    return len(document["annotations"]), {f.code for f in conversion.findings if f.level == ERROR}


def trained(path: Path) -> int | None:
    try:
        return len(read_index(path).boxes)
    except InputError:
        return None


def evaluated(path: Path) -> int | None:
    try:
        settings = Settings(resamples=0)
        metrics = evaluate_files(path, path.parent / "detections.json", path.parent / "evaluation", settings=settings)
    except InputError:
        return None
    return metrics["num_objects"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_by_all_with_the_same_objects(name, tmp_path):
    document, left = ACCEPTED[name]
    before = copy.deepcopy(document)
    path = written(document, tmp_path)
    assert checked(path) == (left, set()) and converted(path) == (left, set())
    crowds = sum(a.get("iscrowd") in (1, True) for a in document["annotations"])
    assert trained(path) == left and evaluated(path) == left - crowds
    assert document == before or name == "area NaN" or "NaN" in name


@pytest.mark.parametrize("name", LEFT_OUT)
def test_left_out_by_check_and_convert_refused_by_train_and_evaluate(name, tmp_path):
    document, left, code = LEFT_OUT[name]
    path = written(document, tmp_path)
    assert checked(path) == (left, {code}) and converted(path) == (left, {code})
    assert trained(path) is None and evaluated(path) is None


@pytest.mark.parametrize("name", REFUSED)
def test_refused_by_all(name, tmp_path):
    document, code = REFUSED[name]
    path = written(document, tmp_path)
    objects, codes = checked(path)
    assert objects is None and code in codes and converted(path) == (None, {code})
    assert trained(path) is None and evaluated(path) is None


def test_there_are_some_sixty():
    assert len(ACCEPTED) + len(LEFT_OUT) + len(REFUSED) >= 60


def test_a_turned_box_is_evaluated_as_it_is_learned(tmp_path):
    """CVAT gives the box before the turn: 60 x 10 around (50, 25), turned by 90 degrees, is 10 x 60 around it."""
    document = sound()
    document["annotations"] = [{**OBJECT, "bbox": [20, 20, 60, 10], "attributes": {"rotation": 90.0}}]
    path = written(document, tmp_path)
    # above the image's edge: clipped for training, as written for evaluation
    assert read_index(path).boxes.tolist() == [[45, 0, 55, 55]]
    detection = {"image_id": 1, "category_id": 1, "bbox": [45, -5, 10, 60], "score": 0.9}
    (tmp_path / "detections.json").write_text(json.dumps([detection]))
    metrics = evaluate_files(path, tmp_path / "detections.json", tmp_path / "e", settings=Settings(resamples=0))
    assert metrics["AP"] == 1.0
