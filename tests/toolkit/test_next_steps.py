"""Do this next: a good detector on clean labels needs nothing; each thing that is spoilt on purpose comes first."""

from __future__ import annotations

import copy

import numpy as np
import pytest

from tests.toolkit.evaluation_fixtures import detection, document_of
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.report.next_steps import MOST, Facts, next_steps
from toolkit.report.read_logs import Training

NO_LOG = Training({}, [], [], "", [])


def good(images: int = 60, seed: int = 0, rare: int = 1) -> tuple[dict, list[dict], np.random.Generator]:
    """Labels of three classes on a grid of places, and a detector that finds all of them and invents a few.

    rare: the third class has one object in so many images.
    """
    rng = np.random.default_rng(seed)
    boxes = []
    for i in range(images):
        places = rng.permutation(12)[:6]
        classes = [1, 2, 1, 2, 1, 3 if i % rare == 0 else 2]
        boxes.append(
            [
                (k, 20.0 + 90 * int(p % 4), 20.0 + 90 * int(p // 4), *rng.uniform(40, 60, 2).tolist())
                for k, p in zip(classes, places)
            ]
        )
    document = document_of(boxes, ("bolt", "nut", "washer"), (400, 300))
    found = [placed(a, rng.uniform(0.6, 1), rng, 0.03) for a in document["annotations"]]
    # false ones of low score, off the grid
    found += [detection(i, 1, 350, 250, 30, 30, float(rng.uniform(0.05, 0.2))) for i in range(1, images + 1, 4)]
    return document, found, rng


def placed(a: dict, score: float, rng, off: float, category: int | None = None) -> dict:
    """A detection of an annotation, moved by about `off` of its size."""
    x, y, w, h = a["bbox"]
    dx, dy = rng.normal(0, off, 2).tolist()
    return detection(a["image_id"], category or a["category_id"], x + dx * w, y + dy * h, w, h, float(score))


def steps(document, found, more: dict | None = None, **facts) -> list:
    metrics = compute_metrics(document, found, Settings(resamples=100)).metrics
    given = {"others": {}, "training": NO_LOG, "folder": "runs/a", "trained_on": {}, **facts}
    return next_steps(Facts({**metrics, **(more or {})}, **given))


def test_nothing_to_do_for_a_good_detector_on_clean_labels():
    assert steps(*good()[:2]) == []


def without_some(document, found, rng):
    keep = rng.random(len(document["annotations"])) > 0.12
    return {**document, "annotations": [a for a, k in zip(document["annotations"], keep) if k]}, found


def with_other_classes(document, found, rng):
    for a in document["annotations"]:
        if rng.random() < 0.08:
            a["category_id"] = 1 + a["category_id"] % 3
    return document, found


def with_loose_boxes(document, found, rng):
    for a in document["annotations"]:
        if rng.random() < 0.08:
            x, y, w, h = a["bbox"]
            a["bbox"] = [x + 0.4 * w, y, w, h]  # IoU 0.6 / 1.4 = 0.43
    return document, found


def unsure(found):
    """The same with scores under 0.5."""
    return [{**d, "score": 0.49 * d["score"]} for d in found]


def background(document, found, rng):
    """Found where nothing is, with scores too low to accuse a label."""
    ids = [i["id"] for i in document["images"]] * 2
    more = [detection(i, 2, 350, 10 + 40 * n % 200, 30, 30, float(rng.uniform(0.3, 0.49))) for n, i in enumerate(ids)]
    return document, unsure(found) + more


def confused(document, found, rng):
    """A third of the nuts is called a bolt, never surely."""
    return document, [
        {**d, "category_id": 1} if d["category_id"] == 2 and rng.random() < 0.3 else d for d in unsure(found)
    ]


def far_off(document, found, rng):
    """A third of the boxes lies half beside its object, with a score too low to accuse a label."""
    return document, [
        {**d, "bbox": [d["bbox"][0] + 0.5 * d["bbox"][2], *d["bbox"][1:]], "score": 0.45}
        if rng.random() < 0.3 and d["score"] > 0.5
        else d
        for d in found
    ]


def doubled(document, found, rng):
    """Each object found twice, the double as surely as the others."""
    twins = [placed(a, rng.uniform(0.6, 1), rng, 0.12) for a in document["annotations"]]
    return document, found + twins


def blind(document, found, rng):
    return document, [d for d in found if rng.random() > 0.2]


SPOILT = {
    "missing labels": without_some,
    "wrong classes": with_other_classes,
    "loose labels": with_loose_boxes,
    "background": background,
    "confused classes": confused,
    "boxes too far off": far_off,
    "duplicates": doubled,
    "missed objects": blind,
}


@pytest.mark.parametrize("name", SPOILT)
@pytest.mark.parametrize("seed", [0, 1])
def test_what_is_spoilt_comes_first(name, seed):
    document, found, rng = good(seed=seed)
    found_steps = steps(*SPOILT[name](copy.deepcopy(document), found, rng))
    assert found_steps[0].name == name, [(s.name, s.points) for s in found_steps]
    assert len(found_steps) <= MOST
    if name == "loose labels":  # the same errors are not counted twice
        assert "boxes too far off" not in [s.name for s in found_steps]
    assert found_steps == sorted(found_steps, key=lambda s: -s.points)
    for step in found_steps:
        assert step.what.endswith(".") and any(c.isdigit() for c in step.why + step.what) and step.brings


def test_pictures_that_the_network_has_seen_come_before_everything():
    document, found, rng = good()
    found_steps = steps(*blind(document, found, rng), more={"copies_in_train": ["007.jpg", "009.jpg"]})
    assert [s.name for s in found_steps[:2]] == ["leak", "missed objects"]
    assert "2 of the 60 pictures" in found_steps[0].what and "007.jpg" in found_steps[0].why


def test_boxes_too_far_off_under_poor_anchors_point_at_what_to_try():
    tries = [{"flags": "--image-size 336", "reached": 0.4}, {"flags": "--anchor-scale 2", "reached": 0.9}]
    anchors = {"covered": 0.3, "proposals": tries}
    first = steps(*far_off(*good()), more={"anchors": anchors})[0]
    assert first.name == "boxes too far off" and "Only 30 % of the objects have an anchor" in first.why
    assert first.command == "frcnn train ... --image-size 336" and first.link == "anchors"
    tries[0]["reached"] = 0.1  # it would reach fewer: the first that reaches more
    assert steps(*far_off(*good()), more={"anchors": anchors})[0].command.endswith("--anchor-scale 2")
    assert steps(*far_off(*good()), more={"anchors": {"covered": 0.9}})[0].command == ""


def test_objects_too_small_for_the_network():
    """Every second object is drawn a quarter as large, and 40 % of those are not found."""
    from toolkit.evaluation.evaluate_run import seen_size
    from toolkit.networks.resize_and_anchors import View

    document, found, rng = good()
    lost = set()
    for k, (a, d) in enumerate(zip(document["annotations"], found)):
        if k % 2 == 0:
            for one in (a, d):
                one["bbox"] = [*one["bbox"][:2], one["bbox"][2] / 4, one["bbox"][3] / 4]  # 10 to 15 px
            if rng.random() < 0.4:
                lost.add(k)
    found = [d for k, d in enumerate(found) if k not in lost]
    seen = seen_size(compute_metrics(document, found, Settings(resamples=0)), View(300, 400))
    assert seen["num_small"] == 180 and seen["num_larger"] == 180  # pictures of 400 x 300, seen as they are
    assert seen["recall_small"] < 0.65 and seen["recall_larger"] > 0.95
    first = steps(document, found, more={"seen_size": seen})[0]
    assert first.name == "small objects"
    # as many points of recall as small ones are found less often, and they are half of the objects
    assert first.points == pytest.approx(100 * (seen["recall_larger"] - seen["recall_small"]) / 2)
    assert "50 % of the objects are under 16 pixels" in first.why


def test_a_rare_class_that_is_behind():
    document, found, rng = good(rare=6)
    # class 3 has 10 objects of 360; half of them are found
    worse = [d for d in found if d["category_id"] != 3 or rng.random() > 0.5]
    first = steps(document, worse, trained_on={"bolt": 900, "nut": 800, "washer": 40})[0]
    assert first.name == "rare class"
    assert first.what == "Label more washer." and "40 objects in the training part" in first.why


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_too_few_pictures_to_tell(seed):
    document, found, rng = good(images=5, seed=seed)
    first = steps(document, [{**d, "score": float(rng.random())} for d in found if rng.random() > 0.05])[0]
    assert first.name == "few pictures" and first.what.startswith("Label 15 more pictures")  # half as wide: 4 times 5


def test_learned_by_heart_by_the_training_pictures_or_the_log():
    document, found, rng = good()
    train = compute_metrics(document, found, Settings(resamples=0)).metrics
    first = steps(*blind(document, found, rng), others={"train": train})[0]
    assert first.name == "learned by heart"
    losses = [(2.0, 2.1), (1.0, 1.4), (0.5, 1.7), (0.2, 2.4)]
    epochs = [
        {"epoch": e, "step": e, "train_loss": {"a": t, "loss": t}, "val_loss": {"a": v, "loss": v}}
        for e, (t, v) in enumerate(losses, 1)
    ]
    log = Training({}, [], epochs, "", [])
    spoilt = blind(document, found, rng)
    first, *others = steps(*spoilt, training=log)
    assert first.name == "learned by heart" and first.command == "frcnn evaluate runs/a --split train"
    assert "is 0.20 on the training pictures and 2.40 on val, where it was 1.40 before" in first.why
    # half of what is missing to an AP50 of 1, less the twelfth of it that the training pictures have, too
    (alone,) = [s for s in steps(*spoilt) if s.name == "missed objects"]
    lost = 100 * (1 - compute_metrics(*spoilt, Settings(resamples=0)).metrics["AP50"])
    assert first.points == pytest.approx(lost * (1 - 0.2 / 2.4) / 2)
    assert all(s.points == pytest.approx(alone.points / 12) for s in others if s.name == "missed objects")
    # the epoch that was evaluated counts, and there both losses are alike
    early = steps(*spoilt, training=log, more={"checkpoint": {"epoch": 1}})
    assert early[0].name == "missed objects" and "learned by heart" not in [s.name for s in early]


def test_training_that_was_still_getting_better():
    epochs = [{"epoch": e, "step": e, "AP50": ap} for e, ap in enumerate((0.2, 0.3, 0.4, 0.5, 0.6, 0.7), 1)]
    (step,) = steps(*good()[:2], training=Training({}, [], epochs, "", []))
    # the last third, epochs 5 and 6, brought 20 points; half of that is promised
    assert step.name == "still rising" and step.points == pytest.approx(10)
    assert "12 epochs instead of 6" in step.what
    level = [{**e, "AP50": 0.7} for e in epochs]
    assert steps(*good()[:2], training=Training({}, [], level, "", [])) == []


def test_a_network_that_has_hardly_begun_to_learn():
    document, found, _ = good()
    nothing = [{**d, "bbox": [0, 0, 9, 9]} for d in found]
    epochs = [{"epoch": e, "step": e, "train_loss": {"a": 3 - e}, "val_loss": {"a": 3 - e}} for e in (1, 2)]
    first = steps(document, nothing, training=Training({}, [], epochs, "", []))[0]
    assert first.name == "hardly trained" and "8 epochs instead of 2" in first.what
    assert first.why == "AP50 is only 0.000, and the training loss still fell, to 1.00 from 2.00."
    level = Training({}, [], [*epochs, {**epochs[1], "epoch": 3}], "", [])
    assert "hardly trained" not in [s.name for s in steps(document, nothing, training=level)]


def test_a_learning_curve_that_rises_says_label_more():
    fit = {"answer": "yes: more labels would help", "gain_interval": [0.02, 0.07], "AP_now": 0.42, "AP_ahead": 0.46}
    curve = {"fit": {**fit, "num_images_ahead": 510}}
    (step,) = steps(*good()[:2], curve=curve)
    assert step.name == "more labels" and "510" in step.what and step.brings == "2.0 to 7.0 points of AP"
    flat = {"fit": {**curve["fit"], "answer": "hardly: the curve is flat"}}
    assert steps(*good()[:2], curve=flat) == []


def test_without_labels_there_is_nothing_to_say():
    document = document_of([[], []])
    assert steps(document, []) == []


def test_copies_of_training_pictures_are_found_by_their_bytes(tmp_path):
    import json

    from PIL import Image

    from toolkit.evaluation.evaluate_run import copies_in_train

    for folder in ("run", "new"):
        (tmp_path / folder).mkdir()
    for name, grey in (("a.png", 10), ("b.png", 20)):
        Image.new("L", (8, 8), grey).save(tmp_path / "run" / name)
    (tmp_path / "new" / "copy.png").write_bytes((tmp_path / "run" / "b.png").read_bytes())
    Image.new("L", (8, 8), 30).save(tmp_path / "new" / "other.png")  # of the same size in bytes, perhaps
    train = document_of([[], []], size=(8, 8))
    for image, name in zip(train["images"], ("a.png", "b.png")):
        image["file_name"] = name
    (tmp_path / "run" / "train.json").write_text(json.dumps(train))
    test = {"images": [{"file_name": name} for name in ("copy.png", "other.png", "absent.png", "../run/a.png")]}
    assert copies_in_train(tmp_path / "run", test, tmp_path / "new") == ["copy.png"]


def test_small_objects_are_counted_as_the_network_sees_them():
    from toolkit.evaluation.evaluate_run import seen_size
    from toolkit.networks.resize_and_anchors import View

    # the network halves the image, 200 x 160 to 100 x 80: an object of 30 px is 15 there, one of 34 px is 17
    document = document_of([[(1, 10, 10, 30, 30), (1, 60, 10, 34, 34)]])
    found = [detection(1, 1, 60, 10, 34, 34, 0.9)]
    evaluation = compute_metrics(document, found, Settings(resamples=0))
    assert seen_size(evaluation, View(80, 1000)) == {
        "pixels": 16,
        "num_small": 1,
        "num_larger": 1,
        "recall_small": 0.0,
        "recall_larger": 1.0,
    }
