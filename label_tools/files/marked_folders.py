"""Marked folders: a marker lists our files. In label_tools only it and `atomic_write` replace or delete files.

An output folder may hold the user's files, too. The files that we wrote are listed in its marker, `.frcnn.json`:
{"split": {"complete": true, "files": {"train.json": [SHA-256]}}, "evaluation": ...}. A command replaces and deletes
only files of its own kind that are still as it wrote them, never through a link, never one of its inputs. Files that
belong together become visible together: `complete` is false while they move.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import shutil
import tempfile
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from fnmatch import fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from label_tools.files.atomic_write import PART, refuse_link, umask
from label_tools.files.write_json_csv import write_json
from label_tools.text.errors import InputError, cannot_write

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]

MARKER = ".frcnn.json"
_LEFT_BEHIND = re.compile(rf"\..*\.[a-z0-9_]{{8}}{PART}")  # what a killed command of ours leaves
_STALE = 3600  # seconds: a command that still runs touches its files more often


@contextmanager
def together(
    folder: Path, kind: str, *, inputs: Iterable[Path] = (), keep: Collection[str] | bool = False
) -> Iterator[Path]:
    """Stage the files of `folder` in another place: all move there when the block succeeds, none when it fails.

    Older files of this kind that are not among the new ones are deleted (keep: they stay, all or those it names). While
    files move, the marker is incomplete: `check_whole` refuses it, the next `together` repairs it. inputs: files
    that the command reads. Raises InputError, with everything as it was, when a file that is not ours is in the way,
    and for a failing disk.
    """
    folder = Path(folder)
    refuse_link(folder)
    new = [path for path in (folder, *folder.parents) if not path.exists()]
    stage = _stage(folder, folder)
    try:
        yield stage
        try:
            with _alone(folder):
                _publish(stage, folder, kind, list(inputs), keep)
        except OSError as error:
            raise cannot_write(folder, error) from error
    finally:
        shutil.rmtree(stage, ignore_errors=True)
        with suppress(OSError):  # where nothing came into it
            for path in new:
                path.rmdir()


def _stage(folder: Path, place: Path) -> Path:
    """A new folder in `place`, in which the files of `folder` are written. Raises InputError."""
    try:
        place.mkdir(parents=True, exist_ok=True)
        sweep(place)
        return Path(tempfile.mkdtemp(prefix=f".{folder.name[:60]}.", suffix=PART, dir=place))
    except OSError as error:
        raise cannot_write(folder, error) from error


@contextmanager
def one_file(path: Path, kind: str, *, inputs: Iterable[Path] = ()) -> Iterator[Path]:
    """Stage the single file `path` by the rules of `together`; its neighbours stay."""
    with together(_folder_of(path), kind, inputs=inputs, keep=True) as made:
        yield made / Path(path).name


def refuse_foreign_file(path: Path, kind: str, inputs: Iterable[Path] = ()) -> None:
    """Raise, before the work begins, the InputError that `one_file` would raise after it."""
    refuse_foreign(_folder_of(path), kind, [Path(path).name], inputs)


def _folder_of(path: Path) -> Path:
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, needs the name of a file")
    return path.parent.resolve() if path.parent.is_symlink() else path.parent  # the user named that link


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Lock `folder` while files move into it: two processes would lose each other's entries in the marker."""
    if fcntl is None:
        yield
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a network's disk without locks
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _publish(stage: Path, folder: Path, kind: str, inputs: list[Path], keep: Collection[str] | bool) -> None:
    found = sorted((p for p in stage.rglob("*") if p.is_file()), key=lambda p: p.stat().st_mtime_ns)
    new = {path.relative_to(stage).as_posix(): [sha256(path)] for path in found}  # in the order they were written
    refuse_foreign(folder, kind, new, inputs)
    old = _of_kind(folder, kind)["files"]
    kept = {name: hashes for name, hashes in old.items() if keep is True or (keep and name in keep)}
    gone = {name: hashes for name, hashes in old.items() if name not in new and name not in kept}
    both = {name: [*old.get(name, []), *new.get(name, [])] for name in {**old, **new}}
    _mark(folder, kind, both, complete=len(new) == 1 and not gone)  # one file alone is whole, before and after
    for name in new:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        os.replace(stage / name, folder / name)
    for name, hashes in gone.items():
        if not _link_on_the_way(folder, name) and (folder / name).is_file() and sha256(folder / name) in hashes:
            (folder / name).unlink()
            for parent in (folder / name).relative_to(folder).parents[:-1]:
                with suppress(OSError):  # not empty
                    (folder / parent).rmdir()
    _mark(folder, kind, {**kept, **new}, complete=True)


def refuse_foreign(
    folder: Path, kind: str, names: Iterable[str] | Mapping[str, list[str]], inputs: Iterable[Path] = ()
) -> None:
    """Raise InputError when `names` in `folder` would replace files that are not ours and of this kind, or inputs.

    names: may have the hashes of the new content; a file with the same content may be replaced.
    """
    folder, inputs = Path(folder), [Path(one) for one in inputs if Path(one).exists()]
    refuse_link(folder)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"{folder}: is a file, needs a folder")
    ours = _of_kind(folder, kind)["files"]
    same: Mapping[str, list[str]] = names if isinstance(names, Mapping) else {}
    for name in names:
        path = folder / name
        if link := _link_on_the_way(folder, name):
            refuse_link(link)
        if not path.exists():
            continue
        if any(path.samefile(one) for one in inputs):
            raise InputError(f"{path}: is an input of this command, and is never overwritten; use another --out")
        if not path.is_file() or sha256(path) not in (*ours.get(name, ()), *same.get(name, ())):
            what = "was changed since frcnn wrote it" if name in ours else f"exists and is of no earlier {kind}"
            raise InputError(f"{path}: {what}, and is never overwritten; move it away or use another --out")


def _link_on_the_way(folder: Path, name: str) -> Path | None:
    steps = [folder / name, *(folder / parent for parent in PurePosixPath(name).parents[:-1])]
    return next((step for step in steps if step.is_symlink()), None)


def refuse_links_in(folder: Path) -> None:
    """Raise InputError when something directly in `folder`, which is ours, is a link."""
    for path in sorted(folder.iterdir()):
        refuse_link(path)


def claim(folder: Path, kind: str) -> None:
    """Make `folder` ours: it is new, empty, or has our marker of this kind. Raises InputError otherwise."""
    refuse_link(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if kind in _read(folder):
            return
        if any(folder.iterdir()):
            raise InputError(f"{folder}: holds files that are of no {kind}; use another name")
        _mark(folder, kind, {}, complete=True)
    except OSError as error:
        raise cannot_write(folder, error) from error


@contextmanager
def new_folder(folder: Path) -> Iterator[Path]:
    """Create a folder that appears, complete, only when the block succeeds. Raises InputError if it exists."""
    if folder.exists() or folder.is_symlink():
        raise InputError(f"{folder}: exists and was not written by this command; use another name")
    stage = _stage(folder, folder.parent)
    try:
        yield stage
        os.chmod(stage, 0o777 & ~umask())
        os.rename(stage, folder)
    finally:
        shutil.rmtree(stage, ignore_errors=True)


def check_whole(folder: Path, kind: str, names: Iterable[str] = ()) -> None:
    """Raise InputError when a command was killed while files moved into `folder`, or one of `names` in it is not the
    one that was written with the others. A folder without a marker is somebody else's, and passes."""
    if not _of_kind(folder, kind)["complete"]:
        what = f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"
        raise InputError(f"{folder}: {what} was stopped while it wrote here, and is not whole; run it again")
    for one in not_whole(folder, kind, names):
        raise InputError(f"{one}; run the command again")


def not_whole(folder: Path, kind: str, names: Iterable[str]) -> list[str]:
    """List the files of `names` that the marker lists but that have changed since, a line for each."""
    files = _of_kind(folder, kind)["files"]
    paths = {folder / name: files[name] for name in names if name in files}
    changed = [path for path, hashes in paths.items() if not path.is_file() or sha256(path) not in hashes]
    return [f"{path}: was not written with the files beside it, or was changed" for path in changed]


def check_settled(path: Path) -> None:
    """Raise InputError when a command was killed while it moved `path` and others into place."""
    for kind, content in _read(Path(path).parent).items():
        if not content["complete"] and Path(path).name in content["files"]:
            check_whole(Path(path).parent, kind)


def adopt(folder: Path, kind: str, names: Iterable[str]) -> None:
    """Mark the files `names` in `folder`, in which no file of this kind is marked, as ours.

    The caller has made sure of it: older versions wrote no marker. What is not there, or a link, is passed over.
    """
    if folder.is_symlink() or not folder.is_dir() or kind in _read(folder):
        return
    paths = {name: folder / name for name in names if not _link_on_the_way(folder, name)}
    if found := {name: [sha256(path)] for name, path in paths.items() if path.is_file()}:
        _mark(folder, kind, found, complete=True)


def written(folder: Path, kind: str) -> list[str]:
    """Names of the files of this kind that we wrote in `folder`."""
    return list(_of_kind(Path(folder), kind)["files"])


def sweep(folder: Path, age: float = _STALE) -> None:
    """Delete the unfinished files of killed commands in `folder`: those untouched for `age` seconds."""
    if folder.is_symlink() or not folder.is_dir():
        return
    with os.scandir(folder) as entries:
        left = [Path(entry.path) for entry in entries if _LEFT_BEHIND.fullmatch(entry.name) and not entry.is_symlink()]
    for path in left:
        with suppress(OSError):
            newest = max(one.lstat().st_mtime for one in [path, *(path.rglob("*") if path.is_dir() else ())])
            if time.time() - newest >= age:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


def remove_file(path: Path) -> None:
    """Delete a file of ours if it is there; a link or a folder stays."""
    if not path.is_symlink() and not path.is_dir():
        path.unlink(missing_ok=True)


def remove_folder(folder: Path, names: Collection[str]) -> None:
    """Delete what we write in a folder (patterns of names) and the folder with it. Where anything else lies in it,
    that stays, in NAME-kept; a link stays as it is."""
    if folder.is_symlink() or not folder.is_dir():
        return
    for path in folder.iterdir():
        if any(fnmatch(path.name, name) for name in names) and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True) if path.is_dir() else path.unlink(missing_ok=True)
    try:
        folder.rmdir()
    except OSError:
        kept = folder.with_name(f"{folder.name.strip('.')}-kept")
        number = 2
        while kept.exists():
            kept, number = folder.with_name(f"{folder.name.strip('.')}-kept-{number}"), number + 1
        with suppress(OSError):
            os.rename(folder, kept)


def move(source: Path, target: Path) -> None:
    """Rename a file or folder of ours; a file there is replaced. Raises OSError, also where one of them is a link."""
    for path in (source, target):
        if path.is_symlink():
            raise OSError(errno.ELOOP, "is a link", os.fspath(path))
    os.replace(source, target)


def sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _mark(folder: Path, kind: str, files: dict[str, list[str]], *, complete: bool) -> None:
    content = {**_read(folder), kind: {"complete": complete, "files": dict(sorted(files.items()))}}
    write_json(folder / MARKER, content)


def _of_kind(folder: Path, kind: str) -> dict:
    return _read(folder).get(kind, {"complete": True, "files": {}})


def _read(folder: Path) -> dict[str, dict]:
    """Read the marker: {kind: {"complete": bool, "files": {name: hashes}}}; {} for a folder without one."""
    path = folder / MARKER
    refuse_link(path)
    if not path.exists():
        return {}
    found: dict[str, dict[str, Any]] = {}
    try:
        for kind, content in json.loads(path.read_bytes()).items():
            files = {str(name): [str(one) for one in hashes] for name, hashes in content["files"].items()}
            found[kind] = {"complete": content["complete"] is True, "files": files}
    except (OSError, ValueError, RecursionError, KeyError, TypeError, AttributeError):
        raise InputError(f"{path}: cannot be read as a list of our files; delete it, or use another folder") from None
    for name in (name for content in found.values() for name in content["files"]):
        if not name or name.startswith(("/", "\\")) or ":" in name or ".." in re.split(r"[/\\]", name):
            raise InputError(f"{path}: names {name!r}, which lies outside the folder; delete it")
    return found
