"""Long tests of the whole house: commands that are killed, run into a full or read-only disk, or run two at once."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.toolkit.evaluation_fixtures import draw_images, scene
from toolkit.__main__ import main

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")]
KILLS = int(os.environ.get("FRCNN_KILLS", "50"))  # of each command


@pytest.fixture
def data(tmp_path) -> Path:
    """A folder with annotations.json, LabelMe files, detections and pictures."""
    document, detections = scene(1, images=12)
    folder = tmp_path / "data"
    draw_images(document, folder / "images")
    (folder / "annotations.json").write_text(json.dumps({**document, "info": {"image_root": "images"}}))
    (folder / "detections.json").write_text(json.dumps(detections))
    assert main(["export", "labelme", str(folder / "annotations.json"), "--out", str(folder / "images")]) == 0
    return folder


def tree(folder: Path) -> dict[str, str]:
    """{file: SHA-256}, without markers, which name no more than these, and without unfinished files."""
    files = (p for p in folder.rglob("*") if p.is_file() and not p.name.endswith(("-part", ".frcnn.json")))
    kept = (p for p in files if not any(part.endswith("-part") for part in p.relative_to(folder).parts))
    return {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in kept}


def commands(data: Path, out: Path) -> dict[str, tuple[list, list]]:
    """{name: two sets of words that write different files into the same place}"""
    labels = data / "annotations.json"
    files = ["--annotations", labels, "--detections", data / "detections.json", "--out", out / "e", "--no-report"]
    export = ["export", "yolo", labels, "--out", out / "yolo", "--overwrite", "--copy-images"]
    split = ["split", labels, "--out", out / "parts", "--duplicates", "off", "--seed"]
    convert = ["convert", "labelme", data / "images", "--out", out / "a.json"]
    return {
        "convert": (convert, [*convert, "--skip-labels", "nut"]),
        "split": ([*split, "1"], [*split, "2"]),
        "export": (export, [*export, "--segments"]),
        "evaluate": (["evaluate", *files, "--resamples", "5"], ["evaluate", *files, "--resamples", "6"]),
    }


def killed_before(event: int) -> None:
    """End this process with SIGKILL before its n-th call that puts a file in place or removes one."""
    left = [event]

    def counted(call):
        def counting(*places, **more):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return call(*places, **more)

        return counting

    for name in ("replace", "rename", "unlink"):
        setattr(os, name, counted(getattr(os, name)))


def moving(out: Path) -> bool:
    """Whether files are being put in place: a marker says that they are not all there."""
    with contextlib.suppress(OSError):
        return any(b'"complete": false' in path.read_bytes() for path in out.rglob(".frcnn.json"))
    return False


def child(words: list, limit: float | None = None, event: int = 0, sign: Callable[[], bool] | None = None) -> int:
    """Run a command in a fork of this process, killed by `killed_before(event)`, or `limit` seconds after its begin or
    after `sign()` was true. -> its exit code, -9 when killed."""
    pid = os.fork()
    if pid == 0:
        with open(os.devnull, "w") as nothing, contextlib.redirect_stdout(nothing), contextlib.redirect_stderr(nothing):
            code, replace = 99, os.replace
            if event:
                killed_before(event)
            elif sign:
                os.replace = lambda *places: (time.sleep(0.003), replace(*places))[1]  # a slow disk
            with contextlib.suppress(BaseException):
                code = main([str(word) for word in words])
            os._exit(code)
    end = None if limit is None or sign else time.monotonic() + limit
    while end is None or time.monotonic() < end:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if sign and end is None and sign():
            end = time.monotonic() + limit
        time.sleep(0.0002 if sign else 0.001)
    os.kill(pid, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


@pytest.mark.parametrize("name", ["convert", "split", "export", "evaluate"])
def test_killed_at_any_moment(tmp_path, data, name):
    """Old and new never mix unseen, nothing is half, inputs stay as they are, and the next run puts it right."""
    assert main([str(word) for word in commands(data, tmp_path / "first")[name][0]]) in (0, 1)  # all is imported now
    out = tmp_path / "out"
    versions = commands(data, out)[name]
    if name == "export":
        versions = (versions[0], versions[0])
    expected, seconds = [], []
    for words in versions:
        begin = time.monotonic()
        assert child(words) in (0, 1)
        seconds.append(time.monotonic() - begin)
        expected.append(tree(out))
    before, rng, killed, unsettled = tree(data), random.Random(0), 0, 0
    for number in range(KILLS):
        new = number % 2
        if number % 4 < 2:
            code = child(versions[new], rng.uniform(0, 1.05 * seconds[new]))
        else:  # while files move, which is soon over
            code = child(versions[new], rng.uniform(0, 0.01), sign=lambda: moving(out))
        killed += code == -signal.SIGKILL
        assert code in (0, 1, -signal.SIGKILL), code
        assert tree(data) == before
        found = tree(out)
        for file, digest in found.items():
            assert digest in (expected[0].get(file), expected[1].get(file)), f"kill {number}: {file} is neither"
        markers = [json.loads(p.read_bytes()) for p in out.rglob(".frcnn.json")]
        whole = all(kind["complete"] for marker in markers for kind in marker.values())
        unsettled += not whole
        assert not whole or found in expected, f"kill {number}: a mixture that no reader sees"
        if name == "split" and not whole:
            assert main(["train", str(out / "parts"), "--dry-run"]) == 2
        assert child(versions[new]) in (0, 1) and tree(out) == expected[new], f"kill {number}: not put right"
    print(f"{name}: {killed} of {KILLS} killed, {unsettled} while files moved")


def settled(folder: Path) -> tuple[dict, list]:
    """What a loop's folder holds and its rounds, without the clock and their numbers."""
    state = json.loads((folder / "loop.json").read_bytes())
    clock = ("opened", "closed", "minutes", "number")
    rounds = [
        (
            {k: v for k, v in one.items() if k not in clock},
            None if one["closed"] else tree(folder / f".loop/round-{one['number']:02d}"),
        )
        for one in state.pop("rounds")
    ]
    files = {name: digest for name, digest in tree(folder).items() if not name.startswith(".loop/")}
    return {**files, "loop.json": state}, rounds


def test_a_killed_loop(tmp_path, data):
    """`loop next` and `loop close` killed at any moment: no label is lost or half, and the same command again ends as
    if it had not been killed. Three pictures are labelled; two are drafted in a round, one of them ticked."""
    importlib.import_module("toolkit.labelling.choose_pictures")  # torch once, not in every child
    folder, rng, killed = tmp_path / "loop", random.Random(0), 0
    shutil.copytree(data / "images", folder)
    names = sorted(p.name for p in folder.glob("*.json"))
    for name in names[3:]:
        (folder / name).unlink()
    (tmp_path / "names.txt").write_text("nut\nbolt\nwasher\n")
    opening = ["loop", "next", folder, "--no-window", "-n", "2", "--labels", tmp_path / "names.txt"]
    stages = [(opening, shutil.copytree(folder, tmp_path / "stage 0"))]
    assert child(opening) == 0
    drafts = sorted(p for p in (folder / ".loop/round-01").glob("0*.json"))
    drawn = {"label": "nut", "points": [[5, 5], [40, 30]], "shape_type": "rectangle", "group_id": None, "flags": {}}
    drafts[0].write_text(json.dumps({**json.loads(drafts[0].read_bytes()), "shapes": [drawn]}))
    stages.append((["loop", "close", folder], shutil.copytree(folder, tmp_path / "stage 1", symlinks=True)))
    for stage, (words, before) in enumerate(stages):
        begin = time.monotonic()
        shutil.rmtree(folder)
        shutil.copytree(before, folder, symlinks=True)
        assert child(words) == 0
        seconds, expected = time.monotonic() - begin, settled(folder)
        for number in range(KILLS // 2):
            shutil.rmtree(folder)
            shutil.copytree(before, folder, symlinks=True)
            how = {"event": number // 2 + 1} if number % 2 else {"limit": rng.uniform(0, 1.05 * seconds)}
            killed += child(words, **how) == -signal.SIGKILL
            found = tree(folder)
            kept = {n for n in tree(before) if "/" not in n and n != "loop.json"}
            assert all(found[n] == digest for n, digest in tree(before).items() if n in kept), number
            ours = [folder / drafts[0].name.partition("_")[2], drafts[0]]  # moved from the round to the picture
            assert not stage or any(p.exists() and json.loads(p.read_bytes())["shapes"] for p in ours), number
            code = child(words)
            assert code == 0 or (stage, code) == (1, 2), (number, code)  # 2: it had been closed
            assert settled(folder) == expected, f"{words[1]}, kill {number}"
    print(f"loop: {killed} of {2 * (KILLS // 2)} killed")


def test_what_killed_commands_leave_is_swept(tmp_path, data):
    words = commands(data, tmp_path / "out")["export"][0]
    assert child(words) == 0
    for limit in (0.02, 0.05, 0.1):
        child(words, limit)
    old = time.time() - 7200
    for path in [*(tmp_path / "out").rglob("*"), tmp_path / "out" / "yolo"]:
        os.utime(path, (old, old))
    assert child(words) == 0
    assert not [p for p in (tmp_path / "out").rglob("*") if p.name.endswith("-part")]


def writing(data: Path, out: Path) -> dict[str, list]:
    labels = data / "annotations.json"
    rest = {
        "draw": ["draw", labels, "--out", out / "drawn"],
        "stats": ["stats", labels, "--out", out / "stats.png"],
        "rename": ["rename", labels, "nut=n", "--out", out / "r.json"],
        "merge": ["merge", labels, data / "copy.json", "--out", out / "m.json", "--same-image", "first"],
        "check": ["check", labels, "--fix", "--out", out / "f.json"],
    }
    for program in ("labelme", "voc", "coco", "cvat", "masks"):
        rest[f"export {program}"] = ["export", program, labels, "--out", out / program]
    return {**{name: words for name, (words, _) in commands(data, out).items()}, **rest}


@pytest.fixture
def small_disk(tmp_path):
    place = tmp_path / "disk"
    place.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64k", "none", place], capture_output=True).returncode:
        pytest.skip("needs the right to mount a disk of 64 KB")
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=False)


def test_a_full_disk_is_exit_code_4_and_leaves_nothing_half(data, small_disk, capsys):
    shutil.copy(data / "annotations.json", data / "copy.json")
    before = tree(data)
    for free in (0, 8192):
        for name, words in writing(data, small_disk).items():
            for path in small_disk.iterdir():
                shutil.rmtree(path) if path.is_dir() else path.unlink()
            with open(small_disk / "fill", "wb") as file, contextlib.suppress(OSError):
                file.write(b"x" * (65536 - free))
            capsys.readouterr()
            code = main([str(word) for word in words])
            said = capsys.readouterr().err
            if code in (0, 1):  # 8 KB were enough
                assert free, name
                continue
            assert code == 4 and "No space left" in said and "Traceback" not in said, (name, code, said)
            assert not [p for p in small_disk.rglob("*") if p.is_file() and p.name != "fill"], name
    assert tree(data) == before


def test_a_read_only_disk_is_one_line(data, small_disk, capsys):
    shutil.copy(data / "annotations.json", data / "copy.json")
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    for name, words in writing(data, small_disk).items():
        assert main([str(word) for word in words]) == 2, name
        said = capsys.readouterr().err
        assert "Read-only file system" in said and "Traceback" not in said, (name, said)


def started(words: list) -> subprocess.Popen:
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parents[1])}
    command = [sys.executable, "-m", "toolkit", *map(str, words)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, env=environment)


def test_two_commands_at_once(tmp_path, data):
    """Two at a time into one place: both end well or one is refused in one line, and what lies there is whole."""
    out = tmp_path / "out"
    every = commands(data, out)
    labels = data / "annotations.json"
    other = ["convert", "labelme", data / "images", "--out", out / "b.json"]
    scenes = [(name, one, two) for name, (one, two) in every.items() if name != "export"]
    scenes += [
        ("export twice", every["export"][0], every["export"][0]),
        ("two files of one folder", every["convert"][0], other),
        ("two kinds in one folder", [*every["split"][0][:-5], out, *every["split"][0][-4:]], every["convert"][0]),
        (
            "edit and stats",
            ["rename", labels, "nut=n", "--out", out / "r.json"],
            ["stats", labels, "--out", out / "s.png"],
        ),
    ]
    pictures = tmp_path / "pictures"
    shutil.copytree(data / "images", pictures, ignore=shutil.ignore_patterns("*.json"))
    (tmp_path / "names.txt").write_text("nut\n")
    opening = ["loop", "next", pictures, "--no-window", "--labels", tmp_path / "names.txt", "-n"]
    scenes.append(("two in a loop", [*opening, "2"], [*opening, "3"]))
    assert len(scenes) == 8
    for name, one, two in scenes:
        shutil.rmtree(out, ignore_errors=True)
        both = [started(words) for words in (one, two)]
        said = [process.communicate()[1] for process in both]
        for process, text in zip(both, said, strict=True):
            assert process.returncode in (0, 1, 2) and "Traceback" not in text, (name, text)
        assert any(process.returncode in (0, 1) for process in both), (name, said)
        for marker in out.rglob(".frcnn.json"):
            for kind, content in json.loads(marker.read_bytes()).items():
                assert content["complete"], (name, kind)
                for file, hashes in content["files"].items():
                    assert hashlib.sha256((marker.parent / file).read_bytes()).hexdigest() in hashes, (name, file)
        assert not [p for p in out.rglob("*") if p.name.endswith("-part")], name
    (entry,) = json.loads((pictures / "loop.json").read_bytes())["rounds"]  # the second is refused, or joins it
    files = {one["file"] for one in entry["pictures"]}
    assert {p.name for p in (pictures / ".loop").rglob("*.jpg")} == files and not (pictures / ".loop/lock").exists()
