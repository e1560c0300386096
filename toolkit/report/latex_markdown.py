"""Write the tables of an evaluation in LaTeX and in Markdown."""

from __future__ import annotations

from label_tools.text.messages import counted
from toolkit.report.evaluation_text import compared_caption, compared_table, ends_text, interval, number, sets

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")


def _rows(metrics: dict) -> list[tuple[str, list[str]]]:
    rows = list(metrics["per_class"].items())
    rows += [("all classes", metrics)] if len(rows) > 1 else []
    return [(name, [str(one["num_objects"]), *(number(one[key]) for key in COLUMNS)]) for name, one in rows]


def counts(metrics: dict) -> str:
    """`12 objects in 1 image`: what the numbers were computed from."""
    return f"{counted(metrics['num_objects'], 'object')} in {counted(metrics['num_images'], 'image')}"


def _caption(metrics: dict, heading: str) -> str:
    ends = interval(metrics, "AP")
    text = f"AP {number(metrics['AP'])}"
    text += f", 95 % interval {ends_text(ends)}" if ends and metrics["AP"] is not None else ""
    split = f" of the {metrics['split']} split" if metrics.get("split") else ""
    return f"{text}; {counts(metrics)}{split}; COCO metrics{f' {heading}' if heading else ''}"


def markdown(metrics: dict) -> str:
    """A table per class for a README or an issue; one by boxes and one by masks where there are masks."""
    tables = [_markdown({"split": metrics.get("split"), **one}, heading) for heading, one in sets(metrics)]
    if compared := metrics.get("compare"):
        lines = [f"| {' | '.join(map(_escape_markdown, row))} |" for row in compared_table(compared)]
        lines.insert(1, "|---|" + "---:|" * 6 + "---|")
        tables.append("\n".join([*lines, "", compared_caption(compared)]))
    return "\n\n".join(tables)


def _markdown(metrics: dict, heading: str) -> str:
    lines = ["| class | objects | " + " | ".join(COLUMNS) + " |", "|---|" + "---:|" * (len(COLUMNS) + 1)]
    for name, cells in _rows(metrics):
        lines.append(f"| {_escape_markdown(name)} | " + " | ".join(cells) + " |")
    return "\n".join([*lines, "", _caption(metrics, heading) + "."])


def latex(metrics: dict) -> str:
    """A table for a paper, two where there are masks; needs the package booktabs."""
    tables = [_latex({"split": metrics.get("split"), **one}, heading) for heading, one in sets(metrics)]
    if compared := metrics.get("compare"):
        head, *rows = (" & ".join(map(_escape_latex, row)) + r" \\" for row in compared_table(compared))
        tables.append(_latex_table(compared_caption(compared), "lrrrrrrl", [head, r"\midrule", *rows], "compared"))
    return "\n\n".join(tables)


def _latex(metrics: dict, heading: str) -> str:
    keys = (rf"{key[:2]}$_{{{key[2:]}}}$" if key[2:] else key for key in COLUMNS)
    lines = ["class & objects & " + " & ".join(keys) + r" \\", r"\midrule"]
    rows = _rows(metrics)
    for i, (name, cells) in enumerate(rows):
        if name == "all classes" and i == len(rows) - 1 and i:
            lines.append(r"\midrule")
        lines.append(f"{_escape_latex(name)} & " + " & ".join(cells) + r" \\")
    label = "detection" + (f"-{heading.split()[-1]}" if heading else "")
    return _latex_table(f"{_caption(metrics, heading)}.", "l" + "r" * (len(COLUMNS) + 1), lines, label)


def _latex_table(caption: str, columns: str, lines: list[str], label: str) -> str:
    head = [r"\begin{table}", r"\centering", rf"\caption{{{_escape_latex(caption)}}}", rf"\label{{tab:{label}}}"]
    rows = [rf"\begin{{tabular}}{{{columns}}}", r"\toprule", *lines, r"\bottomrule", r"\end{tabular}"]
    return "\n".join([*head, *rows, r"\end{table}"])


def _escape_latex(text: str) -> str:
    special = {"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"}
    special |= {c: "\\" + c for c in "&%$#_{}"} | {c: f"${c}$" for c in "<>"}
    return "".join(special.get(c, c) for c in text)


def _escape_markdown(text: str) -> str:
    return "".join("\\" + c if c in r"\|*_`<>[]" else c for c in text)
