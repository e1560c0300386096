"""Render the report page: gather numbers, figures and pictures of a run and fill the template."""

from __future__ import annotations

import base64
import csv
import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from label_tools.document import coco_file
from label_tools.files.marked_folders import check_whole, not_whole, written
from label_tools.files.strict_reading import loads
from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.metrics.coco_ap import KEYS
from toolkit.metrics.confusion_and_error_kinds import KINDS
from toolkit.report import evaluation_text, figures
from toolkit.report.how_made import made_rows
from toolkit.report.next_steps import Facts, next_steps
from toolkit.report.read_gallery import Pictures, read_pictures, tags
from toolkit.report.read_logs import Training, read_training
from toolkit.report.svg_charts import whisker
from toolkit.report.threshold_slider import threshold_data

TEMPLATES = Path(__file__).parent / "templates"
SECTIONS = (
    ("headline", "Summary"),
    ("next", "Do this next"),
    ("classes", "Classes"),
    ("errors", "Kinds of error"),
    ("galleries", "Pictures"),
    ("suspects", "Likely label errors"),
    ("threshold", "Score threshold"),
    ("curves", "Precision and recall"),
    ("calibration", "Calibration"),
    ("objects", "Objects"),
    ("anchors", "Anchors"),
    ("training", "Training"),
    ("made", "How it was made"),
)
CROPS = (
    (
        "missed",
        "Missed objects",
        "Labelled objects without a detection over the threshold, largest first. "
        "The chart of the kinds of error counts fewer: those without a detection at any score.",
    ),
    ("false", "False detections", "Detections over their threshold that are wrong, highest score first."),
)
SCRIPTS = ("sort.js", "gallery.js", "threshold.js")
ERROR_MEANING = {
    "class": "right place, wrong class",
    "localisation": "right class, box too far off (IoU 0.1 to 0.5)",
    "both": "wrong class and box too far off",
    "duplicate": "a second detection of an object that was already found",
    "background": "a detection where nothing is labelled",
    "missed": "an object that no detection finds at any score; the pictures of missed objects go by the thresholds, so "
    "there are more of them",
}


def style(pictures: Pictures | None = None) -> Markup:
    """The page's style, with the classes' colours as `frcnn draw` and `frcnn predict` have them."""
    colours = ":root { " + " ".join(f"--c{i}: {colour};" for i, colour in enumerate(PAGE_COLOURS)) + " }\n"
    of_classes = "".join(
        f".k{k} {{ color: {colour}; }}\n" for k, (_, colour) in enumerate(pictures.colours if pictures else ())
    )
    return Markup((TEMPLATES / "style.css").read_text(encoding="utf-8") + colours + of_classes)


def render(folder: Path, evaluations: dict[str, Path], split: str | None, place: Path) -> str:
    """The HTML of the page in `place`. evaluations: {split: folder with metrics.json}, the first or `split` in full.

    Raises InputError when the files hold what no run and no evaluation writes.
    """
    files = [path / "metrics.json" for path in evaluations.values()]
    with as_evaluated(files or [folder / "metrics.jsonl"]):
        return _render(folder, evaluations, split, place)


@contextmanager
def as_evaluated(files: Iterable[Path]) -> Iterator[None]:
    """Context for making a page of files of `frcnn evaluate`: unexpected content becomes an InputError."""
    try:
        yield
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        what = f"{type(error).__name__} {error}"
        where = ", ".join(map(str, files))
        raise InputError(f"{where}: not what frcnn writes ({what}); `frcnn evaluate` writes it again") from error


def environment() -> jinja2.Environment:
    """The templates, with what they call."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(TEMPLATES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.globals |= {name: call for name, call in vars(evaluation_text).items() if callable(call)}
    made.globals |= {"percent": lambda share: Markup(f"{100 * share:.0f}&thinsp;%"), "whisker": whisker, "tags": tags}
    return made


def scripts(names: Sequence[str]) -> dict[str, Any]:
    """The page's script, and its hash, without which the browser runs none."""
    script = "\n".join((TEMPLATES / name).read_text(encoding="utf-8") for name in names)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return {"script": Markup(script), "script_hash": digest}


def _render(folder: Path, evaluations: dict[str, Path], split: str | None, place: Path) -> str:
    training = read_training(folder)
    problems = list(training.problems)
    for where in evaluations.values():
        check_whole(where, "evaluation")
        names = (name for name in written(where, "evaluation") if not name.startswith("suspects/"))  # to be corrected
        problems += not_whole(where, "evaluation", names)
    loaded = _load_all(evaluations, problems)
    main = split if split in loaded else next(iter(loaded), None)
    metrics = loaded[main] if main is not None else None
    where = evaluations[main] if main is not None else folder
    relative = coco_file.relative(where, place)
    pictures = read_pictures(where, relative, problems) if metrics is not None else Pictures()
    page: dict[str, Any] = {
        "style": style(pictures),
        **scripts(SCRIPTS),
        "sections": SECTIONS,
        "title": _title(folder, metrics, training),
        "nothing": f"Nothing was evaluated yet. `frcnn evaluate {folder.as_posix()}` fills this section.",
        "again": f"frcnn report {folder.as_posix()}" + (f" --split {main}" if place != folder else ""),
        "metrics": metrics,
        "others": {name: one for name, one in loaded.items() if name != main},
        "training": training,
        "status": status_text(training),
        "few": evaluation_text.few(metrics) if metrics is not None else "",
        "losses": figures.losses(training),
        "ap_per_epoch": figures.ap_per_epoch(training),
        "learning_rate": figures.learning_rate(training),
        "made": made_rows(training, metrics, loaded),
        "number_files": [
            coco_file.relative(path / "metrics.json", place) for path in (evaluations[name] for name in loaded)
        ],
        "keys": KEYS,
        "meaning": evaluation_text.MEANING,
        "quote": evaluation_text.QUOTE,
        "error_meaning": ERROR_MEANING,
        "crop_texts": CROPS,
        "galleries": pictures,
        "problems": problems,
        "figures": {},
        "steps": [],
        "suspect_rows": [],
        "num_suspects": 0,
        "threshold_data": None,
        "store_command": "",
        "advise_command": "",
    }
    if main is not None and metrics is not None:
        page["figures"] = _figures(where, metrics, Path(relative), problems)
        page["steps"] = next_steps(_facts(folder, metrics, page["others"], training))
        page["threshold_data"] = threshold_data(where, metrics, problems)
        page["suspect_rows"] = _suspect_rows(where)
        page["num_suspects"] = metrics.get("suspects", 0)
        page["suspect_command"] = f"frcnn loop suspects {folder.as_posix()} --out suspects"
        if training.exists and main in ("val", "test"):
            chosen_on = "val" if "val" in evaluations or (folder / "val.json").is_file() else main
            page["store_command"] = f"frcnn evaluate {folder.as_posix()} --split {chosen_on} --thresholds"
        if training.exists:
            page["advise_command"] = _advise_command(folder, metrics, training)
    return environment().get_template("page.html.j2").render(page)


def first_step(folder: Path, evaluations: dict[str, Path], split: str) -> str:
    """First of the next steps on the page of an evaluation; "" for nothing."""
    loaded = _load_all(evaluations, [])
    if split not in loaded:
        return ""
    others = {name: metrics for name, metrics in loaded.items() if name != split}
    steps = next_steps(_facts(folder, loaded[split], others, read_training(folder)))
    return steps[0].what if steps else ""


def _load_all(evaluations: dict[str, Path], problems: list[str]) -> dict[str, dict]:
    found = {name: _load(path, problems) for name, path in evaluations.items()}
    return {name: metrics for name, metrics in found.items() if metrics is not None}


def _load(path: Path, problems: list[str]) -> dict | None:
    """metrics.json with classes and kinds in their own order again (the file has sorted keys)."""
    try:
        metrics = loads((path / "metrics.json").read_bytes(), f"{path.name}/metrics.json")
        order = metrics["confusion"]["classes"][:-1]
        numbers = [one for _, one in evaluation_text.sets(metrics)]
        for one in numbers:
            kinds = one["error_kinds"]["kinds"]
            one["error_kinds"]["kinds"] = {kind: kinds[kind] for kind in KINDS}
        for owner in (*numbers, metrics["objects"]):
            owner["per_class"] = {name: owner["per_class"][name] for name in order}
        return metrics
    except (OSError, ValueError, LookupError, TypeError, InputError) as error:
        problems.append(f"{path.name}/metrics.json cannot be read: {type(error).__name__} {error}")
        return None


def _title(folder: Path, metrics: dict | None, training: Training) -> str:
    source = (metrics or {}).get("source")
    if source and not training.exists:
        return f"{source['detections']} on {source['annotations']}"
    return folder.resolve().name


def status_text(training: Training) -> str:
    """A sentence when the run did not end by itself; else nothing."""
    status = training.run.get("status")
    if not training.exists or status == "finished":
        return ""
    done = counted(training.epochs[-1]["epoch"] if training.epochs else 0, "epoch")
    if training.live:
        return f"This run is still training; so far {done}. The numbers are those of when it was evaluated."
    what = {"stopped": "was stopped", "failed": "failed"}.get(str(status), "was cut off before it ended")
    return f"This run {what}, after {done}. What follows is what it left behind."


def _facts(folder: Path, metrics: dict, others: dict[str, dict], training: Training) -> Facts:
    """What `next_steps` looks at; files of the run that cannot be read are as if they were not there."""
    trained_on: dict[str, int] = {}
    with suppress(OSError, InputError, LookupError, TypeError, ValueError):
        train = loads((folder / "train.json").read_bytes(), "train.json")
        names = {category["id"]: str(category["name"]) for category in train["categories"]}
        trained_on = {name: 0 for name in names.values()} | Counter(
            names[a["category_id"]] for a in train["annotations"]
        )
    curve = None
    with suppress(OSError, InputError):
        curve = loads((folder.parent / "curve.json").read_bytes(), "curve.json")
    return Facts(metrics, others, training, folder.as_posix(), trained_on, curve if isinstance(curve, dict) else None)


def _advise_command(folder: Path, metrics: dict, training: Training) -> str:
    """`frcnn advise` of the run's training labels, as the network saw them."""
    layout = (metrics.get("anchors") or {}).get("layout", {})
    sizes = [f" --{k.replace('_', '-')} {layout[k]}" for k in ("image_size", "max_size") if layout.get(k)]
    return f"frcnn advise {folder.as_posix()}/train.json --model {training.run.get('model')}{''.join(sizes)}"


def _suspect_rows(folder: Path) -> list[tuple[str, str]]:
    """(file name, "3 no label, 1 loose box") of each picture with suspected label errors, most first."""
    by_image: dict[str, Counter] = {}
    with suppress(OSError, InputError, LookupError, TypeError, ValueError):
        for suspect in loads((folder / "suspects.json").read_bytes(), "suspects.json"):
            what = f"{suspect['kind']} {suspect['class_name']}"
            by_image.setdefault(str(suspect["file_name"]), Counter())[what] += 1
    order = sorted(by_image.items(), key=lambda pair: (-pair[1].total(), pair[0]))
    return [(name, ", ".join(f"{n} {what}" for what, n in found.most_common())) for name, found in order]


def _figures(folder: Path, metrics: dict, where: Path, problems: list[str]) -> dict:
    """{name: Figure}; a table that is missing leaves its figure out, one that cannot be read becomes a problem."""
    maker = figures.EvaluationFigures(folder, metrics, where)
    wanted = {
        "pr50": lambda: maker.precision_recall(0.5),
        "pr75": lambda: maker.precision_recall(0.75),
        "f1": lambda: maker.against_threshold("f1"),
        "precision": lambda: maker.against_threshold("precision"),
        "recall": lambda: maker.against_threshold("recall"),
        "ap_by_iou": maker.ap_by_iou if metrics.get("AP_by_iou") and metrics["AP"] is not None else None,
        "ious": maker.ious if metrics.get("histograms") else None,
        "scores": maker.scores if metrics.get("histograms") else None,
        "calibration": maker.calibration if metrics.get("calibration") else None,
        "confusion": maker.confusion,
        "counts": maker.counts if metrics.get("counts") else None,
        "error_kinds": maker.error_kinds if metrics["error_kinds"]["AP50"] is not None else None,
        "sizes": maker.sizes,
        "aspects": maker.aspects,
        "anchors": maker.anchors if metrics.get("anchors") else None,
    }
    made = {}
    for name, make in wanted.items():
        try:
            made[name] = make() if make else None
        except FileNotFoundError:
            made[name] = None
        except (OSError, csv.Error, ArithmeticError, LookupError, TypeError, ValueError) as error:
            problems.append(f"the numbers of the figure {name} cannot be read: {type(error).__name__} {error}")
            made[name] = None
    return made
