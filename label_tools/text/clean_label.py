"""Clean a label: the rules for class names, the same in every format."""

from __future__ import annotations

import unicodedata
from functools import lru_cache

from label_tools.text.errors import one_line
from label_tools.text.rule_limits import LONGEST_LABEL


@lru_cache(maxsize=10_000)
def clean_label(label: str) -> tuple[str, str]:
    """(the label without blanks around it, composed; why it cannot be used, or "")."""
    clean = unicodedata.normalize("NFC", label.strip())
    if not clean:
        return clean, "the label is empty"
    if len(clean) > LONGEST_LABEL:
        return clean, f"the label has {len(clean)} characters, at most {LONGEST_LABEL} are possible"
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in clean):
        shown = one_line(clean.replace("\n", "\\n"))
        return clean, f'the label "{shown}" holds control characters'
    return clean, ""
