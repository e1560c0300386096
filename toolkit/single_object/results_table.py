"""Write baselines.md and baselines.png: the documents' reported results beside those reached here."""

from __future__ import annotations

import logging
import math
from pathlib import Path
from typing import Any

from label_tools.files.atomic_write import atomic_write
from label_tools.files.marked_folders import together
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.single_object import baselines, start_and_resume
from toolkit.single_object.baseline_task import RESULT
from toolkit.single_object.data.open_data import is_drawn
from toolkit.training import run_folder

log = logging.getLogger(__name__)
KIND, FILES = "table of baselines", ("baselines.md", "baselines.png")
_HEAD = (
    "network",
    "parameters",
    "trained on",
    "document",
    "its accuracy",
    "accuracy its way",
    "accuracy",
    "its IoU",
    "IoU its way",
    "mean IoU of the objects",
    "AP50",
    "time",
)
_NEEDS = {"baseline", "recipe", "metrics", "parameters", "train_images", "epochs", "seconds", "device", "finds_nothing"}


def finished(root: Path, name: str, budget: str, seed: int | None = None) -> list[dict[str, Any]]:
    """Results of the finished runs of a baseline with this budget (and seed), in the order of the folders' names."""
    found = []
    for path in sorted(root.glob(f"*/{RESULT}")):
        result = run_folder.read_json(path)
        if not isinstance(result, dict) or _NEEDS - set(result):
            raise InputError(f"{path}: is not a result of `frcnn baseline train`; needs {', '.join(sorted(_NEEDS))}")
        recipe = result["recipe"]
        if result["baseline"] == name and recipe.get("budget") == budget and seed in (None, recipe.get("seed")):
            found.append({**result, "folder": path.parent.name})
    return found


def make(name: str, folders: dict[str, Path | None], root: Path, budget: str, seed: int, device: str) -> None:
    """Train a baseline for the table, go on with a run that was interrupted, or leave it at a finished one.

    folders: {"dominant", "largest": a labelled folder, or None for drawn pictures}; root: where runs lie.
    """
    data = baselines.find(name).data
    folder = folders.get(data)
    done = [
        result
        for result in finished(root, name, budget, seed)
        if data not in folders or drawn(result) == (folder is None)
    ]
    for result in done:
        log.info(taken(result, budget))
    if done:
        return
    data = str(folder.resolve()) if folder else data  # ./largest is a folder, largest is drawn
    if interrupted := begun(root, name, budget, seed, data):
        log.info(f"{name}: goes on with {interrupted}")
        start_and_resume.resume(interrupted, {"device": device})
    else:
        start_and_resume.start(name, {"data": data, "budget": budget, "seed": seed, "device": device}, root)


def begun(root: Path, name: str, budget: str, seed: int, data: str) -> Path | None:
    """Folder of a run that was interrupted with a checkpoint, of this budget, seed and data; the first one."""
    wanted = {"baseline": name, "budget": budget, "seed": seed, "data": data}
    for path in sorted(root.glob(f"*/{run_folder.RUN}")):
        record = run_folder.read_json(path)
        recipe = record.get("recipe") if isinstance(record, dict) else None
        if (
            isinstance(recipe, dict)
            and wanted.items() <= recipe.items()
            and record.get("status") != "finished"
            and (path.parent / "last").is_dir()
        ):
            return path.parent
    return None


def drawn(result: dict[str, Any]) -> bool:
    """Whether a run was trained and evaluated on drawn pictures, not on files."""
    return is_drawn(result["recipe"]["data"])


def taken(result: dict[str, Any], budget: str) -> str:
    """A line that says which finished run stands for a baseline, and where it had not this budget."""
    recipe = result["recipe"]
    wanted = baselines.budget(baselines.find(result["baseline"]), budget, drawn(result))
    pairs = [(name, recipe[name], getattr(wanted, name)) for name in ("epochs", "batch", "lr", "optimizer", "schedule")]
    if drawn(result):
        pairs.append(("images", result["train_images"], wanted.images))
    other = ", ".join(f"{name} {had} instead of {want}" for name, had, want in pairs if had != want)
    text = f"{result['baseline']}: taken from the finished run {result['folder']}"
    return f"{text}; not the {budget} budget: {other}" if other else text


def write(out: Path, root: Path, names: list[str], budget: str) -> Path:
    """Write both into `out`; -> the Markdown's path. Raises InputError when there is no finished run at all."""
    results = [(name, result) for name in names for result in finished(root, name, budget)]
    if not results:
        raise InputError(f"{root}: holds no finished run with the {budget} budget; leave --read out to train them")
    with together(out, KIND) as made:
        with atomic_write(made / FILES[0]) as file:
            file.write(markdown(results, names).encode())
        draw(results, made / FILES[1])
    return out / FILES[0]


def markdown(results: list[tuple[str, dict[str, Any]]], names: list[str]) -> str:
    lines = [
        "# Single-object baselines: reported beside reproduced",
        "",
        "Numbers are of the last weights, so that nothing was chosen on the validation pictures. `document` is the one",
        "that the network comes from, `its accuracy` and `its IoU` are what it reports. `... its way` are our runs,",
        "computed as that document computes them (single_object/evaluate_baseline.py); `accuracy` and `mean IoU of the",
        "objects` are the right numbers of the same runs. Where it says `drawn`, our own drawn pictures stood in for",
        "the document's: such numbers tell whether a network learns, not whether it would reach the reported ones.",
        "",
        _row(_HEAD),
        _row(["---"] * len(_HEAD)),
        *(_row(cells(baselines.find(name), result)) for name, result in results),
    ]
    for name, result in _first_of_each_data(results):
        nothing, same = result["finds_nothing"], result.get("always_the_same")
        data = source(baselines.find(name), result)
        lines.append(_row(_reference(f"(finds nothing, {data})", nothing)))
        if same:
            lines.append(_row(_reference(f"(one answer for all, {data})", same)))
    missing = [name for name in names if name not in {n for n, _ in results}]
    if missing:
        lines += ["", f"No finished run: {', '.join(missing)}."]
    lines += [
        "",
        "Budgets of the documents: "
        + "; ".join(f"{name}: {baselines.find(name).budget}" for name in dict.fromkeys(n for n, _ in results))
        + ".",
    ]
    return "\n".join([*lines, ""])


def cells(baseline: baselines.Baseline, result: dict[str, Any]) -> list[str]:
    """One row of the table."""
    recipe = result["recipe"]
    size = "{1} x {0}".format(*result["size"]) if "size" in result else ""  # [height, width]
    trained = f"{source(baseline, result)}: {result['train_images']:,} images{f' of {size}' if size else ''}, "
    trained += f"{counted(result['epochs'], 'epoch')}, "
    trained += f"batch {recipe['batch']}, {recipe['optimizer']} {recipe['lr']:g}, {recipe['precision']}, "
    trained += f"{recipe['loss']}, seed {recipe['seed']}"
    if backbone := recipe["options"].get("backbone"):
        trained += f", on {backbone} from {result.get('first_weights', 'none')}"
    words = {
        "network": baseline.name,
        "parameters": f"{result['parameters']:,}",
        "trained on": trained,
        "document": baseline.document_number or "-",
        "its accuracy": _number(baseline.reported.get("accuracy")),
        "its IoU": _number(baseline.reported_iou),
        "time": f"{result['seconds']:.0f} s on {result['device']}",
    }
    return _cells(words, result["metrics"])


def source(baseline: baselines.Baseline, result: dict[str, Any]) -> str:
    """`shapes5, drawn`, or `dominant, from files`: never a path."""
    if drawn(result):
        return f"{result['recipe']['data']}, drawn"
    return f"{baseline.data}, from files"


def draw(results: list[tuple[str, dict[str, Any]]], path: Path) -> None:
    """Accuracy and IoU of each run: reported hollow, computed the document's way grey, right filled."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.6 + 0.34 * len(results)), layout="constrained")
    accuracy, iou = figure.subplots(1, 2, sharey=True)
    for place, (name, result) in enumerate(results):
        numbers, baseline = result["metrics"], baselines.find(name)
        _dots(accuracy, place, baseline.reported.get("accuracy"), numbers.get("document_accuracy"), numbers["accuracy"])
        _dots(iou, place, baseline.reported_iou, numbers.get("document_iou"), numbers["mean_iou"])
    accuracy.set_yticks(
        range(len(results)),
        [f"{name} ({r['folder']})" if name != r["folder"] else name for name, r in results],
        fontsize=8,
    )
    accuracy.invert_yaxis()
    for axes, title in ((accuracy, "accuracy"), (iou, "IoU")):
        axes.set_title(title, fontsize=10)
        axes.set_xlim(0, 1.02)
        axes.grid(axis="x", color="#dddddd")
        axes.spines[["top", "right"]].set_visible(False)
    for label, style in (
        ("reported", {"mfc": "none"}),
        ("here, computed the document's way", {"color": "#999999"}),
        ("here", {"color": PAGE_COLOURS[0]}),
    ):
        iou.plot([], [], "o", markeredgecolor=style.get("color", "#000000"), label=label, **style)
    figure.legend(*iou.get_legend_handles_labels(), loc="outside lower center", ncols=3, frameon=False, fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _dots(axes: Any, place: int, reported: float | None, document: float | None, right: float | None) -> None:
    values = [v for v in (reported, document, right) if v is not None]
    if len(values) > 1:
        axes.plot([min(values), max(values)], [place, place], color="#cccccc", zorder=1)
    for value, style in (
        (document, {"color": "#999999"}),
        (right, {"color": PAGE_COLOURS[0]}),
        (reported, {"facecolors": "none", "edgecolors": "#000000"}),
    ):
        axes.scatter([math.nan if value is None else value], [place], s=42, zorder=2, **style)


def _first_of_each_data(results: list[tuple[str, dict]]) -> list[tuple[str, dict]]:
    first: dict[str, tuple[str, dict]] = {}
    for name, result in results:
        first.setdefault(source(baselines.find(name), result), (name, result))
    return list(first.values())


def _reference(name: str, numbers: dict[str, Any]) -> list[str]:
    return _cells({"network": name, "parameters": "0"}, numbers)


def _cells(words: dict[str, str], numbers: dict[str, Any]) -> list[str]:
    """Cells under `_HEAD`: `words`, what was measured, and `-`."""
    measured = {
        "accuracy its way": numbers.get("document_accuracy"),
        "accuracy": numbers["accuracy"],
        "IoU its way": numbers.get("document_iou"),
        "mean IoU of the objects": numbers["mean_iou"],
        "AP50": numbers["AP50"],
    }
    all_words = {**words, **{title: _number(value) for title, value in measured.items()}}
    return [all_words.get(title, "-") for title in _HEAD]


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _row(parts: Any) -> str:
    return "| " + " | ".join(parts) + " |"
