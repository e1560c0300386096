"""report.html: one file that opens offline, made again from the run folder alone at any time."""

from __future__ import annotations

from pathlib import Path

from label_tools.files.marked_folders import adopt, check_whole, together
from label_tools.files.strict_reading import loads
from label_tools.text.errors import InputError, MissingExtra
from toolkit.training import run_folder

SPLITS = ("test", "val")  # which one comes first when a run has several


def write_report(folder: Path, split: str | None = None) -> Path:
    """Write a report from the files in `folder`, a run or the --out of an evaluation. -> its path.

    folder/report.html is about the run's own test split, else val. Another `split` has its page beside its numbers,
    folder/<split>/report.html. Works with what is there: an interrupted run has curves and no numbers.
    """
    try:
        from toolkit.report.page import render
    except ModuleNotFoundError as error:
        if error.name not in ("jinja2", "markupsafe"):
            raise
        raise MissingExtra("report.html: needs jinja2: pip install jinja2; the numbers are written") from None

    folder = Path(folder)
    found = evaluations_of(folder)
    if split and split not in found:
        raise InputError(f"{folder}: has no evaluation of {split}; found {', '.join(found) or 'none'}")
    main = next(iter(found), None)
    if split in found and (split != main or main not in (*SPLITS, "")):
        main, path = split, found[split] / "report.html"
    else:
        path = folder / "report.html"
    html = render(folder, found, main, path.parent)
    if path.is_file() and is_page(path):
        adopt(path.parent, "report", [path.name])
    with together(path.parent, "report") as made:
        (made / path.name).write_bytes(html.encode())
    return path


def evaluations_of(folder: Path) -> dict[str, Path]:
    """`find_evaluations` of a run or an evaluation; InputError for any other folder."""
    found = find_evaluations(folder)
    if not found or ("" not in found and any(map(run_folder.is_run, folder.iterdir()))):  # no evaluation, or runs/
        run_folder.check(folder)
    return found


def is_page(path: Path) -> bool:
    """Whether a file is a page of ours, of any version."""
    head = path.read_bytes()[:1000]
    return b"<!DOCTYPE html>" in head and b"Content-Security-Policy" in head


def find_evaluations(folder: Path) -> dict[str, Path]:
    """{split: folder of its metrics.json}, test before val before others; "" for an evaluation without a run."""
    found = {path.parent.name: path.parent for path in sorted(folder.glob("[!.]*/metrics.json"))}
    if (folder / "metrics.json").is_file():
        found[""] = folder
    order = sorted(found, key=lambda name: (SPLITS.index(name) if name in SPLITS else len(SPLITS), name))
    return {name: found[name] for name in order}


def read_metrics(folder: Path, split: str | None = None) -> dict:
    """metrics.json of an evaluation in `folder`: of `split`, else the first. InputError when there is none."""
    found = find_evaluations(folder)
    if not found:
        run_folder.check(folder)
    if not found or (split and split not in found):
        what = f" of {split}" if split else ""
        raise InputError(f"{folder}: holds no evaluation{what}; run `frcnn evaluate {folder}` first")
    path = found[split or next(iter(found))] / "metrics.json"
    check_whole(path.parent, "evaluation", [path.name])
    try:
        metrics = loads(path.read_bytes(), str(path))
    except (OSError, InputError) as error:
        raise InputError(f"{path}: is not valid JSON ({error}); run `frcnn evaluate` again") from None
    if not isinstance(metrics, dict):
        raise InputError(f"{path}: found a {type(metrics).__name__}, needs an object; run `frcnn evaluate` again")
    return metrics
