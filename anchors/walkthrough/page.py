"""index.html: the story of story.txt around the fourteen figures. No script, nothing from elsewhere."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent


class Chapter(NamedTuple):
    """One figure: its file, heading, paragraphs, the formula in plain text, and where the paper or code says so."""

    file: str
    heading: str
    text: tuple[str, ...]
    formula: str = ""
    source: str = ""


def count(value: int) -> str:
    return f"{value:,}"


def chapters(numbers: dict, files: list[str]) -> list[Chapter]:
    """The chapters of story.txt with their numbers, which are those of numbers.json."""
    story = (HERE / "story.txt").read_text(encoding="utf-8").format_map(words(numbers))
    return [chapter(file, part) for file, part in zip(files, story.split("# ")[1:], strict=True)]


def chapter(file: str, part: str) -> Chapter:
    """`part` is a heading, paragraphs, and perhaps a line "= formula" and a line "@ source"."""
    heading, *lines = part.strip().split("\n")
    marked = {mark: line[2:] for line in lines for mark in "=@" if line.startswith(f"{mark} ")}
    text = "\n".join(line for line in lines if line[:2] not in ("= ", "@ "))
    paragraphs = tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return Chapter(file, heading, paragraphs, marked.get("=", ""), marked.get("@", ""))


def words(numbers: dict) -> dict[str, str]:
    """Every number of the story, as it is written."""
    picture, training = numbers["picture"], numbers["training"]
    anchors, labels, sample = picture["anchors"], picture["labels"], picture["sample"]
    best = ", ".join(f"{value:.3f}" for value in labels["best_iou"][:6])
    if labels["at_least_0.7"] == 0:
        ties = " + ".join(str(value) for value in labels["positive_by_tie"][:8])
        rule = (
            f"Here no anchor reaches .7 (the best are {best}), so all {labels['positive']} positives come from the "
            f"second rule: the best anchors of each object, ties included ({ties})."
        )
    else:
        rule = f"Here {count(labels['at_least_0.7'])} anchors reach .7; the best IoUs are {best}."
    plain = {**anchors, **labels, **training, "wanted": sample["wanted"], "inputs": picture["head"]["inputs"]}
    plain |= {"sampled_positive": sample["positive"], "sampled_negative": sample["negative"]}
    return {"rule": rule, **{name: count(value) for name, value in plain.items() if isinstance(value, int)}}


def page(numbers: dict, files: list[str]) -> str:
    """The whole page."""
    parts = chapters(numbers, files)
    links = "\n".join(f'<a href="#f{i:02}">{i}. {escape(part.heading)}</a>' for i, part in enumerate(parts, start=1))
    body = "\n".join(section(i, part) for i, part in enumerate(parts, start=1))
    names = numbers["picture"]["objects"]
    style = (HERE / "page.css").read_text(encoding="utf-8").strip()
    objects = ", ".join(f"{value} {escape(name)}" for name, value in names.items())
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Faster R-CNN, step by step</title>
<style>
{style}
</style>
</head>
<body>
<header>
<h1>Faster R-CNN, step by step</h1>
<p class="lead">One picture ({objects}) on its way through the detector: from a grid of anchors to a sample
that trains it, from proposals to detections. Fourteen figures; every number is computed by the code that is
explained.</p>
<nav>
{links}
</nav>
</header>
<main>
{body}
<h2 id="numbers">The numbers in one place</h2>
{table(numbers)}
<footer>The same numbers are in <a href="numbers.json">numbers.json</a>. Each step is one short file of the package
<code>anchors</code>, with its formula, its limits and its place in the papers; <code>frcnn anchors exercises</code>
writes an exercise for each.</footer>
</main>
</body>
</html>
"""


def section(number: int, part: Chapter) -> str:
    text = "\n".join(f"<p>{escape(paragraph, quote=False)}</p>" for paragraph in part.text)
    formula = f"<pre>{escape(part.formula, quote=False)}</pre>" if part.formula else ""
    source = f'<p class="note">{escape(part.source, quote=False)}</p>' if part.source else ""
    return f"""<section id="f{number:02}">
<h2><span>{number}</span>{escape(part.heading)}</h2>
{text}
<figure><a href="{part.file}"><img src="{part.file}" alt="Figure {number}: {escape(part.heading)}"
width="1600" height="900"></a></figure>
{formula}
{source}
</section>"""


def table(numbers: dict) -> str:
    anchors, labels, sample = (numbers["picture"][key] for key in ("anchors", "labels", "sample"))
    training = numbers["training"]
    rows = [
        (count(anchors["all"]), "anchors: 50 · 50 · 9"),
        (count(anchors["inside"]), "inside the picture"),
        (count(anchors["inside_torchvision"]), "inside, with torchvision's grid and rounding"),
        (count(anchors["inside_paper_code"]), "inside, with the boxes of the paper's code"),
        (count(labels["positive"]), "positive"),
        (count(labels["negative"]), "negative"),
        (count(labels["ignored"]), "ignored"),
        (f"{sample['positive']} + {sample['negative']}", "in the sample of 256"),
        (f"{training['candidates']} → {training['kept']}", "proposals of the tiny network, through NMS"),
        (f"{training['rois_foreground']} + {training['rois_background']}", "RoIs, foreground and background"),
        (count(numbers["picture"]["head"]["inputs"]), "inputs of the lecture's head: 7 · 7 · 512"),
    ]
    lines = "\n".join(f'<tr><td class="n">{value}</td><td>{escape(words)}</td></tr>' for value, words in rows)
    return f"<table>\n{lines}\n</table>"
