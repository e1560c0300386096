"""Progress: one moving line on a terminal, a bar in a notebook, plain lines elsewhere and in train.log."""

from __future__ import annotations

import contextlib
import math
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from label_tools.text.errors import one_line, printable
from label_tools.text.messages import counted


def duration(seconds: float) -> str:
    """`45 s`, `3:20 min`, `2:05 h`."""
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60}:{seconds % 60:02d} min"
    return f"{seconds // 3600}:{seconds % 3600 // 60:02d} h"


def epochs_text(epochs: float) -> str:
    """`1 epoch`, `2.5 epochs`: of a run that --max-time ended, to a tenth."""
    return counted(int(epochs), "epoch") if epochs == int(epochs) else f"{epochs:.1f} epochs"


def epoch_line(
    done: float,
    epochs: int,
    train_loss: Mapping[str, float],
    metrics: Mapping[str, Any] | None,
    shown: Sequence[str],
    is_best: bool,
    seconds: float,
) -> str:
    """The line after an epoch: losses, the numbers `shown` of its evaluation, whether it is the best, the time so far.

    done: epochs trained, with a fraction where --max-time ended one.
    """
    part = "" if done == int(done) else f" ({done % 1:.0%} of it)"
    text = f"epoch {math.ceil(done)}/{epochs}{part}  train loss {sum(train_loss.values()):.3f}"
    if metrics is not None:
        losses = metrics["val_loss"]
        text += f"  val loss {sum(losses.values()):.3f}" if losses else "  val loss n/a"
        for name in shown:
            text += f"  {name} " + ("n/a" if metrics[name] is None else f"{metrics[name]:.3f}")
        text += "  best so far" if is_best else ""
    return f"{text}  {duration(seconds)}"


def bar(total: int, text: str = "") -> Any:
    """tqdm's bar for where we are, a terminal or a notebook."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a notebook without ipywidgets: tqdm says so and writes text
        from tqdm.auto import tqdm

        return tqdm(total=total, desc=text, leave=False, bar_format="{percentage:3.0f}%|{bar:20}| {desc}")


def in_notebook() -> bool:
    """Whether a Jupyter kernel runs this."""
    shell = getattr(sys.modules.get("IPython"), "get_ipython", bool)()
    return bool(shell) and "IPKernelApp" in getattr(shell, "config", {})


class Progress:
    """`step()` for every step, `line()` for what should stay. Quiet: only to the log file."""

    def __init__(self, log: Path | None = None, quiet: bool = False, every: float = 10.0) -> None:
        self.terminal = sys.stderr.isatty() and not quiet
        self.quiet = quiet
        self.notebook = in_notebook() and not quiet
        self.bar: Any = None  # of tqdm
        self.every = every
        self.log = open(log, "a", encoding="utf-8") if log else None  # noqa: SIM115
        self._begin = self._last = 0.0
        self._done_then = 0
        self._width = 0

    def time_left(self, done: int, total: int) -> str:
        """`, 3:20 min left` by the pace since the first call; "" before there is one and at the end."""
        now = time.monotonic()
        if not self._begin:
            self._begin, self._done_then = now, done
        pace = (now - self._begin) / max(1, done - self._done_then)
        return f", {duration(pace * (total - done))} left" if self._done_then < done < total else ""

    def step(self, text: str, done: int = 0, total: int = 0) -> None:
        """Show `done` of `total`: rewritten in place on a terminal, a bar in a notebook, else one plain
        line in `every` seconds and the last one."""
        if self.notebook and total:
            self.bar = self.bar or bar(total)
            self.bar.set_description_str(text, refresh=False)
            self.bar.update(done - self.bar.n)
        elif self.terminal:
            text = one_line(text)
            sys.stderr.write("\r" + text.ljust(self._width)[:200])
            sys.stderr.flush()
            self._width = len(text)
        elif 0 < done == total or time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self._plain(text)

    def line(self, text: str) -> None:
        """Print a line that stays."""
        if self.terminal:
            sys.stderr.write("\r" + " " * self._width + "\r")
            self._width = 0
        self._plain(text)

    def only_log(self, text: str) -> None:
        """Write a line to the log file only; the command prints it itself."""
        if not self.log:
            return
        try:
            self.log.write(time.strftime("%Y-%m-%d %H:%M:%S ") + printable(text) + "\n")
            self.log.flush()
        except OSError as error:  # a full disk must not end a training; the terminal still shows what goes on
            self._close_log()
            self._plain(f"warning: the log file could not be written ({error.strerror}); no more lines go into it")

    def _close_log(self) -> None:
        log, self.log = self.log, None
        with contextlib.suppress(OSError):  # it flushes again
            if log:
                log.close()

    def _plain(self, text: str) -> None:
        text = printable(text)
        self.only_log(text)
        if self.notebook:
            print(text) if self.bar is None else self.bar.write(text)
        elif not self.quiet:
            sys.stderr.write(text + "\n")
            sys.stderr.flush()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
        if self.terminal and self._width:
            sys.stderr.write("\n")
        if self.log:
            self._close_log()
