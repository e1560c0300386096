"""Parse the command line of every command: whole option names, one-line errors with the nearest names, short help."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any, NoReturn

from label_tools.text.errors import BAD_INPUT, one_line
from label_tools.text.messages import unknown


class Parser(argparse.ArgumentParser):
    """An ArgumentParser whose sub-commands are such parsers too (argparse makes them of their parent's class).

    Usage is `PROG POSITIONALS [options]`. Options whose action has `hidden = True` are in `--help-all` alone.
    """

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:
        words = sys.argv[1:] if args is None else args
        if not words and self._subparsers:  # `frcnn` alone
            self.print_help()
            self.exit(BAD_INPUT)
        return super().parse_args(args, namespace)

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        # before argparse, which would accept an abbreviation, or first report required options that are missing
        for word in sys.argv[1:] if args is None else args:
            name = word.partition("=")[0]
            if word == "--" or (self._subparsers and not word.startswith("-")):
                break  # what follows are not options, or those of a sub-command
            if name.startswith("--") and " " not in name and name not in self._option_string_actions:
                self._refuse(name)
        return super().parse_known_args(args, namespace)

    def _refuse(self, name: str) -> None:
        if name.removeprefix("--").replace("-", "_") in (self.epilog or "").replace(".", "").replace(",", "").split():
            option = name.removeprefix("--").replace("-", "_")
            self.error(
                f"{name}: only in recipe files: write `{option}: VALUE` into recipe.yaml, give --config recipe.yaml"
            )
        known = [option for option in self._option_string_actions if option.startswith("--")]
        near = [option for option in known if option.startswith(name)] or get_close_matches(name, known, n=1)
        hint = f"did you mean {' or '.join(near[:3])}? " if near else ""
        self.exit(BAD_INPUT, f"error: {self.prog} {one_line(name)}: unknown option; {hint}all: {self.prog} --help\n")

    def error(self, message: str) -> NoReturn:
        """One line on stderr and exit code 2."""
        text = one_line(message.removeprefix("argument "))
        self.exit(BAD_INPUT, f"error: {self.prog}: {text}; help: {self.prog} --help\n")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        if action.type is not int and action.type is not float:
            return super()._get_value(action, text)
        need = "a whole number" if action.type is int else "a number"
        try:
            return int(text) if action.type is int else float(text)
        except ValueError:
            raise argparse.ArgumentError(action, f"found {text!r}, needs {need}") from None

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices and not getattr(action, "others_too", False):
            what = "/".join(action.option_strings) or str(action.metavar or action.dest).lower()
            raise argparse.ArgumentError(None, unknown(what, str(value), map(str, action.choices)))

    def format_usage(self) -> str:
        return f"usage: {self._line_of_usage()}\n"

    def format_help(self, everything: bool = False) -> str:
        """The help, without hidden options unless `everything`."""
        self.usage = self._line_of_usage().replace("%", "%%")
        hidden = [] if everything else [a for a in self._actions if getattr(a, "hidden", False)]
        groups = [g for g in self._action_groups if g._group_actions and set(g._group_actions) <= set(hidden)]
        before = [(one, vars(one).copy()) for one in (*hidden, *groups)]
        for action in hidden:
            action.help = argparse.SUPPRESS
        for group in groups:
            group.description = None
        try:
            return super().format_help()
        finally:
            for one, values in before:
                vars(one).update(values)

    def _line_of_usage(self) -> str:
        """`frcnn train [DATA] [options]`; options that must be given are named."""
        words, optional = [self.prog], False
        for action in self._actions:
            choices = ",".join(map(str, action.choices or ()))
            value = action.metavar or (f"{{{choices}}}" if choices else action.dest)
            if isinstance(action, argparse._SubParsersAction):
                words.append(f"{value} ...")
            elif not action.option_strings:
                many = {"?": "[{}]", "*": "[{} ...]", "+": "{} [{} ...]"}.get(str(action.nargs), "{}")
                words.append(many.replace("{}", str(value)))
            elif action.required:
                words.append(action.option_strings[-1] + ("" if action.nargs == 0 else f" {value}"))
            else:
                optional = True
        if optional:
            words.append("[options]")
        return " ".join(words)


def add_command(subparsers: argparse._SubParsersAction, name: str, text: str, description: str | None, run: Any) -> Any:
    """Add a command's parser. text: in the list of commands; description: printed unchanged; run(args) runs it."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = subparsers.add_parser(name, help=text, description=description, formatter_class=raw)
    parser.set_defaults(run=run)
    return parser


def group_commands(subparsers: argparse._SubParsersAction, groups: dict[str, list[str]]) -> None:
    """List the commands of a parser under titles, in the order of `groups`, which name each of them once."""
    listed = {action.dest: action for action in subparsers._choices_actions}
    assert sorted(listed) == sorted(name for names in groups.values() for name in names)
    rows = []
    for title, names in groups.items():
        rows += [argparse._SubParsersAction._ChoicesPseudoAction(f"{title}:", [], None), *(listed[n] for n in names)]
    subparsers._choices_actions = rows


class HelpAll(argparse.Action):
    """`--help-all`: the help with every option."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, nargs=0, default=argparse.SUPPRESS, help=help)

    def __call__(self, parser: Any, *_: Any) -> None:
        print(parser.format_help(everything=True), end="")
        parser.exit()
