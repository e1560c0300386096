"""Start labelme: find it, check its version, run it as a program; never import it (it is GPL-3.0)."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

from label_tools.text.errors import InputError, MissingExtra

OLDEST = (6, 3)
NO_SCREEN = ":32767"
QT_LIBRARIES = (  # of Debian and Ubuntu
    "libgl1 libegl1 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-image0 libxcb-keysyms1 libxcb-randr0 "
    "libxcb-render-util0 libxcb-shape0 libxcb-xinerama0"
)
VARIABLE = "FRCNN_LABELME"  # the program, when it is installed elsewhere (it may have an environment of its own)


def labelme_command(program: str, path: Path, labels: Path, out: Path) -> list[str]:
    """The command line of labelme, in flags that both 6.3 and 7.9 understand."""
    flags = ["--labels", str(labels), "--validate-label", "exact", "--no-sort-labels", "--output", str(out)]
    # a name that begins with a dash would be read as a flag
    return [program, str(path) if not str(path).startswith("-") else f"./{path}", *flags]


def find_labelme(environment: Mapping[str, str] | None = None) -> str:
    """The labelme program. Raises MissingExtra with the line that installs it."""
    environment = os.environ if environment is None else environment
    if named := environment.get(VARIABLE):
        found = shutil.which(named)
        if found is None:
            raise InputError(f"{VARIABLE}={named}: no program of that name")
        return found
    beside = shutil.which("labelme", path=str(Path(sys.executable).parent))
    found = beside or shutil.which("labelme", path=environment.get("PATH", ""))
    if found is None:
        raise MissingExtra(f"labelme is not installed; install it with: {install_line(sys.version_info[:2])}")
    return found


def install_line(python: tuple[int, int], has_pip: bool | None = None) -> str:
    """The line that installs labelme: 7 needs Python 3.12, 6.3 is the newest for older Pythons."""
    wanted = "labelme>=6.3,<7" if python < (3, 12) else "labelme>=7"
    if has_pip is None:
        has_pip = find_spec("pip") is not None
    if not has_pip:  # an environment that uv made
        return f"uv pip install --python {Path(sys.executable)} '{wanted}'"
    return f"{Path(sys.executable)} -m pip install '{wanted}'"


def check_version(program: str) -> None:
    """Raises InputError when labelme is too old for our flags, or does not start at all."""
    try:
        done = _run([program, "--version"], 120, QT_QPA_PLATFORM="offscreen")  # asking for it needs no screen
    except (OSError, subprocess.TimeoutExpired) as error:
        raise InputError(f"{program}: does not start: {error}") from error
    match = re.search(r"(\d+)\.(\d+)", done.stdout)
    if done.returncode or match is None:
        last = (done.stderr.strip().splitlines() or ["it said nothing"])[-1]
        raise InputError(f"{program}: does not start: {last}")
    if (int(match[1]), int(match[2])) < OLDEST:
        wanted = ".".join(map(str, OLDEST))
        raise InputError(
            f"{program} is labelme {match[0]}, {wanted} or newer is needed: {install_line(sys.version_info[:2])}"
        )


def _run(command: list[str], timeout: float, **environment: str) -> subprocess.CompletedProcess:
    every = {**os.environ, **environment}
    return subprocess.run(command, capture_output=True, text=True, timeout=timeout, check=False, env=every)


def start(command: list[str], out: Path) -> None:
    """Run a `labelme_command` until it is closed. Raises InputError when it cannot open, with the reason."""
    program = command[0]
    check_version(program)
    check_screen(os.environ, sys.platform)
    out.mkdir(parents=True, exist_ok=True)
    status = subprocess.run(command, check=False).returncode
    if status:
        why = missing_library(program) or "its own messages stand above"
        raise InputError(f"{program} ended with exit code {status}; {why}; what was saved is kept")


def missing_library(program: str) -> str:
    """Advice on the Linux library that labelme lacks, with the line that installs all of them; "" if none is missing.

    Starts it on a display that does not exist: Qt loads its libraries first, then ends without a window.
    """
    if not sys.platform.startswith("linux"):
        return ""
    try:
        done = _run([program], 60, QT_QPA_PLATFORM="xcb", QT_DEBUG_PLUGINS="1", DISPLAY=NO_SCREEN)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"(lib[\w.+-]+\.so[.\d]*): cannot open shared object file", done.stdout + done.stderr)
    return f"{match[1]} is missing: sudo apt-get install {QT_LIBRARIES}" if match else ""


def check_screen(environment: Mapping[str, str], platform: str) -> None:
    """Raises InputError on Linux without a display, where Qt would end the process with a core dump."""
    if not platform.startswith("linux") or environment.get("QT_QPA_PLATFORM"):
        return
    if not environment.get("DISPLAY") and not environment.get("WAYLAND_DISPLAY"):
        raise InputError(
            "no screen: DISPLAY and WAYLAND_DISPLAY are not set; label on a machine with a desktop "
            "and copy the folder, or connect with `ssh -X`"
        )
