"""SIGINT and SIGTERM: the first asks to finish the step and save, a second Ctrl-C leaves at once.

Loader processes must live until the step is saved, so they never get these signals: a terminal's Ctrl-C and a
scheduler's SIGTERM go to the whole group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)
STOPPING = "stopping after this step; Ctrl-C again leaves at once without saving"


class Stopped(Exception):
    """The run was asked to stop and has saved; `exit_code` is 130 (SIGINT) or 143 (SIGTERM)."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopSignal:
    """`with StopSignal() as stop:` then poll `stop.requested` (the signal's number or 0) between steps."""

    def __init__(self, quiet: bool = False, text: str = STOPPING) -> None:
        self.requested = 0
        self.text = text  # what the first signal answers
        self.quiet = quiet
        self._before: dict[int, Any] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for signum in SIGNALS:
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def __bool__(self) -> bool:
        return bool(self.requested)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested:
            if signum == signal.SIGINT:
                os._exit(130)
            return  # torchrun sends SIGTERM after a Ctrl-C; the first one names the exit code
        self.requested = signum
        if not self.quiet:  # os.write: sys.stderr may be in the middle of a line of its own
            with contextlib.suppress(OSError):
                os.write(2, f"\n{self.text}\n".encode())


@contextlib.contextmanager
def stop_at_once() -> Iterator[None]:
    """Raise Stopped on SIGTERM inside the block, as SIGINT raises KeyboardInterrupt: for work with nothing to save."""

    def leave(signum: int, frame: FrameType | None) -> None:
        raise Stopped(signum)

    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextlib.contextmanager
def deaf_children() -> Iterator[None]:
    """Processes started in the block never get SIGINT or SIGTERM: a blocked signal mask is inherited."""
    if not hasattr(signal, "pthread_sigmask"):  # Windows; see `be_deaf`
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def be_deaf() -> None:
    """In a loader process: no Ctrl-C, where the mask of `deaf_children` does not reach (Windows, fork servers)."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "pthread_sigmask"):
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
