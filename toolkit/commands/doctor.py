"""`frcnn doctor`: what this machine has, what is missing, and how to fix it."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

from label_tools.text.errors import InputError, MissingExtra, say


@dataclass(frozen=True)
class Check:
    """One line: `state` is ok, note (works without) or problem (fix it)."""

    name: str
    state: str
    found: str
    fix: str = ""


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("doctor", help="what this machine has, and what is missing")
    parser.add_argument("--fetch", action="store_true", help="download the COCO weights into torchvision's cache")
    parser.add_argument("--json", action="store_true", help="print the checks as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    if args.fetch:
        from toolkit.networks import first_weights, registry

        for name, detector in registry.REGISTRY.items():
            if detector.coco is not None:
                first_weights.fetch(detector.coco, "coco")
                say(f"{name}: {first_weights.cached_file(detector.coco)}", error=True)
    checks = [*_python(), *_torch(), *_weights(), *_disk(), *_opencv(), *_labelme()]
    if args.json:
        say(json.dumps([asdict(c) for c in checks], indent=1))
    else:
        for check in checks:
            say(f"{check.state:8} {check.name:10} {check.found}")
            if check.fix:
                say(f"{'':19} -> {check.fix}")
    return 1 if any(c.state == "problem" for c in checks) else 0


def _checked(name: str, fine: bool, found: str, fix: str, otherwise: str = "problem") -> Check:
    """A check that is ok, or one with a fix."""
    return Check(name, "ok", found) if fine else Check(name, otherwise, found, fix)


def _python() -> list[Check]:
    version = ".".join(map(str, sys.version_info[:3]))
    return [_checked("python", (3, 11) <= sys.version_info[:2] <= (3, 14), version, "use Python 3.11 to 3.14")]


def _torch() -> list[Check]:
    try:
        import torch
        import torchvision
    except Exception as error:
        return [Check("torch", "problem", f"does not import: {error}", "make, or: pip install torch torchvision")]
    found = f"torch {torch.__version__}, torchvision {torchvision.__version__}, {torch.get_num_threads()} threads"
    numbers = tuple(int(n) for n in torch.__version__.split("+")[0].split(".")[:2])
    fix = "older ones load files unsafely: pip install -U torch torchvision"
    checks = [_checked("torch", numbers >= (2, 10), found, fix)]
    try:
        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except Exception:
        fix = "install torch and torchvision together, from one place"
        checks.append(Check("operators", "problem", "torchvision's operators do not load", fix))
    from toolkit.device_and_seed import cpu_has_bf16

    if torch.cuda.is_available():
        names = ", ".join(torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count()))
        precision = "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp32"
        checks.append(Check("gpu", "ok", f"{names}; precision {precision}"))
    else:
        nvidia = shutil.which("nvidia-smi")
        fix = "training runs on the CPU: --model auto takes a compact network"
        if nvidia:
            fix = "nvidia-smi is there: install a torch that was built for its driver"
        checks.append(Check("gpu", "problem" if nvidia else "note", "torch sees no CUDA GPU", fix))
        if torch.backends.mps.is_available():
            checks.append(Check("mps", "note", "not used unless --device mps: torchvision's detectors hang on it"))
    bf16 = cpu_has_bf16()
    found = f"{os.cpu_count()} cores, bf16 {'yes' if bf16 else 'no'}"
    fix = "leave --precision at auto or fp32: bf16 is far slower here"
    return [*checks, _checked("cpu", bf16, found, fix, "note")]


def _weights() -> list[Check]:
    try:
        from toolkit.networks import first_weights, registry
    except ImportError:
        return []
    checks, missing, damaged = [], [], []
    with_coco = {name: detector for name, detector in registry.REGISTRY.items() if detector.coco is not None}
    for name, detector in with_coco.items():
        path = first_weights.cached_file(detector.coco)
        if not path.exists():
            missing.append(name)
        elif first_weights.damage(path):
            damaged.append(path.name)
    folder = first_weights.cached_file(registry.find(next(iter(with_coco))).coco).parent
    probe = folder
    while not probe.exists():
        probe = probe.parent
    if not os.access(probe, os.W_OK):
        checks.append(Check("cache", "problem", f"{folder} cannot be written", "set TORCH_HOME to a writable folder"))
    if damaged:
        fix = "they are set aside and fetched again when used, or now by frcnn doctor --fetch"
        checks.append(Check("weights", "problem", f"damaged files in {folder}: {', '.join(damaged)}", fix))
    whole = len(with_coco) - len(missing) - len(damaged)
    found = f"COCO weights in {folder}: {whole} of {len(with_coco)}"
    fix = f"missing: {', '.join(missing)}; they are fetched when first used, or now by frcnn doctor --fetch"
    return [*checks, _checked("weights", not missing, found, fix, "note"), *_packaged_weights()]


def _packaged_weights() -> list[Check]:
    """Weights that come as an installed package: there and whole, where they are from, their licence."""
    from toolkit.networks import first_weights, registry
    from toolkit.networks.registry_entry import Packaged

    checks = []
    for name, detector in registry.REGISTRY.items():
        if not isinstance(detector.imagenet, Packaged):
            continue
        found = f"of {name}: {detector.imagenet.origin}"
        try:
            first_weights.packaged(detector.imagenet)
            checks.append(Check("pretrained", "ok", found))
        except MissingExtra as error:
            checks.append(Check("pretrained", "note", f"not installed, {found}", str(error)))
        except InputError as error:
            checks.append(Check("pretrained", "problem", found, str(error)))
    return checks


def _disk() -> list[Check]:
    free = shutil.disk_usage(Path.cwd()).free / 2**30
    fix = "a run of resnet50_fpn keeps about 1 GB of checkpoints; free some space"
    return [_checked("disk", free >= 5, f"{free:.0f} GB free here", fix)]


def _opencv() -> list[Check]:
    from importlib.metadata import distributions

    names = ("opencv-python", "opencv-contrib-python", "opencv-python-headless", "opencv-contrib-python-headless")
    found = [f"{name} {one.version}" for name in names for one in distributions(name=name)]
    fix = "pip uninstall -y opencv-python opencv-contrib-python; pip install --force-reinstall opencv-python-headless"
    fine = len(found) == 1 and "headless" in found[0]
    return [_checked("opencv", fine, ", ".join(found) or "none", fix)]


def _labelme() -> list[Check]:
    from label_tools.operations.start_labelme import check_version, find_labelme, missing_library

    try:
        program = find_labelme()
        check_version(program)
        what, _, fix = missing_library(program).partition(": ")
        checks = [_checked("labelme", not what, f"{program}: {what}" if what else program, fix)]
    except MissingExtra as error:
        checks = [Check("labelme", "note", "needed only for labelling", str(error))]
    except InputError as error:
        checks = [Check("labelme", "problem", "needed only for labelling", str(error))]
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        checks.append(Check("display", "note", "none", "labelling needs a screen; everything else does not"))
    return checks
