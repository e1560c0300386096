"""The Python API: what it gives is what the command line gives, and bad input is one InputError with its sentence."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

import toolkit
from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import ROOT, draw_data
from toolkit import Detections, Run, coco_metrics, train
from toolkit.__main__ import main

OPTIONS = {
    "model": "fasterrcnn_tiny_fpn",
    "weights": "none",
    "image_size": 64,
    "max_size": 96,
    "batch_size": 2,
    "epochs": 2,
    "workers": 0,
    "augment": "none",
    "device": "cpu",
    "precision": "fp32",
    "roi_batch": 16,
    "norm": "group",
    "cache_mb": 8,
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with data/ and runs/parts, trained from Python."""
    folder = tmp_path_factory.mktemp("api")
    draw_data(folder / "data")
    made = train(folder / "data", name="parts", runs=folder / "runs", **OPTIONS)
    assert isinstance(made, Run) and made.folder == folder / "runs" / "parts"
    return folder


@pytest.fixture
def run(place, tmp_path) -> Run:
    """A copy that a test may change, its labels pointing at the same pictures."""
    folder = shutil.copytree(place / "runs" / "parts", tmp_path / "parts")
    for name in ("train", "val"):
        document = json.loads((folder / f"{name}.json").read_text())
        document["info"]["image_root"] = os.path.relpath(place / "data", folder)
        (folder / f"{name}.json").write_text(json.dumps(document))
    return Run(folder)


def test_import_loads_nothing_heavy():
    code = "import sys, toolkit; print([m for m in ('torch', 'numpy', 'PIL', 'yaml') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.strip() == "[]"
    for name in toolkit.__all__:
        assert getattr(toolkit, name).__module__.split(".")[0] in ("toolkit", "label_tools")
        assert name in dir(toolkit)
    with pytest.raises(AttributeError, match="has no attribute 'tran'"):
        toolkit.tran  # noqa: B018


def test_training_gives_what_the_command_gives(place, tmp_path, capsys):
    words = [f"--{name.replace('_', '-')}={value}" for name, value in OPTIONS.items()]
    assert main(["train", str(place / "data"), "--runs", str(tmp_path), *words]) == 0
    ours, theirs = place / "runs" / "parts", tmp_path / "train"
    for file in ("best/weights.safetensors", "last/weights.safetensors", "config.yaml"):
        assert (ours / file).read_bytes() == (theirs / file).read_bytes(), file
    numbers = Run(ours).metrics()
    for key in ("AP", "AP50", "AP75", "thresholds", "intervals", "num_objects"):
        assert numbers[key] == Run(theirs).metrics()[key], key
    out = capsys.readouterr().out
    assert f"mAP on val: AP {numbers['AP']:.3f}" in out and f"report: {theirs / 'report.html'}" in out
    commands = [json.loads((folder / "run.json").read_text())["command"] for folder in (ours, theirs)]
    assert commands[0].startswith("train('") and "model='fasterrcnn_tiny_fpn'" in commands[0]
    assert commands[1].startswith("frcnn ")


def test_evaluation_gives_what_the_command_gives(run, capsys):
    assert main(["evaluate", str(run.folder), "--json", "--no-report", "--iou", "0.75", "--resamples", "50"]) == 0
    theirs = json.loads(capsys.readouterr().out)
    (line,) = theirs.pop("warnings")
    assert line.startswith("replaces score thresholds stored in the run: ")  # those of training were for IoU 0.5
    ours = run.evaluate("val", iou=0.75, resamples=50)
    assert ours.pop("warnings") == []
    assert ours["AP"] is not None and json.loads(json.dumps(ours)) == theirs
    document = json.loads((run.folder / "val.json").read_text())
    detections = json.loads((run.folder / "val" / "detections.json").read_text())
    assert coco_metrics(document, detections)["AP"] == ours["AP"]
    assert run.report() == run.folder / "report.html"


def test_comparison_gives_what_the_command_gives(run, tmp_path, capsys):
    other = shutil.copytree(run.folder / "last", tmp_path / "other" / "last").parent
    words = ["--compare", str(other), "--json", "--no-report", "--resamples", "50"]
    assert main(["evaluate", str(run.folder), *words]) == 0
    theirs = json.loads(capsys.readouterr().out)["compare"]
    shutil.rmtree(run.folder / "val")  # it evaluates first
    assert run.compare(Run(other), resamples=50) == theirs
    assert run.compare(other, resamples=50) == theirs


def test_prediction_gives_what_the_command_gives_for_every_kind_of_picture(run, place, tmp_path):
    path = place / "data" / "val1.png"
    words = [
        "predict",
        str(run.folder),
        str(path),
        "--score",
        "0",
        "--device",
        "cpu",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main(words) == 0
    (theirs,) = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    picture = Image.open(path)
    kinds = [path, str(path), picture, np.asarray(picture.convert("RGB"))]
    for found in [*run.predict(kinds, score=0.0, device="cpu"), run.predict(path, score=0.0, device="cpu")]:
        assert len(found) == len(theirs["detections"]) > 0
        for one, coco, box, expected in zip(
            found.names, found.to_coco(7), found.boxes, theirs["detections"], strict=True
        ):
            assert one == expected["label"] and coco["image_id"] == 7
            assert coco["category_id"] == expected["category_id"] and coco["bbox"] == expected["bbox"]
            x, y, w, h = expected["bbox"]
            assert box == pytest.approx([x, y, x + w, y + h])
        assert [found.classes[label - 1] for label in found.labels] == found.names
        assert found.scores.tolist() == [d["score"] for d in theirs["detections"]]
        assert found.counts() == {name: found.names.count(name) for name in ("square", "disc")}
        drawn = np.asarray(found.draw())
        assert drawn.shape[1:] == (64, 3) and (drawn[:64] != np.asarray(picture.convert("RGB"))).any()
        assert "data:image/jpeg;base64," in found._repr_html_()
    folder = run.predict(place / "data", score=0.0, device="cpu")
    assert len(folder) == 9 and all(isinstance(one, Detections) for one in folder)
    assert run.predict([]) == []


def test_nothing_found_is_empty_arrays(run, place):
    found = run.predict(place / "data" / "val1.png", score=1.0)
    assert (found.boxes.shape, found.labels.shape, found.scores.shape) == ((0, 4), (0,), (0,))
    assert found.to_coco() == [] and found.names == [] and found.counts() == {"square": 0, "disc": 0}
    assert repr(found) == "Detections(0 objects)" and "<img" in found._repr_html_()


def test_a_checkpoint_that_changed_is_loaded_again(run, place):
    from toolkit import checkpoint

    path = place / "data" / "val1.png"
    assert len(run.predict(path, score=0.0)) > 0
    checkpoint.update_meta(run.folder / "best", score_thresholds={"square": 1.0, "disc": 1.0})
    assert len(run.predict(path)) == 0


def test_a_run_shows_itself(run):
    text = run._repr_html_()
    assert f"{run.metrics('val')['AP']:.3f}" in text and "report.html" in text and "data:image/png;base64," in text
    assert repr(run) == f"Run({str(run.folder)!r})"
    assert run.classes == ["square", "disc"] and run.config.schedule.epochs == 2
    for name in ("report.html", "curves.png", "run.json"):
        (run.folder / name).unlink()
    shutil.rmtree(run.folder / "val")
    assert "Not evaluated yet" in run._repr_html_()


def test_a_run_goes_on(place, tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("max_time: 0.000001\nlr: 0.002")
    run = train(place / "data", runs=tmp_path, config=path, report=False, **OPTIONS)
    steps = lambda: json.loads((run.folder / "last" / "checkpoint.json").read_text())["step"]  # noqa: E731
    assert steps() == 0 and run.config.optimizer.lr == 0.002
    assert run.resume() is run and steps() == 0  # it has ended: --max-time is over
    run.resume(max_time=9)
    assert steps() == 6 and run.metrics()["AP"] is not None  # 6 images, 2 a step, 2 epochs
    with pytest.raises(InputError, match="--lr cannot change in a run"):
        run.resume(lr=0.1)


def test_bad_options_leave_nothing(place, tmp_path):
    data = place / "data"
    cases = [
        ({"epoch": 3}, "train: unknown option 'epoch'; did you mean 'epochs'?"),
        ({"epochs": "many"}, "train, epochs: found 'many', needs int"),
        ({"epochs": 0}, "--epochs: found 0, needs 1 or more"),
        ({"norm": "batch2"}, "train, norm: found 'batch2', needs one of"),
        ({"preset": "fwe"}, "preset fwe: unknown; did you mean few?"),
        ({"config": {"lrr": 1}}, "config: unknown option 'lrr'; did you mean 'lr'?"),
        ({"config": tmp_path / "none.yaml"}, "none.yaml: not found"),
        ({"model": "fasterrcnn_tiny"}, "fasterrcnn_tiny_fpn"),
        ({"name": "a/b"}, "needs a plain folder name"),
        ({"val": tmp_path / "no.json"}, "no.json: not found"),
    ]
    for options, text in cases:
        with pytest.raises(InputError) as caught:
            train(data, runs=tmp_path / "runs", **{**OPTIONS, **options})
        assert text in str(caught.value), options
        assert not (tmp_path / "runs").exists(), options


@pytest.mark.parametrize("where", ["nothing", "data", "runs"])
def test_what_is_no_run_has_the_sentence_of_the_command(place, where, capsys, monkeypatch):
    monkeypatch.chdir(place)
    with pytest.raises(InputError) as caught:
        Run(where)
    for words in (["evaluate"], ["report"], ["train", "--resume"]):
        assert main([*words, where]) == 2
        assert capsys.readouterr().err == f"error: {caught.value}\n"


def test_a_run_that_lost_a_file_says_which(run, capsys):
    for lost in ("val.json", "best/weights.safetensors", "best/checkpoint.json"):
        (run.folder / lost).unlink()
        if lost.startswith("best/checkpoint"):
            shutil.rmtree(run.folder / "last")
            shutil.rmtree(run.folder / "previous")
        call = run.evaluate if lost == "val.json" else lambda: run.predict(run.folder / "train_batch.jpg")
        words = (
            ["evaluate", run.folder] if lost == "val.json" else ["predict", run.folder, run.folder / "train_batch.jpg"]
        )
        before = sorted(run.folder.rglob("*"))
        with pytest.raises(InputError) as caught:
            call()
        assert main([str(word) for word in words]) == 2
        assert capsys.readouterr().err == f"error: {caught.value}\n"
        assert sorted(run.folder.rglob("*")) == before


@pytest.mark.parametrize(
    "picture, found",
    [
        (np.zeros((4, 6), np.uint8), r"an array \[4, 6\] uint8"),
        (np.zeros((3, 4, 6), np.uint8), r"an array \[3, 4, 6\] uint8"),
        (np.zeros((4, 6, 4), np.uint8), r"an array \[4, 6, 4\] uint8"),
        (np.zeros((4, 6, 3)), r"an array \[4, 6, 3\] float64"),
        (np.zeros((0, 6, 3), np.uint8), r"an array \[0, 6, 3\] uint8"),
        (7, "a int"),
        (None, "a NoneType"),
    ],
)
def test_pictures_that_are_none_are_refused(run, picture, found):
    with pytest.raises(InputError, match=f"predict: found {found}, needs"):
        run.predict(picture)
    with pytest.raises(InputError, match=found):
        run.predict([picture])


def test_other_bad_input(run, tmp_path):
    for call, text in (
        (lambda: run.predict(tmp_path / "no.png"), "no.png"),
        (lambda: run.predict(tmp_path / "no.png", score=2), "score: found 2, needs 0 to 1"),
        (lambda: run.evaluate(iuo=0.5), "option iuo: unknown; did you mean iou?"),
        (lambda: run.evaluate(iou=0.6789), "--iou: found 0.6789"),
        (lambda: run.evaluate("tset"), "tset.json: not found"),
        (lambda: run.compare(tmp_path / "no"), "not found; needs a run"),
        (lambda: run.resume(epoch=3), "resume: unknown option 'epoch'"),
    ):
        with pytest.raises(InputError) as caught:
            call()
        assert text in str(caught.value)


def test_one_training_reads_val_once_and_builds_the_best_network_once(place, tmp_path, monkeypatch):
    from label_tools.document import coco_file
    from toolkit.networks import builder

    read, rebuilt = [], []
    real_read, real_restored = coco_file.read, builder.restored
    monkeypatch.setattr(coco_file, "read", lambda path, **more: read.append(path.name) or real_read(path, **more))
    monkeypatch.setattr(builder, "restored", lambda found: rebuilt.append(found.folder.name) or real_restored(found))
    train(place / "data", runs=tmp_path, **OPTIONS)
    assert sorted(read) == ["train.json", "val.json"] and rebuilt == ["best"]
