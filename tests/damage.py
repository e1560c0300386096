"""Damage to a file: bytes lost, changed, doubled, JSON values of another kind; for the tests that read it back."""

from __future__ import annotations

import json
import random

ODD = (None, True, "x", "", -1, 0, 1e308, -1e308, [], {}, [1], {"a": 1}, "\x1b[31m", "=1+1", "../../x", 10**30)


def changed_value(value, rng: random.Random):
    """A JSON value with one place of it changed."""
    if isinstance(value, (dict, list)) and value and rng.random() < 0.9:
        copy = value.copy()
        key = rng.choice(list(copy)) if isinstance(copy, dict) else rng.randrange(len(copy))
        if rng.random() < 0.15:
            del copy[key]
        else:
            copy[key] = changed_value(copy[key], rng)
        return copy
    return rng.choice(ODD)


def damaged(content: bytes, is_json: bool, rng: random.Random) -> bytes:
    if is_json and rng.random() < 0.6:
        return json.dumps(changed_value(json.loads(content), rng)).encode()
    kind, at = rng.randrange(5), rng.randrange(len(content))
    if kind == 0:
        return content[:at]
    if kind == 1:
        return content[:at] + bytes([rng.randrange(256)]) + content[at + 1 :]
    if kind == 2:
        return b"[" * 100_000
    if kind == 3:
        return content[:at] + rng.choice([b"\0", b"\r", b'"', b",,", b"nan", b"1e999", b"\xff"]) + content[at:]
    return b"" if rng.random() < 0.2 else content + content[at:]
