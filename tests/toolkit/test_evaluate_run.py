"""Evaluating a run with a real, tiny network: original pixels, class names, thresholds into the checkpoint;
cross-validation and the learning curve with trainings that are made up, and once with real ones."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from label_tools.document import coco
from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import draw_images, scene
from toolkit.__main__ import main
from toolkit.evaluation.crossval import TrainingFailed, crossval
from toolkit.evaluation.evaluate import evaluate_run
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.evaluation.judge import Settings, coco_metrics, judge
from toolkit.evaluation.label_curve import label_curve, part_of

CLASSES = ("nut", "bolt", "washer")


def save_network(run: Path, classes=CLASSES) -> None:
    import torch

    from toolkit import checkpoint
    from toolkit.networks import models

    torch.manual_seed(0)
    sizes = {"min_size": 64, "max_size": 96, "box_score_thresh": 0.05, "box_detections_per_img": 20}
    model, architecture, _ = models.build(
        "fasterrcnn_tiny_fpn",
        len(classes) + 1,
        weights="none",
        trainable_layers=5,
        norm="group",
        batch_size=1,
        sizes=sizes,
    )
    meta = {
        "classes": [{"id": i, "name": n} for i, n in enumerate(classes, 1)],
        "architecture": architecture,
        "score_thresholds": {},
        "config": {"score_floor": 0.05},
        "epoch": 3,
        "step": 30,
    }
    checkpoint.save(run / "best", meta, model.state_dict(), None)


@pytest.fixture
def run(tmp_path) -> Path:
    document, _ = scene(1, images=5)
    draw_images(document, tmp_path / "images")
    for part in ("val", "test"):
        coco.write({**document, "info": {"image_root": "../images"}}, tmp_path / "run" / f"{part}.json")
    save_network(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_judged_and_written_and_its_thresholds_kept(run, capsys):
    assert main(["evaluate", str(run), "--resamples", "20"]) == 0
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    detections = json.loads((run / "val" / "detections.json").read_text())
    assert metrics["AP"] == coco_metrics(coco.read(run / "val.json"), detections)["AP"]
    assert metrics["num_images"] == 5
    meta = json.loads((run / "best" / "checkpoint.json").read_text())
    assert meta["score_thresholds"] == {k: v["threshold"] for k, v in metrics["thresholds"].items()}
    assert metrics["anchors"]["layout"]["strides"] == [8, 16, 32]
    assert "report.html" in capsys.readouterr().out
    text = (run / "report.html").read_text()
    assert "0.050: detections under it were never made" in text
    assert "best, epoch 3" in text
    # the sealed checkpoint is still whole
    from toolkit import checkpoint

    checkpoint.load(run / "best")


def test_other_splits_are_judged_with_the_thresholds_of_val(run):
    from toolkit import checkpoint

    checkpoint.update_meta(run / "best", score_thresholds={"nut": 0.11, "bolt": 0.22, "washer": 0.33})
    metrics = evaluate_run(run, "test", settings=Settings(resamples=0))
    assert [metrics["thresholds"][name]["threshold"] for name in CLASSES] == [0.11, 0.22, 0.33]
    assert metrics["settings"]["thresholds_from"] == "elsewhere"
    assert checkpoint.read_meta(run / "best")["score_thresholds"]["nut"] == 0.11  # not chosen on test


def test_e15_detections_are_in_pixels_of_the_original_image(run, tmp_path, monkeypatch):
    """A network whose head always answers "the whole picture" must give each picture's own size."""
    import torch
    from PIL import Image
    from torchvision.models.detection.roi_heads import RoIHeads

    def whole(self, features, proposals, image_shapes, targets=None):
        found = [
            {"boxes": torch.tensor([[0.0, 0.0, w, h]]), "labels": torch.tensor([1]), "scores": torch.tensor([0.9])}
            for h, w in image_shapes
        ]
        return found, {}

    monkeypatch.setattr(RoIHeads, "forward", whole)
    sizes = [(40, 30), (64, 64), (333, 150)]  # enlarged, as it is, reduced: the network sees sides of 64 to 96
    images = []
    for i, size in enumerate(sizes, 1):
        Image.new("RGB", size).save(tmp_path / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": size[0], "height": size[1]})
    annotations = [
        {"id": i, "image_id": i, "category_id": 1, "bbox": [0, 0, w, h], "area": w * h, "iscrowd": 0}
        for i, (w, h) in enumerate(sizes, 1)
    ]
    categories = [{"id": i, "name": n} for i, n in enumerate(CLASSES, 1)]
    document = {"info": {"image_root": "."}, "images": images, "annotations": annotations, "categories": categories}
    coco.write(document, tmp_path / "sizes.json")
    metrics = evaluate_run(run, "sizes", data=tmp_path / "sizes.json", settings=Settings(resamples=0))
    detections = json.loads((run / "sizes" / "detections.json").read_text())
    for d in detections:
        assert d["bbox"] == pytest.approx([0, 0, *sizes[d["image_id"] - 1]], abs=0.01)
    assert metrics["AP"] == 1.0
    assert metrics["num_objects_by_size"] == {"small": 0, "medium": 2, "large": 1}  # areas 1200, 4096, 49950


def test_e17_classes_go_by_name_not_by_id(run, tmp_path):
    document = coco.read(run / "val.json")
    wanted = evaluate_run(run, "val", settings=Settings(resamples=0))
    new = {1: 30, 2: 10, 3: 20}
    for category in document["categories"]:
        category["id"] = new[category["id"]]
    for annotation in document["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]
    coco.write({**document, "info": {"image_root": "images"}}, tmp_path / "other.json")
    found = evaluate_run(run, "other", data=tmp_path / "other.json", settings=Settings(resamples=0))
    for name in CLASSES:
        assert found["per_class"][name] == wanted["per_class"][name]


def test_other_data_never_takes_the_place_of_the_runs_own_split(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--resamples", "0", "--no-report"]) == 0
    before = (run / "val" / "metrics.json").read_bytes()
    document = coco.read(run / "val.json")
    for name in ("holdout", "val"):
        coco.write({**document, "info": {"image_root": "../images"}}, tmp_path / "more" / f"{name}.json")
        command = ["evaluate", str(run), "--data", str(tmp_path / "more" / f"{name}.json"), "--resamples", "0"]
        assert main([*command, "--also", str(run), "--compare", str(run)]) == 0
    assert (run / "holdout" / "metrics.json").is_file()
    assert json.loads((run / "more-val" / "metrics.json").read_text())["compare"]["AP"]["difference"] == 0
    assert (run / "val" / "metrics.json").read_bytes() == before
    assert "judged on the more-val split" in (run / "more-val" / "report.html").read_text()
    assert not (run / "report.html").exists()  # it is about the run's own splits
    capsys.readouterr()


def test_e17_other_classes_are_refused(run, tmp_path, capsys):
    document = coco.read(run / "val.json")
    document["categories"][0]["name"] = "screw"
    coco.write({**document, "info": {"image_root": "images"}}, tmp_path / "other.json")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "other.json")]) == 2
    assert "screw" in capsys.readouterr().err


def test_e21_evaluation_draws_no_dice(run):
    """No augmentation, no sampling, no training mode: the same detections every time."""
    from toolkit.prediction import predict

    document = coco.read(run / "val.json")
    root = coco.image_root(document, run / "val.json")
    first = predict.Predictor(run, "cpu").detect(document, root)
    assert first
    assert predict.Predictor(run, "cpu").detect(document, root) == first


def test_a_class_that_training_never_saw_is_said(run):
    document = coco.read(run / "val.json")
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] != 3]
    coco.write(document, run / "train.json")
    metrics = evaluate_run(run, "val", settings=Settings(resamples=0))
    assert any("washer" in text and "none in the training images" in text for text in metrics["warnings"])


def test_what_is_missing_is_named(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--split", "holiday"]) == 2
    assert "holiday.json" in capsys.readouterr().err
    assert main(["evaluate", str(tmp_path)]) == 2
    assert "val.json" in capsys.readouterr().err


# --- many trainings --------------------------------------------------------------------------------------------


class MadeUp:
    """Stands for `frcnn train`: detections of fixed quality instead of a network; counts and may fail."""

    def __init__(self, fail_at: int = 0, more_is_better: bool = False) -> None:
        self.calls: list[list[str]] = []
        self.fail_at, self.more_is_better = fail_at, more_is_better

    def __call__(self, words: list[str]) -> int:
        self.calls.append(words)
        if len(self.calls) == self.fail_at:
            return 4
        labels, run = Path(words[1]), Path(words[words.index("--runs") + 1]) / words[words.index("--name") + 1]
        train = coco.read(labels / "train.json")
        for split in ("val", "test"):
            if not (labels / f"{split}.json").is_file():
                continue
            document = coco.read(labels / f"{split}.json")
            share = len(train["images"]) / 40 if self.more_is_better else 0.8
            found = [
                {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
                for i, a in enumerate(document["annotations"])
                if (i * 7919 % 100) / 100 < share
            ]
            evaluation = judge(document, found, Settings(resamples=0), split=split)
            write_evaluation(run / split, evaluation, labels)
        return 0


@pytest.fixture
def labelled(tmp_path) -> Path:
    document, _ = scene(2, images=20)
    draw_images(document, tmp_path / "images")
    coco.write({**document, "info": {"image_root": "images"}}, tmp_path / "annotations.json")
    return tmp_path / "annotations.json"


def test_every_image_is_judged_once_by_a_network_that_never_saw_it(labelled, tmp_path):
    train = MadeUp()
    metrics = crossval(labelled, tmp_path / "cv", 4, train, settings=Settings(resamples=20))
    assert len(train.calls) == 4
    judged: list[str] = []
    for call in train.calls:
        parts = {
            part: {i["file_name"] for i in coco.read(Path(call[1]) / f"{part}.json")["images"]}
            for part in ("train", "val", "test")
        }
        assert not parts["train"] & parts["test"]
        assert not parts["val"] & parts["test"]
        assert not parts["train"] & parts["val"]
        assert len(set.union(*parts.values())) == 20
        judged += parts["test"]
    assert len(judged) == len(set(judged)) == 20
    assert metrics["num_images"] == 20
    assert len(metrics["crossval"]["folds"]) == 4
    assert sum(row["num_objects"] for row in metrics["crossval"]["folds"]) == metrics["num_objects"]
    assert (tmp_path / "cv" / "metrics.json").is_file()


def test_a_stopped_cross_validation_goes_on(labelled, tmp_path):
    with pytest.raises(TrainingFailed) as caught:
        crossval(labelled, tmp_path / "cv", 4, MadeUp(fail_at=3))
    assert caught.value.code == 4
    train = MadeUp()
    crossval(labelled, tmp_path / "cv", 4, train, settings=Settings(resamples=0))
    assert len(train.calls) == 2  # two folds were done
    with pytest.raises(InputError, match="other labels, folds or seed"):
        crossval(labelled, tmp_path / "cv", 5, train)
    with pytest.raises(InputError, match="needs 3 or more"):
        crossval(labelled, tmp_path / "two", 2, train)


@pytest.fixture
def split(labelled, tmp_path) -> Path:
    assert (
        main(["split", str(labelled), "--train", ".6", "--val", ".4", "--test", "0", "--out", str(tmp_path / "split")])
        == 0
    )
    return tmp_path / "split"


def test_the_curve_trains_on_growing_parts(split, tmp_path):
    train = MadeUp(more_is_better=True)
    result = label_curve(split, tmp_path / "curve", [0.25, 0.5, 1.0], [0, 1], train)
    assert [p["num_images"] for p in result["points"]] == [3, 6, 12, 3, 6, 12]
    assert len(train.calls) == 6
    assert [call[-2:] for call in train.calls] == [["--seed", "0"]] * 3 + [["--seed", "1"]] * 3
    values = [p["AP"] for p in result["points"]][:3]
    assert values == sorted(values)
    assert result["fit"]["AP_ahead"] >= result["fit"]["AP_now"]
    page = (tmp_path / "curve" / "curve.html").read_text()
    assert result["fit"]["answer"] in page
    assert "http:/" not in page and "https:/" not in page
    again = MadeUp()
    label_curve(split, tmp_path / "curve", [0.25, 0.5, 1.0], [0, 1], again)
    assert again.calls == []  # done before


def test_parts_are_nested_and_hold_every_class_early():
    document, _ = scene(3, images=20)
    small, large = part_of(document, 0.25, 7), part_of(document, 0.75, 7)
    assert {i["id"] for i in small["images"]} < {i["id"] for i in large["images"]}
    assert {a["category_id"] for a in small["annotations"]} == {1, 2, 3}
    assert part_of(document, 0.25, 7) == small != part_of(document, 0.25, 8)
    assert part_of(document, 1.0, 7)["annotations"] == document["annotations"]


def test_shares_that_cannot_be_are_refused(split, tmp_path):
    with pytest.raises(InputError, match="--fractions"):
        label_curve(split, tmp_path / "c", [0.0], [0], MadeUp())
    with pytest.raises(InputError, match="holds no train"):
        label_curve(tmp_path, tmp_path / "c", [1.0], [0], MadeUp())


@pytest.mark.slow
def test_both_with_real_trainings(labelled, split, tmp_path, capsys):
    from tests.toolkit.training_fixtures import TINY

    flags = [word for word in TINY if word != "--no-report"]
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["crossval", str(labelled), "--folds", "3", *runs, *flags]) == 0
    out = capsys.readouterr().out
    assert "fold  images  objects" in out
    assert "Folds" in (tmp_path / "runs" / "crossval" / "report.html").read_text()
    assert main(["curve", str(split), "--fractions", "0.5", "1", "--seeds", "0", *runs, *flags]) == 0
    assert "curve.html" in capsys.readouterr().out
