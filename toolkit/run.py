"""The Python API: `train` makes a run, `Run` is a run folder to evaluate, report, compare, resume and predict with."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit import checkpoint, fine_tune
from toolkit import config as recipes
from toolkit.evaluation.compare_runs_tiles_tta import compare_with
from toolkit.evaluation.compute_metrics import Settings
from toolkit.evaluation.evaluate_run import evaluate_run, name_of_split
from toolkit.prediction.detections import Detections
from toolkit.prediction.detector import over, thresholds_of
from toolkit.prediction.picture_sources import find_images, open_picture
from toolkit.prediction.torch_detector import TorchDetector
from toolkit.report.notebook import run_html
from toolkit.report.write_report import read_metrics, write_report
from toolkit.training import run_folder
from toolkit.training.progress import bar

Place = str | os.PathLike
Picture = Place | Image.Image | np.ndarray


def train(
    data: Place,
    *,
    val: Place | None = None,
    test: Place | None = None,
    images: Place | None = None,
    name: str = "train",
    runs: Place = "runs",
    config: Place | Mapping[str, Any] | None = None,
    preset: str = "auto",
    report: bool = True,
    **options: Any,
) -> Run:
    """Fine-tune a detector in a new folder runs/name, evaluate it and write its report: `frcnn train` from Python.

    data: folder with train.json and val.json, or a COCO file (then with `val`). images: folder that file names start
    from. config: a recipe file, or its options. options: any field of `toolkit.config.Config` by name, such as
    `model="fasterrcnn_tiny_fpn", epochs=24`. Raises InputError for bad input, with nothing left behind.
    """
    asked = {key: value for key, value in locals().items() if key not in ("data", "options") and value is not None}
    usual = {"name": "train", "runs": "runs", "preset": "auto", "report": True}
    named = {key: value for key, value in {**asked, **options}.items() if usual.get(key) != value}
    words = [_shown(data), *(f"{key}={_shown(value)}" for key, value in named.items())]
    if isinstance(config, Mapping):
        file = _checked(config, "config")
    else:
        file = recipes.read_file(Path(config)) if config is not None else {}
    folder = fine_tune.start(
        _source(data, val, test, images),
        fine_tune.Recipe(_checked(options, "train"), file, preset),
        Path(runs),
        name,
        command=f"train({', '.join(words)})",
        report=report,
    )
    return Run(folder)


class Run:
    """A run folder, such as runs/train. InputError when it is none."""

    def __init__(self, folder: Place) -> None:
        self.folder = Path(folder)
        run_folder.check(self.folder)
        self._loaded: tuple[Any, TorchDetector] | None = None

    def __repr__(self) -> str:
        return f"Run({str(self.folder)!r})"

    @property
    def config(self) -> recipes.Config:
        """The recipe that it was trained with."""
        return recipes.from_flat(recipes.read_file(self.folder / run_folder.CONFIG))

    @property
    def classes(self) -> list[str]:
        """Names in the order of the labels 1..K."""
        return [c["name"] for c in checkpoint.read_meta(checkpoint.find(self.folder))["classes"]]

    def metrics(self, split: str | None = None) -> dict[str, Any]:
        """The numbers of the last evaluation of a split (default: test, else val) as `evaluate` gave them."""
        return read_metrics(self.folder, split)

    def evaluate(
        self,
        split: str | None = None,
        *,
        data: Place | None = None,
        images: Place | None = None,
        device: str = "auto",
        batch_size: int = 4,
        **settings: Any,
    ) -> dict[str, Any]:
        """Evaluate the best checkpoint on a split and write its numbers into the run. -> {"AP", "AP50", ...}.

        split: val, test or train; default test where there is one, else val. data: another COCO file. settings: fields
        of `toolkit.evaluation.compute_metrics.Settings`: iou, resamples, seed, precision, confident.
        """
        shown: list[Any] = []

        def each(done: int, total: int) -> None:
            if not shown:
                shown.append(bar(total, "detecting"))
            shown[0].update(done - shown[0].n)

        try:
            return evaluate_run(
                self.folder,
                split,
                data=_path(data),
                image_root=_path(images),
                settings=_settings(settings),
                device=device,
                batch_size=batch_size,
                each=each,
            )
        finally:
            for one in shown:
                one.close()

    def compare(self, other: Run | Place, split: str | None = None, *, device: str = "auto", **settings: Any) -> dict:
        """Is `other` (a run, or a file of COCO results) better on the same images? By a paired bootstrap.

        -> {"AP": {"a", "b", "difference", "interval", "p", "verdict"}, "AP50", "AP75", ...}; a is this run. Evaluates
        this run first where its numbers are not those of its best checkpoint.
        """
        split = split or name_of_split(self.folder)
        if not self._is_evaluated(split):
            self.evaluate(split, device=device, **settings)
        place = other.folder if isinstance(other, Run) else Path(other)
        return compare_with(self.folder / split, place, _settings(settings), device=device)["compare"]

    def _is_evaluated(self, split: str) -> bool:
        try:
            found = read_metrics(self.folder, split).get("checkpoint") or {}
        except InputError:
            return False
        best = checkpoint.read_meta(checkpoint.find(self.folder))
        return all(found.get(key) == best.get(key) for key in ("epoch", "step", "data_fingerprint"))

    def report(self, split: str | None = None) -> Path:
        """Write report.html from the files of the run. -> its path."""
        return write_report(self.folder, split)

    def resume(
        self,
        *,
        data: Place | None = None,
        val: Place | None = None,
        test: Place | None = None,
        images: Place | None = None,
        allow_data_change: bool = False,
        report: bool = True,
        **options: Any,
    ) -> Run:
        """Go on with an interrupted run; one that has finished is left as it is. -> this run.

        data, val, test, images: labels that moved or changed. options: those that may change in a run, such as
        `device` and `max_time`.
        """
        moved = any(given is not None for given in (data, val, test, images))
        source = _source(self.folder if data is None else data, val, test, images) if moved else None
        options = _checked(options, "resume")
        fine_tune.resume(self.folder, options, source, allow_data_change=allow_data_change, report=report)
        return self

    def predict(
        self, pictures: Picture | Sequence[Picture], *, score: float | None = None, device: str = "auto"
    ) -> Detections | list[Detections]:
        """Detect objects in a picture: a path, a PIL image or an array [H,W,3] uint8 RGB. -> Detections.

        A list of these, or a folder of pictures, gives a list. score: show detections from this score; default the
        threshold of each class that validation chose.
        """
        if score is not None and not 0 <= score <= 1:
            raise InputError(f"score: found {score}, needs 0 to 1")
        if isinstance(pictures, (str, os.PathLike)) and Path(pictures).is_dir():
            pictures = [path for path, _ in find_images([Path(pictures)])]
        many = isinstance(pictures, (list, tuple))
        wanted: Sequence[Any] = pictures if isinstance(pictures, (list, tuple)) else [pictures]
        predictor = self._predictor(device)
        thresholds = thresholds_of(predictor, score)
        found = []
        for one in wanted:
            source, picture = open_picture(one, predictor.opening)
            results = over(predictor.detect([np.asarray(picture)])[0], thresholds)
            found.append(Detections.of(results, predictor.categories, source))
        return found if many else found[0]

    def _predictor(self, device: str) -> TorchDetector:
        """The best checkpoint on a device, loaded again when it has changed."""
        key = (checkpoint.read_meta(checkpoint.find(self.folder)).get("seal"), device)
        if self._loaded is None or self._loaded[0] != key:
            self._loaded = (key, TorchDetector(self.folder, device))
        return self._loaded[1]

    def _repr_html_(self) -> str:
        return run_html(self.folder)


def _shown(value: Any) -> str:
    return repr(str(value) if isinstance(value, os.PathLike) else value)


def _path(place: Place | None) -> Path | None:
    return None if place is None else Path(place)


def _source(data: Place, *others: Place | None) -> fine_tune.Source:
    return fine_tune.Source(Path(data), *map(_path, others))


def _checked(options: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options of a recipe, each by name and type."""
    plain = {name: str(value) if isinstance(value, os.PathLike) else value for name, value in options.items()}
    return {name: recipes.checked(name, value, where) for name, value in plain.items()}


def _settings(given: dict[str, Any]) -> Settings:
    known = [field.name for field in dataclasses.fields(Settings)]
    for name in given:
        if name not in known:
            raise InputError(unknown("option", name, known))
    return Settings(**given)
