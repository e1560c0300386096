"""Atomic writes: a file is written beside its place, then moved into it, so that it is there whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from label_tools.text.errors import InputError, cannot_write

PART = ".frcnn-part"  # the end of an unfinished file's name, which marks it as ours


def refuse_link(path: Path) -> None:
    """Raise InputError when `path` is a link, which an output is never written through."""
    if Path(path).is_symlink():
        raise InputError(f"{path}: is a link, and nothing is written through one; needs a folder or file of its own")


@contextmanager
def atomic_write(path: str | os.PathLike, *, durable: bool = True) -> Iterator[BinaryIO]:
    """Open a binary file that replaces `path` when the block succeeds and is deleted when it fails.

    Makes the folder. The temporary file lies in the same folder, because a rename is atomic only there.
    durable: also wait until the disk has it, which costs milliseconds a file. Raises InputError when the place
    cannot be written.
    """
    path = Path(path)
    refuse_link(path)
    temporary = ""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:60]}.", suffix=PART, dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~umask())  # mkstemp makes 0600; give what open() would have given
        os.replace(temporary, path)
        temporary = ""
    except OSError as error:
        raise cannot_write(path, error) from error
    finally:
        if temporary:
            Path(temporary).unlink(missing_ok=True)


def umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
