"""Findings: each is one problem or remark about one file, from any reader or rule.

Readers, converters and `check` all report in this form. The code is a row of `bad_input.md`, the table of what is
wrong with labels and images in practice and how it is handled.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from operator import attrgetter
from pathlib import Path
from typing import NamedTuple

from label_tools.text.errors import one_line

ERROR, WARNING, NOTE = "error", "warning", "note"
LEVELS = (ERROR, WARNING, NOTE)  # worst first
SHOWN = {ERROR: 20, WARNING: 20, NOTE: 3}  # lines of one rule on a terminal
_REPAIRED_NAMES = ("B29", "B30", "B31", "B32")  # a whole folder has the same: three examples are enough


class Finding(NamedTuple):
    """One finding. A tuple, because a damaged file has hundreds of thousands.

    code: "B01" to "B90", a row of `bad_input.md`.
    level: "error", the item cannot be used and was left out; "warning", it was repaired or looks wrong;
        "note", it was used as it is, or it is not a label that was asked for (another file, an unreviewed draft).
    file: as the user would type it. place: where in the file (`shapes[4] "dog"`), or "".
    text: what was found and what is needed. fix: what to do about it, or "".
    """

    code: str
    level: str
    file: str
    place: str
    text: str
    fix: str = ""

    def line(self) -> str:
        """`error B08 cat_03.json, shapes[4] "dog": polygon has 2 points, needs 3 or more`, in one line."""
        where = f"{self.file}, {self.place}" if self.place else self.file
        return one_line(f"{self.level} {self.code} {where}: {self.text}" + (f"; {self.fix}" if self.fix else ""))


@cache
def titles() -> dict[str, str]:
    """{code: a short title}, in the order of `bad_input.md`."""
    page = Path(__file__).with_name("bad_input.md").read_text(encoding="utf-8")
    return dict(re.findall(r"^\| (B\d\d) \| ([^|]+) \|", page, flags=re.MULTILINE))


_RULE, _PLACE = attrgetter("level", "code"), attrgetter("code", "file", "place", "text")


def worst_first(findings: Iterable[Finding]) -> list[Finding]:
    """Errors, then warnings, then notes; within a level by code, file and place."""
    return sorted(sorted(findings, key=_PLACE), key=lambda f: LEVELS.index(f.level))


def count_levels(findings: Iterable[Finding]) -> dict[str, int]:
    """{"error": n, "warning": n, "note": n}, all three keys always there."""
    counts = Counter(f.level for f in findings)
    return {level: counts[level] for level in LEVELS}


def one_a_rule(findings: Iterable[Finding]) -> list[str]:
    """The first finding of each rule without its level, and how many more there are like it."""
    first: dict[str, Finding] = {}
    count: Counter[str] = Counter()
    for finding in findings:
        first.setdefault(finding.code, finding)
        count[finding.code] += 1
    more = {code: f" (and {n - 1} more like it)" if n > 1 else "" for code, n in count.items()}
    return [f.line().removeprefix(f"{f.level} ") + more[code] for code, f in first.items()]


def short_lines(findings: Sequence[Finding], where: str) -> Iterator[str]:
    """Format findings, at most SHOWN lines for each rule, then how many more there are and `where`."""
    totals = Counter(map(_RULE, findings))
    seen: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        rule, most = _RULE(finding), SHOWN[finding.level]
        if finding.level == WARNING and finding.code in _REPAIRED_NAMES:
            most = SHOWN[NOTE]
        seen[rule] += 1
        if seen[rule] <= most:
            yield finding.line()
        elif seen[rule] == most + 1:
            yield f"{finding.level} {finding.code} ... and {totals[rule] - most} more like it ({where})"
