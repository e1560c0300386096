"""msgspec beside Python's json: the same values, the same text, the same refusals, however a file is written."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from label_tools.files import fast_json
from label_tools.files.strict_reading import TextError, loads, parse, read

needs_msgspec = pytest.mark.skipif(fast_json.native is None, reason="msgspec is not installed")
scalars = st.one_of(
    st.none(), st.booleans(), st.integers(-(2**70), 2**70), st.floats(allow_nan=False), st.text(max_size=6)
)
values = st.recursive(scalars, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner))


def slow(text: str) -> object:
    try:
        return parse(text, "a.json")
    except TextError as error:
        return error.code, str(error)


def quick(data: bytes) -> object:
    try:
        return loads(data, "a.json")
    except TextError as error:
        return error.code, str(error)


@settings(max_examples=150, deadline=None)
@given(values, st.booleans(), st.sampled_from([None, 1]), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")]))
def test_the_same_values(value, escaped, indent, separators):
    text = json.dumps(value, ensure_ascii=escaped, indent=indent, separators=separators)
    found = quick(text.encode("utf-8", "surrogatepass"))
    assert repr(found) == repr(slow(text)) or "B24" in found  # half a surrogate that is not escaped is not text


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a": 2}',
        '[{"a": [{"b": 1, "b": 1}]}]',
        '{"a" : 1, "a"\n: 2}',
        '{"a": 1, "\\u0061": 2}',  # the same key, written in another way
        r'{"a": "\":\":", "b": {"c": 1, "c": 1}}',
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": "\\ud800"}',
        "[" * 5000,
        '{"a": 1' + "0" * 5000 + "}",
        '{"a": 1}x',
        "",
        "7",
        "null",
    ],
)
def test_the_same_refusals(text):
    assert repr(quick(text.encode())) == repr(slow(text))


@pytest.mark.parametrize(
    "text", ['{"a": 1, "a": 2}', '[[1], [{"a": 1, "a": 1}]]', '{"a": {"b": 1, "b": 1}, "c": "\\":"}']
)
def test_a_key_twice_is_found(text):
    with pytest.raises(TextError, match="given twice"):
        loads(text.encode(), "a.json")


def test_a_quote_and_colon_in_a_text_is_no_key():
    assert loads(rb'{"a": "x\": y", "b": ["\":"]}', "a.json") == {"a": 'x": y', "b": ['":']}


def test_encodings_are_named():
    assert read(b"\xef\xbb\xbf{}", "a")[1] == "utf-8-sig" and read('{"a": 1}'.encode("utf-16"), "a")[1] == "utf-16"


@settings(max_examples=200, deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=6))
def test_numbers_are_written_as_python_writes_them(numbers):
    assert fast_json.numbers([numbers, numbers]) == json.dumps([numbers, numbers])


@needs_msgspec
def test_a_plain_label_file_takes_the_fast_way():
    shape = {"label": "é", "points": [[1.5, 2], [3, 4.25]], "flags": {}, "group_id": None}
    text = json.dumps({"version": "5.5.0", "shapes": [shape, shape], "imageData": None}, indent=2)
    assert fast_json.decode(text.encode()) == json.loads(text)
    assert fast_json.decode(b"{}") == {} and fast_json.decode(b'{"a": 1, "a": 1}') is None
    assert not math.isnan(fast_json.decode(b"[1.0]")[0])
