"""The guide: the tables of the rooms name the files that are there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import anchors

FOLDER = Path(anchors.__file__).parent


@pytest.mark.parametrize("room", ["walkthrough", "exercises"])
def test_the_table_of_a_room_names_its_files(room):
    _, _, rest = (FOLDER / "README.md").read_text(encoding="utf-8").partition(f"file in [{room}]")
    rows = rest.partition("\n\n")[0].splitlines()[2:]
    named = {name for row in rows for name in re.findall(r"`([\w./]+)`", row.split("|")[1])}
    assert {name for name in named if "." not in name and not name.endswith("/")} == {
        path.stem
        for path in (FOLDER / room).glob("*.py")
        if path.stem != "__init__" and not path.stem.startswith("on_")  # "one file a topic"
    }
