"""Checkpoints that survive a kill at any moment and notice a flipped bit.

A checkpoint is a folder: weights.safetensors, state.pt (for resume; absent in `best`), checkpoint.json. It is
written whole under a temporary name beside its place, synced, and renamed; the JSON holds the SHA-256 of the other
files and of itself, checked before every load (of 400 flipped bits torch.load noticed one). A run keeps `last`,
`previous` and `best`.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors

from label_tools.errors import InputError

FORMAT = 1
WEIGHTS, STATE, META = "weights.safetensors", "state.pt", "checkpoint.json"


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


def save(folder: Path, meta: dict[str, Any], weights: dict[str, torch.Tensor], state: dict[str, Any] | None) -> None:
    """Put a checkpoint at `folder`; what was there becomes its neighbour `previous` (only for `last`) or goes.

    Raises OSError (disk full, read-only) with everything as it was, and ValueError for weights that are not finite.
    """
    for name, tensor in weights.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"{name} is not finite; such weights are never saved")
    parent = folder.parent
    parent.mkdir(parents=True, exist_ok=True)
    fresh = parent / f".{folder.name}.tmp"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        fresh.mkdir()
        digests = {}
        contiguous = {k: v.detach().cpu().contiguous().clone() for k, v in weights.items()}
        digests[WEIGHTS] = _write(fresh / WEIGHTS, save_tensors(contiguous))
        if state is not None:
            digests[STATE] = _write(fresh / STATE, _to_bytes(state))
        _write(fresh / META, _sealed({**meta, "format": FORMAT, "sha256": digests}))
        _sync(fresh)
    except BaseException:
        shutil.rmtree(fresh, ignore_errors=True)
        raise
    old = parent / f".{folder.name}.old"
    shutil.rmtree(old, ignore_errors=True)
    if folder.exists():
        os.rename(folder, old)
    os.rename(fresh, folder)
    if folder.name == "last" and old.exists():
        shutil.rmtree(parent / "previous", ignore_errors=True)
        os.rename(old, parent / "previous")
    shutil.rmtree(old, ignore_errors=True)
    _sync(parent)


def update_meta(folder: Path, **changes: Any) -> None:
    """Change fields of checkpoint.json in place (thresholds found by an evaluation), atomically."""
    meta = {**read_meta(folder), **changes}
    fresh = folder / f".{META}.tmp"
    _write(fresh, _sealed(meta))
    os.replace(fresh, folder / META)
    _sync(folder)


def sweep(run: Path) -> None:
    """After a kill: put back what a rename left aside, remove unfinished files. Call when a run starts or resumes."""
    for name in ("last", "best"):
        old = run / f".{name}.old"
        if old.exists() and not (run / name).exists():
            os.rename(old, run / name)
    for left in [*run.glob(".*.tmp"), *run.glob(".*.old")]:
        if left.is_dir():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)


def find(path: Path, prefer: str = "best") -> Path:
    """The checkpoint folder that `path` means: itself, or the best one of a run, else its last."""
    path = Path(path)
    if (path / META).exists():
        return path
    order = {"best": ("best", ".best.old", "last", "previous"), "last": ("last", ".last.old", "previous")}[prefer]
    for name in order:
        if (path / name / META).exists():
            return path / name
    if not path.exists():
        raise InputError(f"{path}: not found; needs a run folder or a checkpoint in one (runs/NAME, runs/NAME/best)")
    raise InputError(f"{path}: holds no checkpoint; needs a run folder with `best` or `last`")


def load_last(run: Path) -> tuple[Checkpoint, list[str]]:
    """The newest intact checkpoint for resume, and a line for each damaged one that was passed over."""
    notes = []
    for name in ("last", ".last.old", "previous"):
        folder = run / name
        if not (folder / META).exists():
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
    except ValueError:
        raise InputError(f"{path}: is damaged (not JSON)") from None
    if not isinstance(meta, dict) or json.loads(_sealed(meta)).get("seal") != meta.get("seal"):
        raise InputError(f"{path}: is damaged (its SHA-256 does not match its content)")
    if meta.get("format") != FORMAT:
        raise InputError(f"{path}: format {meta.get('format')}, this version reads {FORMAT}")
    return meta


def load(folder: Path) -> Checkpoint:
    """Read and verify a checkpoint folder. Nothing in it can run code."""
    meta = read_meta(folder)
    content = {}
    for name, digest in meta["sha256"].items():
        if name not in (WEIGHTS, STATE):
            raise InputError(f"{folder / META}: names an unknown file {name!r}")
        try:
            content[name] = (folder / name).read_bytes()
        except OSError as error:
            raise InputError(f"{folder / name}: cannot be read: {error.strerror}") from None
        if hashlib.sha256(content[name]).hexdigest() != digest:
            raise InputError(f"{folder / name}: is damaged (SHA-256 differs from the one in {META})")
    state = None
    if STATE in content:
        import io

        state = torch.load(io.BytesIO(content[STATE]), map_location="cpu", weights_only=True)
    return Checkpoint(folder, meta, load_tensors(content[WEIGHTS]), state)


def build_model(found: Checkpoint) -> torch.nn.Module:
    """The checkpoint's network with its weights, in eval mode."""
    from toolkit import models

    model = models.rebuild(found.meta["architecture"])
    try:
        model.load_state_dict(found.weights)
    except RuntimeError as error:
        reason = str(error).splitlines()[1].strip() if "\n" in str(error) else str(error)
        raise InputError(f"{found.folder}: weights do not fit the architecture it names: {reason}") from None
    return model.eval()


def _sealed(meta: dict[str, Any]) -> bytes:
    """JSON with `seal`: the SHA-256 of the JSON without it."""
    bare = {k: v for k, v in meta.items() if k != "seal"}
    text = json.dumps(bare, sort_keys=True, indent=1)
    return json.dumps({**bare, "seal": hashlib.sha256(text.encode()).hexdigest()}, sort_keys=True, indent=1).encode()


def _to_bytes(state: dict[str, Any]) -> bytes:
    import io

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
