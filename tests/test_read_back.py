"""Every file that a command reads back (labels, split, run, checkpoint, evaluation, loop, manifest), damaged at random:
the command ends in a result or in one line, within seconds, whatever stands there."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.damage import damaged
from tests.toolkit.evaluation_fixtures import made_run, scene
from tests.toolkit.training_fixtures import TINY, draw_data
from toolkit.__main__ import main

MUTATIONS = int(os.environ.get("FRCNN_MUTATIONS", "400"))  # of each scene
SEED = int(os.environ.get("FRCNN_SEED", "0"))
SECONDS = 20


@dataclass(frozen=True)
class Scene:
    """words(folder, out): a command; files: patterns in the folder that it reads back; whole: the command changes the
    folder, so each round gets a copy."""

    words: Callable[[Path, Path], list]
    files: tuple[str, ...]
    whole: bool = False


def _evaluate(data: Path, out: Path, *more) -> list:
    files = ["--annotations", data / "annotations.json", "--detections", data / "detections.json"]
    return ["evaluate", *files, "--out", out, "--resamples", "5", "--no-report", *more]


def _crossval(d: Path) -> list:
    words = [word for word in TINY if word != "--no-report"]
    return [
        "crossval",
        d / "same/annotations.json",
        "--runs",
        d,
        "--name",
        "cv",
        "--folds",
        "3",
        *words,
        "--epochs",
        "1",
    ]


RUN_FILES = ("run.json", "config.yaml", "metrics.jsonl")
SCENES = {
    "check": Scene(lambda d, _: ["check", d / "data/annotations.json"], ("data/annotations.json",)),
    "convert": Scene(
        lambda d, out: ["convert", "labelme", d / "data/images", "--out", out / "a.json"], ("data/images/*.json",)
    ),
    "convert again": Scene(
        lambda d, _: ["convert", "labelme", d / "data/images", "--out", d / "made/a.json"],
        ("made/*.json", "made/.frcnn.json"),
        whole=True,
    ),
    "draw": Scene(
        lambda d, out: ["draw", d / "data/annotations.json", "--out", out / "d", "--sheet-only"],
        ("data/annotations.json",),
    ),
    "stats": Scene(lambda d, _: ["stats", d / "data/annotations.json"], ("data/annotations.json",)),
    "export labelme": Scene(
        lambda d, out: ["export", "labelme", d / "data/annotations.json", "--out", out / "l"],
        ("data/annotations.json",),
    ),
    "split": Scene(
        lambda d, out: ["split", d / "data/annotations.json", "--out", out / "p", "--duplicates", "off"],
        ("data/annotations.json",),
    ),
    "split again": Scene(
        lambda d, _: ["split", d / "data/annotations.json", "--out", d / "parts", "--duplicates", "off"],
        ("parts/*.json", "parts/.frcnn.json"),
        whole=True,
    ),
    "train --dry-run": Scene(
        lambda d, _: ["train", d / "drawn", *TINY, "--dry-run"], ("drawn/*.json", "drawn/.frcnn.json")
    ),
    "advise": Scene(lambda d, _: ["advise", d / "drawn/train.json"], ("drawn/train.json",)),
    "recipe": Scene(lambda d, _: ["train", d / "drawn", "--config", d / "recipe.yaml", "--dry-run"], ("recipe.yaml",)),
    "evaluate files": Scene(lambda d, out: _evaluate(d / "data", out / "e"), ("data/*.json",)),
    "evaluate again": Scene(
        lambda d, _: _evaluate(d / "data", d / "evaluated"),
        ("evaluated/.frcnn.json", "evaluated/*.json"),
        whole=True,
    ),
    "compare": Scene(
        lambda d, out: _evaluate(d / "data", out / "e", "--compare", d / "other.json", "--by", d / "groups.csv"),
        ("other.json", "groups.csv"),
    ),
    "report": Scene(lambda d, _: ["report", d / "made_run"], tuple(f"made_run/{n}" for n in RUN_FILES)),
    "report evaluation": Scene(
        lambda d, _: ["report", d / "made_run"],
        ("made_run/val/*.json", "made_run/val/*.csv", "made_run/val/.frcnn.json"),
    ),
    "report of two": Scene(
        lambda d, out: ["report", d / "made_run", d / "cv/fold1", "--out", out / "r.html"],
        (*(f"made_run/{n}" for n in RUN_FILES), "made_run/val/metrics.json"),
    ),
    "report --latex": Scene(lambda d, _: ["report", d / "made_run", "--latex"], ("made_run/val/metrics.json",)),
    "predict": Scene(
        lambda d, out: ["predict", d / "run", d / "drawn/val1.png", "--out", out / "p", "--device", "cpu"],
        ("run/best/*", "run/config.yaml", "run/run.json", "run/val/metrics.json"),
    ),
    "predict again": Scene(
        lambda d, _: ["predict", d / "run", d / "drawn", "--out", d / "predicted", "--device", "cpu"],
        ("predicted/*.json", "predicted/*.jsonl", "predicted/*.csv", "predicted/.frcnn.json"),
        whole=True,
    ),
    "resume": Scene(
        lambda d, _: ["train", "--resume", d / "run", "--no-report"],
        (*(f"run/{n}" for n in RUN_FILES), "run/last/*", "run/best/*"),
        whole=True,
    ),
    "weights": Scene(
        lambda d, _: ["train", d / "drawn", *TINY, "--weights", d / "run/best", "--dry-run"], ("run/best/*",)
    ),
    "evaluate a run": Scene(
        lambda d, _: ["evaluate", d / "run", "--split", "val", "--resamples", "5", "--no-report", "--device", "cpu"],
        ("run/config.yaml", "run/run.json", "run/best/meta.json", "drawn/val.json"),
        whole=True,
    ),
    "loop": Scene(lambda d, _: ["loop", d / "loop"], ("loop/loop.json", "loop/.loop/round-01/*.json")),
    "loop status": Scene(lambda d, _: ["loop", "status", d / "loop"], ("loop/loop.json",)),
    "loop next": Scene(
        lambda d, _: ["loop", "next", d / "loop", "--no-window"], ("loop/loop.json", "loop/*.json"), whole=True
    ),
    "loop close": Scene(
        lambda d, _: ["loop", "close", d / "loop"], ("loop/loop.json", "loop/.loop/round-01/*.json"), whole=True
    ),
    "loop suspects": Scene(
        lambda d, out: ["loop", "suspects", d / "evaluated", "--out", out / "s"],
        ("evaluated/suspects.json", "evaluated/metrics.json", "evaluated/annotations.json"),
    ),
    "loop apply": Scene(
        lambda d, _: ["loop", "apply", d / "suspects", d / "data/annotations.json"], ("suspects/*.json",)
    ),
    "crossval": Scene(
        lambda d, _: _crossval(d),
        ("cv/labels/plan.json", "cv/recipe.json", "cv/fold*/test/*.json"),
        whole=True,
    ),
}


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with everything that the scenes read."""
    folder = tmp_path_factory.mktemp("made")

    def run(*words) -> None:
        assert main([str(word) for word in words]) in (0, 1), words

    from tests.toolkit.evaluation_fixtures import draw_images

    document, detections = scene(1, images=6)
    data = folder / "data"
    draw_images(document, data / "images")
    (data / "annotations.json").write_text(json.dumps({**document, "info": {"image_root": "images"}}))
    (data / "detections.json").write_text(json.dumps(detections))
    run("export", "labelme", data / "annotations.json", "--out", data / "images")
    run("convert", "labelme", data / "images", "--out", folder / "made/a.json")
    run("split", data / "annotations.json", "--out", folder / "parts", "--duplicates", "off")
    run(*_evaluate(data, folder / "evaluated"))
    (folder / "other.json").write_text(json.dumps(detections[1:]))
    groups = "".join(f"{image['file_name']},{image['id'] % 2}\n" for image in document["images"])
    (folder / "groups.csv").write_text("file_name,group\n" + groups)
    run("loop", "suspects", folder / "evaluated", "--out", folder / "suspects")
    made_run(folder, images=4).rename(folder / "made_run")
    drawn = draw_data(folder / "drawn")
    (folder / "recipe.yaml").write_text(
        "epochs: 3\nlr: 0.01\nmodel: fasterrcnn_tiny_fpn\nclass_weights: balanced\nimage_size: 64\n"
    )
    run("train", drawn, "--runs", folder, "--name", "run", *TINY)
    run("predict", folder / "run", drawn, "--out", folder / "predicted", "--score", "0.1", "--device", "cpu")
    (folder / "same").symlink_to(data)  # a copy of the folder finds the same files
    run(*_crossval(folder))
    shutil.copytree(data / "images", folder / "loop")
    for path in sorted((folder / "loop").glob("*.json"))[2:]:
        path.unlink()
    (folder / "names.txt").write_text("nut\nbolt\nwasher\n")
    run("loop", "next", folder / "loop", "--labels", folder / "names.txt", "-n", "2", "--no-window")
    return folder


def too_long(*_) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def damage(made: Path, place: Path, name: str, rounds: int, seed: int, capsys) -> tuple[dict[int, int], dict[str, str]]:
    """({exit code: how often}, {kind of traceback: the first file that led to it})."""
    one, rng, codes, failed = SCENES[name], random.Random(f"{name} {seed}"), {}, {}
    shutil.copytree(made, place / "in", symlinks=True)
    names = sorted({p.relative_to(made) for pattern in one.files for p in made.glob(pattern) if p.is_file()})
    assert names
    for number in range(-1, rounds):
        path = place / "in" / names[number % len(names)]
        content = path.read_bytes()
        if number >= 0:  # the first time as it is
            path.write_bytes(damaged(content, path.suffix == ".json", rng))
        bad = path.read_bytes()
        signal.signal(signal.SIGALRM, too_long)
        signal.alarm(SECONDS)
        try:
            code = main([str(word) for word in one.words(place / "in", place / "out")])
            said = capsys.readouterr().err
            assert code in ((0, 1) if number < 0 else (0, 1, 2)), said[-500:]
            codes[code] = codes.get(code, 0) + 1
        except Exception as error:
            at = traceback.extract_tb(error.__traceback__)[-1]
            kind = f"{type(error).__name__} {error} in {at.filename}:{at.lineno}"
            failed.setdefault(kind, f"round {number}, {path.relative_to(place)}: {bad[:500]!r} ({len(bad)} bytes)")
        finally:
            signal.alarm(0)
        shutil.rmtree(place / "out", ignore_errors=True)
        if one.whole:
            shutil.rmtree(place / "in")
            shutil.copytree(made, place / "in", symlinks=True)
        else:
            path.write_bytes(content)
    return codes, failed


@pytest.mark.slow
@pytest.mark.parametrize("name", SCENES)
def test_damaged_files_are_a_result_or_one_line(made, tmp_path, capsys, name):
    codes, failed = damage(made, tmp_path, name, MUTATIONS, SEED, capsys)
    print(name, codes)
    assert not failed, "\n".join(f"{kind}\n    {file}" for kind, file in failed.items())
