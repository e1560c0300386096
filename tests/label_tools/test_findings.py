"""Findings: their line, their order, how many of one rule are shown."""

from __future__ import annotations

from label_tools.text.findings import Finding, count_levels, one_a_rule, short_lines, worst_first


def finding(code: str = "B08", level: str = "error", k: int = 0, fix: str = "") -> Finding:
    return Finding(code, level, f"{k:02}.json", f"shapes[{k}]", "no area", fix)


def test_a_line_names_everything_that_there_is():
    assert finding(fix="draw it again").line() == "error B08 00.json, shapes[0]: no area; draw it again"
    assert Finding("B20", "note", "a\nb.json", "", "empty").line() == "note B20 a b.json: empty"


def test_worst_first_and_counted():
    note, late, early, other = finding("B01", "note"), finding(k=2), finding(k=1), finding("B05", k=9)
    warning = finding("B01", "warning")
    assert worst_first([note, late, warning, early, other]) == [other, early, late, warning, note]
    assert count_levels([note, late, early]) == {"error": 2, "warning": 0, "note": 1}


def test_one_a_rule_counts_the_others():
    found = [finding("B08", k=0), finding("B05", k=1), finding("B08", k=2), finding("B08", k=3)]
    assert one_a_rule(found) == [
        "B08 00.json, shapes[0]: no area (and 2 more like it)",
        "B05 01.json, shapes[1]: no area",
    ]


def test_few_of_one_rule_are_shown():
    for code, level, most in (
        ("B08", "error", 20),
        ("B02", "warning", 20),
        ("B29", "warning", 3),
        ("B29", "error", 20),
    ):
        for number, more in ((most, []), (most + 2, [f"{level} {code} ... and 2 more like it (--all)"])):
            some = [finding(code, level, k) for k in range(number)]
            assert list(short_lines(some, "--all")) == [one.line() for one in some[:most]] + more
    notes = [finding("B68", "note", k) for k in range(4)] + [finding("B63", "note")]
    *_, more, other = short_lines(notes, "--all")  # each rule counts for itself
    assert more == "note B68 ... and 1 more like it (--all)" and other == notes[-1].line()
