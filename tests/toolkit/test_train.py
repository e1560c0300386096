"""`frcnn train` from data to checkpoint: what it writes, when it ends, what it prints before it begins."""

from __future__ import annotations

import csv
import json
import shutil
import sys
import types
from typing import ClassVar

import pytest
import torch
from PIL import Image

from label_tools.text.errors import InputError, MissingExtra
from tests.toolkit.training_fixtures import TINY, draw_data, frcnn, recipe, records
from toolkit import checkpoint, config, device_and_seed, fine_tune
from toolkit.__main__ import main
from toolkit.data.coco_index import read_index
from toolkit.training import dry_run, out_of_memory, trackers


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return draw_data(tmp_path_factory.mktemp("train") / "data")


def words(data, tmp_path, *more):
    return ["train", data, "--runs", tmp_path / "runs", *TINY, *more]


@pytest.fixture(scope="module")
def run(data):
    code, text = frcnn(words(data, data.parent), data.parent / "out.txt")
    assert code == 0, text
    return data.parent / "runs" / "train"


def test_a_taken_name_gets_the_next_free_one_and_that_is_said(data, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(fine_tune, "_fit", lambda *_, **__: None)
    runs, command = tmp_path / "runs", list(map(str, words(data, tmp_path, "--name", "parts")))
    assert main(command) == 0 and "exists" not in capsys.readouterr().err
    first = {path.name: path.read_bytes() for path in (runs / "parts").iterdir()}
    for number in (2, 3):
        assert main([*command, "--lr", f"0.0{number}"]) == 0
        assert f"note: a run parts exists; this one is {runs / f'parts-{number}'}\n" in capsys.readouterr().err
    assert {path.name: path.read_bytes() for path in (runs / "parts").iterdir()} == first
    assert sorted(path.name for path in runs.iterdir()) == ["parts", "parts-2", "parts-3"]


def test_a_run_given_as_labels_is_told_how_to_go_on_with_it(run, caplog):
    labels = fine_tune.Source(run).read()
    assert set(labels) >= {"train", "val"}
    assert f"{run} is a run: its labels are used; `frcnn train --resume {run}` would go on with it" in caplog.text


def test_a_checkpoint_counts_the_epochs_as_the_log_does(run):
    judged = [r for r in records(run) if r["kind"] == "epoch"]
    best = checkpoint.read_meta(run / "best")
    assert best["epoch"] == next(r["epoch"] for r in judged if r["step"] == best["step"])
    assert checkpoint.read_meta(run / "last")["epoch"] == judged[-1]["epoch"] == 2


def test_what_a_run_leaves(run):
    names = {p.name for p in run.iterdir()}
    assert names == {
        "config.yaml",
        "run.json",
        "train.log",
        "metrics.jsonl",
        "results.csv",
        "curves.png",
        "train_batch.jpg",
        "train.json",
        "val.json",
        "last",
        "previous",
        "best",
    }
    for picture in ("curves.png", "train_batch.jpg"):
        with Image.open(run / picture) as image:
            assert min(image.size) > 100
    rows = list(csv.DictReader((run / "results.csv").read_text().splitlines()))
    assert [row["epoch"] for row in rows] == ["1", "2"] and float(rows[1]["val_loss"]) > 0
    assert "epoch 2/2" in (run / "train.log").read_text()
    record = json.loads((run / "run.json").read_text())
    assert record["status"] == "finished" and record["ended"] == "finished" and record["classes"] == ["square", "disc"]


def test_what_a_checkpoint_knows(run):
    meta = checkpoint.load(run / "best").meta
    assert [c["name"] for c in meta["classes"]] == ["square", "disc"]
    assert meta["architecture"]["sizes"]["min_size"] == 64 and meta["config"]["image_size"] == 64
    assert meta["architecture"]["norm"] == "group"
    assert len(meta["data_fingerprint"]) == len(meta["val_fingerprint"]) == 64
    assert torch.__version__.startswith(meta["versions"]["torch"]) and "score_thresholds" in meta
    best = max((r for r in records(run) if r["kind"] == "epoch"), key=lambda r: (r["AP"], -r["epoch"]))
    assert meta["metrics"]["AP"] == best["AP"]


def test_every_step_is_logged_once_with_its_parts(run):
    steps = [r for r in records(run) if r["kind"] == "step"]
    assert [r["step"] for r in steps] == [1, 2, 3, 4, 5, 6]
    for r in steps:
        parts = [v for k, v in r.items() if k.startswith("loss_")]
        assert len(parts) == 4 and r["loss"] == pytest.approx(sum(parts)) and r["lr"] > 0
    for r in (r for r in records(run) if r["kind"] == "epoch"):
        here = [s["loss"] for s in steps if s["epoch"] == r["epoch"] - 1]
        assert sum(r["train_loss"].values()) == pytest.approx(sum(here) / 3)


def test_early_stop(data, tmp_path):
    """A rate of nothing: AP never gets better than after the first epoch."""
    command = words(data, tmp_path, "--lr", "1e-12", "--patience", "2", "--epochs", "9")
    code, text = frcnn(command, tmp_path / "out.txt")
    assert code == 0 and "early stop: no better AP in 2 evaluations after 3 epochs" in text, text
    assert [r["epoch"] for r in records(tmp_path / "runs" / "train") if r["kind"] == "epoch"] == [1, 2, 3]
    assert checkpoint.load(tmp_path / "runs" / "train" / "best").meta["step"] == 3


def test_evaluation_every_second_epoch_and_at_the_end(data, tmp_path):
    code, text = frcnn(words(data, tmp_path, "--epochs", "3", "--eval-every", "2"), tmp_path / "out.txt")
    assert code == 0, text
    judged = ["AP" in r for r in records(tmp_path / "runs" / "train") if r["kind"] == "epoch"]
    assert judged == [False, True, True]


def test_without_validation_images(data, tmp_path):
    code, text = frcnn(["train", data / "train.json", "--runs", tmp_path / "runs", *TINY], tmp_path / "out.txt")
    assert code == 0 and "warning: no val.json: nothing is evaluated" in text, text
    assert "`best` will hold the weights of the last epoch" in text.partition("epoch 1/")[0]
    run = tmp_path / "runs" / "train"
    assert f"nothing was evaluated, as there was no val: frcnn evaluate {run} --data FILE" in text
    assert checkpoint.load(tmp_path / "runs" / "train" / "best").meta["step"] == 6


def _test_part(data, images: int) -> None:
    """data/test.json: copies of val's first images under names of their own; one image in two parts is refused."""
    document = json.loads((data / "val.json").read_text())
    document["images"] = document["images"][:images]
    kept = {image["id"] for image in document["images"]}
    document["annotations"] = [a for a in document["annotations"] if a["image_id"] in kept]
    for image in document["images"]:
        new = f"test_{image['file_name']}"
        shutil.copy(data / image["file_name"], data / new)
        image["file_name"] = new
    (data / "test.json").write_text(json.dumps(document))


@pytest.mark.parametrize("case", ["classes", "images", "crowds", "broken", "augment", "option"])
def test_what_cannot_end_well_is_said_first_and_leaves_no_run(tmp_path, case):
    """test.json is evaluated when training is over: hours too late to hear that its images are not there."""
    data = draw_data(tmp_path / "data")
    _test_part(data, 3)
    change, said, more = {
        "classes": (("test", "categories", lambda c: c.update(name=c["name"] + "s")), "squares, discs", []),
        "images": (("test", "images", lambda i: i.update(file_name=f"gone{i['id']}.png")), "gone1.png not found", []),
        "crowds": (("train", "annotations", lambda a: a.update(iscrowd=1)), "8 crowds", []),
        "broken": (("test", "info", None), "test.json, line 1", []),
        "augment": (("val", "images", lambda i: None), "needs one of none", ["--augment", "havy"]),
        "option": (
            ("val", "images", lambda i: None),
            "--multi-scale",
            ["--model", "anchors_tiny", "--multi-scale", "0.2"],
        ),
    }[case]
    part, key, act = change
    document = json.loads((data / f"{part}.json").read_text())
    for item in document[key] if act else []:
        act(item)
    (data / f"{part}.json").write_text(json.dumps(document) if act else "{")
    code, text = frcnn(words(data, tmp_path, *more), tmp_path / "out.txt")
    assert code == 2 and said in text and "Traceback" not in text, text
    assert not list((tmp_path / "runs").glob("*"))


def test_without_objects_in_val_the_last_epoch_is_the_best(tmp_path):
    data = draw_data(tmp_path / "data")
    document = json.loads((data / "val.json").read_text())
    (data / "val.json").write_text(json.dumps({**document, "annotations": []}))
    code, text = frcnn(words(data, tmp_path, "--epochs", "3", "--patience", "1"), tmp_path / "out.txt")
    assert code == 0 and "val.json: has no object, so AP is undefined" in text and "best so far" not in text, text
    best = checkpoint.load(tmp_path / "runs" / "train" / "best")
    assert best.meta["epoch"] == 3 and best.meta["metrics"]["AP"] is None


def test_average_weights_are_judged_and_saved(data, tmp_path):
    code, text = frcnn(words(data, tmp_path, "--ema", "0.99"), tmp_path / "out.txt")
    assert code == 0, text
    last = checkpoint.load(tmp_path / "runs" / "train" / "last")
    key = "roi_heads.box_predictor.cls_score.weight"
    assert not torch.equal(last.weights[key], last.state["model"][key]) and last.state["averaged"] == 6


def test_frozen_statistics_and_head_epochs(data, tmp_path):
    more = ["--norm", "batch", "--epochs", "1", *recipe(tmp_path, freeze_bn=True, head_epochs=1)]
    code, text = frcnn(words(data, tmp_path, *more), tmp_path / "out.txt")
    assert code == 0, text
    weights = checkpoint.load(tmp_path / "runs" / "train" / "last").weights
    counts = {int(v) for k, v in weights.items() if k.endswith("num_batches_tracked")}
    assert counts == {0}
    first = checkpoint.load(tmp_path / "runs" / "train" / "previous").weights  # of the first moment
    body = [k for k in weights if k.startswith("backbone.body") and torch.equal(weights[k], first[k])]
    assert body == [k for k in weights if k.startswith("backbone.body")]
    assert not torch.equal(
        weights["backbone.fpn.inner_blocks.0.0.weight"], first["backbone.fpn.inner_blocks.0.0.weight"]
    )


def test_dry_run_writes_nothing(data, tmp_path):
    code, text = frcnn(words(data, tmp_path, "--dry-run"), tmp_path / "out.txt")
    assert code == 0, text
    for part in (
        "6 images (2 without objects)",
        "square",
        "disc",
        "fasterrcnn_tiny_fpn",
        "steps      6 (3 batches",
        "MB",
        "largest    train1.png, 64x64 px",
        "time       about",
    ):
        assert part in text
    assert not (tmp_path / "runs").exists()


def test_the_time_of_a_plan_has_training_judging_and_report(data, tmp_path, monkeypatch, capsys):
    """Of one image a step takes 200 s, its losses 50, its detection 30; 6 images to learn from, 3 of val, 2 of test."""
    monkeypatch.setattr(dry_run, "_time_an_image", lambda *_: dry_run._Seconds(200.0, 50.0, 30.0))
    monkeypatch.setattr(dry_run, "_time_kept_maps", lambda *_: (10.0, 100.0))
    shutil.copytree(data, tmp_path / "data")
    _test_part(tmp_path / "data", 2)
    command = words(tmp_path / "data", tmp_path, "--epochs", "5", "--eval-every", "2", "--dry-run")
    command.remove("--no-report")
    assert main(list(map(str, command))) == 0
    said = capsys.readouterr().out
    # 5 epochs x 3 batches x 2 images x 200 s = 6000; judged after 2, 4 and 5: 3 x 3 x 80 = 720; report: 5 x 30 = 150
    wanted = "about 1:54 h: training (400.00 s a batch) 1:40 h, evaluation (4:00 min each) 12:00 min, report 2:30 min"
    assert f"time       {wanted}\n" in said and "hint" not in said  # the network is the small one already
    # the pretrained one with 6 images: 16 views x 6 x 10 s = 960; 192 epochs x 3 batches x 2 images x 100 s = 115,200;
    # judged 3 times: 720; report 150; in all 117,030 s = 32:30 h
    assert "or         fasterrcnn_efficientnet_lite0_fpn, its own recipe: about 32:30 h (100.00 s an image in" in said
    assert main([*map(str, command), "--model", "fasterrcnn_mobilenet_v3_large_320_fpn", "--no-report"]) == 0
    said = capsys.readouterr().out
    assert (
        "evaluation (4:00 min each) 12:00 min\n" in said and "hint       long on a CPU: --model fasterrcnn_tiny" in said
    )


@pytest.mark.parametrize("norm, images", [("group", 1), ("batch", 2)])
@pytest.mark.parametrize("seconds, steps", [(0.1, 2), (3.0, 1)])
def test_a_plan_times_no_more_than_it_needs(data, monkeypatch, norm, images, seconds, steps):
    """An image at a time, and no second step of a slow network. A step takes 3 of 4 `seconds` to its losses."""
    done, now = [], [0.0]
    monkeypatch.setattr(dry_run.time, "perf_counter", lambda: now[0])

    class Losses:
        def backward(self):
            now[0] += seconds / 4

    def losses(model, images, *_):
        done.append(len(images))
        now[0] += seconds * 3 / 4
        return Losses(), {}

    def predict(model, batches, *_):
        now[0] += seconds / 2
        return []

    monkeypatch.setattr(dry_run.forward_pass, "training_losses", losses)
    monkeypatch.setattr(dry_run.forward_pass, "predict", predict)
    index = read_index(data / "train.json")
    times = dry_run._time_an_image(torch.nn.Identity(), index, 8, norm, torch.device("cpu"), torch.float32)
    assert done == [images] * steps
    assert times[:3] == pytest.approx([seconds / images, seconds * 3 / 4 / images, seconds / 2 / images])


def test_a_plan_has_maps_of_no_more_views_than_epochs():
    plan = config.Config(data=config.Data(cached_views=8), schedule=config.Schedule(epochs=3))
    one = dry_run._Seconds(step=1.0, loss=1.0, detect=1.0, body=0.5)
    times = dry_run._times(plan, one, range(10), 3, None, 0)
    assert times["maps of the body"] == 0.5 * 10 * 3


@pytest.mark.parametrize("has, wanted, told", [(False, "bf16", 1), (True, "bf16", 0), (False, "auto", 0)])
def test_bf16_on_a_cpu_without_it_is_told_once(data, tmp_path, monkeypatch, capsys, has, wanted, told):
    monkeypatch.setattr(device_and_seed, "cpu_has_bf16", lambda: has)
    command = list(map(str, words(data, tmp_path, "--epochs", "1", "--precision", wanted)))
    assert main([*command, "--dry-run"]) == 0
    assert capsys.readouterr().out.count("warning: --precision bf16") == told
    assert main(command) == 0
    assert capsys.readouterr().err.count("warning: --precision bf16") == told
    assert (tmp_path / "runs" / "train" / "train.log").read_text().count("warning: --precision bf16") == told


def test_the_largest_image_is_the_one_after_the_resize(data):
    # 64 x 64 -> 200 x 200; a long one of more pixels, 30 x 300, ends at 40 x 400 = 16,000 < 40,000
    index = read_index(data / "train.json")
    index.sizes[:] = 64
    index.sizes[3] = (30, 300)
    model = config.Model(config.STANDARD, image_size=200, max_size=400)
    assert out_of_memory.largest(index, model) == "train1.png, 64x64 px, 200x200 px in the network"
    model = config.Model(config.STANDARD, image_size=200, max_size=400, multi_scale=0.5)  # up to 300
    assert out_of_memory.largest(index, model) == "train1.png, 64x64 px, 300x300 px in the network"


RECORDS = (
    {"kind": "step", "step": 7, "epoch": 1, "lr": 0.5, "loss": 2},
    {"kind": "epoch", "step": 9, "epoch": 2, "AP": 0.25, "AP50": None, "val_loss": {"a": 1.0, "b": 0.5}},
)
AS_NUMBERS = [("step/lr", 0.5, 7), ("step/loss", 2, 7), ("epoch/AP", 0.25, 9), ("epoch/val_loss", 1.5, 9)]


def follow(tracker):
    for record in RECORDS:
        tracker.write(record)
    tracker.close()


def test_tensorboard_gets_what_the_log_gets(tmp_path, monkeypatch):
    written = []

    class Writer:
        def __init__(self, folder, purge_step=None):
            written.append((folder, purge_step))

        def add_scalar(self, name, value, step):
            written.append((name, value, step))

        def close(self):
            written.append("closed")

    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", types.SimpleNamespace(SummaryWriter=Writer))
    follow(trackers.TensorBoard(tmp_path, config.Config(), 4))
    assert written == [(str(tmp_path / "tensorboard"), 5), *AS_NUMBERS, "closed"]
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(MissingExtra, match="tensorboard"):
        trackers.wanted(config.Run(tensorboard=True))


class Server:
    """What MLflow's client is asked for; `lost`: it answers nothing more."""

    lost = False
    asked: ClassVar[list] = []

    def __getattr__(self, name):
        def answer(*words, **more):
            if self.lost:
                raise ConnectionError("no route\nto host")
            self.asked.append((name, *words, *more.values()))
            one = types.SimpleNamespace(run_id="r1")
            return {"get_experiment_by_name": None, "create_experiment": "7"}.get(name, types.SimpleNamespace(info=one))

        return answer


def test_mlflow_gets_what_the_log_gets_and_a_lost_server_costs_no_run(tmp_path, monkeypatch, caplog):
    module = types.SimpleNamespace(MlflowClient=Server, get_tracking_uri=lambda: "http://there")
    monkeypatch.setitem(sys.modules, "mlflow", module)
    monkeypatch.setattr(Server, "asked", [])
    assert trackers.wanted(config.Run()) == [] and trackers.wanted(config.Run(mlflow=True)) == [trackers.MLflow]
    follow(trackers.MLflow(tmp_path, config.Config(), None))
    params = {name: value for what, _, name, value in (a for a in Server.asked if a[0] == "log_param")}
    assert params == config.flat(config.Config())
    assert [one[2:] for one in Server.asked if one[0] == "log_metric"] == AS_NUMBERS
    assert Server.asked[-1] == ("set_terminated", "r1", "FINISHED")
    # resumed: the same run of MLflow, by its number in run.json
    Server.asked.clear()
    follow(trackers.MLflow(tmp_path, config.Config(), 4))
    assert ("create_run", "7", tmp_path.name) not in Server.asked and ("update_run", "r1", "RUNNING") in Server.asked
    tracker = trackers.MLflow(tmp_path, config.Config(), 4)
    monkeypatch.setattr(Server, "lost", True)
    follow(tracker)
    assert [record.getMessage() for record in caplog.records] == ["--mlflow: no more records: no route to host"]
    with pytest.raises(InputError, match="--mlflow: http://there cannot be used"):
        trackers.wanted(config.Run(mlflow=True))
    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(MissingExtra, match="frcnn-toolkit\\[mlflow"):
        trackers.wanted(config.Run(mlflow=True))


@pytest.mark.slow
def test_memory_does_not_grow(tmp_path):
    """At most 0.5 % per 1,000 steps after the first 2,000; before, from step 500 on, at most 30 MB: seen were 15 MB, in
    two jumps, and none after."""
    data = draw_data(tmp_path / "data", train=60)  # an epoch adds to log and curves: 60 steps in each, not 3
    code, text = frcnn(
        words(data, tmp_path, "--epochs", "70", "--eval-every", "1000", "--cache-mb", "1", "--batch-size", "1"),
        tmp_path / "out.txt",
        "watch_memory",
        every=100,
        timeout=1800,
    )
    assert code == 0, text[-2000:]
    rss = [int(line.split()[1]) for line in text.splitlines() if line.startswith("rss ")]
    early, late = rss[20], rss[-1]
    thousands = (len(rss) - 21) * 100 / 1000
    growth = (late / early - 1) / thousands
    print(f"rss {early} -> {late} kB over {thousands:g} thousand steps: {growth:.4%} per 1,000")
    assert growth <= 0.005
    print(f"from step 500 to 2,000: {(early - rss[5]) / 1024:.0f} MB")
    assert early - rss[5] <= 30 * 1024


@pytest.mark.slow
def test_a_hundred_thousand_images_with_four_loader_processes(tmp_path):
    """Private memory of the index and four workers beyond those of a small index: under 300 MB."""
    code, text = frcnn([], tmp_path / "out.txt", "measure_index", images=100_000, workers=4, timeout=600)
    assert code == 0, text
    used = float(text.split("index MB ")[1].split()[0])
    print(f"{used:.0f} MB")
    assert used < 300
