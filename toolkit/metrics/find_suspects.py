"""Objects whose label is probably wrong: where confident detections and labels disagree, the worst of each kind first.

Five kinds, each with a suspicion in 0..1:
    no label      a confident detection that touches no label (IoU under 0.3): somebody forgot to draw it
    other class   a confident detection on a label (IoU 0.5 or more) of another class
    loose box     a confident detection of the label's class that lies on no other label better, whose box disagrees
                  (IoU 0.3 to 0.7), of a class whose boxes the model gets right as a rule (IoU 0.7 or more with 4 of 5
                  labels)
    outline off   a confident detection of the label's class whose box agrees (IoU 0.7 or more) and whose mask does not
                  (IoU under 0.6), of a class whose masks the model gets right as a rule
    not found     a label that no model finds with any score (IoU under 0.3): perhaps nothing is there
With detections of several models, the suspicion of a kind is the mean over the models, so what all of them say
comes first. The kinds take turns, the worst of each before the second: suspicions of two kinds do not compare, and a
kind that a set is full of (crowded cells of which many have no label) would hide the few of another.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

import numpy as np

from label_tools.shapes import rle
from toolkit.metrics.coco_tables import Tables
from toolkit.metrics.iou_and_matching import iou_table, pairs_over

KINDS = {  # each with what a person is told of a suspect
    "no label": "{0.class_name} with score {0.score:.2f}, but no label here",
    "other class": "labelled {0.label_class}, looks like {0.class_name} (score {0.score:.2f})",
    "loose box": "{0.class_name}: label and detection (score {0.score:.2f}) agree by IoU {0.iou:.2f} only",
    "outline off": "{0.class_name}: outline and mask (score {0.score:.2f}) agree by IoU {0.iou:.2f} only",
    "not found": "labelled {0.label_class}, but no detection comes near",
}
TOUCH, SAME, TIGHT = 0.3, 0.5, 0.7
FOLLOWED = 0.6  # IoU of masks
MOSTLY = 0.8  # of a class's labels must be met tightly, else the detector's own are loose and accuse no label of it
LEAST = 0.25  # suspicions under this are not worth a person's look


@dataclass(frozen=True)
class Suspect:
    """One place to look at. bbox [x,y,w,h] is the detection's, label_bbox the label's; either may be missing."""

    kind: str
    suspicion: float
    image_id: int | str
    file_name: str
    class_name: str  # as detected; when not found: as labelled
    label_class: str | None
    bbox: list[float] | None
    label_bbox: list[float] | None
    annotation: int | None  # place in document["annotations"]
    score: float | None
    iou: float | None  # of the boxes; outline off: of the masks
    mask: dict | None = None  # the detection's, RLE, in tables by masks

    @property
    def text(self) -> str:
        return KINDS[self.kind].format(self)


def suspects(tables: Tables, others: tuple[Tables, ...] = (), confident: float = 0.5) -> list[Suspect]:
    """Suspects of one model, or of several on the same document, the worst of each kind first, then the second of each.
    Outlines: in tables by masks.

    confident: the score that a detection needs to accuse a label.
    """
    models = (tables, *others)
    accused: dict[tuple, list[list[Suspect]]] = {}  # (kind, image or label) -> groups that mean the same place
    for model in models:
        for suspect in _suspects_of(model, confident):
            groups = accused.setdefault((suspect.kind, suspect.annotation, suspect.image_id), [])
            for group in groups:
                if _same_place(group[0], suspect):
                    group.append(suspect)
                    break
            else:
                groups.append([suspect])
    pooled = []
    for group in (group for groups in accused.values() for group in groups):
        if group[0].kind == "not found" and len(group) < len(models):
            continue  # some model finds it
        best = max(group, key=lambda s: s.suspicion)
        suspicion = sum(s.suspicion for s in group) / len(models)
        if suspicion >= LEAST:
            pooled.append(replace(best, suspicion=round(float(suspicion), 4)))
    pooled.sort(key=lambda s: (-s.suspicion, s.file_name, s.kind, s.annotation or 0, s.bbox or []))
    before: Counter[str] = Counter()
    turns = []
    for suspect in pooled:
        turns.append(before[suspect.kind])
        before[suspect.kind] += 1
    return [pooled[k] for k in sorted(range(len(pooled)), key=turns.__getitem__)]


def by_kind(found: list[Suspect], thresholds: dict[str, float]) -> dict[str, dict[str, int]]:
    """{kind: {"num", "num_images", "over_threshold": those whose detection reaches its class's threshold}}."""
    numbers = {}
    for kind in KINDS:
        here = [s for s in found if s.kind == kind]
        over = sum(s.score is not None and s.score >= thresholds[s.class_name] for s in here)
        numbers[kind] = {"num": len(here), "num_images": len({s.image_id for s in here}), "over_threshold": over}
    return numbers


def _same_place(a: Suspect, b: Suspect) -> bool:
    """Of one kind, image and label: the same label, or two detections without a label that overlap."""
    return a.annotation is not None or iou_table(np.array(a.bbox), np.array(b.bbox))[0, 0] >= SAME


def _suspects_of(tables: Tables, confident: float) -> list[Suspect]:
    pair_det, pair_gt, pair_iou = pairs_over(
        tables.det_image, tables.det_bbox, tables.gt_image, tables.gt_bbox, tables.gt_is_crowd, TOUCH
    )
    found = _without_label(tables, pair_det, confident)
    same = tables.det_class[pair_det] == tables.gt_class[pair_gt]
    counted = ~tables.gt_is_crowd[pair_gt]
    own_score = np.zeros(len(tables.gt_class))  # the best score that agrees with the label
    np.maximum.at(own_score, pair_gt[same & (pair_iou >= SAME)], tables.det_score[pair_det[same & (pair_iou >= SAME)]])
    tight = np.zeros(len(tables.gt_class))  # the best IoU that agrees with the label
    closest = np.zeros(len(tables.det_class))  # the best IoU of a detection with a label of its class
    np.maximum.at(closest, pair_det[same], pair_iou[same])
    sure = same & (tables.det_score[pair_det] >= confident) & (pair_iou == closest[pair_det])
    np.maximum.at(tight, pair_gt[sure], pair_iou[sure])
    precise = _precise_classes(tables, tight, TIGHT)
    boxed = sure & counted & (pair_iou >= TIGHT) & (pair_iou == tight[pair_gt])
    followed = _mask_ious(tables, pair_det[boxed], pair_gt[boxed])
    drawn_well = _precise_classes(tables, followed, FOLLOWED)
    accused: dict[tuple[str, int], tuple[float, int, float]] = {}
    for p in np.flatnonzero(counted & (tables.det_score[pair_det] >= confident)):
        d, g, iou = int(pair_det[p]), int(pair_gt[p]), float(pair_iou[p])
        score = float(tables.det_score[d])
        if not same[p] and iou >= SAME:
            kind, suspicion = "other class", score * iou * (1 - own_score[g])
        elif sure[p] and iou == tight[g] and iou < TIGHT and precise[tables.gt_class[g]]:
            kind, suspicion = "loose box", score * (1 - iou)
        elif boxed[p] and 0 < followed[g] < FOLLOWED and drawn_well[tables.gt_class[g]]:
            kind, iou = "outline off", float(followed[g])
            suspicion = score * (1 - iou)
        else:
            continue
        if suspicion > accused.get((kind, g), (0.0,))[0]:
            accused[kind, g] = (float(suspicion), d, iou)
    found += [_accusation(tables, kind, *accused[kind, g], g) for kind, g in accused]
    return found + _not_found(tables, pair_gt)


def _mask_ious(tables: Tables, det: np.ndarray, gt: np.ndarray) -> np.ndarray:
    """[G] IoU of the masks of the detection and the label of each pair; 0: no pair, or no masks."""
    found = np.zeros(len(tables.gt_class))
    if tables.det_mask is not None and tables.gt_mask is not None:
        for d, g in zip(det, gt, strict=True):
            found[g] = rle.ious([tables.det_mask[d]], [tables.gt_mask[g]], np.zeros(1, bool))[0, 0]
    return found


def _precise_classes(tables: Tables, tight: np.ndarray, least: float) -> np.ndarray:
    """[K] whether a class's detections are tight. tight [G]: the best IoU of a confident detection; 0: none."""
    classes = len(tables.class_names)
    met = np.bincount(tables.gt_class[tight > 0], minlength=classes)
    well = np.bincount(tables.gt_class[tight >= least], minlength=classes)
    return well >= MOSTLY * np.maximum(met, 1)


def _without_label(tables: Tables, touching: np.ndarray, confident: float) -> list[Suspect]:
    alone = tables.det_score >= confident
    alone[touching] = False
    rows = np.flatnonzero(alone)
    rows = rows[np.argsort(-tables.det_score[rows], kind="stable")]
    kept: dict[int, list[int]] = {}
    for d in rows:  # several detections of one forgotten object are one suspect
        here = kept.setdefault(int(tables.det_image[d]), [])
        if iou_table(tables.det_bbox[d], tables.det_bbox[here]).max(initial=0) < SAME:
            here.append(int(d))
    chosen = [d for here in kept.values() for d in here]
    return [_accusation(tables, "no label", float(tables.det_score[d]), d, None, None) for d in chosen]


def _not_found(tables: Tables, touched: np.ndarray) -> list[Suspect]:
    """Labels that no detection touches. The larger the object, the less likely that it is merely hard to see."""
    lonely = ~tables.gt_is_crowd
    lonely[touched] = False
    size = np.sqrt(tables.gt_bbox[:, 2] * tables.gt_bbox[:, 3])
    found = []
    for g in np.flatnonzero(lonely):
        others = size[tables.gt_class == tables.gt_class[g]]
        rank = float((others <= size[g]).mean())
        found.append(_accusation(tables, "not found", 0.3 + 0.5 * rank, None, None, int(g)))
    return found


def _accusation(
    tables: Tables, kind: str, suspicion: float, d: int | None, iou: float | None, g: int | None
) -> Suspect:
    image = tables.det_image[d] if d is not None else tables.gt_image[g]
    label_class = None if g is None else tables.class_names[tables.gt_class[g]]
    return Suspect(
        kind=kind,
        suspicion=suspicion,
        image_id=tables.image_ids[image],
        file_name=tables.file_names[image],
        class_name=tables.class_names[tables.det_class[d] if d is not None else tables.gt_class[g]],
        label_class=label_class,
        bbox=None if d is None else [float(v) for v in tables.det_bbox[d]],
        label_bbox=None if g is None else [float(v) for v in tables.gt_bbox[g]],
        annotation=None if g is None else int(tables.gt_row[g]),
        score=None if d is None else float(tables.det_score[d]),
        iou=iou,
        mask=None if d is None or tables.det_mask is None else tables.det_mask[d],
    )
