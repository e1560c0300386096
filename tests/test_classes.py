"""Which labels are classes, in which order and spelling."""

from __future__ import annotations

import pytest

from label_tools.classes import class_table, read_labels
from label_tools.errors import InputError


def test_labels_file(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("__ignore__\n_background_\n dog \n\ncat\n", encoding="utf-8-sig")
    assert read_labels(path) == ["__ignore__", "_background_", "dog", "cat"]
    for bad, match in (("cat\ncat\n", "line 2.*twice"), ("\n", "no class"), ("_background_\n", "no class")):
        path.write_text(bad)
        with pytest.raises(InputError, match=match):
            read_labels(path)


def test_a_refused_label_names_the_files_that_hold_it():
    files = {"dgo": ["a.json", "b.json", "c.json", "d.json"], "Dog": ["a.json"], "dog": ["b.json"]}
    with pytest.raises(InputError, match=r'"dgo" \(7, in a.json, b.json, c.json and 1 more\), did you .*frcnn rename'):
        class_table({"dgo": 7}, ["dog"], files=files)
    with pytest.raises(InputError, match=r'"dog" \(5, in b.json\), "Dog" \(1, in a.json\)'):
        class_table({"Dog": 1, "dog": 5}, None, files=files)


def test_class_table():
    assert class_table({"b": 1, "a": 2, "__ignore__": 3}, None)[0] == ["a", "b"]
    names, spelling = class_table({"Cat": 1, "cat": 5, "CAT": 2}, None, merge_case=True)
    assert names == ["cat"] and set(spelling.values()) == {"cat"}
    assert class_table({"Cat": 1}, ["dog", "cat"], merge_case=True)[1] == {"Cat": "cat"}
    assert class_table({"cat": 1, "Cat": 2}, ["cat", "Cat"])[0] == ["cat", "Cat"]  # both are wanted
    with pytest.raises(InputError, match=r'"cat" \(5\), "Cat" \(1\)'):
        class_table({"Cat": 1, "cat": 5}, None)
    with pytest.raises(InputError, match=r'"dgo" \(3\), did you mean "dog"\?; "\\x1b" \(1\)'):
        class_table({"dgo": 3, "\x1b": 1, "cat": 1}, ["cat", "dog"])
