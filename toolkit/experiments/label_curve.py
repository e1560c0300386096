"""AP against the number of labelled images: train on nested parts of the labels; would more labels help?"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jinja2
import numpy as np

from label_tools.document import coco_file
from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.write_json_csv import write_csv, write_json
from label_tools.pictures.open_image import sizes_below
from label_tools.text.errors import InputError
from toolkit.experiments.crossval import (
    keep_recipe,
    numbers_of,
    preset_of,
    recipe_file,
    resolved,
    train_and_evaluate,
)
from toolkit.experiments.jobs import Job, run_jobs
from toolkit.fine_tune import with_model
from toolkit.metrics.label_curve_fit import learning_curve
from toolkit.report.figures import label_curve_figure
from toolkit.report.page import TEMPLATES, style
from toolkit.training import run_folder


def label_curve(
    data: Path,
    out: Path,
    fractions: list[float],
    seeds: list[int],
    *,
    image_root: Path | None = None,
    jobs: int = 1,
    ray: str | None = None,
    **options: Any,
) -> dict:
    """Train on each fraction of data/train.json with each seed, evaluate on the same split, fit. -> curve.json.

    A part of a seed is contained in its larger parts. Every training has the recipe and the number of steps of the one
    on all images, in more epochs of fewer images. Evaluated on data/test.json where there is one, else on val.json.
    Trainings that are done are kept. jobs, ray: as `jobs.run_jobs` has them. options: those of `toolkit.run.train`,
    seed aside.
    """
    for fraction in fractions:
        if not 0 < fraction <= 1:
            raise InputError(f"--fractions: found {fraction:g}, needs shares over 0 and at most 1")
    check_parts(data)
    marked_folders.claim(out, "curve")
    options = with_model(options, recipe_file(options))  # one for all trainings
    document = coco_file.read(data / "train.json", sizes=sizes_below, images=image_root)
    root = image_root or coco_file.image_root(document, data / "train.json")
    split = "test" if (data / "test.json").is_file() else "val"
    total = len(document["images"])
    keep_recipe(out, resolved(options, total))
    plan = {"steps": equal_steps(document, options, total)[1]}
    if (out / "plan.json").is_file() and run_folder.read_json(out / "plan.json") != plan:
        raise InputError(f"{out}: holds trainings of another length; use another --name")
    write_json(out / "plan.json", plan)
    todo, planned = [], []
    for seed, fraction in ((seed, fraction) for seed in seeds for fraction in sorted(set(fractions))):
        name = f"labels-{100 * fraction:g}-seed-{seed}"
        part = part_of(document, fraction, seed)
        sizes = {"num_images": len(part["images"]), "num_objects": len(part["annotations"])}
        planned.append((name, {"fraction": fraction, "seed": seed, **sizes}))
        if not (out / name / split / "metrics.json").is_file():
            labels = _write_part(out / "labels" / name, part, data, root, image_root)
            equal, _ = equal_steps(document, options, len(part["images"]))
            words = {"run": out / name, "labels": labels, "options": {**equal, "seed": seed}, "split": split}
            todo.append(Job(name, train_and_evaluate, words))
    run_jobs(todo, workers=jobs, ray=ray)
    points = [{**about, **numbers_of(out / name / split, "AP", "AP50"), "run": name} for name, about in planned]
    defined = [p for p in points if p["AP"] is not None]
    result = {"points": points, "split": split, **plan, "fit": learning_curve(defined)}
    with marked_folders.together(out, "curve") as made:
        write_json(made / "curve.json", result)
        write_csv(made / "curve.csv", list(points[0]), [p.values() for p in points])
        write_page(made, result)
    return result


def check_parts(data: Path) -> None:
    """Refuse a folder without both parts: val chooses the epoch of each training."""
    for name in ("train", "val"):
        if not (data / f"{name}.json").is_file():
            raise InputError(f"{data}: holds no {name}.json; `frcnn split` makes one")


def equal_steps(document: dict, options: dict[str, Any], num_images: int) -> tuple[dict[str, Any], int]:
    """-> (options for a training on `num_images` of the images, steps of the training on all).

    The recipe is the one that all images get, its epochs and `eval_every` stretched until a part takes as many steps
    (to half an epoch)."""
    total = len(document["images"])
    config = resolved(options, total)
    full, part = (-(-number // config.data.batch_size) for number in (total, num_images))
    steps = config.schedule.epochs * full
    epochs = max(1, round(steps / part))
    every = max(1, round(config.schedule.eval_every * full / part))
    return {**options, "preset": preset_of(options, total), "epochs": epochs, "eval_every": min(every, epochs)}, steps


def part_of(document: dict, fraction: float, seed: int) -> dict:
    """The first `fraction` of the images in an order drawn from `seed`, with at least one object when there is one.

    Images that hold the rarest classes are spread first, so that a small part misses as few classes as it can.
    """
    rng = np.random.default_rng(seed)
    images = [document["images"][i] for i in rng.permutation(len(document["images"]))]
    classes: dict[int, set] = {}
    for annotation in document["annotations"]:
        classes.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    seen: set = set()
    first: list[dict] = []
    rest: list[dict] = []
    for image in images:
        new = classes.get(image["id"], set()) - seen
        (first if new else rest).append(image)
        seen |= new
    chosen = [*first, *rest][: max(1, round(fraction * len(images)))]
    ids = {image["id"] for image in chosen}
    return {
        **document,
        "images": sorted(chosen, key=lambda i: i["id"]),
        "annotations": [a for a in document["annotations"] if a["image_id"] in ids],
    }


def _write_part(labels: Path, part: dict, data: Path, root: Path, image_root: Path | None) -> Path:
    """A folder of labels with `part` as train.json; -> the folder."""
    coco_file.write(coco_file.with_image_root(part, root.resolve(), labels.resolve()), labels / "train.json")
    for file in (data / "val.json", data / "test.json"):
        if file.is_file():
            document = coco_file.read(file, sizes=sizes_below, images=image_root)
            where = image_root or coco_file.image_root(document, file)
            coco_file.write(coco_file.with_image_root(document, where.resolve(), labels.resolve()), labels / file.name)
    return labels


def write_page(out: Path, result: dict) -> Path:
    """curve.html: the figure, the table and the answer, in the report's style. -> its path."""
    environment = jinja2.Environment(loader=jinja2.FileSystemLoader(TEMPLATES), autoescape=True)
    html = environment.get_template("curve.html.j2").render(
        result=result, figure=label_curve_figure(result), style=style()
    )
    with atomic_write(out / "curve.html") as file:
        file.write(html.encode())
    return out / "curve.html"
