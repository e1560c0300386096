"""The run folder `runs/NAME`: its files, its lock, its run.json with the versions that a result depends on.

config.yaml  run.json  train.log  metrics.jsonl  results.csv  curves.png  train_batch.jpg
train.json  val.json  test.json       the labels it was trained on, pointing at the images where they were
last/  previous/  best/               checkpoints
val/  test/                           detections.json, metrics.json, pictures of an evaluation
report.html
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any, ClassVar

from label_tools.files import marked_folders
from label_tools.files.atomic_write import PART
from label_tools.files.write_json_csv import write_json
from label_tools.text.errors import InputError
from label_tools.text.messages import near_paths

_PACKAGES = "frcnn-toolkit torch torchvision pycocotools albumentations numpy pillow opencv-python-headless"
RUN, CONFIG, METRICS, RESULTS, LOCK = "run.json", "config.yaml", "metrics.jsonl", "results.csv", ".lock"


def check_name(name: str, flag: str = "--name") -> None:
    """Refuse what would lead out of the folder of runs, or be hidden in it."""
    if not name or Path(name).name != name or name.startswith(".") or not name.isprintable():
        raise InputError(f"{flag} {name!r}: needs a plain folder name")


def create(runs: Path, name: str, flag: str = "--name") -> Path:
    """A new folder `runs/name`, or `name-2`, `name-3` ...: a run is never overwritten."""
    check_name(name, flag)
    number = 1
    while True:
        folder = runs / (name if number == 1 else f"{name}-{number}")
        try:
            folder.mkdir(parents=True)
            return folder
        except FileExistsError:
            number += 1
        except OSError as error:
            raise InputError(f"{folder}: cannot be made: {error.strerror}") from None


def check(folder: Path) -> None:
    """Refuse a folder that is not a run, and say what it is instead."""
    if folder.is_file():
        raise InputError(f"{folder}: is a file; needs a run folder (runs/NAME)")
    if not folder.is_dir():
        raise InputError(f"{folder}: not found; needs a run folder (runs/NAME)" + near_paths(folder))
    if not is_run(folder):
        runs = sorted(path.name for path in folder.iterdir() if path.is_dir() and is_run(path))
        what = f"; it holds the runs {', '.join(runs[:8])}{' ...' * (len(runs) > 8)}" if runs else ""
        if not runs and (folder / "train.json").is_file():
            what = "; it holds labels"
        raise InputError(f"{folder}: is not a run folder{what}; needs runs/NAME, which frcnn train makes")


def is_run(folder: Path) -> bool:
    """Whether training has written here: a recipe, a record, a log or a checkpoint."""
    return any((folder / name).exists() for name in (CONFIG, RUN, METRICS, "best", "last", "previous"))


def discard(folder: Path) -> None:
    """Delete a run that was stopped before its first checkpoint; what frcnn did not write stays."""
    named = {RUN, CONFIG, METRICS, RESULTS, LOCK, "train.json", "val.json", "test.json"}
    made = {"train.log", "train_batch.jpg", "curves.png", "tensorboard", f".last{PART}", f".*{PART}"}
    marked_folders.remove_folder(folder, named | made)


class Lock:
    """One process writes a run folder at a time.

    A lock of the operating system on an open file: it goes with its process, however that ends, so that a number in a
    file, which means another process after a restart, decides nothing. The number is there for the message.
    """

    _held: ClassVar[set[Path]] = set()  # such locks do not keep a process from itself

    def __init__(self, folder: Path) -> None:
        self.path = folder.resolve() / LOCK

    def __enter__(self) -> Lock:
        if self.path in self._held:
            raise InputError(f"{self.path.parent}: this process is writing this run already")
        while True:
            try:
                marked_folders.refuse_links_in(self.path.parent)  # a log behind a link would be cut off there
                handle = os.open(self.path, os.O_CREAT | os.O_RDWR, 0o666)
            except OSError as error:
                raise InputError(f"{self.path.parent}: cannot be written: {error.strerror}") from None
            if not _take(handle):
                owner = os.pread(handle, 20, 0).decode(errors="replace") if hasattr(os, "pread") else ""
                os.close(handle)
                who = f"process {owner}" if owner.isdigit() else "another process"
                raise InputError(f"{self.path.parent}: {who} is writing this run; wait, or stop it")
            if self._still_there(handle):
                break
            os.close(handle)  # its owner removed it just before we had it
        os.ftruncate(handle, 0)
        os.write(handle, str(os.getpid()).encode())
        self.handle = handle
        self._held.add(self.path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._held.discard(self.path)
        if os.name == "posix":
            marked_folders.remove_file(self.path)
        os.close(self.handle)

    def _still_there(self, handle: int) -> bool:
        try:
            return os.path.samestat(os.fstat(handle), os.stat(self.path))
        except FileNotFoundError:
            return False


def is_locked(folder: Path) -> bool:
    """Whether a process writes this run at the moment."""
    path = folder.resolve() / LOCK
    if path in Lock._held:  # and never open it: the lock would go when that handle is closed
        return True
    try:
        handle = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        return not _take(handle)
    finally:
        os.close(handle)


def _take(handle: int) -> bool:
    """Lock an open file; False when another process has it."""
    try:
        if sys.platform != "win32":
            import fcntl

            fcntl.lockf(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)  # not flock: loader processes would inherit it
        else:
            import msvcrt

            msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)
    except OSError:
        return False
    return True


def read_json(path: Path) -> Any:
    """Content of a JSON file of a run; InputError names it when it is missing or damaged."""
    try:
        return json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: not found; is {path.parent} a run folder?") from None
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path}: cannot be read: {error}") from None


def read_run(folder: Path) -> dict[str, Any]:
    """run.json; empty where there is none."""
    path = folder / RUN
    record = read_json(path) if path.exists() else {}
    if not isinstance(record, dict):
        raise InputError(f"{path}: found a {type(record).__name__}, needs an object")
    return record


def update_run(folder: Path, **changes: Any) -> None:
    """Change fields of run.json."""
    write_json(folder / RUN, {**read_run(folder), **changes})


def versions() -> dict[str, str]:
    """Versions that a result depends on."""
    found = {"python": platform.python_version(), "platform": platform.system() + " " + platform.machine()}
    for name in _PACKAGES.split():
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "not installed"
    commit = _code_commit()
    if commit:
        found["commit"] = commit
    return found


def _code_commit() -> str | None:
    """Commit of a source checkout, with `+changes` when files differ from it; None when installed as a wheel."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        git = ["git", "-C", str(root)]
        commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, timeout=5)
        dirty = subprocess.run([*git, "status", "--porcelain", "-uno"], capture_output=True, text=True, timeout=5)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if commit.returncode:
        return None
    return commit.stdout.strip() + ("+changes" if dirty.stdout.strip() else "")
