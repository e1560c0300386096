"""`python -m anchors COMMAND`: the walkthrough, the practice and the exercises."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

BAD_INPUT = 2


def add_commands(subparsers: argparse._SubParsersAction) -> None:
    """Add the commands of this package to an argparse sub-command group; imports nothing heavy."""
    walk = subparsers.add_parser(
        "walkthrough", help="one picture through the detector: a page of figures, and the numbers"
    )
    walk.add_argument("--out", required=True, help="folder for the figures, index.html and numbers.json")
    add_picture(walk)
    walk.add_argument("--seed", type=int, default=0, help="seed of the samples and the training (default %(default)s)")
    walk.add_argument(
        "--quick",
        action="store_true",
        help="train for 6 steps instead of 300: figures 9 to 14 then show an untrained network",
    )
    walk.set_defaults(run=one_line_errors(run_walkthrough))

    practice = subparsers.add_parser(
        "practice", help="one picture through an untrained network: every step, four losses"
    )
    add_picture(practice)
    practice.add_argument("--seed", type=int, default=0, help="seed of weights and samples (default %(default)s)")
    practice.add_argument("--small", action="store_true", help="a small network instead of VGG16's shapes, in a second")
    practice.add_argument("--json", action="store_true", help="print the numbers as JSON")
    practice.set_defaults(run=one_line_errors(run_practice))

    exercises = subparsers.add_parser("exercises", help="write the exercises into a folder; existing files are kept")
    exercises.add_argument("--out", required=True, help="folder for the exercises")
    exercises.set_defaults(run=one_line_errors(run_exercises))

    check = subparsers.add_parser("check", help="check an exercise, or all of a folder")
    check.add_argument(
        "path", metavar="PATH", help="file of one exercise, or folder with the files of a learner or a class"
    )
    check.add_argument(
        "--exercise", metavar="NAME", help="nms or bug_nms, where the file's name and functions do not tell"
    )
    check.add_argument("--seconds", type=float, default=5.0, help="time limit for one answer (default %(default)s)")
    check.add_argument("--json", action="store_true", help="print the verdict as JSON")
    check.set_defaults(run=one_line_errors(run_check))

    solution = subparsers.add_parser("solution", help="print the solution of an exercise")
    solution.add_argument("exercise", help="name of the exercise: nms, bug_nms")
    solution.set_defaults(run=one_line_errors(run_solution))


def add_picture(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--image", help="picture (default: the lesson's own, a bolt and a washer)")
    parser.add_argument(
        "--labels", help="LabelMe JSON, or a list [[label, x1, y1, x2, y2], ...] (default: beside the picture)"
    )


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
    return check(args.path, exercise=args.exercise, seconds=args.seconds, as_json=args.json)


def run_solution(args: argparse.Namespace) -> int:
    from anchors.exercises.commands import show_solution

    return show_solution(args.exercise)


def one_line_errors(command: Callable[[argparse.Namespace], int]) -> Callable[[argparse.Namespace], int]:
    """Turn a ValueError, or a file that does not open, into one line and exit code 2."""

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
    add_commands(parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=exact))  # type: ignore[call-overload] # the stub wants a class, argparse any callable
    args = parser.parse_args(argv)
    return args.run(args)


if __name__ == "__main__":
    sys.exit(main())
