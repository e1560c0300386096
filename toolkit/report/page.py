"""What the page says: gathers numbers, figures and pictures of a run and fills the template."""

from __future__ import annotations

import base64
import csv
import hashlib
import math
import os
from pathlib import Path
from typing import Any

from markupsafe import Markup

from label_tools.pictures.palette import PAGE_COLOURS
from label_tools.text.errors import InputError
from label_tools.text.own_folders import check_whole, not_whole, written
from label_tools.text.strict_json import loads
from toolkit.metrics.error_kinds import KINDS
from toolkit.metrics.small_set import few
from toolkit.report import figures, tables
from toolkit.report.charts import whisker
from toolkit.report.run_logs import Training, read_training

HERE = Path(__file__).parent
GALLERIES = (
    ("best", "Best images", "Images with the highest F1, those with the most objects first."),
    ("worst", "Worst images", "Images with the lowest F1."),
    (
        "missed",
        "Missed objects",
        "Labelled objects that no detection over its threshold found, largest first. "
        "Kinds of error counts as missed only those of them that no score finds.",
    ),
    ("false", "False detections", "Detections over their threshold that are wrong, highest score first."),
)
ERROR_MEANING = {
    "class": "right place, wrong class",
    "localisation": "right class, box too far off (IoU 0.1 to 0.5)",
    "both": "wrong class and box too far off",
    "duplicate": "a second detection of an object that was already found",
    "background": "a detection where nothing is labelled",
    "missed": "an object that no detection found at any score, not even with a wrong class or a box too far off "
    "(the pictures of missed objects go by the thresholds and show more)",
}


def _palette() -> str:
    """The classes' colours, as `frcnn draw` and `frcnn predict` have them."""
    return ":root { " + " ".join(f"--c{i}: {colour};" for i, colour in enumerate(PAGE_COLOURS)) + " }\n"


def render(folder: Path, evaluations: dict[str, Path], split: str | None, place: Path) -> str:
    """The HTML of the page in `place`. evaluations: {split: folder with metrics.json}, the first or `split` in full.

    Raises InputError when the files hold what no run and no evaluation writes.
    """
    import jinja2

    try:
        return _render(folder, evaluations, split, place)
    except (jinja2.TemplateError, ArithmeticError, LookupError, TypeError, ValueError, AttributeError) as error:
        files = ", ".join(f"{path}/metrics.json" for path in evaluations.values()) or f"{folder}/metrics.jsonl"
        what = f"{type(error).__name__} {error}"
        raise InputError(f"{files}: not what frcnn writes ({what}); `frcnn evaluate` writes it again") from error


def _render(folder: Path, evaluations: dict[str, Path], split: str | None, place: Path) -> str:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals.update(
        number=tables.number,
        objects_of=tables.objects_of,
        interval=tables.interval,
        sets=tables.sets,
        with_interval=tables.with_interval,
        mean_and_sd=tables.mean_and_sd,
        whisker=whisker,
        tags=tags,
    )
    training = read_training(folder)
    problems = list(training.problems)
    for where in evaluations.values():
        check_whole(where, "evaluation")
        names = (name for name in written(where, "evaluation") if not name.startswith("suspects/"))  # to be corrected
        problems += not_whole(where, "evaluation", names)
    found = {name: _load(path, problems) for name, path in evaluations.items()}
    loaded = {name: metrics for name, metrics in found.items() if metrics is not None}
    main = split if split in loaded else next(iter(loaded), None)
    metrics = loaded[main] if main is not None else None
    script = (HERE / "sort.js").read_text(encoding="utf-8")
    page: dict[str, Any] = {
        "style": Markup((HERE / "style.css").read_text(encoding="utf-8") + _palette()),
        "script": Markup(script),
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "title": _title(folder, metrics, training),
        "folder": folder.as_posix(),
        "again": f"frcnn report {folder.as_posix()}" + (f" --split {main}" if place != folder else ""),
        "metrics": metrics,
        "others": {name: one for name, one in loaded.items() if name != main},
        "training": training,
        "status": _status(training),
        "few": few(metrics) if metrics is not None else "",
        "losses": figures.losses(training),
        "ap_per_epoch": figures.ap_per_epoch(training),
        "learning_rate": figures.learning_rate(training),
        "made": _made(training, metrics, loaded),
        "number_files": [
            (Path(os.path.relpath(path, place)) / "metrics.json").as_posix()
            for path in (evaluations[name] for name in loaded)
        ],
        "keys": tables.KEYS,
        "meaning": tables.MEANING,
        "quote": tables.QUOTE,
        "error_meaning": ERROR_MEANING,
        "problems": problems,
        "figures": {},
        "galleries": [],
        "suspects": [],
        "gallery_note": "",
        "num_suspects": 0,
    }
    if main is not None and metrics is not None:
        where = evaluations[main]
        relative = Path(os.path.relpath(where, place))
        page["figures"] = _figures(where, metrics, relative, problems)
        gallery = _gallery(where, problems)
        page["galleries"] = [(name, title, text, gallery["galleries"].get(name, [])) for name, title, text in GALLERIES]
        page["suspects"] = gallery["galleries"].get("suspects", [])
        page["gallery_note"] = gallery["note"]
        page["num_suspects"] = metrics.get("suspects", 0)
        page["suspect_folder"] = (relative / "suspects").as_posix()
    return environment.get_template("template.html.j2").render(page)


def _load(path: Path, problems: list[str]) -> dict | None:
    """metrics.json with classes and kinds in their own order again (the file has sorted keys)."""
    try:
        metrics = loads((path / "metrics.json").read_bytes(), f"{path.name}/metrics.json")
        order = metrics["confusion"]["classes"][:-1]
        numbers = [one for _, one in tables.sets(metrics)]
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


def _status(training: Training) -> str:
    """A sentence when the run did not end by itself; else nothing."""
    status = training.run.get("status")
    if not training.exists or status == "finished":
        return ""
    last = training.epochs[-1]["epoch"] if training.epochs else 0
    what = {"stopped": "was stopped", "failed": "failed"}.get(str(status), "has not ended or was cut off")
    return f"This run {what}; {last} epochs are complete. What follows is what it left behind."


def _figures(folder: Path, metrics: dict, where: Path, problems: list[str]) -> dict:
    """{name: Figure}; a table that is missing leaves its figure out, one that cannot be read becomes a problem."""
    maker = figures.EvaluationFigures(folder, metrics, where)
    wanted = {
        "pr50": lambda: maker.precision_recall(0.5),
        "pr75": lambda: maker.precision_recall(0.75),
        "f1": lambda: maker.against_threshold("f1"),
        "precision": lambda: maker.against_threshold("precision"),
        "recall": lambda: maker.against_threshold("recall"),
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


def _gallery(folder: Path, problems: list[str]) -> dict:
    """gallery.json with each picture's bytes as `address`; entries that are not as written become a problem."""
    path, odd = folder / "gallery.json", 0
    galleries: dict[str, list[dict]] = {}
    try:
        content = loads(path.read_bytes(), path.name)
        note, found = str(content["note"]), dict(content["galleries"])
    except (OSError, LookupError, TypeError, ValueError, InputError) as error:
        problems.append(f"gallery.json cannot be read: {error}")
        return {"galleries": {}, "note": ""}
    for name, items in found.items():
        galleries[name] = []
        for item in items if isinstance(items, list) else [{}]:
            try:
                checked = _item(item, needs_kind=name == "suspects")
                picture = (folder / "pictures" / Path(item["file"]).name).read_bytes()
            except (LookupError, TypeError, ValueError):
                odd += 1
            except OSError:
                continue
            else:
                checked["address"] = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
                galleries[name].append(checked)
    if odd:
        problems.append(f"gallery.json: {odd} entries are not as frcnn wrote them, and are left out")
    return {"galleries": galleries, "note": note}


def _item(item: dict, *, needs_kind: bool) -> dict:
    """An entry of gallery.json with numbers where there must be some. Raises LookupError, TypeError or ValueError."""
    found: dict = {key: str(item[key]) for key in ("title", "file_name", *(("kind",) if needs_kind else ()))}
    if needs_kind:
        found["suspicion"] = float(item["suspicion"])
    texts = ("kind", "text", "hint")
    found["boxes"] = [{"bbox": _four(b["bbox"]), **{key: str(b[key]) for key in texts}} for b in item["boxes"]]
    found["view"] = _four(item["view"])
    if min(found["view"][2:]) <= 0:
        raise ValueError
    return found


def _four(values: list) -> list[float]:
    x, y, w, h = (float(value) for value in values)
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError
    return [x, y, w, h]


def tags(item: dict, width: int) -> list[dict]:
    """Texts of a picture's boxes where they fit without covering one another: {"kind", "text", "x", "y", "size"}; the
    others keep their hint on hover. width: about how wide the page shows the picture."""
    x, y, w, h = item["view"]
    size = 12.5 * w / width  # the same size on the page, whatever part of the image is shown
    placed: list[tuple[float, float, float]] = []  # left, right, baseline
    drawn = []
    for box in item["boxes"]:
        bx, by, bw, bh = box["bbox"]
        if not box["text"] or not (x <= bx + bw / 2 <= x + w and y <= by + bh / 2 <= y + h):
            continue
        wide = 0.66 * size * len(box["text"])
        left = max(min(bx, x + w - wide), x + 0.2 * size)
        above, below = by - 0.35 * size, by + bh + size
        # labels below, detections above: where both sit on one object they do not meet
        for base in (below, above) if box["kind"] == "missed" else (above, below):
            base = min(max(base, y + size), y + h - 0.3 * size)
            if all(left > end or left + wide < start or abs(base - b) > 1.05 * size for start, end, b in placed):
                placed.append((left, left + wide, base))
                drawn.append({"kind": box["kind"], "text": box["text"], "x": left, "y": base, "size": size})
                break
    return drawn


def _made(training: Training, metrics: dict | None, loaded: dict[str, dict]) -> list[tuple[str, str]]:
    """(what, value) of how the run and its evaluation were made."""
    run, rows = training.run, []

    def add(name: str, value: object) -> None:
        if value not in (None, "", [], {}):
            rows.append((name, str(value)))

    add("command", run.get("command"))
    add("model", run.get("model"))
    add("status", run.get("status"))
    add("started", run.get("started"))
    add("time", _duration(run.get("seconds")))
    add("device", run.get("device"))
    add("seed", run.get("seed"))
    classes = run.get("classes")
    add("classes", ", ".join(map(str, classes)) if isinstance(classes, list) else None)
    images = run.get("num_images")
    if isinstance(images, dict):
        more = {"test": loaded["test"]["num_images"]} if "test" in loaded else {}
        images = ", ".join(f"{k} {v}" for k, v in {**images, **more}.items())
    add("images", images)
    add("data fingerprint", run.get("data_fingerprint"))
    versions = run.get("versions")
    add("versions", ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else None)
    if metrics is not None:
        add("checkpoint", _checkpoint(metrics.get("checkpoint")))
        source = metrics.get("source")
        if source:
            add("labels", source["annotations"])
            add("detections", source["detections"])
        settings = metrics["settings"]
        add(
            "evaluated on",
            f"{metrics['num_images']} images, {metrics['num_objects']} objects, {metrics['num_detections']} detections",
        )
        floor = settings.get("score_floor", settings["lowest_score"])
        add(
            "score floor",
            f"{floor:.3f}: detections under it were never made, so recall ends there" if floor is not None else None,
        )
        add("detections per class and image", f"at most {settings['max_detections']} (COCO's maxDets)")
        add(
            "areas",
            "small under 32 x 32, large over 96 x 96 pixels of the original image; the annotation's own "
            "area where it has one, else the box's",
        )
        add(
            "thresholds",
            "chosen "
            + (
                "before, on other images"
                if settings["thresholds_from"] == "elsewhere"
                else "on these images, so precision and recall at them flatter a little"
            )
            + (
                ": middle of those with a high F1"
                if settings["precision"] is None
                else f": precision {settings['precision']:.2f}"
            ),
        )
        intervals = metrics.get("intervals")
        if intervals:
            add(
                "intervals",
                f"95 %, half samples of the images, {intervals['resamples']} resamples, seed {intervals['seed']}",
            )
    return rows


def _checkpoint(found: dict | None) -> str | None:
    if not found:
        return None
    return f"{found.get('folder')}, epoch {found.get('epoch')}, step {found.get('step')}"


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
