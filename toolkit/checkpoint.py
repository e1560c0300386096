"""Checkpoints that survive a kill at any moment and notice a flipped bit.

A checkpoint is a folder: weights.safetensors, state.pt (for resume; absent in `best`), checkpoint.json. It is
written whole under a temporary name beside its place, synced, and renamed; the JSON holds the SHA-256 of the other
files and of itself, checked before every load (of 400 flipped bits torch.load noticed one). A run keeps `last`,
`previous` and `best`. A folder cannot take the place of another in one call, so between two renames a name may be
missing; what it meant then lies under `previous` or `.best.old`, where `find`, `load_last` and `sweep` look.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from label_tools.files import marked_folders
from label_tools.files.atomic_write import PART, atomic_write
from label_tools.text.errors import InputError

FORMAT = 1
WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "checkpoint.json"
NAMES = ("last", "previous", "best")


@dataclass(frozen=True)
class Checkpoint:
    """What `load` gives: `meta` (classes, architecture, thresholds, config ...), `weights`, `state` for resume."""

    folder: Path
    meta: dict[str, Any]
    weights: dict[str, torch.Tensor]
    state: dict[str, Any] | None

    @property
    def classes(self) -> list[str]:
        return [c["name"] for c in self.meta["classes"]]

    def needed_state(self) -> dict[str, Any]:
        """The state for resume; InputError where the checkpoint has none."""
        if self.state is None:
            raise InputError(f"{self.folder}: holds no state to go on from; needs the checkpoint `last` of a training")
        return self.state


class NotFinite(ValueError):
    """Weights or an optimiser's state hold NaN or infinity; such a checkpoint is never written."""


def save(folder: Path, meta: dict[str, Any], weights: dict[str, torch.Tensor], state: dict[str, Any] | None) -> None:
    """Write a checkpoint to `folder`; the old one becomes `previous` (for `last`) or is deleted.

    Raises OSError (disk full, read-only) with everything as it was, and NotFinite for values that are not finite.
    """
    _check_finite(weights, "weights")
    _check_finite({k: v for k, v in (state or {}).items() if k != "rng"}, "state")
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    fresh = _unfinished(folder)
    _remove(fresh)
    try:
        fresh.mkdir()
        digests = {}
        contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        digests[WEIGHTS] = _write(fresh / WEIGHTS, save_tensors(contiguous))
        if state is not None:
            digests[STATE] = _write(fresh / STATE, _to_bytes(state))
        _write(fresh / META, _sealed({**meta, "format": FORMAT, "sha256": digests}))
        _sync(fresh)
        _swap_in(fresh, folder)
    except BaseException:
        _remove(fresh)
        raise
    _sync(parent)
    for name in (folder.name, "previous"):
        _remove(_aside(parent / name))


def _swap_in(fresh: Path, folder: Path) -> None:
    """Rename `fresh` to `folder`. A rename that fails is undone; after a kill in between, `sweep` does that."""
    previous = folder.with_name("previous")
    moves = [(folder, previous if folder.name == "last" else _aside(folder)), (fresh, folder)]
    if folder.name == "last" and folder.exists():
        moves.insert(0, (previous, _aside(previous)))
    done: list[tuple[Path, Path]] = []
    try:
        for source, target in moves:
            if source.exists():
                if target == _aside(source):
                    _remove(target)
                marked_folders.move(source, target)
                done.append((source, target))
    except OSError:
        for source, target in reversed(done):
            marked_folders.move(target, source)
        raise


def _remove(folder: Path) -> None:
    """Delete an unfinished checkpoint, or what the sealed JSON of a finished one names. All else stays, beside it."""
    names = {WEIGHTS, STATE, META} if folder.name.endswith(PART) else set()
    with contextlib.suppress(InputError):
        names |= {META, *({WEIGHTS, STATE} & set(read_meta(folder)["sha256"]))}
    marked_folders.remove_folder(folder, {*names, f".*{PART}"})


def _unfinished(folder: Path) -> Path:
    """Temporary path for writing the checkpoint `folder`."""
    return folder.with_name(f".{folder.name}{PART}")


def _aside(folder: Path) -> Path:
    """Temporary name of the old checkpoint while the new one is moved in."""
    return folder.with_name(f".{folder.name}.old")


def _check_finite(value: Any, where: str) -> None:
    if isinstance(value, torch.Tensor):
        if value.is_floating_point() and not torch.isfinite(value).all():
            raise NotFinite(f"{where} is not finite; a checkpoint with it is never written")
    elif isinstance(value, dict):
        for key, item in value.items():
            _check_finite(item, f"{where}.{key}")
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value):
            _check_finite(item, f"{where}[{number}]")


def size(folder: Path) -> int:
    """Bytes of a checkpoint folder."""
    return sum(file.stat().st_size for file in folder.iterdir())


def update_meta(folder: Path, **changes: Any) -> None:
    """Change fields of checkpoint.json in place (thresholds found by an evaluation), atomically."""
    meta = {**read_meta(folder), **changes}
    with atomic_write(folder / META) as file:
        file.write(_sealed(meta))
    _sync(folder)


def sweep(run: Path) -> None:
    """After a kill: put back what a rename left aside, remove unfinished files. Call when a run is resumed, its lock
    held: to a run that goes on these files belong."""
    for name in ("previous", "best"):
        if _aside(run / name).exists() and not (run / name).exists():
            marked_folders.move(_aside(run / name), run / name)
    for name in NAMES:
        _remove(_unfinished(run / name))
        _remove(_aside(run / name))
    for room in (".", *NAMES, "val", "test"):
        marked_folders.sweep(run / room, age=0)


def drop_damaged_last(run: Path) -> None:
    """Delete a damaged `last` before resuming from `previous`: the next save would keep it instead of `previous`."""
    if (run / "last").is_dir():
        try:
            load(run / "last")
        except InputError:
            _remove(run / "last")


def find(path: Path, prefer: str = "best") -> Path:
    """The checkpoint folder that `path` means: itself, or the best one of a run, else its last."""
    path = Path(path)
    for folder in (path, _aside(path)):  # aside: `path` is being replaced this moment
        if (folder / META).exists():
            return folder
    names = ("best", ".best.old", "last", "previous") if prefer == "best" else ("last", "previous", ".previous.old")
    for name in names:
        if (path / name / META).exists():
            return path / name
    if not path.exists():
        raise InputError(f"{path}: not found; needs a run folder or a checkpoint in one (runs/NAME, runs/NAME/best)")
    runs = sorted(folder.parent.parent.name for folder in path.glob(f"*/best/{META}"))
    what = f" but the runs {', '.join(runs[:8])}{' ...' * (len(runs) > 8)}" if runs else ""
    raise InputError(f"{path}: holds no checkpoint{what}; needs a run folder with `best` or `last`")


def load_last(run: Path) -> tuple[Checkpoint, list[str]]:
    """The newest intact checkpoint for resume, and a line for each damaged one that was passed over."""
    notes = []
    for name in ("last", "previous", ".previous.old"):
        folder = run / name
        if not folder.is_dir():
            continue
        try:
            found = load(folder)
        except InputError as error:
            notes.append(f"{error}; trying the one before")
            continue
        if found.state is not None:
            return found, notes
    if notes:
        raise InputError(f"{run}: every checkpoint is damaged: {'; '.join(notes)}")
    raise InputError(f"{run}: holds no checkpoint to resume from; needs {run / 'last'}")


def read_meta(folder: Path) -> dict[str, Any]:
    """checkpoint.json, its own hash checked."""
    path = folder / META
    try:
        meta = json.loads(path.read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: is damaged (not JSON)") from None
    if not isinstance(meta, dict) or json.loads(_sealed(meta)).get("seal") != meta.get("seal"):
        raise InputError(f"{path}: is damaged (its SHA-256 does not match its content)")
    if meta.get("format") != FORMAT:
        raise InputError(f"{path}: format {meta.get('format')}, this version reads {FORMAT}")
    missing = [key for key in ("classes", "architecture", "sha256") if not meta.get(key)]
    if missing:
        raise InputError(f"{path}: has no {', '.join(missing)}; is not a checkpoint of this toolkit")
    return meta


def load(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Nothing in it can run code."""
    for _ in range(3):
        meta = read_meta(folder)
        try:
            content = _verified(folder, meta["sha256"])
            break
        except InputError:
            # a run that goes on may have put another checkpoint here between the two reads
            if not (folder / META).exists() or read_meta(folder)["seal"] == meta["seal"]:
                raise
    else:
        raise InputError(f"{folder}: changes faster than it can be read")
    try:
        weights = load_tensors(content[WEIGHTS])
        state = None
        if STATE in content:
            state = torch.load(io.BytesIO(content[STATE]), map_location="cpu", weights_only=True)
    except Exception as error:  # sealed, and still not what it should be: somebody made it
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise InputError(f"{folder}: holds no tensors that this version may load: {reason[:160]}") from None
    return Checkpoint(folder, meta, weights, state)


def _verified(folder: Path, digests: dict[str, str]) -> dict[str, bytes]:
    """{file name: its bytes}, each with the SHA-256 that the JSON names."""
    if WEIGHTS not in digests or not set(digests) <= {WEIGHTS, STATE}:
        raise InputError(f"{folder / META}: names the files {', '.join(digests)}; needs {WEIGHTS}, may have {STATE}")
    content = {}
    for name, digest in digests.items():
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read: {error.strerror}") from None
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise InputError(f"{folder / name}: is damaged (SHA-256 differs from the one in {META})")
    return content


def _sealed(meta: dict[str, Any]) -> bytes:
    """JSON with `seal`: the SHA-256 of the JSON without it."""
    bare = {k: v for k, v in meta.items() if k != "seal"}
    text = json.dumps(bare, sort_keys=True, indent=1)
    return json.dumps({**bare, "seal": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True, indent=1).encode()


def _to_bytes(state: dict[str, Any]) -> bytes:
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def _write(path: Path, content: bytes) -> str:
    """Write and sync; -> SHA-256 of the content."""
    with open(path, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    return hashlib.sha256(content).hexdigest()


def _sync(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut; Windows has no such call."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
