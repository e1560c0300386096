"""Evaluating a run with a real, tiny network: original pixels, class names, thresholds into the checkpoint;
cross-validation and the learning curve with trainings that are made up, and once with real ones."""

from __future__ import annotations

import json
import logging
from pathlib import Path

import pytest

from label_tools.document import coco_file
from label_tools.text.errors import InputError
from tests.toolkit.evaluation_fixtures import draw_images, scene
from toolkit.__main__ import main
from toolkit.data.loader import MachineError
from toolkit.evaluation.compute_metrics import Settings, coco_metrics, compute_metrics
from toolkit.evaluation.evaluate_run import evaluate_run
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.experiments import crossval as crossval_module
from toolkit.experiments.crossval import crossval
from toolkit.experiments.label_curve import equal_steps, label_curve, part_of

CLASSES = ("nut", "bolt", "washer")


def save_network(run: Path, classes=CLASSES) -> None:
    import torch

    from toolkit import checkpoint
    from toolkit.networks import builder

    torch.manual_seed(0)
    sizes = {"min_size": 64, "max_size": 96, "box_score_thresh": 0.05, "box_detections_per_img": 20}
    model, architecture, _ = builder.build(
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
        coco_file.write({**document, "info": {"image_root": "../images"}}, tmp_path / "run" / f"{part}.json")
    save_network(tmp_path / "run")
    return tmp_path / "run"


def test_a_run_is_judged_and_written_and_its_thresholds_kept(run, capsys):
    assert main(["evaluate", str(run), "--split", "val", "--resamples", "20"]) == 0
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    detections = json.loads((run / "val" / "detections.json").read_text())
    assert metrics["AP"] == coco_metrics(coco_file.read(run / "val.json"), detections)["AP"]
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


def test_thresholds_that_were_set_by_hand_are_not_replaced_without_a_word(run):
    by_hand = Settings(resamples=0, thresholds={"": 0.9, "bolt": 0.8})
    assert not [w for w in evaluate_run(run, "val", settings=by_hand)["warnings"] if "threshold" in w]
    (line,) = [w for w in evaluate_run(run, "val", settings=Settings(resamples=0))["warnings"] if "replaces" in w]
    assert "nut 0.900 by " in line and "`--thresholds nut=0.900 bolt=0.800 washer=0.900`" in line
    again = evaluate_run(run, "val", settings=Settings(resamples=0))["warnings"]  # the same once more
    assert not [w for w in again if "replaces" in w]


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
    coco_file.write(document, tmp_path / "sizes.json")
    metrics = evaluate_run(run, "sizes", data=tmp_path / "sizes.json", settings=Settings(resamples=0))
    detections = json.loads((run / "sizes" / "detections.json").read_text())
    for d in detections:
        assert d["bbox"] == pytest.approx([0, 0, *sizes[d["image_id"] - 1]], abs=0.01)
    assert metrics["AP"] == 1.0
    assert metrics["num_objects_by_size"] == {"small": 0, "medium": 2, "large": 1}  # areas 1200, 4096, 49950


def test_e17_classes_go_by_name_not_by_id(run, tmp_path):
    document = coco_file.read(run / "val.json")
    wanted = evaluate_run(run, "val", settings=Settings(resamples=0))
    new = {1: 30, 2: 10, 3: 20}
    for category in document["categories"]:
        category["id"] = new[category["id"]]
    for annotation in document["annotations"]:
        annotation["category_id"] = new[annotation["category_id"]]
    coco_file.write({**document, "info": {"image_root": "images"}}, tmp_path / "other.json")
    found = evaluate_run(run, "other", data=tmp_path / "other.json", settings=Settings(resamples=0))
    for name in CLASSES:
        assert found["per_class"][name] == wanted["per_class"][name]


def test_sizes_that_a_file_lacks_come_from_its_pictures(run, tmp_path):
    wanted = evaluate_run(run, "val", settings=Settings(resamples=0))
    document = json.loads((run / "val.json").read_text())
    images = [{"id": image["id"], "file_name": image["file_name"]} for image in document["images"]]
    (tmp_path / "other.json").write_text(json.dumps({**document, "info": {}, "images": images}))
    pictures = (tmp_path / "images").rename(tmp_path / "elsewhere")
    other = {"data": tmp_path / "other.json", "image_root": pictures}
    assert evaluate_run(run, "other", **other, settings=Settings(resamples=0))["per_class"] == wanted["per_class"]


def test_other_data_never_takes_the_place_of_the_runs_own_split(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--split", "val", "--resamples", "0", "--no-report"]) == 0
    before = (run / "val" / "metrics.json").read_bytes()
    document = coco_file.read(run / "val.json")
    for name in ("holdout", "val"):
        coco_file.write({**document, "info": {"image_root": "../images"}}, tmp_path / "more" / f"{name}.json")
        command = ["evaluate", str(run), "--data", str(tmp_path / "more" / f"{name}.json"), "--resamples", "0"]
        assert main([*command, "--also", str(run), "--compare", str(run)]) == 0
    assert (run / "holdout" / "metrics.json").is_file()
    assert json.loads((run / "more-val" / "metrics.json").read_text())["compare"]["AP"]["difference"] == 0
    assert (run / "val" / "metrics.json").read_bytes() == before
    assert "evaluated on the more-val split" in (run / "more-val" / "report.html").read_text()
    assert not (run / "report.html").exists()  # it is about the run's own splits
    capsys.readouterr()


def test_e17_other_classes_are_refused(run, tmp_path, capsys):
    document = coco_file.read(run / "val.json")
    document["categories"][0]["name"] = "screw"
    coco_file.write({**document, "info": {"image_root": "images"}}, tmp_path / "other.json")
    assert main(["evaluate", str(run), "--data", str(tmp_path / "other.json")]) == 2
    assert "screw" in capsys.readouterr().err


def test_e21_evaluation_draws_no_dice(run):
    """No augmentation, no sampling, no training mode: the same detections every time."""
    from toolkit.prediction.detect_in_batches import detect_document
    from toolkit.prediction.torch_detector import TorchDetector

    document = coco_file.read(run / "val.json")
    root = coco_file.image_root(document, run / "val.json")
    first = detect_document(TorchDetector(run, "cpu"), document, root)
    assert first
    assert detect_document(TorchDetector(run, "cpu"), document, root) == first


def test_a_class_that_training_never_saw_is_said(run):
    document = coco_file.read(run / "val.json")
    document["annotations"] = [a for a in document["annotations"] if a["category_id"] != 3]
    coco_file.write(document, run / "train.json")
    metrics = evaluate_run(run, "val", settings=Settings(resamples=0))
    assert any("washer" in text and "none in the training images" in text for text in metrics["warnings"])


def test_what_is_missing_is_named(run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--split", "holiday"]) == 2
    assert "holiday.json" in capsys.readouterr().err
    (run / "test.json").unlink()
    (run / "val.json").unlink()
    assert main(["evaluate", str(run)]) == 2
    assert f"{run / 'val.json'}: not found; needs a run with a val split" in capsys.readouterr().err


def test_what_is_no_run_is_refused_and_says_what_it_is(run, split, tmp_path, capsys):
    (tmp_path / "empty").mkdir()
    cases = {
        tmp_path / "nothing": "not found; needs a run folder",
        tmp_path / "empty": "is not a run folder; needs runs/NAME",
        split: "is not a run folder; it holds labels",
        run.parent: "is not a run folder; it holds the runs run",
    }
    for folder, text in cases.items():
        before = sorted(folder.rglob("*"))
        for command in (["evaluate"], ["report"], ["report", "--latex"], ["train", "--resume"]):
            assert main([*command, str(folder)]) == 2, command
            assert f"error: {folder}: {text}" in capsys.readouterr().err
        assert sorted(folder.rglob("*")) == before


def test_test_is_the_default_where_there_is_one_and_the_split_is_named_first(run, capsys):
    assert main(["evaluate", str(run), "--resamples", "0", "--no-report"]) == 0
    captured = capsys.readouterr()
    assert captured.out.startswith("test split: ")
    assert "had no score thresholds, so they were chosen on these images" in captured.err  # val was never evaluated
    (run / "test.json").unlink()
    words = ["evaluate", str(run), "--resamples", "20", "--no-report", "--compare", str(run)]
    assert main(words) == 0
    out = capsys.readouterr().out
    assert "look a little too good: quote those of a test split" in out.splitlines()[0]
    assert out.startswith("val split: ") and "of the val split, which chose epoch and thresholds of A" in out


def test_a_run_that_still_trains_or_was_cut_off_says_so(run):
    from toolkit.training.run_folder import Lock, update_run

    update_run(run, status="running")
    said = lambda: [t for t in evaluate_run(run, settings=Settings(resamples=0))["warnings"] if "so far" in t]  # noqa: E731
    with Lock(run):
        (text,) = said()
        assert f"{run} is still training: these are the numbers of its best checkpoint so far, of epoch 3" in text
    assert "was cut off before it ended" in said()[0]
    update_run(run, status="finished")
    assert said() == []


# --- many trainings --------------------------------------------------------------------------------------------


class MadeUp:
    """Stands for `toolkit.run.train`: detections of fixed quality instead of a network; counts and may fail."""

    def __init__(self, monkeypatch, fail_at: int = 0, more_is_better: bool = False) -> None:
        self.calls: list[tuple[Path, dict]] = []
        self.fail_at, self.more_is_better = fail_at, more_is_better
        monkeypatch.setattr(crossval_module, "train", self)

    def __call__(self, labels: Path, *, runs: Path, name: str, **options) -> None:
        self.calls.append((labels, options))
        if len(self.calls) == self.fail_at:
            raise MachineError("no memory")
        train = coco_file.read(labels / "train.json")
        for split in ("val", "test"):
            if not (labels / f"{split}.json").is_file():
                continue
            document = coco_file.read(labels / f"{split}.json")
            share = len(train["images"]) / 40 if self.more_is_better else 0.8
            found = [
                {"image_id": a["image_id"], "category_id": a["category_id"], "bbox": a["bbox"], "score": 0.9}
                for i, a in enumerate(document["annotations"])
                if (i * 7919 % 100) / 100 < share
            ]
            evaluation = compute_metrics(document, found, Settings(resamples=0), split=split)
            write_evaluation(runs / name / split, evaluation, labels)


@pytest.fixture
def labelled(tmp_path) -> Path:
    document, _ = scene(2, images=20)
    draw_images(document, tmp_path / "images")
    coco_file.write({**document, "info": {"image_root": "images"}}, tmp_path / "annotations.json")
    return tmp_path / "annotations.json"


def test_every_image_is_judged_once_by_a_network_that_never_saw_it(labelled, tmp_path, monkeypatch):
    train = MadeUp(monkeypatch)
    metrics = crossval(labelled, tmp_path / "cv", 4, settings=Settings(resamples=20), epochs=3)
    assert len(train.calls) == 4
    judged: list[str] = []
    for labels, options in train.calls:
        assert options == {"epochs": 3, "model": train.calls[0][1]["model"]}
        parts = {
            part: {i["file_name"] for i in coco_file.read(labels / f"{part}.json")["images"]}
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


def test_a_stopped_cross_validation_goes_on(labelled, tmp_path, monkeypatch, caplog):
    MadeUp(monkeypatch, fail_at=3)
    with pytest.raises(MachineError, match="no memory"):
        crossval(labelled, tmp_path / "cv", 4)
    assert "fold3: training did not end; the same command again goes on" in caplog.text
    train = MadeUp(monkeypatch)
    crossval(labelled, tmp_path / "cv", 4, settings=Settings(resamples=0))
    assert len(train.calls) == 2  # two folds were done
    with pytest.raises(InputError, match="other labels, folds or seed"):
        crossval(labelled, tmp_path / "cv", 5)
    with pytest.raises(InputError, match="other labels, folds or seed"):
        crossval(labelled, tmp_path / "cv", 4, seed=1)
    with pytest.raises(InputError, match="needs 3 or more"):
        crossval(labelled, tmp_path / "two", 2)


def test_trainings_of_two_recipes_are_not_mixed(labelled, tmp_path, monkeypatch):
    out = tmp_path / "cv"
    MadeUp(monkeypatch, fail_at=1)
    with pytest.raises(MachineError, match="no memory"):
        crossval(labelled, out, 3, epochs=2)
    MadeUp(monkeypatch, fail_at=3)
    with pytest.raises(MachineError, match="no memory"):  # nothing was trained yet: other options are fine
        crossval(labelled, out, 3, epochs=3, lr=0.01)
    with pytest.raises(InputError, match=r"cv: its trainings have --lr 0\.01, found 0\.02; use another --name"):
        crossval(labelled, out, 3, epochs=3, lr=0.02)
    train = MadeUp(monkeypatch)
    (out / "recipe.json").unlink()  # as an older version left it
    crossval(labelled, out, 3, epochs=3, lr=0.01, device="cpu", settings=Settings(resamples=0))
    assert len(train.calls) == 1
    crossval(labelled, out, 3, epochs=3, lr=0.01, workers=0, settings=Settings(resamples=0))
    (out / "recipe.json").write_text("[1]")
    with pytest.raises(InputError, match=r"recipe\.json"):
        crossval(labelled, out, 3, epochs=3, lr=0.01)


def test_folds_of_pictures_that_images_names(labelled, tmp_path, monkeypatch):
    images = (tmp_path / "images").rename(tmp_path / "elsewhere")  # which the file does not know
    train = MadeUp(monkeypatch)
    crossval(labelled, tmp_path / "cv", 3, image_root=images, settings=Settings(resamples=0))
    for folder, _ in train.calls:
        part = coco_file.read(folder / "test.json")
        root = coco_file.image_root(part, folder / "test.json")
        assert all((root / image["file_name"]).is_file() for image in part["images"])


def test_crossval_shows_first_what_is_to_be_quoted(labelled, tmp_path, monkeypatch):
    from toolkit.report import evaluation_text
    from toolkit.report.write_report import write_report

    MadeUp(monkeypatch)
    metrics = crossval(labelled, tmp_path / "cv", 4, settings=Settings(resamples=0))
    aps = [row["AP"] for row in metrics["crossval"]["folds"]]
    mean = sum(aps) / 4
    sd = (sum((ap - mean) ** 2 for ap in aps) / 3) ** 0.5
    quoted = f"{mean:.3f} ± {sd:.3f}"
    lines = evaluation_text.terminal(metrics).splitlines()
    assert lines[0].startswith(f"AP     {quoted}") and "mean ± sd of 4 folds" in lines[0]
    assert lines.index("Pooled over the folds:") > 5
    page = write_report(tmp_path / "cv", "").read_text()
    assert page.index(quoted) < page.index("<table")
    headline = page[page.index('<div class="number main">') : page.index("<table")]
    assert f"{metrics['AP']:.3f}</div>" not in headline


def test_folds_do_not_send_to_crossval(labelled, tmp_path, monkeypatch, caplog):
    def train(*words, **options):
        for text in ("test: SMALL SET: evaluated on 4 images", "the disk is slow"):
            logging.getLogger("toolkit.fine_tune").warning(text)

    monkeypatch.setattr(crossval_module, "train", train)
    crossval_module.train_or_resume(tmp_path / "fold1", labelled, {})
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == ["the disk is slow"]
    train()
    assert "SMALL SET" in caplog.text  # of any other run


@pytest.fixture
def split(labelled, tmp_path) -> Path:
    assert (
        main(["split", str(labelled), "--train", ".6", "--val", ".4", "--test", "0", "--out", str(tmp_path / "split")])
        == 0
    )
    return tmp_path / "split"


def test_the_curve_trains_on_growing_parts(split, tmp_path, monkeypatch):
    train = MadeUp(monkeypatch, more_is_better=True)
    words = (split, tmp_path / "curve", [0.25, 0.5, 1.0], [0, 1])
    tiny = {"model": "fasterrcnn_tiny_fpn", "epochs": 3}  # what this machine would choose has a recipe of its own
    result = label_curve(*words, **tiny)
    assert [p["num_images"] for p in result["points"]] == [3, 6, 12, 3, 6, 12]
    assert len(train.calls) == 6
    # 12 images are 3 batches of 4, 9 steps in 3 epochs; 3 images are 1 batch: 9 epochs; 6 are 2: 4 (of 4.5)
    lengths = [(options["seed"], options["epochs"], options["eval_every"]) for _, options in train.calls]
    assert lengths == [(seed, *length) for seed in (0, 1) for length in ((9, 3), (4, 2), (3, 1))]
    values = [p["AP"] for p in result["points"]][:3]
    assert values == sorted(values)
    assert result["fit"]["AP_ahead"] >= result["fit"]["AP_now"]
    page = (tmp_path / "curve" / "curve.html").read_text()
    assert result["fit"]["answer"] in page
    assert "http:/" not in page and "https:/" not in page
    again = MadeUp(monkeypatch)
    label_curve(*words, **tiny)
    assert again.calls == []  # done before
    label_curve(split, tmp_path / "curve", [0.254], [0], **tiny)
    assert len(again.calls) == 1  # another share than 0.25, whose training it must not take for its own


def test_all_trainings_of_a_curve_have_one_network_which_is_said_once(split, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    train = MadeUp(monkeypatch)
    label_curve(split, tmp_path / "curve", [0.5, 1.0], [0], device="cpu")
    assert len({options["model"] for _, options in train.calls}) == 1 and len(train.calls) == 2
    assert caplog.text.count("network: ") == 1


def test_a_part_is_evaluated_at_its_end_at_the_latest():
    # 8 images are 2 batches of 4, in 2 epochs 4 steps; 4 images are 1 batch: 4 epochs, and between evaluations 8
    document = {"images": [{"id": i} for i in range(8)]}
    options = {"model": "fasterrcnn_tiny_fpn", "epochs": 2, "eval_every": 4, "batch_size": 4}
    made, steps = equal_steps(document, options, 4)
    assert (made["epochs"], made["eval_every"], steps) == (4, 4, 4)


def test_parts_are_nested_and_hold_every_class_early():
    document, _ = scene(3, images=20)
    small, large = part_of(document, 0.25, 7), part_of(document, 0.75, 7)
    assert {i["id"] for i in small["images"]} < {i["id"] for i in large["images"]}
    assert {a["category_id"] for a in small["annotations"]} == {1, 2, 3}
    assert part_of(document, 0.25, 7) == small != part_of(document, 0.25, 8)
    assert part_of(document, 1.0, 7)["annotations"] == document["annotations"]


def test_shares_that_cannot_be_are_refused(split, tmp_path, capsys):
    with pytest.raises(InputError, match="--fractions"):
        label_curve(split, tmp_path / "c", [0.0], [0])
    with pytest.raises(InputError, match="holds no train"):
        label_curve(tmp_path, tmp_path / "c", [1.0], [0])
    (split / "val.json").unlink()
    assert main(["curve", str(split), "--dry-run"]) == 2
    assert "holds no val.json" in capsys.readouterr().err


@pytest.mark.slow
def test_both_with_real_trainings(labelled, split, tmp_path, capsys):
    from tests.toolkit.training_fixtures import TINY

    flags = [word for word in TINY if word != "--no-report"]
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["crossval", str(labelled), "--folds", "3", *runs, *flags]) == 0
    out, err = capsys.readouterr()
    assert "fold  images  objects" in out and "SMALL SET" not in out + err
    assert "Folds" in (tmp_path / "runs" / "crossval" / "report.html").read_text()
    assert main(["curve", str(split), "--fractions", "0.5", "1", "--seeds", "0", *runs, *flags]) == 0
    assert "curve.html" in capsys.readouterr().out
