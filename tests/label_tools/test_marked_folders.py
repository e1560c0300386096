"""Nothing of the user's is deleted or replaced, and files that belong together appear together."""

from __future__ import annotations

import ast
import json
import os
import time
from pathlib import Path

import pytest

from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.marked_folders import MARKER, together
from label_tools.text.errors import InputError

ROOT = Path(__file__).resolve().parents[2]
# calls that delete, rename or replace, and the only files that may hold them
CHANGES = {
    "rmtree",
    "unlink",
    "rmdir",
    "removedirs",
    "rename",
    "renames",
    "copyfile",
    "copy",
    "copy2",
    "copytree",
    "move",
}
MAY = {
    "label_tools/files/marked_folders.py",
    "label_tools/files/atomic_write.py",
    "anchors/walkthrough/make.py",  # knows neither of the others; refuses what no walkthrough wrote
    "toolkit/labelling/labelling_round.py",  # the links and drafts of a round, by the names in the loop's own file
    "toolkit/labelling/loop_file.py",  # the lock that this very process made, known by its content
    "toolkit/networks/first_weights.py",  # torchvision's cache: a damaged download is set aside, not deleted
}


def write(folder: Path, files: dict[str, str], **options) -> None:
    with together(folder, "thing", **options) as made:
        for name, text in files.items():
            (made / name).parent.mkdir(parents=True, exist_ok=True)
            (made / name).write_text(text)


def tree(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file() and p.name != MARKER]
    return {p.relative_to(folder).as_posix(): p.read_text() for p in files}


def test_files_of_ours_are_replaced_and_old_ones_go(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    write(tmp_path, {"a.json": "1", "pictures/0.jpg": "1", "pictures/1.jpg": "1"})
    (tmp_path / "pictures" / "holiday.jpg").write_text("mine")
    write(tmp_path, {"a.json": "2", "pictures/0.jpg": "2"})
    mine = {"notes.txt": "mine", "pictures/holiday.jpg": "mine"}
    assert tree(tmp_path) == {"a.json": "2", "pictures/0.jpg": "2", **mine}
    write(tmp_path, {"b.json": "3"}, keep=True)
    assert tree(tmp_path) == {"a.json": "2", "b.json": "3", "pictures/0.jpg": "2", **mine}
    write(tmp_path, {"c.json": "4"})
    assert tree(tmp_path) == {"c.json": "4", **mine}


@pytest.mark.parametrize("what", ["foreign", "changed", "folder", "link", "link on the way", "input"])
def test_what_is_not_ours_is_never_replaced(tmp_path, what):
    out, other = tmp_path / "out", tmp_path / "other"
    other.mkdir()
    (other / "a.json").write_text("theirs")
    inputs = []
    if what == "link on the way":
        out.mkdir()
        (out / "part").symlink_to(other)
    elif what == "foreign":
        (out / "part").mkdir(parents=True)
        (out / "part" / "a.json").write_text("mine")
    elif what == "folder":
        (out / "part" / "a.json").mkdir(parents=True)
    else:
        write(out, {"part/a.json": "1"})
        if what == "changed":
            (out / "part" / "a.json").write_text("corrected by hand")
        elif what == "link":
            (out / "part" / "a.json").unlink()
            (out / "part" / "a.json").symlink_to(other / "a.json")
        else:
            inputs = [out / "part" / "a.json"]
    before = tree(tmp_path)
    with pytest.raises(InputError, match=r"part"):
        write(out, {"b.json": "new", "part/a.json": "new"}, inputs=inputs)
    assert tree(tmp_path) == before and not list(out.glob(".*-part"))


def test_commands_of_two_kinds_leave_each_other_alone(tmp_path):
    write(tmp_path, {"a.json": "1"})
    with together(tmp_path, "other") as made:
        (made / "b.json").write_text("2")
    write(tmp_path, {"c.json": "3"})
    assert tree(tmp_path) == {"b.json": "2", "c.json": "3"}
    with pytest.raises(InputError, match=r"b\.json: exists and is of no earlier thing"):
        write(tmp_path, {"b.json": "4"})


def test_a_changed_file_that_is_no_longer_made_stays(tmp_path):
    write(tmp_path, {"a.json": "1", "suspects/1.json": "1"})
    (tmp_path / "suspects" / "1.json").write_text("corrected by hand")
    write(tmp_path, {"a.json": "2"})
    assert tree(tmp_path) == {"a.json": "2", "suspects/1.json": "corrected by hand"}


def test_a_marker_cannot_name_files_elsewhere(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("mine")
    out = tmp_path / "out"
    for name in ("../secret", str(secret), "x/../../secret", "..\\secret", "C:secret"):
        out.mkdir(exist_ok=True)
        content = {"thing": {"complete": True, "files": {name: [marked_folders.sha256(secret)]}}}
        (out / MARKER).write_text(json.dumps(content))
        with pytest.raises(InputError, match="outside"):
            write(out, {"a": "1"})
    assert secret.read_text() == "mine"


@pytest.mark.parametrize(
    "text", ["", "[]", '{"a": 1}', '{"a": {"files": []}}', '{"a": {"files": {"a": 1}, "complete": true}}', "[" * 90_000]
)
def test_a_damaged_marker_is_refused(tmp_path, text):
    (tmp_path / MARKER).write_text(text)
    with pytest.raises(InputError, match=MARKER):
        write(tmp_path, {"a": "1"})


def test_a_failure_inside_changes_nothing(tmp_path):
    write(tmp_path, {"a": "1"})
    with pytest.raises(ZeroDivisionError), together(tmp_path, "thing") as made:
        (made / "a").write_text("2")
        raise ZeroDivisionError
    assert tree(tmp_path) == {"a": "1"}
    marked_folders.check_whole(tmp_path, "thing", ["a"])


def test_a_kill_between_two_files_is_seen_and_put_right(tmp_path, monkeypatch):
    """Stopped at every call that moves a file: a reader is refused or sees one state; the next writer goes on."""
    real = os.replace
    for fatal in range(1, 9):
        folder = tmp_path / str(fatal)
        write(folder, {"a": "1", "b": "1", "old": "1"})
        calls = [0]

        def replace(source, target, fatal=fatal, calls=calls):
            calls[0] += 1
            if calls[0] == fatal:
                raise KeyboardInterrupt
            real(source, target)

        monkeypatch.setattr(os, "replace", replace)
        try:
            write(folder, {"a": "2", "b": "2"})
            ended = True
        except KeyboardInterrupt:
            ended = False
        monkeypatch.setattr(os, "replace", real)
        try:
            marked_folders.check_whole(folder, "thing", ["a", "b"])
        except InputError:
            assert not ended
        else:
            assert len(set(tree(folder).values())) == 1
        write(folder, {"a": "3", "b": "3"})
        assert tree(folder) == {"a": "3", "b": "3"}
    assert ended  # the last round was past the last call: all of them were tried


def test_claim_takes_only_empty_folders_and_its_own(tmp_path):
    marked_folders.claim(tmp_path / "new", "thing")
    marked_folders.claim(tmp_path / "new", "thing")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "labels").mkdir()
    with pytest.raises(InputError, match="of no thing"):
        marked_folders.claim(tmp_path / "mine", "thing")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    with pytest.raises(InputError, match="link"):
        marked_folders.claim(tmp_path / "link", "thing")


def test_a_new_folder_appears_whole_or_not(tmp_path):
    with pytest.raises(ZeroDivisionError), marked_folders.new_folder(tmp_path / "a") as made:
        (made / "x").write_text("1")
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
    with marked_folders.new_folder(tmp_path / "a") as made:
        (made / "x").write_text("1")
        assert not (tmp_path / "a").exists()
    assert tree(tmp_path / "a") == {"x": "1"}
    with pytest.raises(InputError, match="exists"), marked_folders.new_folder(tmp_path / "a"):
        pass


def test_removing_a_folder_keeps_what_is_not_ours(tmp_path):
    folder = tmp_path / ".best.old"
    for number in range(2):
        folder.mkdir()
        (folder / "weights").write_text("ours")
        (folder / "notes.txt").write_text(f"mine {number}")
        marked_folders.remove_folder(folder, ("weights",))
    assert tree(tmp_path) == {"best.old-kept/notes.txt": "mine 0", "best.old-kept-2/notes.txt": "mine 1"}
    (tmp_path / "link").symlink_to(tmp_path / "best.old-kept")
    marked_folders.remove_folder(tmp_path / "link", ("*",))
    assert (tmp_path / "best.old-kept" / "notes.txt").exists() and (tmp_path / "link").is_symlink()


def test_unfinished_files_of_killed_commands_are_swept(tmp_path):
    old = time.time() - 7200
    for name in (
        ".a.json.abcd1234.frcnn-part",
        ".a.json.zzzz1234.frcnn-part",
        "a.part",
        ".mine.abcd1234.part",
        ".b.ABCD1234.frcnn-part",
    ):
        (tmp_path / name).write_text("half")
        os.utime(tmp_path / name, (old, old))
    os.utime(tmp_path / ".a.json.zzzz1234.frcnn-part")  # just written
    (tmp_path / ".out.abcd1234.frcnn-part").mkdir()
    os.utime(tmp_path / ".out.abcd1234.frcnn-part", (old, old))
    (tmp_path / ".link.abcd1234.frcnn-part").symlink_to(tmp_path / "a.part")
    marked_folders.sweep(tmp_path)
    left = {
        ".a.json.zzzz1234.frcnn-part",
        "a.part",
        ".mine.abcd1234.part",
        ".b.ABCD1234.frcnn-part",
        ".link.abcd1234.frcnn-part",
    }
    assert {p.name for p in tmp_path.iterdir()} == left


def changing_calls(path: Path) -> list[str]:
    """Calls in a file that delete, rename or replace a file or folder. `x.replace(a)` with one argument is a path's."""
    found = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        name, owner = node.func.attr, ast.unparse(node.func.value)
        shell = owner in ("os", "shutil")
        method = owner not in ("marked_folders",) and name in ("rmtree", "unlink", "rmdir", "rename", "hardlink_to")
        path_replace = name == "replace" and len(node.args) == 1 and not node.keywords
        if (shell and name in CHANGES | {"replace", "remove", "truncate"}) or method or path_replace:
            found.append(f"line {node.lineno}: {ast.unparse(node)[:80]}")
    return found


def test_one_place_deletes_renames_and_replaces():
    files = [p for package in ("label_tools", "toolkit", "anchors") for p in (ROOT / package).rglob("*.py")]
    found = {p.relative_to(ROOT).as_posix(): changing_calls(p) for p in files}
    assert {name: calls for name, calls in found.items() if calls and name not in MAY} == {}
    assert all(found[name] for name in MAY), "the list above names a file that needs it no more"


def test_a_written_file_has_the_rights_that_open_gives(tmp_path):
    with atomic_write(tmp_path / "ours") as file:
        file.write(b"1")
    (tmp_path / "theirs").write_bytes(b"1")
    assert (tmp_path / "ours").stat().st_mode == (tmp_path / "theirs").stat().st_mode


def test_one_file_is_replaced_only_as_it_was_written(tmp_path):
    def put(text: str, kind: str = "thing", **options) -> None:
        with marked_folders.one_file(tmp_path / "a" / "a.json", kind, **options) as made:
            made.write_text(text)

    path = tmp_path / "a" / "a.json"
    put("1")
    put("2")
    with marked_folders.one_file(tmp_path / "a" / "neighbour.json", "thing") as made:
        made.write_text("n")
    assert path.read_text() == "2" and (tmp_path / "a" / "neighbour.json").read_text() == "n"  # each stays
    path.write_text("corrected by hand")
    with pytest.raises(InputError, match="was changed since frcnn wrote it"):
        put("3")
    put("corrected by hand")  # the same content: nothing is lost
    put("4")
    with pytest.raises(InputError, match="no earlier other"):
        put("5", "other")
    with pytest.raises(InputError, match="input"):
        put("5", inputs=[path])
    (tmp_path / "a" / "b.json").symlink_to(path)
    with pytest.raises(InputError, match="link"), marked_folders.one_file(tmp_path / "a" / "b.json", "thing") as made:
        made.write_text("5")
    (tmp_path / "named by the user").symlink_to(tmp_path / "a")
    with marked_folders.one_file(tmp_path / "named by the user" / "a.json", "thing") as made:
        made.write_text("6")
    assert path.read_text() == "6"


def test_files_of_an_older_version_are_adopted_once_and_never_through_a_link(tmp_path):
    marked_folders.adopt(tmp_path / "none", "thing", ["a.json"])  # no folder: nothing is made
    assert not (tmp_path / "none").exists()
    folder = tmp_path / "old"
    folder.mkdir()
    (folder / "a.json").write_text("1")
    (folder / "b.json").symlink_to(folder / "a.json")
    marked_folders.adopt(folder, "thing", ["a.json", "b.json", "c.json"])
    assert marked_folders.written(folder, "thing") == ["a.json"]
    (folder / "c.json").write_text("mine")
    marked_folders.adopt(folder, "thing", ["a.json", "c.json"])  # marked already: the user's file stays the user's
    assert marked_folders.written(folder, "thing") == ["a.json"]
    (tmp_path / "link").symlink_to(folder)
    marked_folders.adopt(tmp_path / "link", "other", ["c.json"])
    assert marked_folders.written(folder, "other") == []


def test_a_folder_that_nothing_came_into_goes_again(tmp_path):
    with pytest.raises(ZeroDivisionError), marked_folders.one_file(tmp_path / "a" / "b" / "c.json", "thing"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())


def test_a_file_among_those_that_moved_when_the_command_was_killed_is_not_read(tmp_path):
    write(tmp_path, {"a.json": "1", "b.json": "1"})
    marker = json.loads((tmp_path / MARKER).read_text())
    marker["thing"]["complete"] = False
    (tmp_path / MARKER).write_text(json.dumps(marker))
    marked_folders.check_settled(tmp_path / "c.json")
    with pytest.raises(InputError, match="was stopped"):
        marked_folders.check_settled(tmp_path / "a.json")
