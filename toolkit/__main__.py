"""Label images, fine-tune Faster R-CNN on them, and know how good it is.

exit codes: 0 fine, 1 findings, 2 wrong use or input, 3 an extra is missing, 4 the machine gave out (memory, disk),
130 and 143 stopped by SIGINT and SIGTERM
"""

from __future__ import annotations

import importlib
import os
import signal
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    import argparse

# of this package, in commands/; those on labels are in label_tools/commands/
COMMANDS = (
    "advise train evaluate report crossval curve predict prelabel loop export_onnx bench serve baseline doctor demo"
)
GROUPS = {  # as help lists them
    "Labels": "frames label loop convert check split draw stats merge rename remap export",
    "Training": "advise train crossval curve",
    "Results": "evaluate report predict prelabel",
    "Deployment": "bench serve",
    "Begin, and learn": "demo doctor anchors baseline",
}


def parser() -> argparse.ArgumentParser:
    """The whole command line; building it imports neither torch nor any image library."""
    import argparse

    import anchors.__main__ as lesson
    import label_tools.__main__ as labels
    from label_tools.text.command_line import Parser, group_commands
    from toolkit import __version__

    raw = argparse.RawDescriptionHelpFormatter
    top = Parser(prog="frcnn", description=__doc__, formatter_class=raw)
    top.add_argument("--version", action="version", version=f"frcnn-toolkit {__version__}")
    subparsers = top.add_subparsers(dest="command", required=True, metavar="COMMAND")
    labels.add_commands(subparsers)
    for name in COMMANDS.split():
        importlib.import_module(f"toolkit.commands.{name}").add(subparsers)
    lesson_parser = subparsers.add_parser("anchors", help="the lesson: walkthrough and exercises")
    lesson.add_commands(lesson_parser.add_subparsers(dest="lesson", required=True, metavar="COMMAND"))
    group_commands(subparsers, {title: names.split() for title, names in GROUPS.items()})
    return top


def main(argv: list[str] | None = None) -> int:
    from label_tools.text.errors import exit_code_of

    return exit_code_of(_run, argv)


def _run(argv: list[str] | None) -> int:
    from label_tools.text.errors import logs_shown
    from toolkit.stopping import Stopped

    # before torch is loaded: a thread that waits soon sleeps, and leaves a shared core to the one it waits for
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    args = parser().parse_args(argv)
    with logs_shown():
        try:
            return args.run(args)
        except Stopped as stopped:  # by a signal, with everything saved
            return stopped.exit_code


def entry() -> None:
    """The console script. Nothing is imported before Ctrl-C has an answer other than a traceback."""
    before = signal.signal(signal.SIGINT, _leave)
    importlib.import_module("label_tools.text.errors")  # which then answers in the same words
    signal.signal(signal.SIGINT, before)
    sys.exit(main())


def _leave(*_: object) -> None:
    os.write(2, b"stopped\n")
    os._exit(130)


if __name__ == "__main__":
    entry()
