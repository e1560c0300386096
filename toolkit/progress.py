"""What a person sees while a run goes on: one moving line on a terminal, plain lines elsewhere and in train.log."""

from __future__ import annotations

import sys
import time
from pathlib import Path


def duration(seconds: float) -> str:
    """`45 s`, `3:20 min`, `2:05 h`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


class Progress:
    """`step()` for every step, `line()` for what should stay. Quiet: only to the log file."""

    def __init__(self, log: Path | None = None, quiet: bool = False, every: float = 10.0) -> None:
        self.terminal = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self.every = every
        self.log = open(log, "a", encoding="utf-8") if log else None  # noqa: SIM115
        self._last = 0.0
        self._width = 0

    def step(self, text: str) -> None:
        """A passing state: rewritten in place on a terminal, else one plain line in `every` seconds."""
        if self.terminal:
            sys.stderr.write("\r" + text.ljust(self._width)[:200])
            sys.stderr.flush()
            self._width = len(text)
        elif time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._plain(text)

    def line(self, text: str) -> None:
        """A lasting line."""
        if self.terminal:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._plain(text)

    def _plain(self, text: str) -> None:
        if self.log:
            self.log.write(time.strftime("%Y-%m-%d %H:%M:%S ") + text + "\n")
            self.log.flush()
        if not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        if self.terminal and self._width:
            sys.stderr.write("\n")
        if self.log:
            self.log.close()
            self.log = None
