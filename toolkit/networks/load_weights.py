"""Load weights: read tensors from files of any trainer or from runs, and copy what fits into a network.

A state dict (.pth, .safetensors), a checkpoint of torchvision's reference scripts, of Lightning, of DataParallel, a
whole pickled network, one of our runs. What else lies in a file (options, an optimiser) is read as empty
stand-ins: nothing that a file names is ever executed.
"""

from __future__ import annotations

import pickle
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import nn

from label_tools.text.errors import InputError
from toolkit import checkpoint
from toolkit.networks.mask_branch import LEARNED

KEYS = ("model", "state_dict", "model_state_dict", "ema", "module", "net", "network")  # where trainers put the tensors
_MOST_NAMES = 1000  # of classes in a file
PREFIXES = ("module.", "model.", "_orig_mod.", "net.", "network.", "detector.")  # what wrappers put before each name
_HEADS = {
    b"version https://git-lfs": "a pointer of git; `git lfs pull` fetches the file itself",
    b"<": "a web page, not the file that was asked for",
    b"\x89HDF": "HDF5, as of Keras",
}
SAVE = "needs a state dict: torch.save(model.state_dict(), FILE)"
MASK_LOGITS = "roi_heads.mask_predictor.mask_fcn_logits."
PREDICTORS = (  # a row or four a class: torchvision's, ours
    "roi_heads.box_predictor.",
    MASK_LOGITS,
    "box_head.class_logits.",
    "box_head.box_deltas.",
)


@dataclass(frozen=True)
class Weights:
    """Named tensors and what is known of them.

    of: detector or backbone; origin: where they come from and under which licence; classes: names of the box
    predictor's rows 1..K, () where unknown; architecture: of one of our checkpoints.
    """

    state: dict[str, torch.Tensor]
    of: str
    origin: str
    classes: tuple[str, ...] = ()
    architecture: dict[str, Any] | None = None


def weights_of(path: Path) -> Weights:
    """The weights in a file, or of the best checkpoint of a run folder."""
    if path.is_dir():
        found = checkpoint.load(checkpoint.find(path))
        architecture = found.meta["architecture"]
        began = architecture.get("first_weights", "none")
        return Weights(found.weights, "detector", f"{path}, from {began}", tuple(found.classes), architecture)
    state = read(path)
    detector = any(name.startswith(("rpn.", "roi_heads.")) for name in state)
    return Weights(state, "detector" if detector else "backbone", str(path))


def read(path: Path) -> dict[str, torch.Tensor]:
    """State dict in a file, in full precision, without the prefixes of wrappers."""
    if not path.exists():
        raise InputError(f"--weights {path}: not found; needs coco, imagenet, starter, none, or a file or run folder")
    try:
        if path.suffix == ".safetensors":
            content = load_file(path)
        else:
            content = _load(path)
    except Exception as error:  # torch and safetensors raise a dozen kinds for a broken file
        reason = _reason(path, error)
        raise InputError(f"--weights {path}: cannot be read as weights: {reason}; {SAVE}") from None
    state = _state_in(content)
    if state is None:
        raise InputError(f"--weights {path}: found {_described(content)}, no names with tensors; {SAVE}")
    state = _without_prefixes(state)
    return {name: v.detach().float() if v.is_floating_point() else v for name, v in state.items()}


def _reason(path: Path, error: Exception) -> str:
    """Why a file cannot be read, without the advice of torch to load it unsafely."""
    try:
        with open(path, "rb") as file:
            head = file.read(64)
    except OSError as unreadable:
        return unreadable.strerror or str(unreadable)
    for mark, what in _HEADS.items():
        if head.lstrip().startswith(mark):
            return what
    if "TorchScript" in str(error):
        return "a TorchScript archive"
    if not head:
        return "the file is empty"
    if isinstance(error, pickle.UnpicklingError):
        return "damaged, or holds something that is not a tensor"
    return (str(error).splitlines() or [type(error).__name__])[0][:160]


class _StandIn:
    """Stand-in for any object in a file but tensors, lists, dicts and numbers; keeps its attributes as data."""

    def __new__(cls, *_args: Any, **_options: Any) -> _StandIn:
        return super().__new__(cls)

    def __setstate__(self, state: Any) -> None:
        if isinstance(state, dict):
            self.__dict__.update(state)


def _load(path: Path) -> Any:
    """torch.load of weights only, where classes that it does not know become `_StandIn`."""
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except (ValueError, RuntimeError):  # not a zip file: torch's format before 1.6, or none at all
        names = []
    while True:
        with torch.serialization.safe_globals([(_StandIn, name) for name in names]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of torch, on unusual pickles: whether one can be read is said below
            try:
                return torch.load(path, map_location="cpu", weights_only=True)
            except pickle.UnpicklingError as error:  # the format before 1.6 tells of its classes one by one
                found = re.search(r"GLOBAL (\S+) was not an allowed", str(error))
                if found is None or found[1] in names or len(names) > _MOST_NAMES:
                    raise
                names.append(found[1])


def _state_in(content: Any) -> dict[str, torch.Tensor] | None:
    """The state dict in what a file holds: itself, under one of KEYS or one other key with such a table, or that of a
    pickled network."""
    if isinstance(content, _StandIn):
        return dict(_tensors_of_module(content)) or None
    if not isinstance(content, dict) or not content:
        return None
    if _are_tensors(content):
        return dict(content)
    found = (_state_in(content[key]) for key in KEYS if key in content)
    if state := next((state for state in found if state), None):
        return state
    tables = [value for value in content.values() if isinstance(value, dict) and value and _are_tensors(value)]
    return dict(tables[0]) if len(tables) == 1 else None


def _are_tensors(table: dict) -> bool:
    return all(isinstance(name, str) and isinstance(value, torch.Tensor) for name, value in table.items())


def _tensors_of_module(module: Any, prefix: str = "") -> Any:
    """(name, tensor) of a pickled network, from the attributes that every nn.Module keeps them in."""
    kept = vars(module) if isinstance(module, _StandIn) else {}
    volatile = kept.get("_non_persistent_buffers_set", ())
    for group in ("_parameters", "_buffers"):
        for name, value in (kept.get(group) or {}).items():
            if isinstance(value, torch.Tensor) and not (group == "_buffers" and name in volatile):
                yield prefix + name, value
    for name, child in (kept.get("_modules") or {}).items():
        yield from _tensors_of_module(child, f"{prefix}{name}.")


def _without_prefixes(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as the network itself has them. A prefix counts where most names have it; then the others (a loss's own
    buffers) are not the network's."""
    for _ in PREFIXES:
        for prefix in PREFIXES:
            inside = {name.removeprefix(prefix): v for name, v in state.items() if name.startswith(prefix)}
            if 2 * len(inside) > len(state):
                state = inside
    return state


def _described(content: Any) -> str:
    if isinstance(content, dict):
        keys = ", ".join(str(key) for key in list(content)[:6])
        return f"a table of {keys}" if content else "an empty table"
    return "a pickled object" if isinstance(content, _StandIn) else f"a {type(content).__name__}"


def load_into(model: nn.Module, weights: Weights, given: str, classes: Sequence[str] = ()) -> str:
    """Copy what fits in name and shape. Refuse when it is another network's file. -> what was copied, for the log.

    Of the box predictor only the rows of `classes` with the same name as in the weights are kept; the others are new.
    """
    target, state = model.state_dict(), weights.state
    if weights.of == "backbone":
        state = {"backbone.body." + k: v for k, v in state.items()}
        if not any(k.startswith("backbone.body.features.") for k in target):  # torchvision's detectors leave it out
            state = {k.replace("body.features.", "body."): v for k, v in state.items()}
    wanted = {k for k in target if not k.startswith(PREDICTORS) and not k.endswith("num_batches_tracked")}
    if weights.of == "backbone":
        wanted = {k for k in wanted if k.startswith("backbone.body.")}
    elif not any(k.startswith(LEARNED) for k in state):  # a box network begins a mask network
        wanted = {k for k in wanted if not k.startswith(LEARNED)}
    fits = {k: v for k, v in state.items() if k in wanted and v.shape == target[k].shape}
    if len(fits) < 0.9 * len(wanted):
        missing = sorted(wanted - fits.keys())[0]
        raise InputError(
            f"--weights {given}: {len(fits)} of {len(wanted)} tensors fit this --model, first that does not: "
            f"{missing}; needs weights of the same network"
        )
    # one mask for objects of any kind begins those of all classes
    fits |= {k: v.expand_as(target[k]) for k, v in state.items() if k.startswith(MASK_LOGITS) and len(v) == 1}
    kept = [name for name in classes if name in weights.classes]
    if kept:
        fits |= _predictor_rows(target, state, list(classes), list(weights.classes))
    model.load_state_dict(fits, strict=False)
    predictor = "new box predictor"
    if kept:
        new = [name for name in classes if name not in weights.classes]
        predictor = f"box predictor kept for {_some(kept)}" + (f", new for {_some(new)}" if new else "")
    return f"{len(set(fits) & wanted)} of {len(wanted)} tensors of the {weights.of}, {predictor}"


def _predictor_rows(
    target: dict[str, torch.Tensor], state: dict[str, torch.Tensor], classes: list[str], old: list[str]
) -> dict[str, torch.Tensor]:
    """The box predictor's tensors with the rows of the background and of every class in `old` taken from `state`.

    Its tensors hold one row a class (scores) or four (deltas), background first.
    """
    rows = {}
    for key in (k for k in target if k.startswith(PREDICTORS)):
        new, before = target[key].clone(), state.get(key)
        each = len(new) // (len(classes) + 1)
        if before is None:  # of boxes alone: the masks of all classes are new
            continue
        if before.shape != (each * (len(old) + 1), *new.shape[1:]):
            return {}
        for label, name in enumerate(["", *classes]):
            place = old.index(name) + 1 if name in old else 0
            if place or not label:
                new[each * label : each * (label + 1)] = before[each * place : each * (place + 1)]
        rows[key] = new
    return rows


def _some(names: list[str]) -> str:
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
