"""Decide the classes from the labels: order, spelling, and names that are nearly alike (rows B35 to B37).

A labels file has one label a line, as labelme takes it with --labels. `__ignore__` marks regions in which nothing
is evaluated, `_background_` is not a class; both may stand in the file and get no id.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches

from label_tools.files.strict_reading import read_lines
from label_tools.formats.labelme import BACKGROUND_LABEL, IGNORE_LABEL
from label_tools.text.clean_label import clean_label
from label_tools.text.errors import InputError, SetError, one_line
from label_tools.text.findings import WARNING, Finding
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
            raise SetError(
                "B36",
                f"{where}labels that differ only in upper and lower case: {listed}; "
                f'one class? --merge-case reads all as "{one_line(same[0])}"',
            )


def _refuse_unknown(
    found: Mapping[str, int],
    spelling: Mapping[str, str],
    names: Sequence[str],
    where: str,
    files: Mapping[str, Sequence[str]],
) -> None:
    unknown = {label: n for label, n in found.items() if spelling[label] not in names}
    if not unknown:
        return
    listed = []
    folded = {name.casefold(): name for name in names}
    for label, n in sorted(unknown.items(), key=lambda item: (-item[1], item[0])):
        near = folded.get(label.casefold()) or next(iter(get_close_matches(label, names, 1)), "")
        place = in_files(files.get(label, ()))
        listed.append(f'"{one_line(label)}" ({n}{place})' + (f', did you mean "{near}"?' if near else ""))
    raise SetError(
        "B35",
        f"{where}{counted(len(unknown), 'label')} that the labels file does not have: "
        f"{'; '.join(listed[:20])}{' ...' * (len(listed) > 20)}; fix the label in these files (or "
        "convert without --labels, then frcnn rename), "
        "add it to the labels file, or leave it out with --skip-labels",
    )


def in_files(files: Sequence[str]) -> str:
    """`, in a.json, b.json, c.json and 2 more`; "" when no file is known."""
    named = ", ".join(one_line(file) for file in files[:_FILES_NAMED])
    more = f" and {len(files) - _FILES_NAMED} more" if len(files) > _FILES_NAMED else ""
    return f", in {named}{more}" if files else ""


def alike(counts: Mapping[str, int]) -> list[tuple[str, str]]:
    """Pairs (rarer, other) of class names that may be one class: `bolts` and `bolt`, `hexnut` and `hex_nut`, `racoon`
    and `raccoon`.

    counts: objects per name. Names that differ only in upper and lower case are not among them: `class_table` has
    them. A slip of the hand is one letter of a word of five or more, in a name with at most a tenth of the objects.
    """
    pairs = []
    names = sorted(counts, key=lambda name: (-counts[name], name))
    for i, rare in enumerate(names):
        for other in names[:i]:
            if rare.casefold() != other.casefold() and (
                _same_word(rare, other) or (10 * counts[rare] <= counts[other] and _one_slip(rare, other))
            ):
                pairs.append((rare, other))
                break
    return sorted(pairs)


def alike_finding(
    counts: Mapping[str, int],
    file: str,
    place: str,
    *,
    annotations: str,
    files: Mapping[str, Sequence[str]] | None = None,
) -> Iterator[Finding]:
    """B36 in one line, or nothing. annotations: the COCO file as `rename` takes it; files: that hold each label."""
    pairs = alike(counts)
    if not pairs:
        return
    listed = "; ".join(
        f'"{one_line(rare)}" ({counts[rare]}{in_files((files or {}).get(rare, ()))}) '
        f'and "{one_line(other)}" ({counts[other]})'
        for rare, other in pairs
    )
    change = " ".join(shlex.quote(one_line(f"{rare}={other}")) for rare, other in pairs)
    fix = f"one class? fix the labels, or frcnn rename {annotations} {change} --out NEW.json"
    yield Finding("B36", WARNING, file, place, f"class names that are nearly alike: {listed}", fix)


def _same_word(a: str, b: str) -> bool:
    """Whether two names differ only in case, blanks, dashes, underscores or a plural ending."""
    a, b = sorted((re.sub(r"[\W_]", "", name).casefold() for name in (a, b)), key=len)
    return len(a) > 2 and b in (a, a + "s", a + "es")


def _one_slip(a: str, b: str) -> bool:
    """Whether exactly one word differs, by a letter too many or too few, another letter, or two that changed places."""
    words = [re.findall(r"[^\W\d_]+|\d+", name.casefold()) for name in (a, b)]
    if len(words[0]) != len(words[1]):
        return False
    different = [pair for pair in zip(*words) if pair[0] != pair[1]]
    if len(different) != 1:
        return False
    a, b = sorted(different[0], key=len)
    if len(a) < 5 or not (a + b).isalpha():
        return False
    start = next((k for k, (x, y) in enumerate(zip(a, b)) if x != y), len(a))
    if len(b) == len(a) + 1:
        return a[start:] == b[start + 1 :]
    if len(b) != len(a) or start == len(a) - 1:  # another last letter is meant: cellA, cellB
        return False
    return a[start + 1 :] == b[start + 1 :] or a[start:] == b[start + 1] + b[start] + b[start + 2 :]
