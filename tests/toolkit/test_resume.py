"""Resume: on one CPU as if nothing had happened, to the last bit; refused where it would not be the same run."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from tests.toolkit.training_fixtures import TINY, digest, draw_data, frcnn, recipe, records
from toolkit.__main__ import main
from toolkit.checkpoint import load

# everything with a state of its own: average, accumulation, augmentation, multi-scale, optimiser moments
RICH = [*TINY, "--ema", "0.9", "--accumulate", "2", "--batch-size", "1", "--augment", "light"]
RICH += ["--multi-scale", "0.3", "--epochs", "3"]
STEPS_AN_EPOCH = 4  # 7 batches of one image, two a step, the last step has one


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_data(tmp_path_factory.mktemp("resume") / "data", train=7, val=3)


@pytest.fixture(scope="module")
def whole(data):
    """An uninterrupted run."""
    runs = data.parent / "whole"
    code, text = frcnn(
        ["train", data, "--runs", runs, *RICH, *recipe(data.parent, group_aspect=False)], data.parent / "whole.txt"
    )
    assert code == 0, text
    return runs / "train"


def same(run, whole):
    assert records(run) == records(whole)
    for name in ("last", "best"):
        assert digest(run, name) == digest(whole, name)


def interrupted(data, tmp_path, stops, more=()):
    """A run stopped at each of `stops` (fault, settings) and resumed after it, to the end. -> the run"""
    run, words = (
        tmp_path / "runs" / "train",
        ["train", data, "--runs", tmp_path / "runs", *RICH, *recipe(tmp_path, group_aspect=False), *more],
    )
    for number, (fault, settings) in enumerate(stops):
        code, text = frcnn(words, tmp_path / f"{number}.txt", fault, **settings)
        assert code == 143, text
        assert json.loads((run / "run.json").read_text())["status"] == "stopped"
        words = ["train", "--resume", run, "--no-report"]
    code, text = frcnn(words, tmp_path / "end.txt")
    assert code == 0, text
    return run


def at_step(step):
    return "signal_at", {"points": ["step"], "number": step}


def in_evaluation(part, batch):
    return "signal_in_evaluation", {"part": part, "number": batch}


def test_a_run_cut_into_pieces_is_the_uninterrupted_one(data, whole, tmp_path):
    # in the first epoch, at its last step, in the evaluation after it (a batch in), in the next one's validation loss
    stops = [
        at_step(2),
        at_step(STEPS_AN_EPOCH - 2),
        in_evaluation("predict", 2),
        at_step(3),
        in_evaluation("validation_loss", 1),
    ]
    run = interrupted(data, tmp_path, stops)
    same(run, whole)
    steps = [r["step"] for r in records(run) if r["kind"] == "step"]
    assert steps == list(range(1, 3 * STEPS_AN_EPOCH + 1))  # none twice, none left out
    assert len(load(run / "last").state["progress"]["sums"]) == 4


def test_with_two_loader_processes_too(data, whole, tmp_path):
    same(interrupted(data, tmp_path, [at_step(6)], ["--workers", "2"]), whole)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("step", [1, 3, 4, 5, 7, 11])
def test_split_points(data, whole, tmp_path, workers, step):
    same(interrupted(data, tmp_path, [at_step(step)], ["--workers", str(workers)]), whole)


@pytest.fixture
def stopped(data, tmp_path):
    """A run stopped after two steps: `last` and, from its beginning, `previous`."""
    code, text = frcnn(
        ["train", data, "--runs", tmp_path / "runs", *TINY],
        tmp_path / "first.txt",
        "signal_at",
        points=["step"],
        number=2,
    )
    assert code == 143, text
    return tmp_path / "runs" / "train"


def change(path, **changes):
    document = json.loads(path.read_text())
    for key, function in changes.items():
        document[key] = function(document[key])
    path.write_text(json.dumps(document))


def test_a_damaged_last_gives_way_to_the_one_before(stopped, tmp_path):
    weights = stopped / "last" / "weights.safetensors"
    content = bytearray(weights.read_bytes())
    content[len(content) // 2] ^= 4
    weights.write_bytes(content)
    code, text = frcnn(["train", "--resume", stopped, "--no-report"], tmp_path / "out.txt")
    assert code == 0, text
    assert "last/weights.safetensors: is damaged" in text and "trying the one before" in text
    assert "after step 0 (previous)" in text
    # 7 images, 2 a step, 2 epochs; none of the lost steps is left in the log
    assert [r["step"] for r in records(stopped) if r["kind"] == "step"] == list(range(1, 9))
    load(stopped / "last")
    load(stopped / "previous")
    load(stopped / "best")


def test_no_intact_checkpoint_is_one_line(stopped, tmp_path):
    for name in ("last", "previous"):
        (stopped / name / "state.pt").write_bytes(b"")
    code, text = frcnn(["train", "--resume", stopped], tmp_path / "out.txt")
    assert code == 2 and "every checkpoint is damaged" in text and "Traceback" not in text


def test_other_classes_are_refused_with_both_lists(stopped, tmp_path):
    change(stopped / "train.json", categories=lambda c: [{**c[0], "name": "box"}, c[1]])
    code, text = frcnn(["train", "--resume", stopped], tmp_path / "out.txt")
    assert code == 2 and "square, disc" in text and "box, disc" in text


@pytest.mark.parametrize("part", ["train", "val"])
def test_other_data_is_refused_unless_allowed(stopped, tmp_path, part):
    change(stopped / f"{part}.json", annotations=lambda a: a[1:])
    code, text = frcnn(["train", "--resume", stopped], tmp_path / "out.txt")
    assert code == 2 and f"{part}.json" in text and "--allow-data-change" in text
    if part == "train":
        words = ["train", "--resume", stopped, "--allow-data-change", "--no-report"]
        code, text = frcnn(words, tmp_path / "allowed.txt")
        assert code == 0, text


def test_a_run_that_moved_goes_on_with_the_folder_of_its_images(data, stopped, tmp_path):
    """Its labels point at the images from where it was; what --images says is kept for its end, too."""
    (tmp_path / "far" / "away").mkdir(parents=True)
    run = Path(shutil.move(stopped, tmp_path / "far" / "away" / "moved"))
    code, text = frcnn(["train", "--resume", run], tmp_path / "1.txt")
    assert code == 2 and "--images" in text
    code, text = frcnn(["train", "--resume", run, "--images", data], tmp_path / "2.txt")
    assert code == 0 and (run / "report.html").is_file(), text


def test_other_labels_to_judge_on_are_those_of_the_run_from_then_on(data, stopped, tmp_path):
    document = json.loads((data / "val.json").read_text())
    for image in document["images"]:  # the same pictures under other ids
        image["id"] += 100
    for annotation in document["annotations"]:
        annotation["image_id"] += 100
    (tmp_path / "other.json").write_text(json.dumps({**document, "info": {"image_root": str(data)}}))
    words = ["train", "--resume", stopped, "--val", tmp_path / "other.json", "--images", data, "--allow-data-change"]
    code, text = frcnn([*words, "--no-report"], tmp_path / "out.txt")
    assert code == 0, text
    assert json.loads((stopped / "val.json").read_text())["images"][0]["id"] == 101


@pytest.mark.parametrize("option, value", [("--max-time", "-7"), ("--workers", "-7")])
def test_options_that_may_change_are_checked_too(stopped, capsys, option, value):
    assert main(["train", "--resume", str(stopped), option, value]) == 2
    assert f"{option}: found" in capsys.readouterr().err


def test_a_record_that_is_none_is_one_line(stopped, capsys):
    (stopped / "run.json").write_text("[1]")
    assert main(["train", "--resume", str(stopped)]) == 2
    assert "run.json: found a list" in capsys.readouterr().err


@pytest.mark.parametrize("option, value", [("--lr", "0.1"), ("--preset", "few"), ("--config", "recipe.yaml")])
def test_other_options_are_refused(stopped, capsys, option, value):
    assert main(["train", "--resume", str(stopped), option, value]) == 2
    assert f"{option} cannot change in a run" in capsys.readouterr().err


def test_a_dry_run_does_not_go_on_with_a_run(stopped, capsys):
    before = {p: p.stat().st_mtime_ns for p in stopped.rglob("*")}
    assert main(["train", "--resume", str(stopped), "--dry-run"]) == 2
    assert "--dry-run plans a new run only" in capsys.readouterr().err
    assert {p: p.stat().st_mtime_ns for p in stopped.rglob("*")} == before


def test_a_finished_run_says_so(data, whole, tmp_path):
    before = {p: p.stat().st_mtime_ns for p in whole.rglob("*")}
    code, text = frcnn(["train", "--resume", whole], tmp_path / "out.txt")
    assert code == 0 and f"already finished; its weights: {whole / 'best'}" in text  # --no-report: there is none
    assert {p: p.stat().st_mtime_ns for p in whole.rglob("*")} == before


def test_a_run_killed_after_its_last_step_only_ends(data, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "train")
    record = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**record, "status": "running"}))
    change(run / "train.json", info=lambda i: {"image_root": os.path.relpath(data, run)})
    change(run / "val.json", info=lambda i: {"image_root": os.path.relpath(data, run)})
    code, text = frcnn(["train", "--resume", run, "--no-report"], tmp_path / "out.txt")
    assert code == 0 and "finished after 3 epochs" in text, text
    same(run, whole)


def test_time_that_ran_out_can_be_prolonged(data, tmp_path):
    run, words = tmp_path / "runs" / "train", ["train", data, "--runs", tmp_path / "runs", *TINY]
    # --max-time 0.01 min: in the first steps; it ends in mid-epoch, judged
    code, text = frcnn(
        [*words, "--max-time", "0.01", "--epochs", "40"], tmp_path / "1.txt", "clock_of_steps", seconds=0.35
    )
    assert code == 0 and "--max-time 0.01 min is over" in text, text
    first = [r for r in records(run) if r["kind"] == "epoch"]
    assert first[-1]["AP"] is not None and not float(first[-1]["epoch"]).is_integer()
    code, text = frcnn(["train", "--resume", run], tmp_path / "2.txt")
    assert code == 0 and "already finished" in text
    words = ["train", "--resume", run, "--max-time", "0.05", "--no-report"]
    code, text = frcnn(words, tmp_path / "3.txt", "clock_of_steps", seconds=0.35)
    assert code == 0 and "--max-time 0.05 min is over" in text, text
    steps = [r["step"] for r in records(run) if r["kind"] == "step"]
    assert steps == list(range(1, len(steps) + 1)) and len(steps) > first[-1]["step"]
