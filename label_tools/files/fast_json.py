"""Fast JSON by msgspec where it is installed: the values and the text of Python's own, several times as fast.

It is tried first and used only where the result cannot differ; otherwise (`None`) Python's json decides, which
also reports the errors. msgspec keeps the last of two equal keys, so `decode` counts keys to find repeated ones.
"""

from __future__ import annotations

import json
import re
from contextlib import suppress
from itertools import chain
from typing import Any

try:
    from msgspec import json as native
except ImportError:  # works without, at half the speed
    native = None  # type: ignore[assignment] # mypy gives a module one type

_KEY = re.compile(rb'"\s*:')  # the end of a key; within a text a quote has a backslash before it
_KEY_ENDS = (b'":', b" :", b"\t:", b"\n:", b"\r:")  # every key ends so, and some texts hold it, too


def decode(data: bytes) -> Any:
    """The value in `data`, an object or a list; None: not UTF-8, no JSON, a key twice, or msgspec is not here.

    Every key ends with a quote and a colon; the same characters inside a string only raise the count. So if
    the count equals the number of keys in the value, no key was lost, and none was given twice.
    """
    if native is None:
        return None
    try:
        value = native.decode(data)
    except Exception:  # whatever it is, Python's own decoder reports it better
        return None
    if type(value) is not dict and type(value) is not list:
        return None
    keys = _keys(value, data.count(b"{"))
    if (  # the quickest first: a colon within a text is rare, white space before one, too
        data.count(b":") == keys
        or sum(map(data.count, _KEY_ENDS)) == keys
        or sum(1 for _ in _KEY.finditer(data)) == keys
    ):
        return value
    return None


def raw_values(data: bytes) -> dict[str, Any] | None:
    """{key: its value's text, a view of `data`} of the object in `data`; None: no such JSON, or msgspec is not here.

    Of a key given twice only the last value comes.
    """
    if native is None:
        return None
    from msgspec import Raw

    try:
        return native.decode(data, type=dict[str, Raw])
    except Exception:
        return None


def _keys(value: dict | list, braces: int) -> int:
    """Count the keys of all objects in `value`, whose text has this many braces, those in strings included."""
    number, level = 0, [value]
    while level:
        objects = [one for one in level if type(one) is dict]
        number += sum(map(len, objects))
        braces -= len(objects)
        if not braces:  # the rest are lists of numbers and texts, most of a file
            break
        inner = chain.from_iterable([one.values() if type(one) is dict else one for one in level])
        level = [one for one in inner if type(one) is list or type(one) is dict]
    return number


def numbers(value: Any) -> str:
    """Format a float or lists of floats as Python's json and `repr` do. All must be finite."""
    if native is None:
        return repr(value)
    text = native.encode(value)
    if b"e" in text or b"0.0000" in text:  # exponents are written in another way
        return repr(value)
    return text.replace(b",", b", ").decode()


def sorted_line(value: dict[str, str]) -> str:
    """Format an object of strings as Python's json does, with sorted keys and minimal escaping."""
    if native is not None:
        with suppress(UnicodeEncodeError):  # half a surrogate pair: the file's writer has the words
            return native.format(native.encode(value, order="sorted"), indent=0).decode()
    return json.dumps(value, sort_keys=True, ensure_ascii=False)
