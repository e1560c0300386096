"""Read JSON, XML and text strictly: any Unicode encoding, errors with their line; no key twice, no XML entities."""

from __future__ import annotations

import json
import os
import re
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from label_tools.files import fast_json
from label_tools.text.errors import InputError


class TextError(InputError):
    """No JSON, no XML, or no text at all. code: the row of `bad_input.md`."""

    def __init__(self, code: str, name: str, place: str, text: str) -> None:
        super().__init__(f"{name}, {place}: {text}" if place else f"{name}: {text}")
        self.code, self.place, self.text = code, place, text


class _TwiceError(ValueError):
    pass


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        raise _TwiceError(next(key for key, times in Counter(k for k, _ in pairs).items() if times > 1))
    return result


_DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice)
_BOMS = (
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
    (b"\xef\xbb\xbf", "utf-8-sig"),
)


def loads(data: bytes, name: str) -> Any:
    """The value in `data`. UTF-8 with or without BOM, UTF-16, UTF-32. NaN and Infinity come through as floats.

    Raises TextError (an InputError), naming `name` and where possible line and column: bytes that are not text, no
    JSON, a key given twice, nesting too deep, an integer of thousands of digits, half a surrogate pair.
    """
    return read(data, name)[0]


def read(data: bytes, name: str) -> tuple[Any, str]:
    """(the value in `data`, the name of its encoding); errors as in `loads`."""
    value = fast_json.decode(data)
    if value is not None:
        return value, "utf-8"
    text, encoding = decode(data, name)
    return parse(text, name), encoding


def decode(data: bytes, name: str) -> tuple[str, str]:
    """The text in `data` and the name of its encoding ("utf-8", "utf-8-sig", "utf-16", ...)."""
    encoding = next((e for bom, e in _BOMS if data.startswith(bom)), None) or json.detect_encoding(data)
    try:
        return data.decode(encoding), encoding
    except UnicodeDecodeError as error:
        text = f"not valid {encoding.upper()} text; save the file as UTF-8"
        raise TextError("B24", name, f"byte {error.start}", text) from error


def read_text(path: str | os.PathLike) -> str:
    """The text of a file in any Unicode encoding. Raises InputError: not readable, no text."""
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from error
    return decode(data, os.fspath(path))[0]


def read_lines(path: str | os.PathLike) -> list[str]:
    """The lines of `read_text`."""
    return read_text(path).splitlines()


def parse(text: str, name: str) -> Any:
    """The value in `text`; errors as in `loads`."""
    try:
        value = _DECODER.decode(text)
    except json.JSONDecodeError as error:
        what = "the file is empty" if not text.strip() else f"no valid JSON: {error.msg}"
        raise TextError("B20", name, f"line {error.lineno} column {error.colno}", what) from error
    except _TwiceError as error:
        raise TextError("B25", name, "", f'the key "{error}" is given twice in one object') from error
    except RecursionError as error:
        raise TextError("B25", name, "", "nested too deeply") from error
    except ValueError as error:  # int() refuses numbers of more than 4300 digits
        raise TextError("B25", name, "", "holds a number of thousands of digits") from error
    if ("\\ud" in text or "\\uD" in text) and _has_half_surrogate(value):
        raise TextError("B25", name, "", "holds half a surrogate pair, which is not text")
    return value


def _has_half_surrogate(value: Any) -> bool:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return True
    except RecursionError:
        pass
    return False


_WIDE = (b"gb2312", b"gbk", b"gb18030", b"big5", b"shift_jis", b"euc-jp", b"euc-kr", b"cp949")
LARGEST = 500_000_000  # bytes


def parse_xml(path: str) -> ElementTree.Element:
    """The root element of the file. Raises TextError: B20 no XML, entities, too long; OSError: cannot be read."""
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise TextError("B20", path, "", f"more than {LARGEST} bytes, no annotation is that long")
    return parse_xml_bytes(data, path)


def _refuse_entities(data: bytes, path: str) -> None:
    if b"<!DOCTYPE" in data or b"<!ENTITY" in data:
        raise TextError("B20", path, "", "declares a document type or entities, which label files do not need")


def _in_unicode(data: bytes, path: str) -> bytes:
    """Convert a multi-byte encoding that expat does not know (gb2312 of Chinese programs) to UTF-8."""
    declared = re.match(rb"<\?xml[^>]*?encoding=[\"']([\w.-]+)[\"'][^>]*\?>", data[:200])
    if declared is None or declared[1].lower() not in _WIDE:
        return data
    text = data[declared.end() :].decode(declared[1].decode()).encode()
    _refuse_entities(text, path)
    return text


def parse_xml_bytes(data: bytes, path: str) -> ElementTree.Element:
    """`parse_xml` of the content of a file. path: for messages."""
    _refuse_entities(data.replace(b"\0", b"") if data[:4].count(0) else data, path)  # UTF-16 too
    try:
        return ElementTree.fromstring(_in_unicode(data, path))
    except (ElementTree.ParseError, ExpatError) as error:
        what = f"no valid XML: {error}" if data.strip() else "the file is empty"
        raise TextError("B20", path, "", what) from error
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that Python does not know
        raise TextError("B20", path, "", f"no valid XML: {error}") from error
