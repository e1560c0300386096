"""Files that a command reads back (run folder, evaluation, manifest), damaged at random or made by somebody else: one
line and exit code 2, or a page that says what it could not read; never a traceback, never a script."""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import shutil

import pytest

from label_tools.files.marked_folders import MARKER
from tests.damage import damaged
from tests.toolkit.evaluation_fixtures import made_run
from toolkit.__main__ import main

EVIL = '1"/><script>alert(1)</script><rect x="'


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A run with an evaluation, without markers: as if it came from somewhere else."""
    run = made_run(tmp_path_factory.mktemp("made"), images=4)
    (run / "val" / MARKER).unlink()
    return run


def files_of(run):
    names = ("run.json", "config.yaml", "metrics.jsonl")
    found = [run / name for name in names if (run / name).is_file()]
    return found + [p for p in sorted((run / "val").iterdir()) if p.suffix in (".json", ".csv")]


def mutate_and_report(made, tmp_path, rounds: int, seed: int) -> None:
    run = tmp_path / "run"
    shutil.copytree(made, run)
    rng, files = random.Random(seed), files_of(run)
    for number in range(rounds):
        path = files[number % len(files)]
        content = path.read_bytes()
        path.write_bytes(damaged(content, path.suffix == ".json", rng))
        words = ["report", str(run), *(["--markdown"] if number % 3 == 0 else [])]
        try:
            assert main(words) in (0, 2)
        except BaseException:
            print(path.name, path.read_bytes()[:3000])
            raise
        path.write_bytes(content)


def test_report_of_damaged_files(made, tmp_path, capsys):
    mutate_and_report(made, tmp_path, 120, 0)


def test_the_table_of_what_is_no_evaluation_names_its_file(tmp_path, capsys):
    (tmp_path / "run" / "val").mkdir(parents=True)
    (tmp_path / "run" / "val" / "metrics.json").write_text("{}")
    assert main(["report", str(tmp_path / "run"), "--markdown"]) == 2
    file = tmp_path / "run" / "val" / "metrics.json"
    assert f"{file}: is not as `frcnn evaluate` wrote it" in capsys.readouterr().err


def test_a_foreign_gallery_brings_no_markup(made, tmp_path):
    """Markup in every text and number of gallery.json: only the page's own script is in the page, by its hash."""
    run = tmp_path / "run"
    shutil.copytree(made, run)
    gallery = json.loads((run / "val" / "gallery.json").read_bytes())
    for items in (gallery["images"], *gallery["crops"].values()):
        for number, item in enumerate(items):
            item["title"] = item["file_name"] = EVIL
            if number % 3 == 1:
                item["boxes"][0]["bbox"][0] = EVIL
            elif number % 3 == 2:
                item["boxes"][0]["kind"] = EVIL
            elif item["boxes"]:
                item["boxes"][0]["hint"] = EVIL
    gallery["note"] = EVIL
    (run / "val" / "gallery.json").write_text(json.dumps(gallery))
    assert main(["report", str(run)]) == 0
    page = (run / "report.html").read_text()
    assert "alert(1)&lt;/script&gt;" in page and "entries are not as frcnn wrote them" in page
    (script,) = re.findall(r"<script>(.*?)</script>", page, re.S)
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)[1]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy
    assert "unsafe-inline" not in policy.split("script-src")[1]
