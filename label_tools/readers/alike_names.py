"""Class names that are nearly alike, and may be one class that somebody wrote in two ways (row B36)."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence

from label_tools.readers.classes import in_files
from label_tools.text.errors import one_line
from label_tools.text.findings import WARNING, Finding


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
    """B36 in one line, or nothing. annotations: the COCO file as `rename` takes it; files: who holds each label."""
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
    """Equal but for case, blanks, dashes, underscores and the plural's ending."""
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
