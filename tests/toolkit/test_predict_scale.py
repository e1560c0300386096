"""`frcnn predict` on many pictures: lists, patterns, standard input, going on after a kill, shares of torchrun."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from typing import ClassVar

import numpy as np
import pytest
from PIL import Image

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import ROOT, untrained_run
from toolkit.__main__ import main
from toolkit.prediction.detect_in_batches import detect_pictures
from toolkit.prediction.detector import Found
from toolkit.prediction.picture_sources import Picture, find_images
from toolkit.prediction.predict_pictures_and_film import predict
from toolkit.prediction.prediction_files import Journal
from toolkit.rank_and_cores import Processes


class Brightness:
    """A detector that finds one box in each image, with the mean of its pixels as the score."""

    opening: ClassVar[dict] = {}
    reads_windows = False
    name, identity = "brightness", "1"

    def __init__(self) -> None:
        self.categories = [{"id": 4, "name": "light"}, {"id": 9, "name": "dark"}]
        self.score_thresholds: dict[str, float] = {}
        self.batches: list[int] = []

    def detect(self, images) -> list[Found]:
        self.batches.append(len(images))
        assert len({image.shape for image in images}) == 1
        return [[{"category_id": 4, "bbox": [1, 2, 3, 4], "score": float(image.mean()) / 255}] for image in images]


@pytest.fixture
def pictures(tmp_path):
    """Seven grey pictures, 200, 201, ... bright, of two sizes: four of the first, three of the second."""
    folder = tmp_path / "new"
    folder.mkdir()
    for n in range(7):
        Image.new("RGB", (8, 6) if n < 4 else (6, 8), (200 + n,) * 3).save(folder / f"{n}.png")
    return folder


@pytest.mark.parametrize("workers", [0, 3])
def test_order_and_batches_of_one_size(pictures, workers):
    detector = Brightness()
    (pictures / "2b.png").write_bytes(b"nothing")
    files = [Picture(name.as_posix(), path) for path, name in find_images([pictures])]
    seen = list(detect_pictures(detector, files, batch_size=3, workers=workers))
    assert [one.picture.name for one in seen] == [f.name for f in files]
    assert [round(255 * one.found[0]["score"]) for one in seen if not one.error] == list(range(200, 207))
    # 0 1 2 | 2b is no picture | 3 | 4 5 6: the neighbours of one size, at most three
    assert detector.batches == [3, 1, 3]


def test_pictures_are_opened_only_shortly_before_they_are_needed(pictures):
    """Memory holds the batch and what is read ahead, not the folder."""
    opened = []

    class Counted(Picture):
        def open(self, *args, **options) -> np.ndarray:
            opened.append(self.name)
            return super().open(*args, **options)

    many = (Counted(str(n), pictures / "0.png") for n in range(1000))
    seen = detect_pictures(Brightness(), many, batch_size=2, workers=2)
    for _ in range(10):
        next(seen)
    # ten given out, two of the batch, 2 + 2 ahead, and one more submitted with each that is taken
    assert len(opened) <= 10 + 2 + 4 + 2


def test_lists_patterns_and_standard_input(pictures, tmp_path, monkeypatch):
    (pictures / "deep").mkdir()
    Image.new("L", (4, 4)).save(pictures / "deep" / "0.png")
    monkeypatch.chdir(tmp_path)
    by_pattern = find_images(["new/**/0.png"])
    assert [name.as_posix() for _, name in by_pattern] == ["0.png", "deep/0.png"]  # apart, though alike by name
    (pictures / "list.txt").write_text("\ufeffnew/1.png\n\ndeep/0.png\n new/1.png \n")  # here, and beside the list
    assert [name.as_posix() for _, name in find_images(["new/list.txt"])] == ["1.png", "deep/0.png"]
    monkeypatch.setattr(sys, "stdin", io.StringIO("new/3.png\n"))
    assert [name.name for _, name in find_images(["-"])] == ["3.png"]
    (tmp_path / "bad.txt").write_text("new/1.png\nnew/none.png\n")
    with pytest.raises(InputError, match=r"bad.txt, line 2: new/none.png: not found; needs the path"):
        find_images(["bad.txt"])
    with pytest.raises(InputError, match=r"new/\*.gif: not found"):
        find_images(["new/*.gif"])


def test_counts_and_detections_as_tables(pictures, tmp_path):
    (pictures / "x.png").write_bytes(b"")
    summary = predict(Brightness(), find_images([pictures]), tmp_path / "out", score=202 / 255, draw=False)
    assert (summary.pictures, summary.unreadable, summary.objects, summary.empty) == (8, 1, 5, 2)
    with open(tmp_path / "out" / "counts.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["picture", "class", "count"]
    # 200 and 201 are under the score; nothing is said of the picture that cannot be read
    assert [r[2] for r in rows[1:] if r[1] == "light"] == ["0", "0", "1", "1", "1", "1", "1"]
    assert [r[2] for r in rows[1:] if r[1] == "dark"] == ["0"] * 7
    with open(tmp_path / "out" / "detections.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["picture", "class", "score", "x", "y", "width", "height"]
    assert rows[1] == ["2.png", "light", "0.79216", "1.00", "2.00", "3.00", "4.00"] and len(rows) == 6


def test_goes_on_where_it_stopped(pictures, tmp_path):
    whole = tmp_path / "whole"
    predict(Brightness(), find_images([pictures]), whole, draw=False)
    out, detector = tmp_path / "out", Brightness()

    def third(done, total, error):
        if done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        predict(detector, find_images([pictures]), out, draw=False, batch_size=1, each=third)
    (journal,) = out.iterdir()
    with open(journal, "ab") as file:
        file.write(b'{"file_name": "3.png", "detec')  # half a line: killed while it wrote
    again = Brightness()
    summary = predict(again, find_images([pictures]), out, draw=False, batch_size=1)
    assert (len(again.batches), summary.went_on) == (4, 3)
    for name in ("detections.json", "detections.csv", "counts.csv"):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
    assert not journal.exists()


def test_another_score_another_picture_or_detector_begins_anew(pictures, tmp_path):
    files = find_images([pictures])

    def stop(*_):
        raise KeyboardInterrupt

    for change in ("score", "detector", "picture"):
        out, detector = tmp_path / change, Brightness()
        with pytest.raises(KeyboardInterrupt):
            predict(detector, files, out, draw=False, each=stop)
        if change == "picture":
            Image.new("RGB", (8, 6), "black").save(pictures / "0.png")
        detector.identity = "2" if change == "detector" else "1"
        summary = predict(detector, files, out, draw=False, score=0.1 if change == "score" else None)
        assert summary.went_on == 0, change


def test_shares_of_torchrun_are_merged_in_order(pictures, tmp_path):
    files, out = find_images([pictures]), tmp_path / "out"
    predict(Brightness(), files, tmp_path / "whole", draw=False)
    assert predict(Brightness(), files, out, draw=False, share=Processes(1, 2)) is None  # the first process writes
    assert not (out / "detections.json").exists()
    detector = Brightness()
    assert predict(detector, files, out, draw=False, share=Processes(0, 2)).objects == 7
    assert sum(detector.batches) == 4  # 0, 2, 4 and 6
    assert (out / "detections.json").read_bytes() == (tmp_path / "whole" / "detections.json").read_bytes()


def test_a_share_that_never_comes_is_said(tmp_path):
    journal = Journal(tmp_path, {})
    with pytest.raises(InputError, match="1 pictures of other processes did not come; needs one --out that all"):
        journal.wait_for(["a.png"], pause=0, give_up=0)
    journal.close()


def test_a_journal_that_is_a_link_is_not_written_through(pictures, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (tmp_path / "mine").write_text("mine")
    (out / ".predict-0.jsonl").symlink_to(tmp_path / "mine")
    with pytest.raises(InputError, match="is a link"):
        predict(Brightness(), find_images([pictures]), out, draw=False)
    assert (tmp_path / "mine").read_text() == "mine"


@pytest.mark.slow
def test_killed_in_the_middle_and_asked_again(tmp_path):
    untrained_run(tmp_path / "run", {"square": 0.2})
    for n in range(300):
        Image.new("RGB", (64, 64), (n % 256, 0, 0)).save(tmp_path / "run" / f"{n:03}.png")
    words = [sys.executable, "-m", "toolkit", "predict", "run", "run/*.png", "--no-pictures", "--out", "out"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(words, cwd=tmp_path, env=environment, stderr=subprocess.DEVNULL)
    journal = tmp_path / "out" / ".predict-0.jsonl"
    while not journal.exists() or journal.read_bytes().count(b"\n") < 20:
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    found = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert found.returncode == 0 and "done before)" in found.stdout
    records = json.loads((tmp_path / "out" / "detections.json").read_text())["images"]
    assert [r["file_name"] for r in records] == [f"{n:03}.png" for n in range(300)]


def test_wrong_use(tmp_path, capsys, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    assert main(["predict", str(tmp_path), str(tmp_path / "a.png"), "--batch-size", "0"]) == 2
    for name, value in (("WORLD_SIZE", "2"), ("RANK", "1"), ("LOCAL_RANK", "1")):
        monkeypatch.setenv(name, value)
    assert main(["predict", str(tmp_path), str(tmp_path / "a.png")]) == 2
    assert "--out: needs one folder for all processes of torchrun" in capsys.readouterr().err
