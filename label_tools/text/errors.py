"""Errors and log messages as one line each on stderr, and the exit code.

Exit codes of every command: 0 fine, 1 findings, 2 wrong use or input, 3 an extra is missing,
4 the machine gave out (memory, disk), 130 and 143 stopped by SIGINT and SIGTERM.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

FINE, FINDINGS, BAD_INPUT, MISSING_EXTRA, MACHINE = 0, 1, 2, 3, 4
_PACKAGES = ("label_tools", "toolkit")  # whose logs are shown
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EIO)  # full, or failing; anything else is about the place


class InputError(Exception):
    """Bad input. The message is one line: file, place, what was found, what is needed.

    Example: `cat_03.json, shapes[4] "dog": polygon has 2 points, needs 3 or more`.
    """

    exit_code = BAD_INPUT


class SetError(InputError):
    """A whole data set that cannot be used, not just some of its files. code: the row of `bad_input.md`."""

    def __init__(self, code: str, text: str) -> None:
        super().__init__(text)
        self.code = code


class MissingExtra(InputError):
    """A program or package that is not installed; the message ends with the command that installs it."""

    exit_code = MISSING_EXTRA


class MachineError(InputError):
    """Memory, a disk or a worker process gave out; the input is not to blame."""

    exit_code = MACHINE


def cannot_write(path: str | os.PathLike, error: OSError) -> InputError:
    """The error for a `path` that could not be written: a MachineError if the disk is full or fails."""
    kind = MachineError if error.errno in _DISK else InputError
    return kind(f"{path}: cannot be written: {error.strerror or error}")


@contextmanager
def as_written(path: str | os.PathLike, command: str) -> Iterator[None]:
    """Context for reading a file that `command` wrote: unexpected content becomes an InputError."""
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError) as error:
        raise InputError(f"{path}: is not as `{command}` wrote it ({one_line(error)[:80]})") from None


def one_line(text: object) -> str:
    """Replace line breaks, escape control characters in `text`: names from files cannot forge a second line."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" for c in str(text).replace("\n", " "))


def printable(text: str) -> str:
    """Escape `text` for printing, lines kept: names from files cannot move the cursor, change colour or direction."""
    return "\n".join(one_line(line) for line in text.split("\n"))


def say(text: object = "", *, error: bool = False, end: str = "\n") -> None:
    """Print `text`, on stderr if `error`; every command prints by this function. JSON stays JSON."""
    line = str(text)
    shown = _json_escaped(line) if line[:1] in ("{", "[") else printable(line)
    print(shown, end=end, file=sys.stderr if error else sys.stdout, flush=True)


def _json_escaped(text: str) -> str:
    """Escape the unprintable characters of JSON; they occur only inside its strings."""
    if text.isascii():
        return text
    return "".join(c if c.isprintable() or c == "\n" else json.dumps(c)[1:-1] for c in text)


def exit_code_of(command: Callable[..., int | None], *args: object) -> int:
    """Run `command(*args)`. An InputError becomes one line on stderr and its exit code; no traceback."""
    try:
        return int(command(*args) or FINE)
    except InputError as error:
        say(f"error: {one_line(error)}", error=True)
        return error.exit_code
    except KeyboardInterrupt:
        say("stopped", error=True)
        return 130
    except MemoryError:
        say("error: this machine has not enough memory for it", error=True)
        return MACHINE
    except BrokenPipeError:  # `frcnn check ... | head`: the reader left, which is fine
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE
    except OSError as error:  # a file that only the system refuses: a full disk, no right, a name too long
        if error.errno is None:
            raise
        where = f"{error.filename}: " if error.filename else ""
        say(f"error: {where}{one_line(os.strerror(error.errno))}", error=True)
        return MACHINE if error.errno in _DISK else BAD_INPUT


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        say(f"{level}: {one_line(record.getMessage())}", error=True)


@contextmanager
def logs_shown() -> Iterator[None]:
    """In the block, whatever our packages log from INFO on is a line on stderr. Elsewhere Python's own rules hold:
    warnings are printed, notes are not, unless the caller configures `logging`."""
    handler, loggers = _Lines(logging.INFO), [logging.getLogger(name) for name in _PACKAGES]
    before = [logger.level for logger in loggers]
    for logger in loggers:
        logger.addHandler(handler)
        logger.setLevel(logging.INFO)
    try:
        yield
    finally:
        for logger, level in zip(loggers, before, strict=True):
            logger.removeHandler(handler)
            logger.setLevel(level)
