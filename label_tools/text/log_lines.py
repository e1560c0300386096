"""What library code logs, as lines on stderr: `warning: ...` and `note: ...`. Only the command line shows it so."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator

from label_tools.text.errors import one_line, say

PACKAGES = ("label_tools", "toolkit")


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        level = "note" if record.levelno < logging.WARNING else record.levelname.lower()
        say(f"{level}: {one_line(record.getMessage())}", error=True)


@contextlib.contextmanager
def shown() -> Iterator[None]:
    """In the block, whatever our packages log from INFO on is a line on stderr. Elsewhere Python's own rules hold:
    warnings are printed, notes are not, unless the caller configures `logging`."""
    handler, loggers = _Lines(logging.INFO), [logging.getLogger(name) for name in PACKAGES]
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
