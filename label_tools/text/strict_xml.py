"""XML as labelling programs write it, read without surprises: no entities, no document types, a limit on its size."""

from __future__ import annotations

from xml.etree import ElementTree
from xml.parsers.expat import ExpatError

from label_tools.text.strict_json import TextError

LARGEST = 500_000_000  # bytes


def parse_xml(path: str) -> ElementTree.Element:
    """The root element of the file. Raises TextError: B20 no XML, entities, too long; OSError: cannot be read."""
    with open(path, "rb") as file:
        data = file.read(LARGEST + 1)
    if len(data) > LARGEST:
        raise TextError("B20", path, "", f"more than {LARGEST} bytes, no annotation is that long")
    return parse_xml_bytes(data, path)


def parse_xml_bytes(data: bytes, path: str) -> ElementTree.Element:
    """`parse_xml` of the content of a file. path: for messages."""
    head = data.replace(b"\0", b"") if data[:4].count(0) else data  # UTF-16 too
    if b"<!DOCTYPE" in head or b"<!ENTITY" in head:
        raise TextError("B20", path, "", "declares a document type or entities, which label files do not need")
    try:
        return ElementTree.fromstring(data)
    except (ElementTree.ParseError, ExpatError) as error:
        what = f"no valid XML: {error}" if data.strip() else "the file is empty"
        raise TextError("B20", path, "", what) from error
    except (ValueError, LookupError, RecursionError) as error:  # an encoding that Python does not know
        raise TextError("B20", path, "", f"no valid XML: {error}") from error
