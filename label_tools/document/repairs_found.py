"""The repairs and refusals found in a COCO document, with the repaired document; the key that compares ids."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from label_tools.document.coco_values import whole
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, Finding


class DocumentError(InputError):
    """A document with more than one meaning. code: the row of `bad_input.md`."""

    def __init__(self, finding: Finding) -> None:
        where = f"{finding.file}, {finding.place}" if finding.place else finding.file
        super().__init__(f"{where}: {finding.text}" + (f"; {finding.fix}" if finding.fix else ""))
        self.code = finding.code


@dataclass
class Examined:
    """A COCO document after every rule.

    document: in our dialect; None where it has several meanings. fatal: why, every reason.
    image_ids, category_ids: the original ids -> ours, where they differ.
    """

    name: str
    findings: list[Finding] = field(default_factory=list)
    document: dict[str, Any] | None = None
    fatal: list[Finding] = field(default_factory=list)
    image_ids: dict[Any, int] = field(default_factory=dict)
    category_ids: dict[Any, int] = field(default_factory=dict)

    def usable(self) -> dict[str, Any]:
        """The document; DocumentError with the first reason where it has several meanings."""
        if self.document is None:
            raise DocumentError(self.fatal[0])
        return self.document

    def say(self, level: str, code: str, place: str, text: str, fix: str = "") -> None:
        self.findings.append(Finding(code, level, self.name, place, text, fix))

    def refuse(self, code: str, place: str, text: str, fix: str = "") -> None:
        self.say(ERROR, code, place, text, fix)
        self.fatal.append(self.findings[-1])


def key_of(value: Any) -> Any:
    """The key by which ids are compared: 7, 7.0 and "7" give 7, other texts stay; None: not an id."""
    if type(value) is int:
        return value
    number = whole(value)
    return number if number is not None else value if isinstance(value, str) and value else None
