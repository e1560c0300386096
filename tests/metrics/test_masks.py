"""COCO's numbers by masks: equal to the official ones and to pycocotools; by hand; bad masks; on nothing."""

from __future__ import annotations

import json

import numpy as np
import pytest

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from tests.conftest import needs_real_data
from tests.toolkit.evaluation_fixtures import OFFICIAL, document_of, pycocotools_numbers, random_set, with_outlines
from toolkit.evaluation.compute_metrics import Settings, coco_metrics, compute_metrics
from toolkit.metrics.coco_ap import KEYS


@needs_real_data("coco_official")
def test_official_numbers_to_three_decimals():
    document = json.loads((OFFICIAL / "instances_val2014_100.json").read_text())
    result = coco_metrics(document, json.loads((OFFICIAL / "segmentations.json").read_text()))
    # published with pycocotools, type=segm, in the order of KEYS
    published = [0.320, 0.562, 0.299, 0.387, 0.310, 0.327, 0.268, 0.415, 0.417, 0.469, 0.377, 0.381]
    assert [round(result["segm"][key], 3) for key in KEYS] == published


def assert_equal_to_pycocotools(seed: int, **of_set: int) -> None:
    document, detections = random_set(seed, **of_set)
    if not detections or not document["annotations"]:
        return  # pycocotools raises on none
    document, detections = with_outlines(document, detections, seed)
    ours, theirs = coco_metrics(document, detections)["segm"], pycocotools_numbers(document, detections, "segm")
    pairs = [(key, ours[key], theirs[key]) for key in KEYS]
    pairs += [(name, ours["per_class"][name]["AP"], ap) for name, ap in theirs["per_class"].items()]
    for key, our, their in pairs:
        assert (our is None) == (their is None), (seed, key)
        assert our is None or abs(our - their) <= 1e-10, (seed, key)


@pytest.mark.parametrize("seed", range(12))
def test_equals_pycocotools_on_drawn_sets(seed):
    assert_equal_to_pycocotools(seed, images=1 + seed % 4, classes=1 + seed % 3)


@pytest.mark.slow
@pytest.mark.parametrize("block", range(10))
def test_equals_pycocotools_on_200_drawn_sets(block):
    for seed in range(2000 + block * 20, 2020 + block * 20):
        assert_equal_to_pycocotools(seed, images=1 + seed % 7, classes=1 + seed % 4, most=3 + seed % 12)


def square(x: int, y: int, side: int) -> list:
    return [[x, y, x + side, y, x + side, y + side, x, y + side]]


def one_object(**more) -> dict:
    return document_of([[(1, 10, 10, 10, 10, {"segmentation": square(10, 10, 10), **more})]], size=(40, 30))


def found(mask, score: float = 0.9, **more) -> dict:
    return {"image_id": 1, "category_id": 1, "segmentation": mask, "score": score, **more}


def pixels(x: int, y: int, w: int, h: int) -> dict:
    mask = np.zeros((30, 40), bool)
    mask[y : y + h, x : x + w] = True
    return {"size": [30, 40], "counts": rle.encode(mask).tolist()}


def test_by_hand_iou_decides_the_threshold():
    # 74 of the 100 pixels of the square: IoU .74, so thresholds .5 to .7 are met, .75 and over are not
    mask = np.zeros((30, 40), bool)
    mask[10:20, 10:17] = True
    mask[10:14, 17] = True
    result = coco_metrics(one_object(), [found({"size": [30, 40], "counts": rle.encode(mask).tolist()})])
    assert (result["segm"]["AP"], result["segm"]["AP50"], result["segm"]["AP75"]) == (pytest.approx(0.5), 1.0, 0.0)
    assert result["AP75"] == 1.0  # the mask's box is 8 x 10 of 10 x 10: IoU .8


def test_two_squares_that_overlap_by_a_third_or_only_touch():
    # columns 10 to 19 and 15 to 24: 50 of 150 pixels, IoU 1/3, under every threshold
    assert coco_metrics(one_object(), [found(pixels(15, 10, 10, 10))])["segm"]["AP"] == 0
    assert coco_metrics(one_object(), [found(pixels(20, 10, 10, 10))])["segm"]["AP"] == 0
    assert coco_metrics(one_object(), [found(pixels(10, 10, 10, 10))])["segm"]["AP"] == 1


def test_a_ring_is_its_box_but_not_its_square():
    ring = np.zeros((30, 40), bool)
    ring[10:20, 10:20] = True
    ring[13:17, 11:19] = False  # 100 - 32 pixels: IoU .68 with the square
    result = coco_metrics(one_object(), [found(rle.to_rle(rle.encode(ring), 30, 40))])
    assert result["AP"] == 1.0
    assert result["segm"]["AP"] == pytest.approx(0.4)  # .5 .55 .6 .65


def test_over_a_crowd_the_part_of_the_detection_counts():
    crowd = {"iscrowd": 1, "segmentation": pixels(0, 0, 40, 30), "area": 1200}
    document = document_of(
        [[(1, 0, 0, 5, 5, {"segmentation": square(0, 0, 5)}), (1, 0, 0, 40, 30, crowd)]], size=(40, 30)
    )
    # the second lies within the crowd as a whole: neither right nor wrong, though IoU with it is 100 / 1200
    result = coco_metrics(document, [found(pixels(20, 10, 10, 10), 0.9), found(pixels(0, 0, 5, 5), 0.8)])
    assert result["segm"]["AP"] == 1.0


def test_a_detections_area_is_that_of_its_mask():
    # 40 x 40 pixels of box, 40 of mask: unmatched, and small, so that it costs APs and not APm
    thin = np.zeros((200, 200), bool)
    thin[np.arange(40) + 100, np.arange(40) + 100] = True
    small, medium = {"segmentation": square(0, 0, 10)}, {"segmentation": square(20, 0, 50)}
    document = document_of([[(1, 0, 0, 10, 10, small), (1, 20, 0, 50, 50, medium)]], size=(200, 200))
    detections = [found(square(0, 0, 10), 0.8), found(square(20, 0, 50), 0.8)]
    result = coco_metrics(document, [*detections, found(rle.to_rle(rle.encode(thin), 200, 200), 0.9)])
    assert result["segm"]["APm"] == 1.0
    assert result["segm"]["APs"] == pytest.approx(0.5)
    assert (result["APs"], result["APm"]) == (1.0, pytest.approx(0.5))  # by boxes the other way round


def test_all_forms_of_a_mask_are_one():
    runs = rle.encode(np.pad(np.ones((10, 10), bool), ((10, 10), (10, 20))))
    forms = [square(10, 10, 10), square(10, 10, 10)[0], rle.to_rle(runs, 30, 40), pixels(10, 10, 10, 10)]
    forms.append({**forms[2], "counts": forms[2]["counts"].encode()})
    for form in forms:
        assert coco_metrics(one_object(), [found(form)])["segm"]["AP"] == 1.0
        assert coco_metrics(one_object(segmentation=form), [found(form)])["segm"]["AP"] == 1.0


def test_runs_of_length_0_change_nothing():
    # pycocotools stops where two masks have such a run at the same place, and finds IoU 1
    def split(mask: dict) -> dict:
        first, _, *rest = mask["counts"]
        return {**mask, "counts": [first, 4, 0, 6, *rest]}

    document = one_object(segmentation=split(pixels(10, 10, 10, 10)))
    half = coco_metrics(document, [found(split(pixels(10, 10, 5, 10)))])  # 50 of 100 pixels: IoU .5
    assert half["segm"]["AP"] == pytest.approx(0.1)


@pytest.mark.parametrize(
    "mask, says",
    [
        ({"size": [40, 30], "counts": [1200]}, "segmentation is 30 x 40, the image 40 x 30"),
        ({"size": [30, 40], "counts": [5, 5]}, "counts sum to 10"),
        ({"size": [30, 40], "counts": "~~~"}, "compressed run lengths"),
        ({"size": [30, 40]}, "no counts"),
        ([[1, 2, 3, 4]], "2 points"),
        ([[1, 2, 3, 4, 5, 6, 7]], "odd number"),
        ([[1, 2, 3, 4, 5, float("nan")]], "not finite"),
        ([[1, 2, 3, 4, 5, 1e12]], "out of range"),
        ("a mask", "is a str"),
        (np.ones((30, 40)), "is a ndarray"),
        ([], "no segmentation, but 1 of 2 detections have one"),
        (None, "no segmentation, but 1 of 2"),
    ],
)
def test_a_bad_mask_is_refused_with_its_place(mask, says):
    detections = [found(square(10, 10, 10), bbox=[10, 10, 10, 10]), found(mask, bbox=[10, 10, 10, 10])]
    with pytest.raises(InputError) as error:
        coco_metrics(one_object(), detections)
    assert "detections[1]" in str(error.value)
    assert says in str(error.value)


def test_a_mask_without_a_pixel_is_wrong_and_told():
    result = coco_metrics(one_object(), [found(pixels(0, 0, 0, 0), 0.95), found(pixels(10, 10, 10, 10))])
    assert result["segm"]["AP"] == pytest.approx(0.5)
    assert any("1 mask without a pixel" in text for text in result["warnings"])


def test_an_annotation_without_outline_leaves_the_boxes_alone():
    document = document_of([[(1, 10, 10, 10, 10), (1, 0, 0, 5, 5, {"segmentation": square(0, 0, 5)})]], size=(40, 30))
    result = coco_metrics(document, [found(square(10, 10, 10))])
    assert "segm" not in result
    assert result["AR1"] == 0.5
    assert any("1 of 2 annotations have no outline" in text for text in result["warnings"])


def test_on_nothing():
    assert "segm" not in coco_metrics(one_object(), [])
    assert "segm" not in coco_metrics(one_object(), [found([], bbox=[10, 10, 10, 10])])  # an empty outline is none
    nothing = coco_metrics({**one_object(), "annotations": []}, [found(square(0, 0, 5))])
    assert nothing["segm"]["AP"] is None


def test_two_masks_with_one_box_are_no_copies():
    mask = square(10, 10, 10)
    half = [[10, 10, 20, 10, 10, 20]]
    result = coco_metrics(one_object(), [found(m, bbox=[10, 10, 10, 10]) for m in (mask, half, mask)])
    assert result["num_detections"] == 2


def test_masks_that_fill_their_boxes_say_what_boxes_say():
    document, detections = random_set(8)
    whole = []
    for entries in (document["annotations"], detections):
        made = []
        for entry in entries:
            x, y, w, h = (round(v) + 1 for v in entry["bbox"])
            corners = [x, y, x + w, y, x + w, y + h, x, y + h]
            made.append({**entry, "bbox": [x, y, w, h], "area": w * h, "segmentation": [corners]})
        whole.append(made)
    metrics = compute_metrics({**document, "annotations": whole[0]}, whole[1], Settings(resamples=20)).metrics
    segm = metrics["segm"]
    assert {key: segm[key] for key in KEYS} == {key: pytest.approx(metrics[key]) for key in KEYS}
    for key in ("intervals", "thresholds", "confusion", "error_kinds", "per_class", "calibration"):
        assert segm[key] == metrics[key], key


def test_masks_in_several_pieces(monkeypatch):
    from toolkit.metrics import iou_and_matching

    document, detections = with_outlines(*random_set(5), 5)
    whole = coco_metrics(document, detections)
    monkeypatch.setattr(iou_and_matching, "MASKS_AT_ONCE", 2)
    assert coco_metrics(document, detections) == whole
