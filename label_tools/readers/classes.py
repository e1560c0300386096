"""Which labels are classes, in which order, and under which spelling (rows B35 to B37).

A labels file has one label a line, as labelme takes it with --labels. `__ignore__` marks regions in which nothing
is evaluated, `_background_` is not a class; both may stand in the file and get no id.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path

from label_tools.files.strict_json import read_lines
from label_tools.formats.labelme import BACKGROUND_LABEL, IGNORE_LABEL
from label_tools.text.clean_label import clean_label
from label_tools.text.errors import InputError, one_line
from label_tools.text.messages import counted

_FILES_NAMED = 3  # per label, in a refusal
NO_CLASSES = (IGNORE_LABEL, BACKGROUND_LABEL)


def read_labels(path: str | os.PathLike) -> list[str]:
    """The labels in a file, in order, with `__ignore__` and `_background_` if they stand in it.

    Raises InputError: no such file, no label in it, a label twice, a label that cannot be one.
    """
    labels: list[str] = []
    for number, line in enumerate(read_lines(path), start=1):
        if not line.strip():
            continue
        label, problem = clean_label(line)
        if problem:
            raise InputError(f"{path}, line {number}: {problem}")
        if label in labels:
            raise InputError(f'{path}, line {number}: "{label}" is given twice')
        labels.append(label)
    if not [label for label in labels if label not in NO_CLASSES]:
        raise InputError(f"{path}: no class in it; write one label a line")
    return labels


def class_table(
    counts: Mapping[str, int],
    labels: Sequence[str] | None,
    *,
    merge_case: bool = False,
    where: str = "",
    files: Mapping[str, Sequence[str]] | None = None,
) -> tuple[list[str], dict[str, str]]:
    """(the class names in the order of their ids, spelling found -> class name).

    counts: objects per label found. labels: the classes wanted, in order; None: all that were found, by alphabet.
    merge_case: labels that differ only in upper and lower case are one class, spelt as in `labels` or as most
    objects spell it. files: the files that hold each label, to be named in a refusal.
    Raises InputError for unknown labels (B35) and for such spellings without merge_case (B36).
    """
    found = {label: n for label, n in counts.items() if label not in NO_CLASSES}
    names = None if labels is None else [label for label in labels if label not in NO_CLASSES]
    by_case: dict[str, list[str]] = {}
    for label in sorted(found, key=lambda one: (-found[one], one)):
        by_case.setdefault(label.casefold(), []).append(label)
    spelling = {label: label for label in found}
    if merge_case:
        wanted = {name.casefold(): name for name in names or ()}
        for folded, same in by_case.items():
            spelling.update(dict.fromkeys(same, wanted.get(folded, same[0])))
    else:
        _refuse_two_spellings(by_case, found, names, where, files or {})
    if names is None:
        return sorted(set(spelling.values())), spelling
    _refuse_unknown(found, spelling, names, where, files or {})
    return names, spelling


def _refuse_two_spellings(
    by_case: Mapping[str, list[str]],
    found: Mapping[str, int],
    names: Collection[str] | None,
    where: str,
    files: Mapping[str, Sequence[str]],
) -> None:
    for same in by_case.values():
        if len(same) > 1 and not set(same) <= set(names or ()):
            listed = ", ".join(
                f'"{one_line(label)}" ({found[label]}{in_files(files.get(label, ()))})' for label in same
            )
            raise InputError(
                f"{where}labels that differ only in upper and lower case: {listed}; "
                f'one class? --merge-case reads all as "{one_line(same[0])}"'
            )


def _refuse_unknown(
    found: Mapping[str, int],
    spelling: Mapping[str, str],
    names: Sequence[str],
    where: str,
    files: Mapping[str, Sequence[str]],
) -> None:
    unknown = Counter({label: n for label, n in found.items() if spelling[label] not in names})
    if not unknown:
        return
    listed = []
    for label, n in sorted(unknown.items(), key=lambda item: (-item[1], item[0])):
        folded = {name.casefold(): name for name in names}
        near = folded.get(label.casefold()) or next(iter(get_close_matches(label, names, 1)), "")
        place = in_files(files.get(label, ()))
        listed.append(f'"{one_line(label)}" ({n}{place})' + (f', did you mean "{near}"?' if near else ""))
    raise InputError(
        f"{where}{counted(len(unknown), 'label')} that the labels file does not have: "
        f"{'; '.join(listed[:20])}{' ...' * (len(listed) > 20)}; fix the label in these files (or "
        "convert without --labels, then frcnn rename), "
        "add it to the labels file, or leave it out with --skip-labels"
    )


def in_files(files: Sequence[str]) -> str:
    """`, in a.json, b.json, c.json and 2 more`; "" when no file is known."""
    named = ", ".join(one_line(file) for file in files[:_FILES_NAMED])
    more = f" and {len(files) - _FILES_NAMED} more" if len(files) > _FILES_NAMED else ""
    return f", in {named}{more}" if files else ""


def read_colors(path: Path) -> dict[tuple[int, int, int], str]:
    """{(r, g, b): class} of lines `R G B name`. Raises InputError."""
    colors: dict[tuple[int, int, int], str] = {}
    for number, line in enumerate(read_lines(path), start=1):
        parts = line.split(maxsplit=3)
        if not parts or line.lstrip().startswith("#"):
            continue
        if len(parts) != 4 or not all(p.isdecimal() and int(p) < 256 for p in parts[:3]):
            raise InputError(f"{path}, line {number}: {line!r}, needs `R G B name` with numbers from 0 to 255")
        red, green, blue = map(int, parts[:3])
        colors[red, green, blue] = parts[3].strip()
    if not colors:
        raise InputError(f"{path}: no colour in it; lines are `R G B name`")
    return colors
