"""The line about sets that are too small, at its two limits and for each kind of evaluation."""

from __future__ import annotations

import pytest

from toolkit.report.evaluation_text import few


def metrics_of(images: int, objects: dict[str, int], split: str = "test", **more) -> dict:
    return {
        "num_images": images,
        "num_objects": sum(objects.values()),
        "per_class": {name: {"num_objects": number} for name, number in objects.items()},
        "split": split,
        "settings": {"thresholds_from": "these images" if split == "val" else "elsewhere"},
        "checkpoint": {"folder": "best"},
        **more,
    }


@pytest.mark.parametrize(
    ("images", "objects", "said"),
    [(50, 20, False), (49, 20, True), (50, 19, True), (0, 0, True)],
)
def test_under_50_images_or_20_objects_of_a_class(images, objects, said):
    assert bool(few(metrics_of(images, {"nut": objects, "bolt": 300}))) == said


def test_how_few_and_which_classes():
    text = few(metrics_of(6, {"a": 7, "b": 1, "c": 90, "d": 0, "e": 2, "f": 3}))
    assert "6 images, 103 objects (fewer than 20 of a class: a 7, b 1, d 0 and 2 classes more)" in text
    assert "fewer" not in few(metrics_of(6, {"c": 90}))
    assert "\n" not in text


def test_val_has_chosen_the_epoch_where_it_has():
    assert "val also chose the epoch" in few(metrics_of(6, {"a": 7}, "val"))
    assert "chose" not in few(metrics_of(6, {"a": 7}, "test"))
    # --data FILE --split val: other images, judged with the thresholds of the run's val
    assert "chose" not in few(metrics_of(6, {"a": 7}, "val", settings={"thresholds_from": "elsewhere"}))


def test_crossval_is_named_for_a_run_alone():
    assert "frcnn crossval" in few(metrics_of(6, {"a": 7}))
    text = few(metrics_of(6, {"a": 7}, checkpoint=None))  # anybody's detections: there is no network to train again
    assert text and "crossval" not in text
    assert few(metrics_of(6, {"a": 7}, crossval={"folds": []})) == ""


def test_training_ends_with_it_for_each_split(monkeypatch, caplog, tmp_path):
    from toolkit import fine_tune
    from toolkit.training.train_val_test import Split

    sizes = {"val": 49, "test": 50}

    def evaluate_split(predictor, run, name, *_, **__):
        return metrics_of(sizes[name], {"nut": 40}, name, AP=0.5, AP50=0.7, AP75=None)

    class Index:
        image_root = tmp_path
        classes_with_objects = set

    monkeypatch.setattr(fine_tune, "evaluate_split", evaluate_split)
    monkeypatch.setattr(fine_tune, "TorchDetector", lambda *_: None)
    labels = {name: Split(name, tmp_path, Index(), {}) for name in ("train", "val", "test")}
    fine_tune._evaluate(tmp_path, fine_tune.Config(), labels)
    (warning,) = caplog.messages
    assert warning.startswith("val: SMALL SET: evaluated on 49 images, 40 objects;")
