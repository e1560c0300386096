"""`frcnn baseline` as a hostile or hasty user types it: one line, exit code 2, nothing left behind; resume, signals."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.__main__ import main
from toolkit.single_object import baseline_task, baselines, evaluate_baseline, results_table
from toolkit.single_object.data.samples import shared
from toolkit.single_object.evaluate_baseline import single_metrics
from toolkit.training import epoch_loop, run_folder
from toolkit.training.optimizer_step import Stepper

DRAWN = ["--train-images", "6", "--val-images", "4", "--epochs", "1"]
SMALL = ["--backbone", "fasterrcnn_tiny_fpn", "--size", "64", "--epochs", "1"]


def coco_folder(folder, train: int = 4, val: int = 2, classes=("cat", "dog")):
    """A folder of `frcnn split`: noise, one large box an image."""
    random = np.random.default_rng(len(str(folder)))
    folder.mkdir()
    for part, count in (("train", train), ("val", val)):
        images, annotations = [], []
        for i in range(1, count + 1):
            name = f"{part}{i}.png"
            Image.fromarray(random.integers(0, 255, (60, 80, 3), dtype=np.uint8)).save(folder / name)
            images.append({"id": i, "file_name": name, "width": 80, "height": 60})
            annotations.append(
                {
                    "id": i,
                    "image_id": i,
                    "category_id": 1 + i % 2,
                    "bbox": [5, 5, 50, 40],
                    "area": 2000,
                    "iscrowd": 0,
                    "segmentation": [],
                }
            )
        categories = [{"id": i, "name": name} for i, name in enumerate(classes, 1)]
        document = {"info": {}, "images": images, "annotations": annotations, "categories": categories}
        (folder / f"{part}.json").write_text(json.dumps(document))
    return folder


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["cnn1", *DRAWN, "--loss", "nonsense"], "found 'nonsense', needs terms like"),
        (["cnn1", *DRAWN, "--loss", ""], "--loss ''"),
        (["grid1", *DRAWN, "--loss", "ce"], "a grid detector takes grid_document or grid"),
        (["loadhead", *DRAWN, "--size", "64", "--loss", "bce + ce"], "leave bce out"),
        (["cnn1", *DRAWN, "--loss", "4*mse + ce"], "does not train the presence output of cnn1; needs bce, too"),
        (["loadhead", *DRAWN, "--size", "0"], "--size 0: needs 16"),
        (["cnn1", *DRAWN[:4], "--epochs", "0"], "--epochs 0: needs 1"),
        (["cnn1", *DRAWN, "--batch", "0"], "--batch 0: needs 1"),
        (["cnn1", *DRAWN, "--lr", "0"], "--lr 0.0: needs"),
        (["cnn1", "--train-images", "-3"], "--train-images -3: needs 1"),
        (["cnn1", "--val-images", "0"], "--val-images 0: needs 1"),
        (["cnn1", *DRAWN, "--max-time", "nan"], "--max-time nan: needs minutes"),
        (["cnn1", *DRAWN, "--max-time", "-1"], "--max-time -1.0: needs minutes"),
        (["cnn1", *DRAWN, "--seed", "9" * 18], "--seed 999999999999999999: needs 0"),
        (["cnn1", *DRAWN, "--device", "cuda:99"], "--device cuda:99"),
        (["cnn1", *DRAWN, "--as", "../x"], "--as '../x': needs a plain folder name"),
        (["cnn1", *DRAWN, "--as", "a\nb"], "needs a plain folder name"),
        (["cnn1", *DRAWN, "--val", "val.json"], "--val val.json: is for files"),
        (["loadhead", *DRAWN, "--size", "32", "--backbone", "alexnet"], "cannot take pictures of 32 x 32"),
        (["loadhead", *DRAWN, "--size", "64", "--backbone", "vit_b_16"], "ends in no map of features"),
        (["loadhead", *DRAWN, "--size", "64", "--backbone", "swin_t"], "gives [1, 2, 2, 768], no [B,C,S,S]"),
        (["hw5net_light", *DRAWN, "--size", "64", "--batch", "1"], "a batch of one picture, 6 pictures and --batch 1"),
        (["hw5net_light", "--train-images", "1", "--val-images", "1", "--size", "64"], "1 picture and --batch 16"),
    ],
)
def test_refused_in_a_line_before_a_run_folder_is_made(tmp_path, capsys, words, text):
    assert main(["baseline", "train", *words, "--runs", str(tmp_path)]) == 2
    *_, last = capsys.readouterr().err.splitlines()
    assert last.startswith("error: ") and text in last and not list(tmp_path.iterdir())


def test_options_of_drawn_pictures_are_not_taken_for_files(tmp_path, capsys):
    data = coco_folder(tmp_path / "labels")
    words = ["baseline", "train", "loadhead", "--data", str(data), *SMALL, "--runs", str(tmp_path / "runs")]
    assert main([*words, "--train-images", "4"]) == 2
    assert "is read whole" in capsys.readouterr().err and not (tmp_path / "runs").exists()


def test_loadhead_takes_the_size_of_its_pictures(tmp_path):
    words = ["baseline", "train", "loadhead", "--data", "shapes5", *DRAWN, "--backbone", "fasterrcnn_tiny_fpn"]
    assert main([*words, "--runs", str(tmp_path)]) == 0  # 32 x 32, where its budget says 64
    assert checkpoint.load(tmp_path / "loadhead" / "last").meta["architecture"]["image_size"] == 32


def test_pictures_in_both_parts_are_counted(tmp_path, capsys):
    data = coco_folder(tmp_path / "labels")
    shutil.copy(data / "train1.png", data / "val2.png")
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["baseline", "train", "loadhead", "--data", str(data), *SMALL, *runs]) == 0
    assert "warning: 1 picture of 2 in val also in train" in capsys.readouterr().err
    from toolkit.single_object.data import purdue_shapes5

    train, val = purdue_shapes5.draw_shapes5(30, seed=0), purdue_shapes5.draw_shapes5(30, seed=1)
    assert shared(train, val) == 0 and shared(train, train.first(7)) == 7


# --- resume ------------------------------------------------------------------------------------------------------


@pytest.fixture
def stopped_run(tmp_path, monkeypatch):
    """A run of cnn1, two epochs of three steps, stopped by SIGINT after its second step."""
    data = ["--train-images", "48", "--val-images", "6", "--epochs", "2", "--batch", "16", "--patience", "7"]
    words = ["baseline", "train", "cnn1", *data, "--runs", str(tmp_path)]
    original = Stepper.update

    def stepping(self, batch):
        rate = original(self, batch)
        if self.state.step == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return rate

    with monkeypatch.context() as patch:
        patch.setattr(Stepper, "update", stepping)
        assert main(words) == 130
    return tmp_path / "cnn1", words


def test_command_goes_on_as_if_nothing_had_happened(stopped_run, capsys):
    folder, words = stopped_run
    assert run_folder.read_json(folder / "run.json")["status"] == "stopped"
    assert main(["baseline", "train", "--resume", str(folder)]) == 0
    assert main([*words, "--as", "whole"]) == 0
    runs = [checkpoint.load(f / "last") for f in (folder, folder.with_name("whole"))]
    assert all(torch.equal(runs[0].weights[name], runs[1].weights[name]) for name in runs[1].weights)
    assert runs[0].meta["recipe"] == runs[1].meta["recipe"]
    results = [run_folder.read_json(f.folder.parent / "result.json")["metrics"] for f in runs]
    assert results[0] == results[1]
    capsys.readouterr()
    before = (folder / "result.json").read_bytes()
    assert main(["baseline", "train", "--resume", str(folder)]) == 0  # a finished run says so, and is left alone
    assert "is already finished (finished)" in capsys.readouterr().out
    assert (folder / "result.json").read_bytes() == before


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--lr", "0.5"], "--lr cannot change in a run"),
        (["--as", "x"], "--as cannot change"),
        (["--data", "shapes5"], "--data cannot change"),
        (["--epochs", "0"], "--epochs 0: needs 1"),
    ],
)
def test_resume_refuses_what_it_would_not_heed(stopped_run, capsys, words, text):
    folder, _ = stopped_run
    before = (folder / "run.json").read_bytes()
    assert main(["baseline", "train", "--resume", str(folder), *words]) == 2
    assert text in capsys.readouterr().err and (folder / "run.json").read_bytes() == before


def test_resume_of_another_baseline_is_refused(stopped_run, capsys):
    folder, _ = stopped_run
    assert main(["baseline", "train", "cnn2", "--resume", str(folder)]) == 2
    assert "is a run of cnn1, found cnn2" in capsys.readouterr().err


def test_resume_passes_over_a_damaged_last_and_keeps_the_intact_one(tmp_path, capsys, monkeypatch):
    runs = ["--runs", str(tmp_path)]
    words = ["--train-images", "16", "--val-images", "4", "--epochs", "2", "--batch", "16", *runs]
    assert main(["baseline", "train", "cnn1", *words]) == 0
    folder = tmp_path / "cnn1"
    run_folder.update_run(folder, status="stopped")
    weights = folder / "last" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-5])
    monkeypatch.setattr(epoch_loop._Loop, "_close_epoch", lambda *_: (_ for _ in ()).throw(InputError("killed")))
    assert main(["baseline", "train", "--resume", str(folder)]) == 2
    assert "is damaged" in capsys.readouterr().err
    # nothing damaged is left that the next save would put in the place of the intact one
    assert checkpoint.load(folder / "previous").meta["epoch"] == 1 and not (folder / "last").exists()


def test_every_checkpoint_damaged(stopped_run, capsys):
    folder, _ = stopped_run
    for name in ("last", "previous"):
        (folder / name / "checkpoint.json").write_text("{}")
    assert main(["baseline", "train", "--resume", str(folder)]) == 2
    assert "every checkpoint is damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("[]", "run.json: found a list"),
        ("{}", "does not say which data"),
        ('{"data": {"data": 1, "x": 2}}', "say which"),
    ],
)
def test_run_that_does_not_know_its_data(stopped_run, capsys, content, text):
    folder, _ = stopped_run
    (folder / "run.json").write_text(content)
    assert main(["baseline", "train", "--resume", str(folder)]) == 2
    assert text in capsys.readouterr().err


def test_a_run_that_is_being_written_is_not_tidied(stopped_run, capsys):
    folder, _ = stopped_run
    theirs = folder / ".last.frcnn-part"
    theirs.mkdir()
    with run_folder.Lock(folder):
        assert main(["baseline", "train", "--resume", str(folder)]) == 2
    assert "is writing this run" in capsys.readouterr().err and theirs.exists()


def test_other_pictures_to_judge_on_are_refused_and_the_run_is_left_as_it_was(tmp_path, capsys):
    data = coco_folder(tmp_path / "labels")
    words = ["baseline", "train", "loadhead", "--data", str(data), *SMALL, "--runs", str(tmp_path / "runs")]
    assert main([*words, "--schedule", "constant"]) == 0
    folder = tmp_path / "runs" / "loadhead"
    shutil.copy(data / "train1.png", data / "val1.png")
    before = (folder / "run.json").read_bytes()
    assert main(["baseline", "train", "--resume", str(folder), "--epochs", "2"]) == 2
    assert "the validation pictures or labels are not those" in capsys.readouterr().err
    assert (folder / "run.json").read_bytes() == before


def test_early_stop_stays_ended_until_more_patience_is_given(tmp_path, capsys):
    words = ["--train-images", "16", "--val-images", "4", "--epochs", "9", "--lr", "1e-30", "--patience", "1"]
    assert main(["baseline", "train", "cnn1", *words, "--runs", str(tmp_path)]) == 0
    folder = tmp_path / "cnn1"
    assert run_folder.read_json(folder / "result.json")["epochs"] == 2
    assert main(["baseline", "train", "--resume", str(folder)]) == 0
    assert "early stop: no better score in 1 evaluation" in capsys.readouterr().out
    assert main(["baseline", "train", "--resume", str(folder), "--patience", "3"]) == 0
    assert run_folder.read_json(folder / "result.json")["epochs"] == 4


# --- signals, disks, numbers that run away -----------------------------------------------------------------------


def test_ctrl_c_while_the_last_epoch_is_judged_ends_the_table_too(tmp_path, monkeypatch, capsys):
    few = baselines.Budget(1, 16, 1e-3, 16, 4)
    for name in ("cnn1", "cnn2"):
        tiny = dataclasses.replace(baselines.REGISTRY[name], scaled=few)
        monkeypatch.setitem(baselines.REGISTRY, name, tiny)
    original, calls = evaluate_baseline.evaluate, []

    def interrupted(*args):
        calls.append(1)
        if len(calls) == 1:
            os.kill(os.getpid(), signal.SIGINT)
        return original(*args)

    monkeypatch.setattr(evaluate_baseline, "evaluate", interrupted)
    words = ["baseline", "table", "cnn1", "cnn2", "--runs", str(tmp_path / "runs"), "--out", str(tmp_path)]
    assert main(words) == 130
    assert not (tmp_path / "runs" / "cnn2").exists()
    # another seed is another run; the same command again goes on
    assert main([*words[:3], *words[4:], "--seed", "1"]) == 0 and (tmp_path / "runs" / "cnn1-2").exists()
    capsys.readouterr()
    assert main(words) == 0
    assert f"cnn1: goes on with {tmp_path / 'runs' / 'cnn1'}\n" in capsys.readouterr().err
    assert run_folder.read_json(tmp_path / "runs" / "cnn1" / "result.json")["steps"] == 1
    assert sorted(p.name for p in (tmp_path / "runs").iterdir()) == ["cnn1", "cnn1-2", "cnn2"]


def test_long_epoch_is_saved_on_the_way(tmp_path, monkeypatch):
    """A kill in the middle costs at most the interval, here none."""
    monkeypatch.setattr(baseline_task, "SAVE_EVERY", 0.0)
    original, steps = Stepper.update, []

    def killed(self, batch):
        if len(steps) == 3:
            raise KeyboardInterrupt  # what leaves no time to save
        steps.append(original(self, batch))
        return steps[-1]

    monkeypatch.setattr(Stepper, "update", killed)
    words = ["cnn1", "--train-images", "40", "--val-images", "4", "--epochs", "1", "--batch", "8"]
    assert main(["baseline", "train", *words, "--runs", str(tmp_path)]) == 130
    assert checkpoint.read_meta(tmp_path / "cnn1" / "last")["step"] == 3


def test_full_disk_is_one_line_and_keeps_the_checkpoint_before(tmp_path, capsys, monkeypatch):
    original = checkpoint.save

    def full(folder, meta, *rest):
        if meta["epoch"] == 2:
            raise OSError(28, "No space left on device")
        original(folder, meta, *rest)

    monkeypatch.setattr(checkpoint, "save", full)
    words = ["cnn1", "--train-images", "16", "--val-images", "4", "--epochs", "2", "--runs", str(tmp_path)]
    assert main(["baseline", "train", *words]) == 4
    assert "last after step 2: No space left on device" in capsys.readouterr().err.splitlines()[-1]
    assert checkpoint.load(tmp_path / "cnn1" / "last").meta["epoch"] == 1
    assert run_folder.read_json(tmp_path / "cnn1" / "run.json")["status"] == "failed"


def test_network_that_ran_away_in_its_last_step_is_judged_without_a_traceback(tmp_path, capsys):
    words = ["cnn1", "--train-images", "8", "--val-images", "4", "--epochs", "1", "--lr", "1e30"]
    assert main(["baseline", "train", *words, "--runs", str(tmp_path)]) == 0
    assert "the validation loss is not finite" in capsys.readouterr().err
    assert run_folder.read_json(tmp_path / "cnn1" / "result.json")["metrics"]["box_mse_px"] is None


def test_numbers_that_are_none_are_null():
    from toolkit.single_object.data import purdue_shapes5
    from toolkit.single_object.network_outputs import Answer, predict

    samples = purdue_shapes5.draw_shapes5(3, seed=0)
    answer = Answer(torch.zeros(3, 5), torch.full((3, 4), torch.inf))
    assert single_metrics(samples, predict(answer, "pixels", (32, 32)))["box_l1_px"] is None
    assert evaluate_baseline.known({"a": float("nan"), "b": 0.5, "c": [1]}) == {"a": None, "b": 0.5, "c": [1]}


def test_checkpoint_of_another_version_is_named(tmp_path):
    from toolkit.single_object.baselines import recipe_of

    with pytest.raises(InputError, match="recipe is of another version"):
        recipe_of({"kind": "single_object", "recipe": {"baseline": "cnn1", "new": 1}}, tmp_path)


# --- table -------------------------------------------------------------------------------------------------------


def test_only_a_run_with_a_checkpoint_is_gone_on_with(tmp_path):
    recipe = {"baseline": "cnn1", "budget": "scaled", "seed": 0, "data": "digits"}
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "run.json").write_text(json.dumps({"recipe": recipe, "status": "failed"}))
    assert results_table.begun(tmp_path, *recipe.values()) is None
    (tmp_path / "a" / "last").mkdir()
    assert results_table.begun(tmp_path, *recipe.values()) == tmp_path / "a"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--largest", "nowhere"], "--data nowhere: not found"),
        (["--out", "file/out"], "--out file/out: cannot be made"),
    ],
)
def test_table_says_at_once_what_would_end_it_after_hours(tmp_path, monkeypatch, capsys, words, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    assert main(["baseline", "table", *words]) == 2
    assert text in capsys.readouterr().err and not (tmp_path / "runs").exists()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("baselines.png", ["table", "cnn1"]),
        ("compare.md", ["compare", "run", "--detector", "other", "--out", "."]),
        ("sheet.png", ["sheet", "--data", "shapes5", "--count", "1"]),
    ],
)
def test_files_of_the_user_stay(tmp_path, monkeypatch, capsys, file, words):
    monkeypatch.chdir(tmp_path)
    Path(file).write_text("mine")
    assert main(["baseline", *words]) == 2
    assert f"{file}: exists and is of no earlier" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == [file] and Path(file).read_text() == "mine"


def test_table_says_what_it_took_and_that_it_had_another_budget(tmp_path, capsys):
    runs = ["--runs", str(tmp_path / "runs")]
    assert main(["baseline", "train", "cnn1", "--train-images", "16", "--val-images", "4", "--epochs", "1", *runs]) == 0
    capsys.readouterr()
    assert main(["baseline", "table", "cnn1", "cnn1", "--out", str(tmp_path), *runs]) == 0
    said = capsys.readouterr().err
    assert "cnn1: taken from the finished run cnn1; not the scaled budget: epochs 1 instead of 4, images 16" in said
    assert (tmp_path / "baselines.md").read_text().count("| cnn1 |") == 1
    assert main(["baseline", "table", "cnn1", "--read", "--out", str(tmp_path), *runs]) == 0  # its own it may replace


def test_folder_named_like_drawn_data_is_a_folder_to_the_table(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    coco_folder(tmp_path / "largest")
    few = baselines.Budget(1, 4, 1e-3, 0, 0, size=64)
    tiny = dataclasses.replace(baselines.REGISTRY["loadhead"], scaled=few)
    monkeypatch.setitem(baselines.REGISTRY, "loadhead", tiny)
    assert main(["baseline", "table", "loadhead", "--largest", "largest", "--out", "."]) == 0
    assert "largest, from files: 4 images" in (tmp_path / "baselines.md").read_text()


def test_table_has_the_document_s_accuracy_beside_the_right_one():
    numbers = {"accuracy": 0.5, "document_accuracy": 0.25, "mean_iou": 0.125, "document_iou": 0.75, "AP50": None}
    recipe = {
        "data": "digit_grid",
        "batch": 1,
        "optimizer": "adam",
        "lr": 1,
        "precision": "fp32",
        "loss": "grid",
        "seed": 0,
        "options": {},
    }
    result = {
        "recipe": recipe,
        "metrics": numbers,
        "parameters": 1,
        "train_images": 1,
        "epochs": 1,
        "seconds": 1,
        "device": "cpu",
    }
    row = dict(zip(results_table._HEAD, results_table.cells(baselines.find("grid1"), result), strict=True))
    assert (row["document"], row["its accuracy"], row["accuracy its way"], row["accuracy"]) == (
        "004",
        "0.937",
        "0.250",
        "0.500",
    )
    nothing = dict(zip(results_table._HEAD, results_table._reference("nothing", numbers), strict=True))
    assert (nothing["accuracy its way"], nothing["accuracy"], nothing["IoU its way"]) == ("0.250", "0.500", "0.750")


@pytest.mark.parametrize("content", ["[]", '{"baseline": "cnn1", "recipe": {"budget": "scaled"}}'])
def test_table_names_a_result_that_is_none(tmp_path, capsys, content):
    (tmp_path / "cnn1").mkdir()
    (tmp_path / "cnn1" / "result.json").write_text(content)
    assert main(["baseline", "table", "--read", "--runs", str(tmp_path), "--out", str(tmp_path)]) == 2
    assert "cnn1/result.json: is not a result of" in capsys.readouterr().err


@pytest.mark.parametrize("count", ["0", "-1"])
def test_sheet_of_nothing(tmp_path, capsys, count):
    assert main(["baseline", "sheet", "--data", "shapes5", "--count", count, "--out", str(tmp_path / "s.png")]) == 2
    assert f"--count {count}: needs 1" in capsys.readouterr().err
