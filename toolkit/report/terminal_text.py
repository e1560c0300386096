"""Terminal text of an evaluation, for `evaluate`, `train` and `crossval`."""

from __future__ import annotations

from toolkit.metrics.coco_ap import KEYS
from toolkit.report.comparison_text import comparison, looks
from toolkit.report.number_text import MEANING, ends_text, interval, number, objects_of, sets


def terminal(metrics: dict) -> str:
    """The split, the twelve numbers, one a line, and AP per class; of a cross-validation its folds come first."""
    lines = []
    if metrics.get("crossval"):
        lines += [folds(metrics["crossval"]), "", "Pooled over the folds:"]
    if metrics.get("split"):
        too_good = (
            "; val chose the epoch and the thresholds, so these look a little too good: quote those of a test split"
        )
        of_run = metrics["split"] == "val" and metrics.get("checkpoint")
        lines.append(f"{metrics['split']} split: {metrics['num_images']} images{too_good if of_run else ''}")
    for heading, one in sets(metrics):
        lines += [*([f"{heading}:"] if heading else []), *_twelve(one)]
    lines.append(
        f"       {metrics['num_objects']} objects, {metrics['num_detections']} detections, "
        f"{metrics['num_images']} images, at most 100 detections of a class and image"
    )
    for heading, one in sets(metrics):
        lines += _classes(one, heading)
    lines += guaranteed(metrics)
    lines += counting(metrics)
    lines += slices(metrics)
    if metrics.get("look"):
        lines += ["", *looks(metrics["look"])]
    if metrics.get("compare"):
        lines += ["", comparison(metrics["compare"])]
    return "\n".join(lines)


def guaranteed(metrics: dict) -> list[str]:
    """The classes whose thresholds keep what --guarantee asked for; warnings name the others."""
    sure = [name for name, one in (metrics.get("guarantee") or {}).items() if one["threshold"] is not None]
    if not sure:
        return []
    what, share = metrics["settings"]["guarantee"]
    which = "these thresholds" if len(sure) == len(metrics["per_class"]) else f"the thresholds of {', '.join(sure)}"
    return [f"{which} keep a {what} of {share:.2f} on new pictures like these, with 95 % confidence"]


def counting(metrics: dict) -> list[str]:
    """Counts of each class against the labels, for a terminal."""
    found = metrics.get("counts") or {}
    if not 0 < len(found) <= 20:
        return []
    width = max(5, *map(len, found))
    lines = ["", f"{'class':{width}}  labelled  counted  bias per image  95 % interval     mean absolute error"]
    for name, one in found.items():
        if one["bias"] is not None:
            ends = one["intervals"]["bias"] if one["intervals"] else None
            interval = f"{ends[0]:+.2f} to {ends[1]:+.2f}" if ends else ""
            numbers = f"{one['labelled']:8}  {one['counted']:7}  {one['bias']:+14.2f}  {interval:16}"
            lines.append(f"{name:{width}}  {numbers}  {one['mean_absolute_error']:.2f}")
    return lines


def slices(metrics: dict) -> list[str]:
    """AP of each group of images and whether it differs from the rest, for a terminal."""
    found = metrics.get("slices")
    if not found:
        return []
    rows = slice_table(found)
    width = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return ["", *("  ".join(f"{cell:{w}}" for cell, w in zip(row, width)).rstrip() for row in rows)]


def slice_table(found: dict) -> list[list[str]]:
    """The groups of images as rows of text, the heads first."""
    heads = [found["by"], "images", "objects", "AP", "95 % interval", "group - rest", "95 % interval", "p", "answer"]
    rows = []
    for one in found["groups"]:
        ends, apart = one["interval"], one["difference_interval"]
        rows.append(
            [
                *(one["name"], str(one["num_images"]), str(one["num_objects"]), number(one["AP"])),
                ends_text(ends) if ends else "",
                f"{one['difference']:+.3f}" if apart else "",
                f"{apart[0]:+.3f} to {apart[1]:+.3f}" if apart else "",
                f"{one['p_holm']:.3f}" if apart else "",
                one["verdict"],
            ]
        )
    return [heads, *rows]


def _twelve(metrics: dict) -> list[str]:
    lines = []
    for key in KEYS:
        ends = interval(metrics, key)
        found = f"  95 % interval {ends_text(ends)}" if ends and metrics[key] is not None else ""
        lines.append(f"{key:6} {number(metrics[key], objects_of(metrics, key)):6}  {MEANING[key]}{found}")
    return lines


def _classes(metrics: dict, heading: str) -> list[str]:
    classes = metrics["per_class"]
    if not 1 < len(classes) <= 20:
        return []
    width = max(map(len, classes))
    title = f"{'class':{width}}  objects  AP     95 % interval   AP50   score threshold"
    lines = ["", f"{title}, {heading}" if heading else title]
    for name, one in classes.items():
        threshold = metrics["thresholds"][name]["threshold"]
        ends = interval(metrics, "AP", name)
        found = f"{number(one['AP']):5}  {ends_text(ends) if ends and one['AP'] is not None else '':14}"
        lines.append(f"{name:{width}}  {one['num_objects']:7d}  {found}  {number(one['AP50']):5}  {threshold:.3f}")
    return lines


QUOTE = (
    "Quote the mean and sd of the folds: that is how good one network is, trained and evaluated like these. The pooled "
    "AP mixes the scores of different networks, so it may differ from the mean, and its interval may not hold the mean."
)


def mean_and_sd(crossval: dict, key: str) -> str:
    """`0.210 ± 0.143` of the folds' AP, AP50 or AP75."""
    return f"{number(crossval[f'{key}_mean'])} ± {number(crossval[f'{key}_sd'])}"


def folds(crossval: dict) -> str:
    """Mean and standard deviation over the folds, which are the numbers to quote, then a line for each fold."""
    lines = [f"{key:6} {mean_and_sd(crossval, key)}  {MEANING[key]}" for key in ("AP", "AP50", "AP75")]
    lines[0] += f"; mean ± sd of {len(crossval['folds'])} folds"
    lines += ["", "fold  images  objects  AP     AP50   AP75"]
    for row in crossval["folds"]:
        shown = "  ".join(f"{number(row[key]):5}" for key in ("AP", "AP50", "AP75"))
        lines.append(f"{row['fold']:4d}  {row['num_images']:6d}  {row['num_objects']:7d}  {shown}")
    return "\n".join([*lines, "", QUOTE])
