"""Cross-validation: every image is evaluated once, by a network that never saw it, and the folds are pooled.

Of K folds, fold i is evaluated, the next one chooses the best epoch and the score thresholds, and the others are
learned from. Choosing the epoch on the fold that is evaluated would flatter the result.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np

from label_tools.document import coco_file
from label_tools.files import marked_folders
from label_tools.files.write_json_csv import write_json
from label_tools.operations.split import split_file
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError, as_written
from toolkit import config as recipes
from toolkit.evaluation.compute_metrics import DEFAULTS, Settings, compute_metrics
from toolkit.evaluation.evaluate_run import evaluate_run
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.evaluation.read_detections import read_detections
from toolkit.experiments.jobs import Job, run_jobs
from toolkit.fine_tune import MAY_DIFFER, with_model
from toolkit.run import Run, train
from toolkit.training import run_folder

log = logging.getLogger(__name__)
LEAST_FOLDS = 3  # one to evaluate on, one to choose on, one to train on


def crossval(
    annotations: Path,
    out: Path,
    folds: int,
    *,
    image_root: Path | None = None,
    group_by: str | None = None,
    settings: Settings = DEFAULTS,
    jobs: int = 1,
    ray: str | None = None,
    **options: Any,
) -> dict:
    """Train a network per fold into out/foldN, pool what they detect, write the evaluation into `out`. -> metrics.

    jobs, ray: as `run_jobs` has them. options: those of `toolkit.run.train`; `seed` also deals the folds. Folds that
    are done are kept, so the same call again goes on where it was stopped; with other options it is refused. Raises
    what training raises.
    """
    seed = options.get("seed", 0)
    if folds < LEAST_FOLDS:
        raise InputError(
            f"--folds: found {folds}, needs {LEAST_FOLDS} or more: one to evaluate on, one to choose on, the rest"
        )
    marked_folders.claim(out, "cross-validation")
    options = with_model(options, recipe_file(options))  # one for all folds
    document = coco_file.read(annotations, sizes=sizes_below, images=image_root)
    keep_recipe(out, resolved(options, len(document["images"])))
    names = _write_folds(annotations, out / "labels", folds, seed, image_root, group_by)
    todo = [name for name in names if not (out / name / "test" / "metrics.json").is_file()]
    words = {name: {"run": out / name, "labels": out / "labels" / name, "options": options} for name in todo}
    run_jobs([Job(name, train_and_evaluate, words[name]) for name in todo], workers=jobs, ray=ray)
    rows, detections = [], []
    for i, name in enumerate(names):
        run = out / name
        rows.append({"fold": i + 1, **numbers_of(run / "test", "AP", "AP50", "AP75", "num_images", "num_objects")})
        detections += read_detections(run / "test" / "detections.json")
    evaluation = compute_metrics(document, detections, settings, document_name=str(annotations))
    evaluation.metrics["crossval"] = {"folds": rows, **_spread(rows)}
    evaluation.metrics["source"] = {"annotations": annotations.name, "detections": f"{folds} folds, pooled"}
    root = image_root or coco_file.image_root(document, annotations)
    write_evaluation(out, evaluation, root)
    return evaluation.metrics


def recipe_file(options: dict[str, Any]) -> dict[str, Any]:
    """The options of the recipe file that `options` names, or that it holds."""
    file = options.get("config")
    return recipes.read_file(Path(file)) if isinstance(file, (str, Path)) else dict(file or {})


def preset_of(options: dict[str, Any], num_images: int) -> str:
    """The preset that `options` name, or that of so many images."""
    preset = options.get("preset") or "auto"
    return recipes.preset_for(num_images) if preset == "auto" else preset


def resolved(options: dict[str, Any], num_images: int) -> recipes.Config:
    """The recipe of a training on `num_images` images."""
    given = {name: value for name, value in options.items() if name not in ("preset", "config")}
    return recipes.resolve(num_images, given, recipe_file(options), preset_of(options, num_images))


def keep_recipe(out: Path, config: recipes.Config) -> None:
    """Record the recipe of the trainings in `out`. InputError where those that are there have another: results of
    two recipes would be taken for one's."""
    path = out / "recipe.json"
    now = {name: value for name, value in recipes.flat(config).items() if name not in MAY_DIFFER | {"seed"}}
    if not path.is_file() or not [*out.glob("*/last"), *out.glob("*/*/metrics.json")]:
        write_json(path, now)
        return
    with as_written(path, "frcnn crossval"):
        then = dict(run_folder.read_json(path))
    for name, value in now.items():
        if then.get(name, value) != value:
            raise InputError(
                f"{out}: its trainings have {recipes.shown(name)} {recipes.value_text(then[name])}, found "
                f"{recipes.value_text(value)}; use another --name"
            )


def _write_folds(
    annotations: Path, labels: Path, folds: int, seed: int, image_root: Path | None, group_by: str | None
) -> list[str]:
    """labels/foldN/{train,val,test}.json; images that look alike stay in one fold. -> the folds' names."""
    names = [f"fold{i + 1}" for i in range(folds)]
    plan = {"annotations": annotations.resolve().as_posix(), "folds": folds, "seed": seed, "group_by": group_by}
    record = labels / "plan.json"
    if record.is_file():
        if run_folder.read_json(record) != plan:
            raise InputError(f"{labels.parent}: holds a cross-validation of other labels, folds or seed; use --name")
        return names
    with marked_folders.new_folder(labels) as made:
        split_file(
            annotations,
            fractions=dict.fromkeys(names, 1 / folds),
            seed=seed,
            group_by=group_by,
            duplicates="near",
            out=made / "parts",
            image_root=image_root,
        )
        parts = [coco_file.read(made / "parts" / f"{name}.json") for name in names]
        root = coco_file.image_root(parts[0], made / "parts" / "fold1.json")
        for i, name in enumerate(names):
            roles = {"test": [i], "val": [(i + 1) % folds]}
            roles["train"] = [j for j in range(folds) if j not in (i, (i + 1) % folds)]
            for role, members in roles.items():
                joined = _joined([parts[j] for j in members])
                coco_file.write(
                    coco_file.with_image_root(joined, root.resolve(), (made / name).resolve()),
                    made / name / f"{role}.json",
                )
        write_json(made / "plan.json", plan)
    return names


def _joined(parts: list[dict]) -> dict:
    """Parts of one document together again; their ids are still unique."""
    return {
        **parts[0],
        "images": sorted((i for part in parts for i in part["images"]), key=lambda i: i["id"]),
        "annotations": sorted((a for part in parts for a in part["annotations"]), key=lambda a: a["id"]),
    }


def train_and_evaluate(run: Path, labels: Path, options: dict[str, Any], split: str = "test") -> None:
    """A job: train on a folder of labels into `run`, or go on, until `split` is evaluated."""
    train_or_resume(run, labels, options)
    if not (run / split / "metrics.json").is_file():
        evaluate_run(run, split)


def train_or_resume(run: Path, labels: Path, options: dict[str, Any]) -> None:
    """Train on a folder of labels into `run`, or go on where it was stopped."""
    log.info(f"training {run}")
    training = logging.getLogger("toolkit.fine_tune")
    training.addFilter(_no_small_set)
    try:
        if (run / "last" / "checkpoint.json").is_file():
            Run(run).resume()
        else:
            run_folder.discard(run)
            train(labels, runs=run.parent, name=run.name, **options)
    except BaseException:
        log.warning(f"{run}: training did not end; the same command again goes on")
        raise
    finally:
        training.removeFilter(_no_small_set)


def _no_small_set(record: logging.LogRecord) -> bool:
    """A fold is small by nature, and the warning would advise this very command."""
    return "SMALL SET" not in record.getMessage()


def numbers_of(folder: Path, *keys: str) -> dict[str, float | None]:
    """These numbers of an evaluation's metrics.json. InputError where it holds something else."""
    path = folder / "metrics.json"
    metrics = run_folder.read_json(path)
    with as_written(path, "frcnn evaluate"):
        return {key: metrics[key] if metrics[key] is None else metrics[key] + 0 for key in keys}


def _spread(rows: list[dict]) -> dict:
    """Mean and sample standard deviation over the folds; None where no fold has a number."""
    result = {}
    for key in ("AP", "AP50", "AP75"):
        values = [row[key] for row in rows if row[key] is not None]
        result[f"{key}_mean"] = float(np.mean(values)) if values else None
        result[f"{key}_sd"] = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return result
