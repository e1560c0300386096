"""Runs: learning, exact resume, early stop, refusals; the commands from train to table and compare."""

from __future__ import annotations

import dataclasses
import json
import os
import signal

import pytest
import torch

from label_tools.files.marked_folders import MARKER
from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.single_object import baseline_task, baselines, compare_with_detector, results_table
from toolkit.single_object.baselines import Recipe, recipe_of, restored
from toolkit.single_object.data import digits, purdue_shapes5
from toolkit.stopping import Stopped
from toolkit.training import run_folder
from toolkit.training.optimizer_step import Stepper
from toolkit.training.write_logs import each_metric

FEW = ["--train-images", "4", "--val-images", "4"]
RECIPE = Recipe("cnn1", "digits", "bce + 4*mse + ce", epochs=3, batch=16, lr=1e-3, log_every=1)


@pytest.fixture(scope="module")
def pair():
    return digits.draw_digits(70, seed=0, part="train"), digits.draw_digits(30, seed=1, part="val")


def folder_of(tmp_path, name):
    return run_folder.create(tmp_path, name)


def test_loss_falls_and_everything_is_written(tmp_path, pair):
    folder = folder_of(tmp_path, "a")
    recipe = dataclasses.replace(RECIPE, epochs=6)
    result = baseline_task.fit(recipe, folder, pair[0], pair[0].first(20))
    records = list(each_metric(folder))
    epochs = [r for r in records if r["kind"] == "epoch"]
    assert len(epochs) == 6 and len([r for r in records if r["kind"] == "step"]) == 6 * 5
    assert sum(epochs[-1]["train_loss"].values()) < 0.8 * sum(epochs[0]["train_loss"].values())
    assert {"last", "best", "metrics.jsonl", "results.csv", "result.json"} <= {p.name for p in folder.iterdir()}
    assert result["parameters"] == 697_935 and result["weights"] == "last"
    baseline, network = restored(checkpoint.load(checkpoint.find(folder, "last")))
    from toolkit.single_object import evaluate_baseline

    again, _ = evaluate_baseline.evaluate(network, baseline, pair[0].first(20), torch.device("cpu"))
    assert again["mean_iou"] == pytest.approx(result["metrics"]["mean_iou"], abs=1e-5)
    assert again["accuracy"] == result["metrics"]["accuracy"]


def stop_at(monkeypatch, step: int, signum=signal.SIGTERM):
    original = Stepper.update

    def stepping(self, batch):
        rate = original(self, batch)
        if self.state.step == step:
            os.kill(os.getpid(), signum)
        return rate

    monkeypatch.setattr(Stepper, "update", stepping)


@pytest.mark.parametrize("step", [2, 4])  # in the first epoch, in the second
def test_resumed_run_is_the_run_that_was_not_stopped(tmp_path, pair, monkeypatch, step):
    # cnn2 has dropout: the generators must be restored too
    recipe = dataclasses.replace(RECIPE, baseline="cnn2", epochs=2)
    whole, parts = folder_of(tmp_path, "whole"), folder_of(tmp_path, "parts")
    small = (pair[0].first(40), pair[1].first(10))
    expected = baseline_task.fit(recipe, whole, *small)
    with monkeypatch.context() as patch:
        stop_at(patch, step)
        with pytest.raises(Stopped) as stopped:
            baseline_task.fit(recipe, parts, *small)
    assert stopped.value.exit_code == 143
    found, _ = checkpoint.load_last(parts)
    assert found.meta["step"] == step
    torch.rand(5)  # other things happen in between
    result = baseline_task.fit(recipe_of(found.meta, parts)[1], parts, *small, resume=found)
    assert result["metrics"] == expected["metrics"] and result["steps"] == expected["steps"]
    a, b = (checkpoint.load(f / "last").weights for f in (whole, parts))
    assert all(torch.equal(a[name], b[name]) for name in a)
    losses = [[r.get("train_loss", r.get("loss")) for r in each_metric(f)] for f in (whole, parts)]
    assert losses[0] == losses[1]


def test_other_pictures_are_not_resumed(tmp_path, pair, monkeypatch):
    folder = folder_of(tmp_path, "a")
    baseline_task.fit(dataclasses.replace(RECIPE, epochs=1), folder, pair[0].first(32), pair[1].first(5))
    found, _ = checkpoint.load_last(folder)
    with pytest.raises(InputError, match="not those that it began with"):
        baseline_task.fit(RECIPE, folder, pair[1].first(20), pair[1].first(5), resume=found)


def test_early_stop(tmp_path, pair):
    # a learning rate that moves nothing: the first epoch stays the best
    recipe = dataclasses.replace(RECIPE, epochs=9, lr=1e-30, patience=2)
    result = baseline_task.fit(recipe, folder_of(tmp_path, "a"), pair[0].first(32), pair[1].first(8))
    assert result["epochs"] == 3 and result["best_epoch"] == 1 and "early stop" in result["ended"]


def test_loss_that_is_not_finite_is_named_and_nothing_of_it_saved(tmp_path, pair):
    recipe = dataclasses.replace(RECIPE, lr=1e30)
    folder = folder_of(tmp_path, "a")
    with pytest.raises(
        InputError, match=r"step \d+, epoch 1, .*nan on images digits_.* and 8 more: loss is not finite"
    ):
        baseline_task.fit(recipe, folder, pair[0], pair[1].first(8))
    assert checkpoint.load(folder / "last").meta["step"] == 0  # that of the beginning


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"epochs": 0}, "--epochs 0"),
        ({"batch": 0}, "--batch 0"),
        ({"lr": float("nan")}, "--lr nan"),
        ({"loss": "ce + foo"}, "found 'foo'"),
        ({"baseline": "cnn9"}, "unknown"),
        ({"baseline": "loadhead", "options": {"num_classes": 10}, "loss": "bce + ce"}, "leave bce out"),
        ({"options": {"depth": 3}}, "does not take"),
    ],
)
def test_recipes_that_cannot_work(tmp_path, pair, change, text):
    with pytest.raises(InputError, match=text):
        baseline_task.fit(dataclasses.replace(RECIPE, **change), folder_of(tmp_path, "a"), pair[0], pair[1])


def test_last_batch_of_one_image_is_left_out(tmp_path, pair):
    recipe = dataclasses.replace(RECIPE, baseline="cnn3", epochs=1, batch=16)
    result = baseline_task.fit(recipe, folder_of(tmp_path, "a"), pair[0].first(33), pair[1].first(4))
    assert result["steps"] == 2  # BatchNorm1d refuses a batch of one; 33 = 2 * 16 + 1


@pytest.mark.parametrize("name", ["grid1", "loadnet2"])
def test_other_forms_train(tmp_path, name):
    from toolkit.single_object.data import digits

    baseline = baselines.find(name)
    data = digits.draw_digit_grid(8, seed=0, part="train") if baseline.grid else purdue_shapes5.draw_shapes5(8, seed=0)
    recipe = dataclasses.replace(
        RECIPE,
        baseline=name,
        data=data.name,
        loss=baseline.loss,
        epochs=1,
        batch=4,
        lr=1e-4,
        options=baseline.options(5),
    )
    result = baseline_task.fit(recipe, folder_of(tmp_path, "a"), data, data)
    assert result["steps"] == 2 and result["metrics"]["num_images"] == 8


def test_bf16_trains(tmp_path, pair):
    recipe = dataclasses.replace(RECIPE, epochs=1, precision="bf16")
    assert baseline_task.fit(recipe, folder_of(tmp_path, "a"), pair[0], pair[1].first(8))["steps"] == 5


# --- commands ----------------------------------------------------------------------------------------------------


def test_list(capsys):
    assert main(["baseline", "list", "--json"]) == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["hw5net"]["parameters"] == 211_083_307 and rows["cnn1"]["reported"]["accuracy"] == 0.7595
    assert "100 epochs" in rows["cnn1"]["budget"]


def test_train_resume_and_table(tmp_path, capsys):
    runs = ["--runs", str(tmp_path / "runs")]
    few = ["--train-images", "40", "--val-images", "30", "--epochs", "1", *runs]
    few += ["--schedule", "constant"]  # epochs can be added
    assert main(["baseline", "train", "cnn1", *few]) == 0
    folder = tmp_path / "runs" / "cnn1"
    assert "accuracy" in capsys.readouterr().out
    assert (folder / "curves.png").exists() and (folder / "answers.png").exists()
    assert run_folder.read_json(folder / "run.json")["status"] == "finished"
    assert main(["baseline", "train", "--resume", str(folder), "--epochs", "2"]) == 0
    assert run_folder.read_json(folder / "result.json")["epochs"] == 2
    assert main(["baseline", "train", "cnn1", *few, "--as", "other", "--seed", "1"]) == 0
    assert main(["baseline", "table", "--read", "--out", str(tmp_path), *runs]) == 0
    text = (tmp_path / "baselines.md").read_text()
    assert text.count("| cnn1 | 697,935 | digits, drawn: 40 images") == 2 and "0.759" in text
    assert "finds nothing, digits" in text and "No finished run: loadnet2" in text
    assert (tmp_path / "baselines.png").stat().st_size > 5000
    assert len(results_table.finished(tmp_path / "runs", "cnn1", "scaled", 1)) == 1
    # a second table trains nothing that is there
    assert main(["baseline", "table", "cnn1", "--out", str(tmp_path), *runs]) == 0
    assert len(list((tmp_path / "runs").iterdir())) == 2


def test_table_without_runs_says_so(tmp_path, capsys):
    assert main(["baseline", "table", "--read", "--runs", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "holds no finished run" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cnn1", "--data", "shapes5", *FEW], "60 x 48 with 1 channel, shapes5 has 32 x 32 with 3 channels"),
        (["cnn1", "--backbone", "resnet18", *FEW], "--backbone and --weights are for"),
        ([], "needs a NAME"),
    ],
)
def test_commands_that_cannot_work(tmp_path, capsys, words, text):
    assert main(["baseline", "train", *words, "--runs", str(tmp_path)]) == 2
    error = capsys.readouterr().err
    assert text in error and not list(tmp_path.iterdir())


def test_sheet(tmp_path, capsys):
    out = tmp_path / "sheet.png"
    assert main(["baseline", "sheet", "--data", "shapes5-noise20", "--count", "9", "--out", str(out)]) == 0
    assert out.stat().st_size > 1000


def test_checkpoint_of_something_else_is_refused(tmp_path):
    with pytest.raises(InputError, match="is not a single-object baseline"):
        recipe_of({"kind": "detector"}, tmp_path)


def detector_run(tmp_path, document: dict) -> object:
    """A run folder of an untrained compact Faster R-CNN."""
    from toolkit.networks import builder

    sizes = {"min_size": 64, "max_size": 96, "box_score_thresh": 0.01, "box_detections_per_img": 5}
    model, architecture, _ = builder.build(
        "fasterrcnn_tiny_fpn", 3, weights="none", trainable_layers=5, norm="auto", batch_size=8, sizes=sizes
    )
    folder = tmp_path / "detector"
    meta = {"classes": document["categories"], "architecture": architecture, "epoch": 0, "score_thresholds": {}}
    checkpoint.save(folder / "best", meta, model.state_dict(), None)
    return folder


def test_compare_beside_a_detector(tmp_path, toy_set, capsys):
    train, val = toy_set("train", 8), toy_set("val", 8, seed=5)
    runs = ["--runs", str(tmp_path / "runs")]
    words = [
        "baseline",
        "train",
        "loadhead",
        "--data",
        str(train),
        "--val",
        str(val),
        "--size",
        "64",
        "--epochs",
        "1",
        "--keep-empty",
        "--batch",
        "4",
        "--backbone",
        "mobilenet_v3_small",
        *runs,
    ]
    assert main(words) == 0
    document = json.loads(val.read_text())
    detector = detector_run(tmp_path, document)
    out = tmp_path / "out"
    capsys.readouterr()
    loadhead = tmp_path / "runs" / "loadhead"
    words = ["baseline", "compare", str(loadhead), "--detector", str(detector), "--data", str(val)]
    assert main([*words, "--out", str(out), "--json"]) == 0
    numbers = json.loads(capsys.readouterr().out)
    groups = numbers["sides"]["detector"]["groups"]
    counts = [sum(a["image_id"] == i["id"] for a in document["annotations"]) for i in document["images"]]
    assert groups["one object"]["num_images"] == counts.count(1)
    assert groups["several objects"]["num_images"] == sum(c > 1 for c in counts)
    assert groups["no object"]["num_images"] == counts.count(0) and groups["no object"]["accuracy"] is None
    network = restored(checkpoint.load(loadhead / "best"))[1]
    assert numbers["sides"]["baseline"]["parameters"] == sum(p.numel() for p in network.parameters())
    assert "AP, all objects" in (out / "compare.md").read_text() and (out / "compare.png").exists()
    assert main(["baseline", "compare", str(loadhead), "--detector", str(loadhead), "--data", str(val)]) == 2
    assert "is a single-object baseline; needs a run of `frcnn train`" in capsys.readouterr().err
    assert main(words) == 0
    (loadhead / "compare" / MARKER).unlink()  # an older version wrote none
    assert main(words) == 0
    (loadhead / "compare" / "compare.md").write_text("my notes")
    assert main(words) == 2 and "was changed since" in capsys.readouterr().err
    document["images"][0]["width"] += 8  # boxes would mean other places
    val.write_text(json.dumps(document))
    assert main([*words, "--out", str(tmp_path / "never")]) == 2
    assert "pixels, its labels say" in capsys.readouterr().err and not (tmp_path / "never").exists()


def test_main_answer_is_the_largest_confident_one_else_the_best():
    def detection(score, side):
        return {"score": score, "bbox": [0, 0, side, side], "category_id": 1}

    def found(*detections):
        return compare_with_detector.Found(list(detections), 0)

    assert found(detection(0.9, 5), detection(0.6, 9), detection(0.3, 50)).main()["score"] == 0.6
    assert found(detection(0.2, 5), detection(0.3, 2)).main()["score"] == 0.3
    assert found().main() is None and not found(detection(0.4, 5)).confident()


def test_the_groups_of_a_comparison():
    side = lambda pixels: {"bbox": [0, 0, pixels, pixels]}  # noqa: E731
    document = {"images": [{"id": i, "width": 100, "height": 100} for i in (1, 2, 3)]}
    # 14 x 14 are under 2 % of 10,000, 15 x 15 are not
    objects, truth = {1: [side(14)], 2: [side(15), side(5)], 3: []}, {1: side(14), 2: side(15), 3: None}
    assert compare_with_detector._groups(document, objects, truth) == {
        "with objects": [1, 2],
        "one object": [1],
        "several objects": [2],
        "largest object small": [1],
        "no object": [3],
    }


def test_compare_refuses_a_baseline_of_drawn_data(tmp_path, pair):
    folder = folder_of(tmp_path, "a")
    baseline_task.fit(dataclasses.replace(RECIPE, epochs=1), folder, pair[0].first(16), pair[1].first(4))
    with pytest.raises(InputError, match="was trained on digits; compare needs a baseline"):
        compare_with_detector.SingleObjectPredictor(folder, "cpu")
