"""Compute the metrics of detections against labels, thresholds and error analysis; no files are read or written."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from label_tools.document.repair_images_and_categories import Size
from label_tools.text.errors import InputError
from label_tools.text.messages import unknown
from toolkit.evaluation.match_ids_and_names import numbering_hint
from toolkit.evaluation.read_detections import any_size, read
from toolkit.metrics import guaranteed_thresholds as guarantees
from toolkit.metrics import threshold_curves
from toolkit.metrics.calibration_and_histograms import calibration, histograms
from toolkit.metrics.coco_ap import summary
from toolkit.metrics.coco_tables import MAX_DETECTIONS, Tables, read_tables, tables_by_masks
from toolkit.metrics.confusion_and_error_kinds import confusion, error_kinds
from toolkit.metrics.find_suspects import Suspect, by_kind, suspects
from toolkit.metrics.intervals import intervals
from toolkit.metrics.iou_and_matching import Matches, match
from toolkit.metrics.object_counts_and_sizes import agreement, object_statistics


@dataclass(frozen=True)
class Settings:
    """What an evaluation is asked for. The only place where these defaults are written."""

    iou: float = 0.5  # of the curves, thresholds, calibration and confusion; a multiple of 0.05 from 0.5 to 0.95
    resamples: int = 1000  # of the intervals; 0: none
    seed: int = 0
    precision: float | None = None  # thresholds reach this precision; None: the middle of those with a high F1
    threshold_for: str = "f1"  # or "counts": as many detections as objects
    guarantee: tuple[str, float] | None = None  # ("recall", 0.9): thresholds that keep it on new pictures, 95 % sure
    thresholds: Mapping[str, float] | None = None  # chosen by hand; "" for all classes without one of their own
    confident: float = 0.5  # score from which a detection may accuse a label

    def check(self) -> None:
        steps = (self.iou - 0.5) / 0.05
        if not (-1e-9 < steps < 9 + 1e-9 and abs(steps - round(steps)) < 1e-6):
            raise InputError(f"--iou: found {self.iou}, needs 0.5, 0.55, ... 0.95")
        if self.resamples < 0:
            raise InputError(f"--resamples: found {self.resamples}, needs 0 or more")
        if self.precision is not None and not 0 < self.precision <= 1:
            raise InputError(f"--min-precision: found {self.precision}, needs more than 0 and at most 1")
        if self.threshold_for not in ("f1", "counts"):
            raise InputError(f"--threshold-for: found {self.threshold_for}, needs f1 or counts")
        if self.precision is not None and self.threshold_for == "counts":
            raise InputError("--min-precision and --threshold-for counts exclude each other: a threshold serves one")
        if self.guarantee is not None:
            what, target = self.guarantee
            if what not in guarantees.WHAT or not 0 < target < 1:
                raise InputError(f"--guarantee: found {what} {target:g}, needs recall or precision, over 0 and under 1")
            if self.precision is not None or self.threshold_for == "counts":
                raise InputError("--guarantee excludes --min-precision and --threshold-for counts")
        for name, value in (self.thresholds or {}).items():
            if not 0 <= value <= 1:
                raise InputError(f"--thresholds: found {name + '=' if name else ''}{value:g}, needs 0 to 1")

    def by_hand(self, thresholds: Mapping[str, float]) -> dict[str, float]:
        """Thresholds with those that were chosen by hand in their place. Raises InputError for an unknown class."""
        given = self.thresholds or {}
        for name in given:
            if name and name not in thresholds:
                raise InputError(unknown("--thresholds: class", name, thresholds))
        return {name: float(given.get(name, given.get("", value))) for name, value in thresholds.items()}


DEFAULTS = Settings()


@dataclass(frozen=True)
class Evaluation:
    """The numbers for metrics.json, and what they were made from."""

    metrics: dict
    document: dict
    detections: list
    tables: Tables
    matches: Matches
    curves: list[threshold_curves.Curve]
    thresholds: dict[str, float]
    suspects: list[Suspect]


def coco_metrics(document: dict, detections: list) -> dict:
    """COCO's twelve numbers of a COCO document and a list of COCO results. Prints nothing.

    document: with "images", "annotations", "categories"; every image counts, with detections or without.
    detections: [{"image_id", "category_id", "bbox": [x, y, w, h] in pixels of the original image, "score"}]; where they
    have a "segmentation" (RLE or polygons), "segm" holds the same numbers by masks.
    Returns AP AP50 AP75 APs APm APl AR1 AR10 AR100 ARs ARm ARl in 0..1, None where there is no object;
    "per_class" {name: the same and "num_objects"}, "num_images", "num_objects", "num_objects_by_size",
    "num_detections", "warnings". The same numbers as pycocotools (tests/metrics/test_coco.py).
    Raises InputError for detections that cannot be evaluated.
    """
    document, detections, notes = read(document, detections, sizes=any_size)
    tables = read_tables(document, detections)
    by_masks, why_not = tables_by_masks(tables, document, detections)
    segm = {"segm": summary(match(by_masks))} if by_masks else {}
    return {**summary(match(tables)), **segm, "warnings": [*notes, *tables.warnings, *filter(None, [why_not])]}


def compute_metrics(
    document: dict,
    detections: list,
    settings: Settings = DEFAULTS,
    *,
    split: str = "",
    document_name: str = "annotations",
    detections_name: str = "detections",
    fixed_thresholds: dict[str, float] | None = None,
    others: tuple[list, ...] = (),
    sizes: Size | None = None,
) -> Evaluation:
    """Everything that is said about one set of detections.

    fixed_thresholds: scores chosen before on other images; without them they are chosen here.
    others: detections of further models on the same images, for the suspects alone. sizes: of images without one.
    """
    settings.check()
    given = document
    document, detections, notes = read(given, detections, document_name, detections_name, sizes)
    others = tuple(read(given, other, document_name, "other detections", sizes)[1] for other in others)
    tables = read_tables(document, detections, detections_name)
    matches = match(tables)
    numbers, lines, chosen = _numbers(matches, settings, fixed_thresholds)
    by_masks, why_not = tables_by_masks(tables, document, detections)
    all_tables = [(read_tables(document, other, "other detections"), other) for other in others]
    with_masks = [tables_by_masks(theirs, document, other)[0] or theirs for theirs, other in all_tables]
    accused = suspects(by_masks or tables, tuple(with_masks), settings.confident)
    metrics: dict[str, Any] = {
        **numbers,
        "split": split,
        "settings": {
            **dataclasses.asdict(settings),
            "max_detections": MAX_DETECTIONS,
            "lowest_score": float(tables.det_score.min()) if len(tables.det_score) else None,
            "thresholds_from": "elsewhere" if fixed_thresholds else "these images",
        },
        "objects": object_statistics(tables),
        "counts": agreement(tables, chosen, settings.resamples, settings.seed),
        "suspects": len(accused),
        "suspect_kinds": by_kind(accused, chosen),
        "warnings": [*notes, *tables.warnings, *filter(None, [why_not])],
    }
    if by_masks:
        metrics["segm"] = _numbers(match(by_masks), settings, fixed_thresholds)[0]
    hint = numbering_hint(document, detections, metrics["AP"], lambda d: summary(match(read_tables(document, d)))["AP"])
    metrics["warnings"] += [hint] if hint else []
    if settings.guarantee is not None:
        metrics["warnings"] += guarantees.unsure(metrics["guarantee"], *settings.guarantee)
        if fixed_thresholds:
            metrics["warnings"].append("--guarantee was tested here, but its thresholds are stored on val alone")
    if settings.precision is not None and not fixed_thresholds:
        metrics["warnings"] += _unreached(metrics["thresholds"], settings.precision)
    return Evaluation(metrics, document, detections, tables, matches, lines, chosen, accused)


def _numbers(
    matches: Matches, settings: Settings, fixed_thresholds: dict[str, float] | None
) -> tuple[dict[str, Any], list[threshold_curves.Curve], dict[str, float]]:
    """(what is said by boxes and, where there are masks, by masks too; curves, score thresholds by class)."""
    lines = threshold_curves.curves(matches, settings.iou)
    chosen = threshold_curves.score_thresholds(lines, settings.precision)
    if settings.threshold_for == "counts":
        chosen = threshold_curves.count_thresholds(matches.tables, chosen)
    if fixed_thresholds:
        chosen = {name: float(fixed_thresholds.get(name, chosen[name])) for name in chosen}
    promised = guarantees.guarantee(matches, settings.iou, *settings.guarantee) if settings.guarantee else None
    sure = {name: one["threshold"] for name, one in (promised or {}).items() if one["threshold"] is not None}
    if not fixed_thresholds:
        chosen = {**chosen, **sure}
    chosen = settings.by_hand(chosen)
    names = matches.tables.class_names
    by_class = np.array([chosen[name] for name in names])
    numbers = {
        **summary(matches),
        "intervals": intervals(matches, settings.resamples, settings.seed),
        "thresholds": {
            curve.name: {"threshold": chosen[curve.name], **curve.at(chosen[curve.name])} for curve in lines[:-1]
        },
        "calibration": calibration(matches, settings.iou),
        "confusion": {
            "classes": [*names, "background"],
            "counts": confusion(matches, by_class, settings.iou).tolist(),
            "iou": settings.iou,
            "rows": "true class",
            "columns": "detected class",
        },
        "error_kinds": error_kinds(matches, by_class),
        "at_thresholds": threshold_curves.overall(matches, settings.iou, by_class),
        "histograms": histograms(matches, settings.iou, by_class),
        "guarantee": promised,
    }
    return numbers, lines, chosen


def _unreached(found: dict[str, dict], wanted: float) -> list[str]:
    """A line for each class whose threshold does not reach the wanted precision."""
    return [
        f"class {name}: no threshold reaches precision {wanted:.2f}; the nearest gives {at['precision']:.2f}"
        for name, at in found.items()
        if at["precision"] is not None and at["precision"] < wanted
    ]
