"""Several runs on one page: their numbers, tests against the first, classes, curves and where their recipes differ."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from label_tools.files.atomic_write import atomic_write, refuse_link
from label_tools.text.errors import InputError
from toolkit import config
from toolkit.report import evaluation_text, figures
from toolkit.report.page import as_evaluated, environment, scripts, status_text, style
from toolkit.report.read_gallery import Pictures
from toolkit.report.read_logs import Training, read_training
from toolkit.report.write_report import SPLITS, evaluations_of, is_page, read_metrics

SECTIONS = (
    ("runs", "Runs side by side"),
    ("paired", "Compared with the first"),
    ("each_class", "AP by class"),
    ("epochs", "Training, and where the recipes differ"),
)


@dataclass
class Side:
    """A run on the page. place: the folder of its evaluation; unlike: why it cannot be compared with the first run;
    compare: its comparison with the first, where it can."""

    name: str
    place: Path
    metrics: dict
    training: Training
    recipe: dict | None
    unlike: str = ""
    compare: dict = field(default_factory=dict)


def write_side_by_side(
    folders: Sequence[Path],
    out: Path,
    split: str | None = None,
    *,
    unlike: Callable[[Path, Path], str],
    difference: Callable[[Path, Path], dict],
) -> Path:
    """Write the page of several runs to the file `out`. -> its path. InputError before anything is written.

    split: of every run; by default the first that all have, test before val, else each run's own. unlike, difference:
    of two evaluations' folders, `different_images` and `difference` of toolkit.evaluation.compare_runs_tiles_tta.
    """
    _check_out(out)
    sides = _sides(folders, split)
    first = sides[0]
    with as_evaluated(side.place / "metrics.json" for side in sides):
        for side in sides[1:]:
            side.unlike = unlike(first.place, side.place)
            if not side.unlike:
                side.compare = {**difference(first.place, side.place), "a": first.name, "name": side.name}
        html = _render(sides)
    with atomic_write(out) as file:
        file.write(html.encode())
    return out


def _check_out(out: Path) -> None:
    """Refuse to replace anything but an earlier page of several runs."""
    refuse_link(out)
    if out.is_dir():
        raise InputError(f"--out {out}: is a folder; needs a file, such as compare.html")
    if out.exists() and not (is_page(out) and b'<section id="runs"' in out.read_bytes()):
        raise InputError(f"--out {out}: exists, and is no page of several runs; needs another name")


def _sides(folders: Sequence[Path], split: str | None) -> list[Side]:
    places = {}
    for folder in folders:
        if folder.resolve() in places:
            raise InputError(f"{folder}: is given twice; needs different runs")
        places[folder.resolve()] = found = evaluations_of(folder)
        if not found or (split and split not in found and "" not in found):
            read_metrics(folder, split)  # which says what is missing
    common = split or next((one for one in SPLITS if all(one in found for found in places.values())), None)
    names = [folder.name for folder in places]
    sides = []
    for folder, (whole, found) in zip(folders, places.items()):
        place = found[common if common in found else next(iter(found))]
        metrics = read_metrics(place)
        name = whole.name if names.count(whole.name) == 1 else folder.as_posix()
        training, recipe = read_training(folder), None
        try:
            recipe = config.read_file(folder / "config.yaml") if training.config else None
        except InputError as error:  # of an older version, or edited
            training.problems.append(str(error))
        sides.append(Side(name, place, metrics, training, recipe))
    if len({side.place.resolve() for side in sides}) < len(sides):
        raise InputError(f"{', '.join(map(str, folders))}: one evaluation is given twice; needs different runs")
    return sides


def _render(sides: list[Side]) -> str:
    templates = environment()
    templates.globals.update(pick=_pick)
    return templates.get_template("page.html.j2").render(
        style=style(),
        **scripts(("sort.js",)),
        sections=SECTIONS,
        title="Runs side by side",
        galleries=Pictures(),
        threshold_data=None,
        sides=sides,
        unlike=[side for side in sides if side.unlike],
        notes=[
            f"{side.name}: {text}"
            for side in sides
            for text in (status_text(side.training), *side.training.problems)
            if text
        ],
        on_val=any(side.metrics.get("split") == "val" for side in sides),
        kinds=list(dict.fromkeys(heading for side in sides for heading, _ in evaluation_text.sets(side.metrics))),
        classes=list(dict.fromkeys(name for side in sides for name in side.metrics["confusion"]["classes"][:-1])),
        figure=figures.ap_of_runs({side.name: side.training for side in sides}),
        options=_options(sides),
        without_recipe=[side.name for side in sides if side.recipe is None],
    )


def _pick(metrics: dict, kind: str) -> dict | None:
    """The numbers by boxes or by masks; those of a run without masks are by boxes."""
    return metrics.get("segm") if kind == "by masks" else metrics


def _options(sides: list[Side]) -> list[list[str]]:
    """[option, value in each run] of the options that differ; an option that a recipe leaves out has its default."""
    defaults = {name: option.default for name, (_, option) in config.fields().items()}
    recipes = [None if side.recipe is None else {**defaults, **side.recipe} for side in sides]
    rows = []
    for name in dict.fromkeys(name for recipe in recipes if recipe for name in recipe):
        values = ["" if recipe is None else config.value_text(recipe.get(name)) for recipe in recipes]
        if len({value for value, recipe in zip(values, recipes) if recipe is not None}) > 1:
            rows.append([name, *values])
    return rows
