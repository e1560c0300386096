"""docs/formats.md: it names every format that is read and written, and tests that are there."""

from __future__ import annotations

import re
from pathlib import Path

import label_tools
from label_tools.commands.convert import PROGRAMS
from label_tools.formats.unsupported import WAYS_OUT
from label_tools.readers import program_folder
from label_tools.readers.convert import READERS
from label_tools.readers.which_format import TITLES

HERE = Path(__file__).resolve().parent
PAGE = (HERE.parents[1] / "docs" / "formats.md").read_text(encoding="utf-8")


def cells(line: str) -> list[str]:
    return [cell.strip() for cell in line.strip("|").split("|")]


def test_every_format_is_in_the_table_of_what_is_read():
    rows = [cells(line) for line in PAGE.partition("## Written")[0].splitlines() if line.startswith("|")]
    assert {row[1].strip("`") for row in rows[2:]} - {""} == set(READERS)
    assert set(READERS) == set(TITLES) and set(PROGRAMS) == set(program_folder.PROGRAMS)


def test_every_export_is_in_the_table_of_what_is_written():
    rows = [cells(line) for line in PAGE.partition("## Written")[2].splitlines() if line.startswith("|")]
    exports = {name.removeprefix("export_") for name in label_tools.__all__ if name.startswith("export_")}
    assert {row[0].strip("`") for row in rows[2:]} == exports


def test_the_tests_it_names_are_there():
    named = set(re.findall(r"`(test_\w+\.py)`", PAGE))
    assert len(named) > 10 and all((HERE / name).is_file() for name in named)


def test_what_is_known_by_name_alone_is_named():
    first_words = {name.split()[0] for name in WAYS_OUT} - {"a", "detections"}
    assert all(word in PAGE for word in first_words)


def test_every_name_of_the_python_api_is_there():
    assert all(getattr(label_tools, name) for name in label_tools.__all__)
