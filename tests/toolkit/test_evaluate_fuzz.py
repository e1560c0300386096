"""Whatever stands in the two files: numbers or one InputError, and numbers that hold what AP promises."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import detection, document_of, random_set
from toolkit.evaluation.compute_metrics import Settings, coco_metrics, compute_metrics
from toolkit.metrics.coco_ap import KEYS
from toolkit.metrics.coco_tables import read_tables

QUIET = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow], derandomize=True)
MANY = settings(QUIET, max_examples=2000)

number = st.one_of(st.integers(-3, 300), st.floats(width=32), st.just(1e308), st.just(-0.0))
scalar = st.one_of(st.none(), st.booleans(), number, st.sampled_from(["", "1", "nut", "\x00", "-1", "1e3"]))
anything = st.recursive(
    scalar,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.dictionaries(st.sampled_from(["id", "image_id", "bbox", "score"]), inner, max_size=3),
    ),
    max_leaves=6,
)
box = st.one_of(st.lists(number, min_size=4, max_size=4), anything)


def entry(**keys):
    """An object that may lack some of its keys, or an object altogether."""
    return st.one_of(st.fixed_dictionaries({}, optional=keys), st.fixed_dictionaries(keys), anything)


small_id = st.one_of(st.integers(0, 3), scalar)
image = entry(id=small_id, file_name=scalar, width=number, height=number)
annotation = entry(id=small_id, image_id=small_id, category_id=small_id, bbox=box, area=scalar, iscrowd=scalar)
category = entry(id=small_id, name=scalar)
found = entry(image_id=small_id, category_id=small_id, bbox=box, score=scalar)
broken_document = st.one_of(
    anything,
    st.fixed_dictionaries(
        {
            "images": st.one_of(st.lists(image, max_size=3), anything),
            "annotations": st.one_of(st.lists(annotation, max_size=4), anything),
            "categories": st.one_of(st.lists(category, max_size=3), anything),
        }
    ),
)


def numbers_or_one_line(document, detections) -> None:
    try:
        metrics = compute_metrics(document, detections, Settings(resamples=5)).metrics
    except InputError as error:
        assert str(error)
        return
    json.dumps(metrics, allow_nan=False)
    assert all(metrics[key] is None or 0 <= metrics[key] <= 1 for key in KEYS)


def check_broken_documents(document, detections):
    numbers_or_one_line(document, detections)


def check_broken_detections(seed, detections):
    document, good = random_set(seed, images=3)
    numbers_or_one_line(document, detections)
    numbers_or_one_line(document, good[:3] + detections if isinstance(detections, list) else detections)


detections_of_any_kind = st.one_of(st.lists(found, max_size=4), anything)


runs = st.one_of(st.lists(st.integers(-1, 1300), max_size=4), st.text("0PQo~ ", max_size=6), anything)
mask = st.one_of(
    st.fixed_dictionaries({"size": st.sampled_from([[30, 40], [40, 30], [10**9, 10**9]]), "counts": runs}),
    st.lists(st.one_of(st.lists(number, min_size=5, max_size=8), anything), max_size=3),
    anything,
)


@QUIET
@given(st.lists(mask, max_size=3), mask)
def test_any_mask_gives_numbers_or_one_line(found_masks, label_mask):
    outline = {"segmentation": [[10, 10, 20, 10, 20, 20]]}
    document = document_of(
        [[(1, 10, 10, 10, 10, outline), (1, 0, 0, 9, 9, {"segmentation": label_mask})]], size=(40, 30)
    )
    detections = [{**detection(1, 1, 5, 5, 20, 20, 0.5), "segmentation": one} for one in found_masks]
    numbers_or_one_line(document, detections)


def test_what_is_judged_can_be_written(tmp_path):
    from toolkit.evaluation.evaluation_folder import write_evaluation
    from toolkit.report.write_report import write_report

    nan = float("nan")
    document = document_of([[(1, 10, 10, 30, 30, {"area": nan, "note": nan, "segmentation": "?"})], []])
    document["images"][0].update(file_name="a\x00/../b.jpg", depth=nan)
    found = [{**detection(2, 1, 10, 10, 30, 30, 0.9), "more": nan}]
    write_evaluation(tmp_path, compute_metrics(document, found, Settings(resamples=5)), tmp_path)
    assert "0.000" in write_report(tmp_path).read_text()


test_broken_documents = QUIET(given(broken_document, detections_of_any_kind)(check_broken_documents))
test_broken_detections = QUIET(given(st.integers(0, 50), detections_of_any_kind)(check_broken_detections))
test_many_broken_documents = pytest.mark.slow(
    MANY(given(broken_document, detections_of_any_kind)(check_broken_documents))
)


@pytest.mark.parametrize("key", ["image_id", "category_id"])
@pytest.mark.parametrize("odd", [{}, [1], None, "missing"])
def test_an_id_of_any_kind_is_named(key, odd):
    bad = {**detection(1, 1, 5, 5, 20, 20, 0.5), key: odd}
    if odd == "missing":
        del bad[key]
    with pytest.raises(InputError, match=rf"d\.json\[1\]: {key} .* not in the annotations file"):
        read_tables(document_of([[]]), [detection(1, 1, 5, 5, 20, 20, 0.5), bad], detections_name="d.json")


side = st.floats(2, 80)
place = st.floats(0, 100)
fine = st.builds(detection, st.integers(1, 3), st.integers(1, 2), place, place, side, side, st.floats(0, 1))
labels = st.lists(st.lists(st.tuples(st.integers(1, 2), place, place, side, side), max_size=4), min_size=3, max_size=3)


@QUIET
@given(labels, st.lists(fine, max_size=8))
def test_numbers_lie_in_their_range_and_in_order(boxes, detections):
    result = coco_metrics(document_of(boxes, ("nut", "bolt")), detections)
    for key in KEYS:
        assert result[key] is None or 0 <= result[key] <= 1
    if result["AP"] is not None:
        assert result["AP75"] <= result["AP50"] + 1e-12
        assert result["AP"] <= result["AP50"] + 1e-12
        assert result["AR1"] <= result["AR10"] + 1e-12 <= result["AR100"] + 2e-12
        assert result["AP"] <= result["AR100"] + 1 / 101 + 1e-12  # precision is at most 1 where recall reaches


@QUIET
@given(labels, st.lists(fine, max_size=8))
def test_a_false_detection_of_the_lowest_score_never_helps(boxes, detections):
    document = document_of(boxes, ("nut", "bolt"))
    before = coco_metrics(document, detections)
    lowest = detection(1, 1, 190, 150, 4, 4, -1.0)  # where no label can be
    after = coco_metrics(document, [*detections, lowest])
    for key in KEYS:
        assert (before[key] is None) == (after[key] is None)
        assert before[key] is None or after[key] <= before[key] + 1e-12


@QUIET
@given(labels, st.lists(fine, max_size=8), st.sampled_from([2, 4]))
def test_scaling_image_boxes_and_areas_leaves_overall_ap(boxes, detections, times):
    document = document_of(boxes, ("nut", "bolt"))
    larger = document_of(
        [[(k, *(times * v for v in b)) for k, *b in one] for one in boxes], ("nut", "bolt"), (200 * times, 160 * times)
    )
    scaled = [{**d, "bbox": [times * v for v in d["bbox"]]} for d in detections]
    before, after = coco_metrics(document, detections), coco_metrics(larger, scaled)
    for key in ("AP", "AP50", "AP75", "AR1", "AR100"):  # a power of two: every IoU is the same to the last digit
        assert before[key] == after[key]
