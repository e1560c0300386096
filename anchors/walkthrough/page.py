"""The page index.html: the text of story.txt around the figures. No script, no external resources."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path
from typing import NamedTuple

from PIL import Image

HERE = Path(__file__).parent


class Chapter(NamedTuple):
    """One figure: its file, heading, paragraphs, formulas in plain text, and where the paper or code says so."""

    file: str
    heading: str
    text: tuple[str, ...]
    formulas: tuple[str, ...] = ()
    source: str = ""


def chapters(numbers: dict, files: list[str]) -> list[Chapter]:
    """The chapters of story.txt, filled with the numbers of numbers.json."""
    story = (HERE / "story.txt").read_text(encoding="utf-8").format_map(words(numbers))
    return [chapter(file, part) for file, part in zip(files, story.split("# ")[1:], strict=True)]


def chapter(file: str, part: str) -> Chapter:
    """`part` is a heading, paragraphs, and perhaps lines "= formula" and a line "@ source"."""
    heading, *lines = part.strip().split("\n")
    formulas = tuple(line[2:] for line in lines if line.startswith("= "))
    source = " ".join(line[2:] for line in lines if line.startswith("@ "))
    text = "\n".join(line for line in lines if line[:2] not in ("= ", "@ "))
    paragraphs = tuple(" ".join(paragraph.split()) for paragraph in text.split("\n\n"))
    return Chapter(file, heading, paragraphs, formulas, source)


def words(numbers: dict) -> dict[str, str]:
    """The numbers and sentences that story.txt refers to, as text."""
    picture, training = numbers["picture"], numbers["training"]
    anchors, labels, sample = picture["anchors"], picture["labels"], picture["sample"]
    best = ", ".join(f"{value:.3f}" for value in labels["best_iou"][:6])
    if labels["at_least_0.7"] == 0:
        ties = " + ".join(str(value) for value in labels["positive_by_tie"][:8])
        rule = (
            f"Here no anchor reaches 0.7 (the best are {best}), so all {labels['positive']} positives come from the "
            f"second rule: the best anchors of each object, ties included ({ties})."
        )
    else:
        rule = f"Here {labels['at_least_0.7']:,} anchors reach 0.7; the best IoUs are {best}."
    plain = {**anchors, **labels, **training, "wanted": sample["wanted"], "inputs": picture["head"]["inputs"]}
    plain |= {"sampled_positive": sample["positive"], "sampled_negative": sample["negative"]}
    return {
        "rule": rule,
        "learnt": learnt(training),
        "mask_iou": f"{numbers['mask']['iou']:.3f}",
        "mask_object": numbers["mask"]["object"],
        **{name: f"{value:,}" for name, value in plain.items() if isinstance(value, int)},
    }


def learnt(training: dict) -> str:
    """A sentence on how many objects the network finds before and after training."""
    first, last = training["detections"][0], training["detections"][-1]
    objects, steps = training["objects"], f"{training['steps']:,}"
    text = f"Before training it finds {first['found']} of {objects}, after {steps} steps {last['found']} of {objects}."
    if last["found"] == objects:
        return f"{text} It has learnt this one picture."
    return f"{text} That is too little training to see it learn; without --quick it takes 300 steps."


def page(numbers: dict, folder: Path, files: list[str]) -> str:
    """The whole page; `folder` holds the figures and their parts for narrow screens."""
    parts = chapters(numbers, files)
    links = "\n".join(f'<a href="#f{i:02}">{i}. {escape(part.heading)}</a>' for i, part in enumerate(parts, start=1))
    body = "\n".join(section(i, part, folder) for i, part in enumerate(parts, start=1))
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
that trains it, from proposals to detections and masks. Every number is computed by the code that is explained.</p>
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


def section(number: int, part: Chapter, folder: Path) -> str:
    text = "\n".join(f"<p>{escape(paragraph, quote=False)}</p>" for paragraph in part.text)
    formulas = "".join(f"<code>{breakable(formula)}</code>" for formula in part.formulas)
    formula = f'<div class="formulas">{formulas}</div>' if formulas else ""
    source = f'<p class="note">{escape(part.source, quote=False)}</p>' if part.source else ""
    return f"""<section id="f{number:02}">
<h2><span>{number}</span>{escape(part.heading)}</h2>
{text}
{figure(number, part, folder)}
{formula}
{source}
</section>"""


def breakable(formula: str) -> str:
    """Format a formula so that lines break only at runs of two spaces or more."""
    pieces = re.split(r" {2,}", formula)
    return " &nbsp; ".join(f"<span>{escape(piece, quote=False)}</span>" for piece in pieces)


def figure(number: int, part: Chapter, folder: Path) -> str:
    """The figure for wide screens; on narrow ones its parts, one below the other, and its sentence as text."""
    with Image.open(folder / part.file) as opened:
        sentence, (width, height) = opened.info["Description"], opened.size
    alt = escape(f"Figure {number}: {part.heading}. {sentence}")
    images = "\n".join(image(path, alt, width) for path in sorted(folder.glob(f"{Path(part.file).stem}_?.png")))
    return f"""<figure>
<a class="wide" href="{part.file}"><img src="{part.file}" alt="{alt}" width="{width}" height="{height}"></a>
<div class="parts">
<figcaption>{escape(sentence, quote=False)}</figcaption>
{images}
</div>
</figure>"""


def image(path: Path, alt: str, whole: int) -> str:
    with Image.open(path) as opened:
        width, height = opened.size
    name = ' class="half"' if width < 0.25 * whole else ""
    return f'<img{name} src="{path.name}" alt="{alt}" width="{width}" height="{height}" loading="lazy">'


def table(numbers: dict) -> str:
    anchors, labels, sample = (numbers["picture"][key] for key in ("anchors", "labels", "sample"))
    training = numbers["training"]
    rows = [
        (f"{anchors['all']:,}", "anchors: 50 · 50 · 9"),
        (f"{anchors['inside']:,}", "inside the picture"),
        (f"{anchors['inside_torchvision']:,}", "inside, with torchvision's grid and rounding"),
        (f"{anchors['inside_paper_code']:,}", "inside, with the boxes of the paper's code"),
        (f"{labels['positive']:,}", "positive"),
        (f"{labels['negative']:,}", "negative"),
        (f"{labels['ignored']:,}", "ignored"),
        (f"{sample['positive']} + {sample['negative']}", "in the sample of 256"),
        (f"{training['candidates']} → {training['kept']}", "proposals of the tiny network, through NMS"),
        (f"{training['rois_foreground']} + {training['rois_background']}", "RoIs, foreground and background"),
        (f"{numbers['picture']['head']['inputs']:,}", "inputs of the paper's head: 7 · 7 · 512"),
    ]
    lines = "\n".join(f'<tr><td class="n">{value}</td><td>{escape(words)}</td></tr>' for value, words in rows)
    return f"<table>\n{lines}\n</table>"
