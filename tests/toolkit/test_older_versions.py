"""What older versions wrote, without a marker of whose files these are, is evaluated, reported and split again."""

from __future__ import annotations

import os

import pytest

from label_tools.document import coco_file
from label_tools.files.marked_folders import MARKER
from tests.toolkit.evaluation_fixtures import draw_images, scene
from tests.toolkit.test_evaluate_run import save_network
from tests.toolkit.training_fixtures import draw_data
from toolkit.__main__ import main


@pytest.fixture
def old_run(tmp_path):
    """A run with val evaluated and reported, its markers gone."""
    document, _ = scene(1, images=4)
    draw_images(document, tmp_path / "images")
    run = tmp_path / "run"
    coco_file.write({**document, "info": {"image_root": "../images"}}, run / "val.json")
    save_network(run)
    (run / "config.yaml").write_text("epochs: 3\n")
    (run / "run.json").write_text('{"status": "finished"}')
    assert main(["evaluate", str(run), "--resamples", "5"]) == 0
    for folder in (run, run / "val"):
        (folder / MARKER).unlink(missing_ok=True)
    return run


def test_a_run_of_an_older_version_is_evaluated_and_reported_again(old_run):
    assert main(["report", str(old_run)]) == 0
    assert main(["evaluate", str(old_run), "--resamples", "5"]) == 0
    assert (old_run / "val" / MARKER).is_file() and (old_run / MARKER).is_file()


def test_labels_corrected_after_an_older_evaluation_stay(old_run, capsys):
    mine = next((old_run / "val" / "pictures").iterdir())
    mine.write_text("corrected")
    later = (old_run / "val" / "metrics.json").stat().st_mtime + 3600
    os.utime(mine, (later, later))
    assert main(["evaluate", str(old_run), "--resamples", "5"]) == 2
    assert mine.name in capsys.readouterr().err and mine.read_text() == "corrected"


def test_without_a_record_of_the_run_the_folder_is_somebody_elses(old_run, capsys):
    (old_run / "run.json").unlink()
    assert main(["evaluate", str(old_run), "--resamples", "5"]) == 2
    assert "never overwritten" in capsys.readouterr().err


def test_a_split_of_an_older_version_is_split_again(tmp_path, capsys):
    data = draw_data(tmp_path / "data", train=8, val=3)
    words = ["split", str(data / "train.json"), "--out", str(tmp_path / "out"), "--duplicates", "off"]
    assert main(words) == 0
    (tmp_path / "out" / MARKER).unlink()
    assert main([*words, "--seed", "2"]) == 0
    (tmp_path / "out" / MARKER).unlink()
    changed = tmp_path / "out" / "val.json"  # labels that were changed after the split
    changed.write_text(changed.read_text().replace('"category_id"', '"category_id_before"', 1))
    before = changed.read_text()
    assert main(words) == 2
    assert "never overwritten" in capsys.readouterr().err and changed.read_text() == before
