"""SIGINT and SIGTERM: the first asks to finish the step and save, a second Ctrl-C leaves at once."""

from __future__ import annotations

import os
import signal
import sys
import threading
from types import FrameType


class Stopped(Exception):
    """The run was asked to stop and has saved; `exit_code` is 130 (SIGINT) or 143 (SIGTERM)."""

    def __init__(self, signum: int) -> None:
        super().__init__(signal.Signals(signum).name)
        self.exit_code = 128 + signum


class StopSignal:
    """`with StopSignal() as stop:` then poll `stop.requested` (the signal's number or 0) between steps."""

    def __init__(self) -> None:
        self.requested = 0
        self._before: dict[int, object] = {}

    def __enter__(self) -> StopSignal:
        if threading.current_thread() is threading.main_thread():
            for signum in (signal.SIGINT, signal.SIGTERM):
                self._before[signum] = signal.signal(signum, self._handle)
        return self

    def __exit__(self, *exception: object) -> None:
        for signum, handler in self._before.items():
            signal.signal(signum, handler)

    def __bool__(self) -> bool:
        return bool(self.requested)

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        if self.requested and signum == signal.SIGINT:
            os._exit(130)
        self.requested = signum
        sys.stderr.write("\nstopping after this step; Ctrl-C again leaves at once without saving\n")
        sys.stderr.flush()
