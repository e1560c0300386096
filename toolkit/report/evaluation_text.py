"""Results in words: a number with its interval, an evaluation and a comparison for the terminal, rows of tables, and
the warning that a set is too small."""

from __future__ import annotations

from label_tools.text.messages import counted
from toolkit.metrics.coco_ap import KEYS

MEANING = {
    "AP": "mean over IoU 0.50 to 0.95",
    "AP50": "IoU 0.50",
    "AP75": "IoU 0.75",
    "APs": "small objects, area under 32 x 32 pixels",
    "APm": "medium objects",
    "APl": "large objects, area over 96 x 96 pixels",
    "AR1": "recall of the best detection of each class in an image",
    "AR10": "recall of the 10 best",
    "AR100": "mean recall over IoU 0.50 to 0.95",
    "ARs": "recall, small objects",
    "ARm": "recall, medium objects",
    "ARl": "recall, large objects",
}
TOO_GOOD = "val chose the epoch and the thresholds, so these look a little too good: quote those of a test split"
_SIZE_OF = {"s": "small", "m": "medium", "l": "large"}
QUOTE = (
    "Quote the mean and sd of the folds: that is how good one network is, trained and evaluated like these. The pooled "
    "AP mixes the scores of different networks, so it may differ from the mean, and its interval may not hold the mean."
)
FEW_IMAGES = 50
FEW_OBJECTS = 20  # of a class
MOST_NAMES = 3


def number(value: float | None, objects: int | None = None) -> str:
    """0.505; without a value `n/a`, with the count of objects that makes it so."""
    if value is not None:
        return f"{value:.3f}"
    return "n/a" if objects is None else f"n/a ({objects} objects)"


def objects_of(numbers: dict, key: str) -> int:
    """How many objects a number is over: APs over the small ones, AP over all."""
    size = _SIZE_OF.get(key[-1])
    return numbers["num_objects_by_size"][size] if size else numbers["num_objects"]


def interval(metrics: dict, key: str, name: str | None = None) -> list[float] | None:
    """[low, high] of AP, AP50 or AP75, over all classes or of one; None where there is none."""
    found = metrics.get("intervals") or {}
    found = found.get("per_class", {}).get(name, {}) if name is not None else found
    return found.get(key)


def ends_text(ends: list[float]) -> str:
    """`0.472 to 0.530`: the one way an interval is written."""
    return f"{ends[0]:.3f} to {ends[1]:.3f}"


def with_interval(metrics: dict, key: str, name: str | None = None) -> str:
    """`0.505 (0.472 to 0.530)`, over all classes or of one."""
    numbers = metrics if name is None else metrics["per_class"][name]
    text = number(numbers[key], objects_of(numbers, key))
    ends = interval(metrics, key, name)
    return f"{text} ({ends_text(ends)})" if ends and numbers[key] is not None else text


def sets(metrics: dict) -> list[tuple[str, dict]]:
    """[("by boxes", numbers), ("by masks", numbers)], or [("", numbers)] where there are no masks."""
    return [("by boxes", metrics), ("by masks", metrics["segm"])] if metrics.get("segm") else [("", metrics)]


def comparison(compare: dict) -> str:
    """A is the run that is evaluated, B the one that it is compared with."""
    lines = [f"A = {compare.get('a', 'this')}, compared with B = {compare['name']} on {_same_images(compare)}"]
    if compare.get("split") == "val":
        lines[0] += ", which chose epoch and thresholds of A: a test split would not favour it"
    if "segm" not in compare:
        lines += _differences(compare)
    else:
        by_masks = _differences(compare["segm"]) if compare["segm"] else ["n/a: B has no masks"]
        lines += ["by boxes:", *_differences(compare), "by masks:", *by_masks]
    classes = compare.get("per_class") or {}
    if 1 < len(classes) <= 20:
        width = max(5, *map(len, classes))
        lines += ["", f"{'class':{width}}  AP of B - A, p corrected for {len(classes)} classes"]
        lines += [f"{name:{width}}  {_difference(one, 'p_holm')}" for name, one in classes.items()]
    return "\n".join([*lines, *compare.get("notes", []), seeds_note(compare)])


def _same_images(compare: dict) -> str:
    split = f" of the {compare['split']} split" if compare.get("split") else ""
    return f"the same {compare['num_images']} images{split}"


def seeds_note(compare: dict) -> str:
    """Note on how much this number of seeds per side can show."""
    runs = compare.get("runs") or [1, 1]
    if sum(runs) == 2:
        return (
            "One trained network each: this compares these two, not their recipes. Another seed may decide otherwise; "
            "--compare B1 B2 B3 --seeds A2 A3 compares runs of several seeds."
        )
    of = [counted(number, "trained network") for number in runs]
    return f"A is the mean of {of[0]}, B of {of[1]}: the intervals allow for other images and other seeds."


def looks(look: dict) -> list[str]:
    """Whether another way to look pays: B beside the pictures as they are, A."""
    cost = look["seconds_an_image"]
    lines = [f"A = pictures as they are, B = {look['about']}, on the same {look['num_images']} images"]
    lines += _differences(look, ("AP", "AP50", "AP75", "APs", "APm", "APl"))
    times = f", {cost['b'] / cost['a']:.1f} times" if cost["a"] else ""
    lines.append(f"cost:  A {cost['a']:.3f} s an image, B {cost['b']:.3f}{times}")
    if look.get("seams"):
        for name, text in (("at_seams", "objects that a seam cuts"), ("elsewhere", "other objects")):
            one = look["seams"][name]
            if one["objects"]:
                found = f"found {one['found_tiled']:.0%} in tiles, {one['found_whole']:.0%} in whole pictures"
                lines.append(f"seams: {one['objects']} {text}: {found}")
        again = look["seams"]
        lines.append(
            f"seams: {again['duplicates']} objects found twice, {again['duplicates_at_seams']} of them at seams"
        )
    return lines


def _differences(compare: dict, keys: tuple[str, ...] = ("AP", "AP50", "AP75")) -> list[str]:
    return [f"{key:6} {_difference(compare[key], 'p') if compare[key] else 'n/a'}" for key in keys]


def _difference(one: dict, p: str) -> str:
    ends = f"95 % interval {one['interval'][0]:+.3f} to {one['interval'][1]:+.3f}"
    better = f"P(B > A) {one['p_better']:.2f}  " if "p_better" in one else ""
    numbers = f"A {one['a']:.3f}  B {one['b']:.3f}  B - A {one['difference']:+.3f}"
    return f"{numbers}  {ends}  p {one[p]:.3f}  {better}{one['verdict']}"


def _compared_rows(compare: dict) -> list[list[str]]:
    """[name, A, B, B - A, interval, p, P(B > A), verdict] of the numbers, then of the classes' AP."""
    rows = [
        (f"{key} {heading}".strip(), of[key], "p") for heading, of in sets(compare) for key in ("AP", "AP50", "AP75")
    ]
    classes = compare.get("per_class") or {}
    rows += [(f"AP {name}", one, "p_holm") for name, one in classes.items() if len(classes) > 1]
    return [
        [
            *(name, number(one["a"]), number(one["b"]), f"{one['difference']:+.3f}"),
            f"{one['interval'][0]:+.3f} to {one['interval'][1]:+.3f}",
            *(f"{one[p]:.3f}", f"{one.get('p_better', 0):.2f}", one["verdict"]),
        ]
        for name, one, p in rows
        if one
    ]


def compared_table(compare: dict) -> list[list[str]]:
    """The comparison as rows of text, the heads first: for the page, for Markdown and for LaTeX."""
    more = [f" and {number - 1} more" * (number > 1) for number in compare.get("runs") or (1, 1)]
    sides = [f"A = {compare.get('a', 'A')}{more[0]}", f"B = {compare['name']}{more[1]}"]
    head = ["number", *sides, "B - A", "95 % interval"]
    return [[*head, "p", "P(B > A)", "answer"], *_compared_rows(compare)]


def compared_caption(compare: dict) -> str:
    many = "p of classes corrected for their number (Holm). " if len(compare.get("per_class") or {}) > 1 else ""
    return f"B compared with A on {_same_images(compare)}, paired bootstrap. {many}{seeds_note(compare)}"


def terminal(metrics: dict) -> str:
    """The split, the twelve numbers, one a line, and AP per class; of a cross-validation its folds come first."""
    lines = []
    if metrics.get("crossval"):
        lines += [folds(metrics["crossval"]), "", "Pooled over the folds:"]
    if metrics.get("split"):
        of_run = metrics["split"] == "val" and metrics.get("checkpoint")
        lines.append(f"{metrics['split']} split: {metrics['num_images']} images{f'; {TOO_GOOD}' if of_run else ''}")
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


def few(metrics: dict) -> str:
    """A line where fewer than 50 images, or fewer than 20 objects of a class, were evaluated; else nothing.

    A cross-validation has evaluated every image there is: its own numbers say how far they spread.
    """
    if metrics.get("crossval"):
        return ""
    rare = [
        f"{name} {one['num_objects']}" for name, one in metrics["per_class"].items() if one["num_objects"] < FEW_OBJECTS
    ]
    if metrics["num_images"] >= FEW_IMAGES and not rare:
        return ""
    evaluated = f"{counted(metrics['num_images'], 'image')}, {counted(metrics['num_objects'], 'object')}"
    text = f"SMALL SET: evaluated on {evaluated}"
    if rare:
        more = f" and {len(rare) - MOST_NAMES} classes more" if len(rare) > MOST_NAMES else ""
        text += f" (fewer than {FEW_OBJECTS} of a class: {', '.join(rare[:MOST_NAMES])}{more})"
    text += "; numbers from so few images are noisy"
    if metrics.get("checkpoint"):  # of a run, not of anybody's detections
        if metrics.get("split") == "val" and metrics["settings"]["thresholds_from"] == "these images":
            text += ", and val also chose the epoch and the thresholds, so they look a little too good"
        text += ". frcnn crossval, which evaluates every image once, is the better tool"
    return text + "."
