"""What a detector does wrong: the confusion matrix of the classes, and the kinds of errors with what fixing them gives.

The confusion matrix is taken at one IoU and one score threshold per class, with background as the last row and column,
in two passes: first COCO's own matches, so that the diagonal agrees with precision and recall at this threshold; then
what is left of detections and objects is paired by the best IoU, whatever the classes.

The kinds are the six of TIDE (Bolya et al., ECCV 2020). A wrong detection is, looked at in this order,
    localisation   over 0.1 and under 0.5 IoU with an object of its class
    class          0.5 or more with an object of another class
    duplicate      0.5 or more with an object of its class that a better detection took
    background     under 0.1 with every object
    both           what is left: over 0.1 with an object of another class only
and an object is missed when nothing found it and no class or localisation error would find it once fixed.

The gain of a kind is AP50 after fixing all of it alone, less AP50: localisation and class errors become right
for the best scored detection of a free object and vanish otherwise; duplicate, background and both vanish; missed
objects are not asked for. Gains of kinds do not add up to 1 - AP50.
"""

from __future__ import annotations

import numpy as np

from toolkit.metrics.coco_ap import precision_at_recalls
from toolkit.metrics.iou_and_matching import Matches, pairs

KINDS = ("class", "localisation", "both", "duplicate", "background", "missed")
FOUND, TOUCHED = 0.5, 0.1


def confusion(matches: Matches, thresholds: np.ndarray, iou: float = 0.5) -> np.ndarray:
    """[K+1,K+1] counts; row: true class, column: predicted class. thresholds [K]: the score a class needs.

    [k,K]: objects of class k that were missed; [K,k]: detections of class k on background.
    """
    tables = matches.tables
    num_classes = len(tables.class_names)
    t = matches.at(iou)
    counts = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    kept = tables.det_score[matches.det] >= thresholds[tables.det_class[matches.det]]
    right = kept & matches.right[0, t]
    gt_free = ~matches.gt_ignored[0]
    np.add.at(counts, (tables.gt_class[matches.gt[t][right]],) * 2, 1)
    gt_free[matches.gt[t][right]] = False

    left = matches.det[kept & ~right & ~matches.ignored[0, t]]
    pair_det, pair_gt, pair_iou = pairs(tables, left, np.arange(len(tables.gt_class)), iou, same_class=False)
    det_free = np.ones(len(left), bool)
    for p in np.argsort(-pair_iou, kind="stable"):
        d, g = pair_det[p], pair_gt[p]
        if det_free[d] and gt_free[g]:
            det_free[d] = gt_free[g] = False
            counts[tables.gt_class[g], tables.det_class[left[d]]] += 1
    on_crowd = np.zeros(len(left), bool)
    on_crowd[pair_det[tables.gt_is_crowd[pair_gt]]] = True
    background = left[det_free & ~on_crowd]
    counts[num_classes, :num_classes] += np.bincount(tables.det_class[background], minlength=num_classes)
    counts[:num_classes, num_classes] += np.bincount(tables.gt_class[gt_free], minlength=num_classes)
    return counts


def error_kinds(matches: Matches, thresholds: np.ndarray) -> dict:
    """{"AP50", "kinds": {kind: {"gain", "num", "num_over_threshold"}}, "false_positives", "false_negatives"}.

    num counts all detections, num_over_threshold those whose score reaches thresholds [K] of their class.
    """
    kind, target, missed = classify(matches)
    tables = matches.tables
    t = matches.at(FOUND)
    class_ = tables.det_class[matches.det]
    score = tables.det_score[matches.det]
    right = matches.right[0, t]
    evaluated = ~matches.ignored[0, t]
    num_objects = matches.num_objects()[0]
    base = _mean_ap(class_, score, right, evaluated, num_objects)
    result: dict = {"AP50": base, "kinds": {}}

    def gain(ap: float | None) -> float | None:
        return None if ap is None or base is None else ap - base

    for name in KINDS[:-1]:
        of_kind = kind == name
        fixed_class, fixed_right, kept = class_, right, evaluated & ~of_kind
        if name in ("class", "localisation"):
            saved = _best_of_free_object(of_kind, target, score, matches.gt[t][right])
            fixed_right = right | saved
            kept = kept | saved
            fixed_class = class_.copy()
            fixed_class[saved] = tables.gt_class[target[saved]]
        ap = _mean_ap(fixed_class, score, fixed_right, kept, num_objects)
        over = int((of_kind & (score >= thresholds[class_])).sum())
        result["kinds"][name] = {"gain": gain(ap), "num": int(of_kind.sum()), "num_over_threshold": over}
    num_missed = np.bincount(tables.gt_class[missed], minlength=len(num_objects))
    ap = _mean_ap(class_, score, right, evaluated, num_objects - num_missed, empty=1.0, asked=num_objects > 0)
    result["kinds"]["missed"] = {"gain": gain(ap), "num": len(missed), "num_over_threshold": None}
    result["false_positives"] = {"gain": gain(_mean_ap(class_, score, right, evaluated & right, num_objects))}
    num_found = np.bincount(class_[right], minlength=len(num_objects))
    ap = _mean_ap(class_, score, right, evaluated, num_found, empty=1.0, asked=num_objects > 0)
    result["false_negatives"] = {"gain": gain(ap)}
    return result


def classify(matches: Matches) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """kind [D] of each wrong detection ("" for right or ignored), target [D] its object or 0, missed objects [M]."""
    tables = matches.tables
    t = matches.at(FOUND)
    wrong = np.flatnonzero(~matches.right[0, t] & ~matches.ignored[0, t])
    rows = matches.det[wrong]
    gt = np.flatnonzero(~matches.gt_ignored[0])
    pair_det, pair_gt, pair_iou = pairs(tables, rows, gt, TOUCHED, same_class=False)  # gt has no crowds
    same = tables.gt_class[pair_gt] == tables.det_class[rows[pair_det]]
    iou_same, target_same = _best(len(wrong), pair_det[same], pair_gt[same], pair_iou[same])
    iou_other, target_other = _best(len(wrong), pair_det[~same], pair_gt[~same], pair_iou[~same])
    names = np.select(
        [
            (iou_same >= TOUCHED) & (iou_same < FOUND),
            iou_other >= FOUND,
            iou_same >= FOUND,
            np.maximum(iou_same, iou_other) < TOUCHED,
        ],
        ["localisation", "class", "duplicate", "background"],
        "both",
    )
    kind = np.full(len(matches.det), "", dtype="<U12")
    kind[wrong] = names
    target = np.zeros(len(matches.det), np.int64)
    target[wrong] = np.where(names == "class", target_other, target_same)
    covered = np.zeros(len(tables.gt_class) + 1, bool)
    covered[matches.gt[t][matches.right[0, t]]] = True
    covered[target[(kind == "class") | (kind == "localisation")]] = True
    return kind, target, gt[~covered[gt]]


def _best(num: int, det: np.ndarray, gt: np.ndarray, iou: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Best IoU [num] and its object of pairs that are sorted from best to worst per detection; 0 without one."""
    best, target = np.zeros(num), np.zeros(num, np.int64)
    first = np.unique(det, return_index=True)[1]
    best[det[first]], target[det[first]] = iou[first], gt[first]
    return best, target


def _best_of_free_object(of_kind: np.ndarray, target: np.ndarray, score: np.ndarray, taken: np.ndarray) -> np.ndarray:
    """[D] bool: of the detections of a kind, the best scored one of each object that nothing took."""
    rows = np.flatnonzero(of_kind & ~np.isin(target, taken))
    rows = rows[np.argsort(-score[rows], kind="stable")]
    saved = np.zeros(len(of_kind), bool)
    saved[rows[np.unique(target[rows], return_index=True)[1]]] = True
    return saved


def _mean_ap(
    class_: np.ndarray,
    score: np.ndarray,
    right: np.ndarray,
    kept: np.ndarray,
    num_objects: np.ndarray,
    empty: float | None = None,
    asked: np.ndarray | None = None,
) -> float | None:
    """Mean AP over classes. A class without objects left counts as `empty` where `asked`, else not at all."""
    values = []
    by_score = np.argsort(-score, kind="stable")
    for k, number in enumerate(num_objects):
        if number > 0:
            rows = by_score[(kept & (class_ == k))[by_score]]
            nothing = np.zeros(len(rows), bool)
            values.append(float(precision_at_recalls(right[rows], nothing, int(number)).mean()))
        elif empty is not None and asked is not None and asked[k]:
            values.append(empty)
    return float(np.mean(values)) if values else None
