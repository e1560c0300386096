"""A run in a notebook: its state, its numbers, its curves, and the way to its report."""

from __future__ import annotations

import base64
import json
import os
from html import escape
from pathlib import Path
from urllib.parse import quote

from toolkit.report.evaluation_text import with_interval
from toolkit.report.write_report import find_evaluations

SHOWN = ("AP", "AP50", "AP75")


def run_html(folder: Path) -> str:
    """A heading, a table with a row for each split, curves.png and a link; from the files that are there."""
    record, lines = _read(folder / "run.json"), []
    about = list(dict.fromkeys(str(record[key]) for key in ("model", "status", "ended") if record.get(key)))
    lines.append(f"<p><b>{escape(str(folder))}</b>{': ' + escape(', '.join(about)) if about else ''}</p>")
    rows = [_row(name, _read(path / "metrics.json")) for name, path in find_evaluations(folder).items()]
    if rows:
        head = "".join(f"<th>{name}</th>" for name in ("split", "images", "objects", *SHOWN))
        lines.append(f"<table><thead><tr>{head}</tr></thead><tbody>{''.join(rows)}</tbody></table>")
    else:
        lines.append("<p>Not evaluated yet.</p>")
    if (folder / "curves.png").is_file():
        content = base64.b64encode((folder / "curves.png").read_bytes()).decode()
        how = 'alt="losses and AP over the epochs" style="max-width:800px"'
        lines.append(f'<img {how} src="data:image/png;base64,{content}">')
    if (folder / "report.html").is_file():
        link = quote(Path(os.path.relpath(folder / "report.html")).as_posix())
        lines.append(f'<p><a href="{link}">report.html</a></p>')
    return "".join(lines)


def _row(name: str, metrics: dict) -> str:
    if not metrics:
        return f"<tr><td>{escape(name)}</td><td colspan='5'>metrics.json cannot be read</td></tr>"
    cells = [
        name,
        metrics["num_images"],
        metrics["num_objects"],
        *(with_interval(metrics, key) for key in SHOWN),
    ]
    return f"<tr>{''.join(f'<td>{escape(str(cell))}</td>' for cell in cells)}</tr>"


def _read(path: Path) -> dict:
    """A JSON object; empty when there is none."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
