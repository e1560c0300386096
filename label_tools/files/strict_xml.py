"""Read the XML of labelling programs strictly: no entities, no document types, a size limit."""

from __future__ import annotations

import re
from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from label_tools.files.strict_json import TextError

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
