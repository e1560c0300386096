"""Other people's detections: images by id, name, stem or number, classes by id or name; every set here is perfect."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import document_of, perfect
from toolkit.evaluation.compute_metrics import coco_metrics, compute_metrics
from toolkit.evaluation.evaluate_files import evaluate_files
from toolkit.evaluation.match_ids_and_names import numbering_hint
from toolkit.evaluation.read_detections import read_detections

NAMES = ("nut", "bolt", "pin")


def made(file_name: str = "{:03d}.jpg") -> dict:
    """Two images, two objects each: nut and bolt. The names count from 11, the ids from 1."""
    boxes = [[(1, 10 + 40 * k, 10, 30, 30), (2, 90, 20 + 50 * k, 45, 40)] for k in range(2)]
    document = document_of(boxes, names=NAMES)
    for image in document["images"]:
        image["file_name"] = file_name.format(image["id"] + 10)
    return document


def with_names(document: dict, **change) -> list[dict]:
    """Perfect detections that also have file_name and category_name; change: key -> function of a detection."""
    files = {image["id"]: image["file_name"] for image in document["images"]}
    found = perfect(document)
    for d in found:
        d["file_name"], d["category_name"] = files[d["image_id"]], NAMES[d["category_id"] - 1]
    return [{**d, **{key: of(d) for key, of in change.items()}} for d in found]


def without(detections: list[dict], *keys: str) -> list[dict]:
    return [{k: v for k, v in d.items() if k not in keys} for d in detections]


@pytest.mark.parametrize(
    ("detections", "said"),
    [
        (with_names(made()), ""),
        (with_names(made(), image_id=lambda d: 3 - d["image_id"]), "the file_name of 4 of 4 detections contradicts"),
        (with_names(made(), category_id=lambda d: 3), "the class name of 4 of 4 detections contradicts"),
        (without(with_names(made()), "image_id"), "4 of 4 detections matched by file_name"),
        (without(with_names(made()), "category_id"), "4 of 4 detections matched by class name"),
        (without(with_names(made(), image_id=lambda d: f"{d['image_id'] + 10:03d}"), "file_name"), "numbers in file"),
        (without(with_names(made(), image_id=lambda d: d["image_id"] + 10), "file_name"), "numbers in file names"),
        (with_names(made(), file_name=lambda d: f"C:\\photos\\{d['file_name']}"), ""),
    ],
)
def test_what_has_one_meaning_is_taken_and_told(detections, said):
    result = coco_metrics(made(), detections)
    assert result["AP"] == 1.0
    assert said in " ".join(result["warnings"]) and bool(said) == bool(result["warnings"])


def test_stems_as_ids():
    document = made("frame_{:03d}.png")
    stems = without(with_names(document, image_id=lambda d: f"frame_{d['image_id'] + 10:03d}"), "file_name")
    assert coco_metrics(document, stems)["AP"] == 1.0


def test_a_name_of_several_images_is_no_name():
    document = made()
    for image, folder in zip(document["images"], "ab"):
        image["file_name"] = f"{folder}/x.jpg"
    with pytest.raises(InputError, match=r"detections\[0\]: image_id .*x\.jpg"):
        coco_metrics(document, without(with_names(document, file_name=lambda d: "x.jpg"), "image_id"))


def test_classes_counted_from_0_are_refused_with_a_hint():
    # 0 and 1 for 1 and 2: 0 is no category
    from_0 = [{**d, "category_id": d["category_id"] - 1} for d in perfect(made())]
    with pytest.raises(InputError, match=r"category_id 0 .*with every category_id one higher it would have all"):
        coco_metrics(made(), from_0)
    from_0[0]["category_id"] = 2  # all three classes, 0 to 2 for 1 to 3
    with pytest.raises(InputError, match=r"category_id 0 .*with every category_id one higher it would have all"):
        coco_metrics(made(), from_0)
    from_0[0]["category_id"] = 3  # 4 is none, however the classes are counted
    with pytest.raises(InputError) as error:
        coco_metrics(made(), from_0)
    assert "one higher" not in str(error.value)


def test_classes_that_are_shifted_within_the_file_get_a_hint():
    # 2 and 3 for 1 and 2: no detection has its object's class; one lower all have
    shifted = [{**d, "category_id": d["category_id"] + 1} for d in perfect(made())]
    metrics = compute_metrics(made(), shifted).metrics
    assert metrics["AP"] == 0.0
    assert any("AP 0.000; with every class one lower it would be 1.000" in line for line in metrics["warnings"])


def test_a_hint_only_where_next_to_nothing_is_found_and_another_numbering_is_far_better():
    found = perfect(made())
    assert "it would be 0.300" in numbering_hint(made(), found, 0.09, lambda _: 0.3)
    assert numbering_hint(made(), found, 0.09, lambda _: 0.18) == ""  # hardly better
    for ap, some in ((None, found), (0.1, found), (0.5, found), (0.0, [])):
        assert numbering_hint(made(), some, ap, lambda _: 0.9) == ""


def test_images_numbered_by_their_names_get_a_hint():
    document = made()
    for image in document["images"]:  # ids 1 and 2 are called 002.jpg and 001.jpg
        image["file_name"] = f"{3 - image['id']:03d}.jpg"
    metrics = compute_metrics(document, [{**d, "image_id": 3 - d["image_id"]} for d in perfect(document)]).metrics
    assert metrics["AP"] < 0.1
    assert any("with image_id as the number in file_name it would be 1.000" in line for line in metrics["warnings"])
    right = compute_metrics(document, perfect(document)).metrics
    assert right["AP"] == 1.0 and not any("it would be" in line for line in right["warnings"])


def test_the_file_of_predict(tmp_path):
    document = made()
    images = [
        {
            "file_name": f"photos/{image['file_name']}",
            "detections": [
                {"label": NAMES[d["category_id"] - 1], "bbox": d["bbox"], "score": d["score"]}
                for d in perfect(document)
                if d["image_id"] == image["id"]
            ],
        }
        for image in document["images"]
    ]
    path = Path(tmp_path / "detections.json")
    path.write_text(json.dumps({"images": images, "categories": document["categories"], "score_thresholds": {}}))
    assert coco_metrics(document, read_detections(path))["AP"] == 1.0
    path.write_text(json.dumps({"images": [{"file_name": 7}], "categories": [], "score_thresholds": {}}))
    with pytest.raises(InputError, match=r"images\[0\]: needs file_name"):
        read_detections(path)


def test_lists_in_a_table_and_documents_with_scores(tmp_path):
    """MMDetection, FiftyOne and others write a COCO document whose annotations have scores, with ids of its own."""
    document, path = made(), Path(tmp_path / "detections.json")
    images = [{**image, "id": image["id"] + 70} for image in document["images"]]
    classes = [{"id": 9 - c["id"], "name": c["name"]} for c in document["categories"]]
    found = [{**d, "image_id": d["image_id"] + 70, "category_id": 9 - d["category_id"]} for d in perfect(document)]
    for content in (
        {"images": images, "categories": classes, "annotations": found},
        {"predictions": perfect(document), "model": "x"},
    ):
        path.write_text(json.dumps(content))
        assert coco_metrics(document, read_detections(path))["AP"] == 1.0
    path.write_text(json.dumps(document))
    with pytest.raises(InputError, match="this is an annotations file"):
        read_detections(path)


@pytest.mark.parametrize(
    ("read", "said"),
    [
        (lambda x, y, w, h: [x, y, x + w, y + h], "the corners [x1, y1, x2, y2]"),
        (lambda x, y, w, h: [x + w / 2, y + h / 2, w, h], "centre and size [cx, cy, width, height]"),
    ],
)
def test_boxes_written_in_another_way_get_a_hint(read, said):
    document = made()
    found = [{**d, "bbox": read(*d["bbox"])} for d in perfect(document)]
    warnings = compute_metrics(document, found).metrics["warnings"]
    assert any(f"with bbox as {said} it would be 1.000" in line for line in warnings)


def test_a_further_model_is_matched_when_ids_are_texts(tmp_path):
    document, found = made(), perfect(made())
    for one in [*document["images"], *document["categories"]]:
        one["id"] = f"id {one['id']}"
    for one in [*document["annotations"], *found]:
        one["image_id"], one["category_id"] = f"id {one['image_id']}", f"id {one['category_id']}"
    (tmp_path / "in").mkdir()
    for name, content in (("gt", document), ("dt", found)):
        (tmp_path / "in" / f"{name}.json").write_text(json.dumps(content))
    gt, dt = tmp_path / "in" / "gt.json", tmp_path / "in" / "dt.json"
    first = evaluate_files(gt, dt, tmp_path / "a")
    second = evaluate_files(gt, dt, tmp_path / "b", others=(tmp_path / "a", dt))
    assert first["AP"] == second["AP"] == 1.0
