"""`python -m anchors COMMAND`: the walkthrough, the class practice and the exercises."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

BAD_INPUT = 2


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands of this package to an argparse sub-command group; imports nothing heavy."""
    walk = subparsers.add_parser("walkthrough", help="one picture through the detector: figures, a page, the numbers")
    walk.add_argument("--out", required=True, help="folder for the figures, index.html and numbers.json")
    add_picture(walk)
    walk.add_argument("--seed", type=int, default=0, help="of the samples and the training (default %(default)s)")
    walk.add_argument("--quick", action="store_true", help="hardly any training: for a first look")
    walk.set_defaults(run=one_line_errors(run_walkthrough))

    practice = subparsers.add_parser("practice", help="the class practice: image and boxes in, the four losses out")
    add_picture(practice)
    practice.add_argument("--seed", type=int, default=0, help="of weights and samples (default %(default)s)")
    practice.add_argument("--small", action="store_true", help="a backbone and head of a tenth the size, in a second")
    practice.add_argument("--json", action="store_true", help="the numbers alone, for a machine")
    practice.set_defaults(run=one_line_errors(run_practice))

    exercises = subparsers.add_parser("exercises", help="write the exercises; files that are there stay")
    exercises.add_argument("--out", required=True, help="folder for the exercises")
    exercises.set_defaults(run=one_line_errors(run_exercises))

    check = subparsers.add_parser("check", help="check a solution of an exercise")
    check.add_argument("exercise", help="its name, as in nms or bug_nms")
    check.add_argument("file", help="the Python file that defines its function")
    check.add_argument("--seconds", type=float, default=5.0, help="for one answer (default %(default)s)")
    check.add_argument("--json", action="store_true", help="the verdict for a machine")
    check.set_defaults(run=one_line_errors(run_check))

    solution = subparsers.add_parser("solution", help="print a solution of an exercise")
    solution.add_argument("exercise", help="its name, as in nms or bug_nms")
    solution.set_defaults(run=one_line_errors(run_solution))


def add_picture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", help="a picture (default: the lesson's own, with the lecture's two boxes)")
    parser.add_argument("--labels", help="its boxes: LabelMe JSON, or [[label, x1, y1, x2, y2], ...]")


def run_walkthrough(args: argparse.Namespace) -> int:
    from anchors.walkthrough.make import walkthrough

    return walkthrough(args.image, args.labels, args.out, seed=args.seed, quick=args.quick)


def run_practice(args: argparse.Namespace) -> int:
    from anchors.practice import practice

    return practice(args.image, args.labels, seed=args.seed, small=args.small, as_json=args.json)


def run_exercises(args: argparse.Namespace) -> int:
    from anchors.exercises.commands import exercises

    return exercises(args.out)


def run_check(args: argparse.Namespace) -> int:
    from anchors.exercises.commands import check

    if not 0 < args.seconds < 3600:
        raise ValueError(f"--seconds: found {args.seconds:g}, needed a number above 0 and below 3600")
    return check(args.exercise, args.file, seconds=args.seconds, as_json=args.json)


def run_solution(args: argparse.Namespace) -> int:
    from anchors.exercises.commands import show_solution

    return show_solution(args.exercise)


def one_line_errors(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """The one place where a ValueError of ours, or a file that will not open, becomes a line and exit code 2."""

    def run(args: argparse.Namespace) -> int:
        try:
            return command(args)
        except (ValueError, OSError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            text = (
                f"{error.filename}: {error.strerror}" if isinstance(error, OSError) and error.filename else str(error)
            )
            print("error: " + " ".join(text.split()), file=sys.stderr)
            return BAD_INPUT

    return run


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m anchors", description=__doc__)
    exact = partial(argparse.ArgumentParser, allow_abbrev=False)
    add_commands(parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=exact))
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
