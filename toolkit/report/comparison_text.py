"""Text and table rows of a comparison: of two runs, or of tiles and several views with plain prediction."""

from __future__ import annotations

from label_tools.text.messages import counted
from toolkit.report.number_text import number, sets


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
