"""Films: detections frame by frame, whole files after Ctrl-C, damaged and empty ones in a line; frames to label."""

from __future__ import annotations

import csv
import json
import os
import signal

import numpy as np
import pytest
from PIL import Image

from label_tools.document import coco_file
from label_tools.operations.frames import choose, extract
from label_tools.pictures.duplicates import copies_by_name
from label_tools.pictures.films import Film, film_writer
from tests.toolkit.test_predict_scale import Brightness
from tests.toolkit.training_fixtures import untrained_run
from toolkit.__main__ import main
from toolkit.prediction.predict_pictures_and_film import predict_film


@pytest.fixture
def film(tmp_path):
    """clip.mp4: 20 frames of 64 x 48 at 10 a second, frame n of brightness 10 n."""
    with film_writer(tmp_path / "clip.mp4", 10) as write:
        for n in range(20):
            write(np.full((48, 64, 3), 10 * n, np.uint8))
    return tmp_path / "clip.mp4"


def test_every_second_frame_with_its_time(film, tmp_path):
    out = tmp_path / "out"
    summary = predict_film(Brightness(), Film(film), out, score=0.0, every=2, batch_size=3)
    assert (summary.pictures, summary.objects) == (10, 10)
    records = json.loads((out / "detections.json").read_text())["images"]
    assert [(r["file_name"], r["frame"], r["time"]) for r in records[:2]] == [
        ("clip_frame000000.jpg", 0, 0.0),
        ("clip_frame000002.jpg", 2, 0.2),
    ]
    for record in records:  # of the right frame: brightness, as far as MPEG-4 keeps it
        assert 255 * record["detections"][0]["score"] == pytest.approx(10 * record["frame"], abs=4)
    with open(out / "counts.csv", newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["picture", "frame", "time", "class", "count"] and len(rows) == 1 + 10 * 2
    assert rows[3][1:] == ["2", "0.2", "light", "1"]
    drawn = Film(out / "clip.mp4")
    assert drawn.rate == 5 and len(list(drawn)) == 10  # as long as the film was
    assert sorted(p.name for p in out.iterdir()) == [
        ".frcnn.json",
        "clip.mp4",
        "counts.csv",
        "detections.csv",
        "detections.json",
    ]


def test_stopped_in_the_middle_leaves_whole_files(film, tmp_path):
    out, done = tmp_path / "out", []
    predict_film(Brightness(), Film(film), out, stop=lambda: len(done) == 4, each=lambda n, of: done.append((n, of)))
    assert done == [(1, 20), (2, 20), (3, 20), (4, 20)]
    assert len(json.loads((out / "detections.json").read_text())["images"]) == 4
    assert len(list(Film(out / "clip.mp4"))) == 4


def test_ctrl_c_on_the_command_line(film, tmp_path, monkeypatch, capsys):
    untrained_run(tmp_path / "run", {})
    from toolkit.prediction import predict_pictures_and_film as room

    real = room.detect_pictures

    def then_ctrl_c(*args, **options):
        for number, one in enumerate(real(*args, **options)):
            if number == 3:
                os.kill(os.getpid(), signal.SIGINT)
            yield one

    monkeypatch.setattr(room, "detect_pictures", then_ctrl_c)
    assert main(["predict", str(tmp_path / "run"), str(film), "--out", str(tmp_path / "out")]) == 130
    assert "in 4 frames" in capsys.readouterr().out
    assert len(json.loads((tmp_path / "out" / "detections.json").read_text())["images"]) == 4


def test_what_is_no_film_is_said_in_a_line(film, tmp_path, capfd, caplog):
    untrained_run(tmp_path / "run", {})
    content = film.read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) // 2])
    (tmp_path / "empty.mp4").write_bytes(b"")
    (tmp_path / "text.avi").write_text("no film")
    for name, text in (
        ("cut.mp4", "damaged, cut off"),
        ("empty.mp4", "the file is empty"),
        ("text.avi", "no film that can be read"),
        ("none.mp4", "not found; needs a film"),
        ("99", "camera 99: cannot be opened"),
    ):
        place = name if name == "99" else str(tmp_path / name)
        assert main(["predict", str(tmp_path / "run"), place, "--out", str(tmp_path / "out")]) == 2
        said = capfd.readouterr().err
        assert text in said and said.count("\n") == 1, said
    assert not (tmp_path / "out").exists()
    assert main(["predict", str(tmp_path / "run"), str(film), str(film)]) == 2
    assert main(["predict", str(tmp_path / "run"), str(film), "--every", "0"]) == 2


def test_a_film_is_never_written_over(film, tmp_path, capsys):
    untrained_run(tmp_path / "run", {})
    before = film.read_bytes()
    assert main(["predict", str(tmp_path / "run"), str(film), "--out", str(tmp_path)]) == 2
    assert "clip.mp4: exists, and is never overwritten" in capsys.readouterr().err
    assert film.read_bytes() == before


def test_a_writer_that_fails_leaves_nothing(tmp_path):
    with pytest.raises(RuntimeError), film_writer(tmp_path / "a.mp4", 10) as write:
        write(np.zeros((48, 64, 3), np.uint8))
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_frames_unlike_each_other():
    # 50 alike, two far ones, and one between them: three choices take the two ends and one of the many
    points = np.array([[0, 0]] * 50 + [[100, 0], [0, 90]] + [[50, 45]])
    chosen = choose(points, 3)
    assert {50, 51} < set(chosen) and len(chosen) == 3 and chosen == sorted(chosen)
    assert len(choose(points, 100)) == 4  # no more differ
    assert choose(points[:1], 5) == [0]


def test_frames_are_written_and_split_keeps_the_film_together(film, tmp_path, capsys):
    files, total = extract(film, tmp_path / "photos", 5)
    assert total == 20 and len(files) == 5
    for path in files:
        number = int(path.stem.removeprefix("clip_frame"))
        with Image.open(path) as picture:
            assert np.asarray(picture).mean() == pytest.approx(10 * number, abs=4)  # the frame that its name says
    assert copies_by_name([f.name for f in files] + ["other.jpg"]) == [[0, 1, 2, 3, 4]]
    for n in range(15):
        noise = np.random.default_rng(n).integers(0, 255, (48, 64, 3), dtype=np.uint8)
        Image.fromarray(noise).save(tmp_path / "photos" / f"photo{n}.png")
    names = sorted(p.name for p in (tmp_path / "photos").iterdir())
    images = [{"id": i, "file_name": n, "width": 64, "height": 48} for i, n in enumerate(names, 1)]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "a"}]}
    coco_file.write({**document, "info": {"image_root": "."}}, tmp_path / "photos" / "annotations.json")
    assert main(["split", str(tmp_path / "photos" / "annotations.json")]) == 0
    parts = json.loads((tmp_path / "photos" / "split.json").read_text())["files"]
    assert len({part for name, part in parts.items() if name.startswith("clip_frame")}) == 1
    assert main(["frames", str(film), "--out", str(tmp_path / "photos")]) == 2  # its own pictures lie there
    assert "never overwritten" in capsys.readouterr().err
