"""Label errors that were planted are found, and the worst come first."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of, perfect, scene
from toolkit.metrics.arrays import read_tables
from toolkit.metrics.suspects import suspects


def found(document: dict, detections: list, *others: list):
    return suspects(read_tables(document, detections), tuple(read_tables(document, other) for other in others))


def honest(seed: int = 0, images: int = 30) -> tuple[dict, list]:
    document, _ = scene(seed, images)
    rng = np.random.default_rng(seed)
    detections = []
    for d in perfect(document):
        x, y, w, h = d["bbox"]
        dx, dy = rng.normal(0, 0.02, 2)
        detections.append({**d, "bbox": [x + dx * w, y + dy * h, w, h], "score": float(rng.uniform(0.7, 0.99))})
    return document, detections


def test_clean_labels_are_not_accused():
    assert found(*honest()) == []


def test_a_removed_label_is_found():
    document, detections = honest(1)
    gone = document["annotations"].pop(5)
    (one,) = found(document, detections)
    assert one.kind == "no label"
    assert one.image_id == gone["image_id"]
    assert one.bbox == pytest.approx(gone["bbox"], abs=4)
    assert "no label here" in one.text


def test_a_wrong_class_is_found():
    document, detections = honest(2)
    document["annotations"][3]["category_id"] = document["annotations"][3]["category_id"] % 3 + 1
    (one,) = found(document, detections)
    assert (one.kind, one.annotation) == ("other class", 3)
    assert one.label_class != one.class_name


def test_a_label_that_a_detection_confirms_is_not_accused_by_a_weaker_one():
    document, detections = honest(2)
    first = {**detections[0], "category_id": detections[0]["category_id"] % 3 + 1, "score": 0.6}
    assert found(document, [*detections, first]) == []


def test_a_detector_with_loose_boxes_accuses_no_label_of_being_loose():
    document, detections = honest(3)
    loose = [{**d, "bbox": [d["bbox"][0], d["bbox"][1], d["bbox"][2] * 1.3, d["bbox"][3] * 1.3]} for d in detections]
    assert not [s for s in found(document, loose) if s.kind == "loose box"]  # IoU 1 / 1.69 with every label


def test_a_shifted_box_is_found():
    document, detections = honest(3)
    x, y, w, h = document["annotations"][7]["bbox"]
    document["annotations"][7]["bbox"] = [x + 0.3 * w, y, w, h]  # IoU 0.7 / 1.3 = 0.54
    (one,) = found(document, detections)
    assert (one.kind, one.annotation) == ("loose box", 7)
    assert one.iou == pytest.approx(0.54, abs=0.05)


def test_a_label_on_nothing_is_found_and_large_ones_first():
    document, detections = honest(4, images=10)
    for image_id, size in ((1, 8.0), (2, 60.0)):
        document["annotations"].append(
            {
                "id": 900 + image_id,
                "image_id": image_id,
                "category_id": 1,
                "bbox": [170.0, 118.0, size, size],
                "area": size**2,
                "iscrowd": 0,
            }
        )
    detections = [d for d in detections if d["bbox"][0] < 150 or d["bbox"][1] < 60]
    document["annotations"] = [
        a for a in document["annotations"] if a["id"] >= 900 or a["bbox"][0] < 150 or a["bbox"][1] < 60
    ]
    accused = [s for s in found(document, detections) if s.kind == "not found"]
    assert [s.image_id for s in accused] == [2, 1]


def test_planted_errors_lead_the_list():
    document, detections = honest(5, images=60)
    rng = np.random.default_rng(5)
    planted = rng.choice(len(document["annotations"]), 12, replace=False)
    spoiled = copy.deepcopy(document)
    for number, i in enumerate(planted):
        annotation = spoiled["annotations"][i]
        if number % 2:
            annotation["category_id"] = annotation["category_id"] % 3 + 1
        else:
            x, y, w, h = annotation["bbox"]
            annotation["bbox"] = [x + 0.4 * w, y, w, h]
    accused = found(spoiled, detections)
    assert {s.annotation for s in accused[:12]} == set(planted.tolist())
    suspicion = [s.suspicion for s in accused]
    assert suspicion == sorted(suspicion, reverse=True)


def test_what_every_model_says_comes_first():
    document, detections = honest(6)
    document["annotations"][2]["category_id"] = document["annotations"][2]["category_id"] % 3 + 1
    mine = [*detections, detection(1, 1, 200, 150, 30, 25, 0.99)]  # only this model sees something there
    alone = found(document, mine)
    assert alone[0].kind == "no label"
    both = found(document, mine, detections)
    assert both[0].kind == "other class"  # both models say so
    lonely = [s for s in both if s.kind == "no label"]
    assert lonely[0].suspicion == pytest.approx(alone[0].suspicion / 2)


def test_a_label_that_one_model_finds_is_found_after_all():
    document = document_of([[(1, 0, 0, 50, 50), (1, 100, 100, 50, 50)]])
    all_, one = perfect(document), perfect(document)[:1]
    assert [s.kind for s in found(document, one)] == ["not found"]
    assert found(document, one, all_) == []


def test_several_detections_of_one_forgotten_object_are_one_suspect():
    document = document_of([[]])
    near = [detection(1, 1, 10 + i, 10, 40, 40, 0.9 - 0.1 * i) for i in range(3)]
    assert len(found(document, near)) == 1


def test_nothing_at_all():
    assert found(document_of([[], []]), []) == []
