"""Read and write loop.json, the state of the labelling loop beside the pictures, under a lock.

{"frcnn_loop": 1, "classes": ["cat"], "costs": {"add": 3, ...}, "parts": {"test": ["a.jpg"], "val": [...]},
 "model": "../runs/loop-1", "rounds": [...], "trainings": [...]}; file names and paths start from the folder.
"""

from __future__ import annotations

import getpass
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from label_tools.files import marked_folders, strict_reading
from label_tools.files.write_json_csv import write_json
from label_tools.text.errors import InputError, cannot_write
from toolkit.labelling.count_corrections import CHANGES, COSTS

NAME, HIDDEN, LOCK = "loop.json", ".loop", "lock"
VERSION = 1
LEAST = 8  # labelled pictures to train with
_ANEW = "restore it, or move it away to begin anew (labels stay as they are)"


@dataclass
class Loop:
    """The state. rounds: see `labelling_round`; trainings: see `train_loop`, oldest first."""

    folder: Path
    classes: list[str] = field(default_factory=list)
    costs: dict[str, float] = field(default_factory=lambda: dict(COSTS))
    parts: dict[str, list[str]] = field(default_factory=dict)
    model: str | None = None
    rounds: list[dict[str, Any]] = field(default_factory=list)
    trainings: list[dict[str, Any]] = field(default_factory=list)

    @property
    def open_round(self) -> dict[str, Any] | None:
        return self.rounds[-1] if self.rounds and not self.rounds[-1]["closed"] else None

    @property
    def hidden(self) -> Path:
        """Where rounds and label files of trainings lie; readers of labels pass it over."""
        return self.folder / HIDDEN

    def save(self) -> None:
        content = {key: value for key, value in asdict(self).items() if key != "folder"}
        write_json(self.folder / NAME, {"frcnn_loop": VERSION, **content})

    def find_model(self) -> Path | None:
        """The run that last trained. InputError when it is not where it was."""
        if self.model is None:
            return None
        path = Path(os.path.normpath(self.folder / self.model))
        if not path.is_dir():
            raise InputError(f"{path}: the run that last trained is not there any more; --model RUN names where it is")
        return path


def read(folder: Path) -> Loop:
    """The state of `folder`; of one that has no loop.json yet an empty one. InputError for what cannot be read."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder; needs a folder of pictures")
    path = folder / NAME
    if not path.exists():
        return Loop(folder)
    try:
        content, _ = strict_reading.read(path.read_bytes(), str(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except strict_reading.TextError as error:
        raise InputError(f"{error}; {_ANEW}") from None
    if not isinstance(content, dict) or content.get("frcnn_loop") != VERSION:
        raise InputError(f"{path}: is not what `frcnn loop` wrote; {_ANEW}")
    for name, kind in _KINDS.items():
        if not _fits(content.get(name, ...), kind):
            raise InputError(f'{path}: "{name}" is not what `frcnn loop` wrote; {_ANEW}')
    if any(len(one["interval"] or ()) not in (0, 2) for one in content["trainings"]):
        raise InputError(f'{path}: "trainings" is not what `frcnn loop` wrote; {_ANEW}')
    pictures = [one for entry in content["rounds"] for one in entry["pictures"]]
    if not all(map(_is_below, (one[key] for one in pictures for key in ("name", "file")))):
        raise InputError(f'{path}: "rounds" is not what `frcnn loop` wrote; {_ANEW}')
    return Loop(folder, **{name: content[name] for name in _KINDS})


def _is_below(name: str) -> bool:
    """Whether a file name stays in its folder: closing a round deletes and writes by these names."""
    return not Path(name).is_absolute() and ".." not in Path(name).parts


_NOTHING, _NUMBER = type(None), (int, float)
_OPEN = {"number": int, "minutes": _NUMBER, "closed": _NOTHING, "pictures": [{"name": str, "file": str}]}
_CHANGES = dict.fromkeys((*CHANGES, "clicks", "clicks_from_nothing"), _NUMBER)
_INTERVAL = ([_NUMBER], _NOTHING)  # of AP; none of very few pictures
_KINDS: dict[str, Any] = {
    "classes": [str],
    "costs": dict.fromkeys(COSTS, _NUMBER),
    "parts": {...: [str]},
    "model": (str, _NOTHING),
    "rounds": [(_OPEN, {**_OPEN, "closed": str, "changes": _CHANGES, "reviewed": int})],
    "trainings": [
        {"when": str, "run": str, "labelled": int, "test": int, "AP": (*_NUMBER, _NOTHING), "interval": _INTERVAL}
    ],
}


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a type, of one of several (a tuple), a list of a kind, or an object with keys of kinds, of
    which ... stands for all."""
    if isinstance(kind, tuple):
        return any(_fits(value, one) for one in kind)
    if isinstance(kind, list):
        return type(value) is list and all(_fits(one, kind[0]) for one in value)
    if isinstance(kind, dict):
        keys = value if kind.keys() == {...} else kind
        return type(value) is dict and all(_fits(value.get(key, ...), kind.get(key, kind.get(...))) for key in keys)
    return type(value) is kind


@contextmanager
def held(folder: Path) -> Iterator[Loop]:
    """The state to change, while nobody else may: a lock with the holder's name. InputError while another has it."""
    loop = read(folder)
    path = loop.hidden / LOCK
    marked_folders.refuse_link(loop.hidden)
    mine = {"who": _name(), "host": socket.gethostname(), "process": os.getpid(), "since": now()}
    try:
        loop.hidden.mkdir(exist_ok=True)
        _take(path, mine)
    except OSError as error:
        raise cannot_write(path, error) from error
    try:
        yield read(folder)
    finally:
        with suppress(OSError, ValueError):
            if json.loads(path.read_bytes()) == mine:
                path.unlink()


def _take(path: Path, mine: dict[str, Any]) -> None:
    for _ in range(2):
        try:
            handle = os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666)
        except FileExistsError:
            holder = _holder(path)
            gone = holder.get("host") == mine["host"] and not _runs(holder.get("process"))
            if gone:  # its process ended without letting go
                path.unlink(missing_ok=True)
                continue
            raise InputError(
                f"{path.parent.parent}: {holder.get('who', 'somebody')} at {holder.get('host', 'another machine')} "
                f"works on it since {holder.get('since', 'a while')}; wait, or delete {path} when that is long over"
            ) from None
        with os.fdopen(handle, "w") as file:
            json.dump(mine, file)
        return
    raise InputError(f"{path}: taken by somebody else just now; try again")


def _holder(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
        return found if isinstance(found, dict) else {}
    except (OSError, ValueError):
        return {}


def _runs(process: Any) -> bool:
    if type(process) is not int or process <= 0:
        return True  # cannot be known
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def now() -> str:
    return time.strftime("%Y-%m-%d %H:%M")


def _name() -> str:
    try:
        return getpass.getuser()
    except (OSError, KeyError, ImportError):
        return "somebody"
