"""Label errors that were planted are found, and the worst come first."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of, perfect, scene
from toolkit.metrics.coco_tables import by_masks, read_tables, with_runs
from toolkit.metrics.find_suspects import by_kind, suspects


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


def test_suspects_are_counted_by_kind():
    document, detections = honest(1)
    gone = [document["annotations"].pop(5), document["annotations"].pop(20)]
    accused = found(document, detections)
    low, high = sorted(one.score for one in accused)
    names = {c["name"] for c in document["categories"]}
    counted = by_kind(accused, dict.fromkeys(names, high))
    images = len({one["image_id"] for one in gone})
    assert counted["no label"] == {"num": 2, "num_images": images, "over_threshold": 1}  # the score itself reaches it
    assert by_kind(accused, dict.fromkeys(names, low))["no label"]["over_threshold"] == 2
    assert counted["other class"] == counted["not found"] == {"num": 0, "num_images": 0, "over_threshold": 0}


def test_the_larger_an_object_that_nobody_finds_the_more_suspicious():
    # sizes sqrt(10 * 40) = 20, 30 and 10: of these 2, 3 and 1 of 3 are at most as large; .3 + .5 times that share
    document = document_of([[(1, 0, 0, 10, 40), (1, 50, 0, 30, 30), (1, 0, 60, 10, 10)]])
    accused = found(document, [])
    assert [(one.kind, one.annotation, one.suspicion) for one in accused] == [
        ("not found", 1, 0.8),
        ("not found", 0, pytest.approx(0.3 + 0.5 * 2 / 3, abs=1e-4)),
        ("not found", 2, pytest.approx(0.3 + 0.5 / 3, abs=1e-4)),
    ]


def test_the_score_to_accuse_with_is_enough():
    document = document_of([[(1, 10, 10, 30, 30)]])
    detections = [*perfect(document), detection(1, 1, 100, 100, 30, 30, 0.5)]
    assert [one.kind for one in found(document, detections)] == ["no label"]
    detections[-1]["score"] = 0.499
    assert found(document, detections) == []


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
    assert one.suspicion == pytest.approx(one.score * (1 - one.iou), abs=1e-4)
    assert one.text.endswith(f"label and detection (score {one.score:.2f}) agree by IoU {one.iou:.2f} only")
    # nor does a detection confirm the label that is not confident, or of another class
    label = document["annotations"][7]
    weak = {**detections[7], "bbox": label["bbox"], "score": 0.3}
    assert [s.kind for s in found(document, [*detections, weak])] == ["loose box"]


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
    for kind in ("other class", "loose box"):
        suspicion = [s.suspicion for s in accused if s.kind == kind]
        assert len(suspicion) == 6 and suspicion == sorted(suspicion, reverse=True)


def test_the_kinds_take_turns():
    """A set that lacks many labels does not hide the one of another class behind them."""
    document, detections = honest(5)
    gone = [document["annotations"].pop(i) for i in (30, 20, 10)]
    document["annotations"][3]["category_id"] = document["annotations"][3]["category_id"] % 3 + 1
    sure = [
        {**d, "score": 0.99} if any(d["bbox"][0] // 9 == g["bbox"][0] // 9 for g in gone) else d for d in detections
    ]
    kinds = [s.kind for s in found(document, sure)]
    assert sorted(kinds[:2]) == ["no label", "other class"] and kinds[2:] == ["no label"] * 2


def test_a_detection_accuses_only_the_label_that_it_lies_on_best():
    """Two labels that overlap, the second one not found: the first one's detection, IoU 1, says nothing of it."""
    boxes = [(1, 40 * k, 0, 20, 20) for k in range(5)]  # found to the pixel: tight boxes
    near = (1, 40 * 4 + 8, 0, 20, 20)  # IoU with the fifth 12 / 28 = .43
    document = document_of([[*boxes, near]])
    assert found(document, perfect(document)[:5]) == []
    moved = document_of([[*boxes[:4], near]])  # alone it is loose
    assert [s.kind for s in found(moved, perfect(document_of([boxes])))] == ["loose box"]


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
    assert [(one.suspicion, one.score) for one in found(document, near)] == [(0.9, 0.9)]  # not the sum of three


def test_nothing_at_all():
    assert found(document_of([[], []]), []) == []


def outlined(halved: set[int]) -> tuple[dict, list]:
    """20 octagons of 40 px, found to the pixel; those of `halved` are labelled by their upper half, with a foot so that
    the box stays."""
    octagon = [12, 0, 28, 0, 40, 12, 40, 28, 28, 40, 12, 40, 0, 28, 0, 12]
    upper = [12, 0, 28, 0, 40, 12, 40, 20, 2, 20, 2, 40, 0, 40, 0, 12]
    labels, masks = [], []
    for k in range(20):
        corner = (20 + 60 * (k % 5), 20 + 60 * (k // 5))
        whole, half = ([[v + corner[a % 2] for a, v in enumerate(shape)]] for shape in (octagon, upper))
        labels.append((1, *corner, 40, 40, {"segmentation": half if k in halved else whole}))
        masks.append(whole)
    document = document_of([labels], size=(320, 260))
    return document, [{**d, "segmentation": mask} for d, mask in zip(perfect(document), masks, strict=True)]


def by_outlines(document: dict, detections: list):
    read = with_runs(document, detections, "detections")[0]
    return suspects(by_masks(read_tables(document, read), document, read))


def test_an_outline_that_was_drawn_by_half_is_found():
    # octagon 1600 - 4 * 72 = 1312 px; half 336 + 320 and a foot of 40, of which 18 lie inside: IoU 674 / 1334 = .505
    accused = by_outlines(*outlined({3, 11}))
    assert {(s.kind, s.annotation) for s in accused} == {("outline off", 3), ("outline off", 11)}
    for one in accused:
        assert one.iou == pytest.approx(0.505, abs=0.01) and one.mask and "outline and mask" in one.text
        assert one.suspicion == pytest.approx(one.score * (1 - one.iou), abs=1e-4)


def test_right_outlines_are_not_accused_nor_any_by_masks_that_are_wrong_as_a_rule():
    assert by_outlines(*outlined(set())) == []
    assert by_outlines(*outlined(set(range(8)))) == []  # 12 of 20 masks are followed, under 4 of 5
    document, detections = outlined({3})
    assert suspects(read_tables(document, detections)) == []  # by boxes nothing is wrong
