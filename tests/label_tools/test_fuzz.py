"""Random damage never gets more out of a reader than a result or an InputError: no crash, no hang, no gigabyte."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
READERS = ("labelme", "coco", "voc", "yolo", "masks", "images", "labelstudio", "via", "via-csv", "unity", "cvat")


def fuzz(reader: str, count: int, seed: int, folder: Path) -> dict:
    done = subprocess.run(
        [
            sys.executable,
            "-W",
            "error",
            "-m",
            "tests.label_tools.fuzz_readers",
            reader,
            str(count),
            str(seed),
            str(folder),
        ],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        timeout=900,
    )
    case = (folder / "case").read_text() if (folder / "case").exists() else "none"
    assert done.returncode == 0, f"{reader}, seed {seed}, case {case}, exit {done.returncode}:\n{done.stderr[-3000:]}"
    result = json.loads(done.stdout)
    assert result["worst_s"] < 5 and result["rss_mb"] < 1000, result
    assert result["input_errors"] + result["results"] >= count
    return result


@pytest.mark.parametrize("reader", READERS)
def test_a_few_hundred_mutations(reader, tmp_path):
    result = fuzz(reader, 300, 1, tmp_path)
    assert result["results"] > 0


@pytest.mark.slow
@pytest.mark.parametrize("reader", READERS)
def test_thousands_of_mutations(reader, tmp_path):
    fuzz(reader, int(os.environ.get("FRCNN_MUTATIONS", "5000")), 2, tmp_path)
