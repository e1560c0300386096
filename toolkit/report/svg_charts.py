"""Figures as inline SVG: lines with bands, bars, a matrix. Text stays text, colours come from the page's style.

Drawn here rather than by matplotlib: a figure is 5 to 20 KB, follows the reader's light or dark page, shows its
values on hover without a script, and a report needs no import of seconds.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeGuard

from markupsafe import Markup, escape

from label_tools.pictures.palette import PAGE_COLOURS

WIDTH, HEIGHT = 560, 330
LEFT, RIGHT, TOP, BOTTOM = 60, 14, 12, 44
NUM_COLOURS = len(PAGE_COLOURS)  # .c0, .c1, ... of the page's style


@dataclass(frozen=True)
class Line:
    """One curve. `colour` is a number of the palette; low and high make a band; points draws marks."""

    name: str
    x: Sequence[float]
    y: Sequence[float | None]
    colour: int = 0
    strong: bool = False
    dashed: bool = False
    points: bool = False
    step: bool = False
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None


def line_chart(
    lines: Sequence[Line],
    x_label: str,
    y_label: str,
    x_range: tuple[float, float] | None = None,
    y_range: tuple[float, float] | None = None,
    diagonal: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    notes: Sequence[tuple[float, float, str]] = (),
    whole_x: bool = False,
) -> Markup:
    """Curves over shared axes. marks: (x, text) of vertical lines. Missing values (None, NaN) break a curve.

    notes: (x, y, text) written beside a place. whole_x: only whole numbers on the x axis.
    """
    xs = [x for line in lines for x in line.x if _finite(x)]
    ys = [y for line in lines for y in (*line.y, *(line.low or ()), *(line.high or ())) if _finite(y)]
    axes = _Axes(x_range or _span(xs), y_range or _span(ys, zero=True))
    parts = [axes.draw(x_label, y_label, whole_x)]
    if diagonal:
        parts.append(f'<path class="guide" d="M{axes.x(0)},{axes.y(0)}L{axes.x(1)},{axes.y(1)}"/>')
    for x, text in marks:
        at = axes.x(x)
        parts.append(f'<path class="guide" d="M{at},{TOP}V{HEIGHT - BOTTOM}"><title>{escape(text)}</title></path>')
    for line in lines:
        if line.low is not None and line.high is not None:
            around = [*zip(line.x, line.high), *reversed([*zip(line.x, line.low)])]
            edge = "L".join(f"{axes.x(x)},{axes.y(y)}" for x, y in around)
            parts.append(f'<path class="band c{line.colour % NUM_COLOURS}" d="M{edge}Z"/>')
    for line in sorted(lines, key=lambda one: one.strong):
        parts.append(_curve(axes, line))
    for x, y, text in notes:
        parts.append(f'<text class="tick" x="{axes.x(x) + 7}" y="{axes.y(y) + 14}">{escape(text)}</text>')
    return _svg(parts, f"{y_label} against {x_label}")


def scatter(groups: Sequence[tuple[str, int, dict[tuple[int, int], int]]], x_label: str, y_label: str) -> Markup:
    """Points of (name, colour, {(x, y): how many lie there}), larger where more do, and the line on which y is x."""
    ends = _span([value for _, _, points in groups for point in points for value in point], zero=True)
    axes = _Axes(ends, ends)
    parts = [axes.draw(x_label, y_label, whole_x=True)]
    low, high = ends
    parts.append(f'<path class="guide" d="M{axes.x(low)},{axes.y(low)}L{axes.x(high)},{axes.y(high)}"/>')
    for name, colour, points in groups:
        for (x, y), number in sorted(points.items()):
            parts.append(_dot(axes, x, y, name, colour, number))
    return _svg(parts, f"{y_label} against {x_label}")


def _curve(axes: _Axes, line: Line) -> str:
    points = [(x, y) if _finite(x) and _finite(y) else None for x, y in zip(line.x, line.y)]
    groups = (list(group) for is_there, group in itertools.groupby(points, bool) if is_there)
    pieces = [[(axes.x(x), axes.y(y)) for x, y in filter(None, group)] for group in groups]
    kind = f"line c{line.colour % NUM_COLOURS}" + " strong" * line.strong + " dashed" * line.dashed
    to = "H{}V{}" if line.step else "L{},{}"
    path = "".join("M{},{}".format(*piece[0]) + "".join(to.format(*point) for point in piece[1:]) for piece in pieces)
    drawn = f'<path class="{kind}" d="{path}"><title>{escape(line.name)}</title></path>'
    if line.points or any(len(piece) == 1 for piece in pieces):
        drawn += "".join(_dot(axes, x, y, line.name, line.colour) for x, y in filter(None, points))
    return drawn


def _dot(axes: _Axes, x: float, y: float, name: str, colour: int, number: int = 0) -> str:
    """A mark that tells its name and place on hover; number: how many lie there."""
    size = f'r="{min(9.0, 2.5 + number**0.5):.1f}" fill-opacity=".6"' if number else 'r="3"'
    text = f"{escape(name)}: {_short(x)}, {_short(y)}" + (f" ({number})" if number else "")
    spot = f'cx="{axes.x(x)}" cy="{axes.y(y)}" {size}'
    return f'<circle class="dot c{colour % NUM_COLOURS}" {spot}><title>{text}</title></circle>'


def bar_chart(names: Sequence[str], values: Sequence[float | None], x_label: str, texts: Sequence[str]) -> Markup:
    """Horizontal bars, one a name, each with its text; a missing value has no bar."""
    row, left, right = 30, 100, 150  # right: room for the longest text
    height = TOP + row * len(names) + BOTTOM
    good = [v for v in values if _finite(v)]
    low, high = min([0.0, *good]), max([0.0, *good])
    ticks = _ticks(low, high if high > low else 1.0, 5)
    low, high = min(low, ticks[0]), max(high, ticks[-1])
    scale = (WIDTH - left - right) / (high - low)

    def at(value: float) -> float:
        return round(left + (value - low) * scale, 1)

    parts = []
    for tick in ticks:
        parts.append(f'<path class="grid" d="M{at(tick)},{TOP}V{height - BOTTOM}"/>')
        parts.append(_text("tick", at(tick), height - BOTTOM + 16, "middle", _short(tick)))
    for i, (name, value, text) in enumerate(zip(names, values, texts)):
        y = TOP + row * i + 5
        parts.append(_text("name", left - 8, y + 14, "end", name))
        end = at(0)
        if _finite(value):
            x, end = min(at(0), at(value)), max(at(0), at(value))
            parts.append(f'<rect class="bar c0" x="{x}" y="{y}" width="{max(end - x, 0.5):.1f}" height="20" rx="2"/>')
        parts.append(f'<text class="value" x="{end + 6}" y="{y + 14}">{escape(text)}</text>')
    parts.append(_text("label", (left + WIDTH - right) / 2, height - 8, "middle", x_label))
    return _svg(parts, x_label, height)


def histogram(
    groups: Sequence[tuple[str, Sequence[int]]],
    edges: Sequence[float],
    x_label: str,
    y_label: str = "objects",
    cut: float | None = None,
    colours: Sequence[int] = range(NUM_COLOURS),
) -> Markup:
    """Stacked counts per bin of equal drawn width; the edges are written below. cut: taller bars end there."""
    totals = [sum(counts[b] for _, counts in groups) for b in range(len(edges) - 1)]
    top: float = min(max([1, *totals]), max(cut, 1) if cut is not None else math.inf)
    ticks = [t for t in _ticks(0, top, 4) if t == int(t)]
    top = max(top, ticks[-1])
    width = (WIDTH - LEFT - RIGHT) / max(1, len(totals))
    scale = (HEIGHT - TOP - BOTTOM) / top
    parts = []
    for tick in ticks:
        parts.append(_y_tick(round(HEIGHT - BOTTOM - tick * scale, 1), f"{int(tick)}"))
    for b, total in enumerate(totals):
        base, x = float(HEIGHT - BOTTOM), LEFT + b * width
        bounds = f"{_short(edges[b])} to {_short(edges[b + 1])}"
        for g, (name, counts) in enumerate(groups):
            tall = min(counts[b] * scale, base - TOP)
            base -= tall
            if counts[b]:
                text = f"{escape(name)}, {bounds}: {counts[b]} of {total}"
                spot = f'x="{x + 1:.1f}" y="{base:.1f}" width="{width - 2:.1f}" height="{tall:.1f}"'
                parts.append(f'<rect class="bar c{colours[g % len(colours)]}" {spot}><title>{text}</title></rect>')
    for b, edge in enumerate(edges):
        if len(edges) <= 12 or b % 2 == 0:
            parts.append(_text("tick", round(LEFT + b * width, 1), HEIGHT - BOTTOM + 16, "middle", _short(edge)))
    return _svg([*parts, *_labels(x_label, y_label)], x_label)


def matrix(names: Sequence[str], counts: Sequence[Sequence[int]]) -> Markup:
    """Counts as a square of cells, each row shaded by its share; the last row and column are background."""
    n = len(names)
    cell = max(14, min(54, 560 // n))
    longest = max(map(len, names))
    left, top = min(150, 14 + 7 * longest) + 16, min(120, 10 + 6 * longest) + 18
    width, height = left + n * cell + 8, top + n * cell + 8
    small = f' style="font-size:{min(12.5, 0.8 * cell):.1f}px"'
    parts = []
    for i, row in enumerate(counts):
        total = max(1, sum(row))
        y = top + i * cell
        middle = f'y="{y + cell / 2 + 4}"'
        parts.append(f'<text class="name" x="{left - 6}" {middle} text-anchor="end"{small}>{_clip(names[i])}</text>')
        for j, count in enumerate(row):
            if not count and n > 20:
                continue  # thousands of empty cells would be most of the page
            x, share = left + j * cell, count / total
            kind = "right" if i == j and i < n - 1 else "wrong"
            text = f"{names[i]} detected as {names[j]}: {count} ({100 * share:.0f} % of the row)"
            spot = f'x="{x}" y="{y}" width="{cell - 1}" height="{cell - 1}" rx="2"'
            parts.append(f'<g class="cell {kind}"><title>{escape(text)}</title><rect {spot}/>')
            if count:
                parts.append(f'<rect class="fill" {spot} style="--share:{0.9 * share:.2f}"/>')
            if count and cell >= 22:
                strong = " inverse" if share > 0.55 else ""
                at = f'x="{x + cell / 2 - 0.5}" {middle} text-anchor="middle"'
                parts.append(f'<text class="count{strong}" {at}>{count}</text>')
            parts.append("</g>")
    if n > 20:
        parts.insert(
            0, f'<g class="cell"><rect x="{left}" y="{top}" width="{n * cell}" height="{n * cell}" rx="2"/></g>'
        )
    for j, name in enumerate(names):
        at_x = left + j * cell + cell / 2 + 4
        turn = -45 if cell >= 22 else -90
        parts.append(
            f'<text class="name" transform="translate({at_x},{top - 6}) rotate({turn})"{small}>{_clip(name)}</text>'
        )
    return _svg(parts, "confusion matrix", height, width + min(60, 5 * longest))


def whisker(value: float | None, ends: Sequence[float] | None) -> Markup:
    """A small bar on 0..1 with its interval, for tables."""
    if value is None:
        return Markup("")
    low, high = ends or (value, value)
    words = f"{value:.3f}, 95 % interval {low:.3f} to {high:.3f}" if ends else f"{value:.3f}"
    end = max(100 * high, 100 * low + 0.5)
    return Markup(
        f'<svg class="whisker" viewBox="0 0 100 14" preserveAspectRatio="xMinYMid" role="img" aria-label="{words}">'
        f'<path class="grid" d="M0,7H100"/><path class="range" d="M{100 * low:.1f},7H{end:.1f}"/>'
        f'<circle class="dot c0" cx="{100 * value:.1f}" cy="7" r="3.4"/></svg>'
    )


class _Axes:
    """Data -> pixels, and the frame with its ticks."""

    def __init__(self, x_range: tuple[float, float], y_range: tuple[float, float]) -> None:
        self.x_range, self.y_range = x_range, y_range

    def x(self, value: float) -> float:
        low, high = self.x_range
        return round(LEFT + (value - low) / (high - low) * (WIDTH - LEFT - RIGHT), 1)

    def y(self, value: float) -> float:
        low, high = self.y_range
        value = min(max(value, low), high)
        return round(HEIGHT - BOTTOM - (value - low) / (high - low) * (HEIGHT - TOP - BOTTOM), 1)

    def draw(self, x_label: str, y_label: str, whole_x: bool) -> str:
        parts = []
        for tick in _ticks(*self.x_range, 6):
            if whole_x and tick != round(tick):
                continue
            at = self.x(tick)
            parts.append(f'<path class="grid" d="M{at},{TOP}V{HEIGHT - BOTTOM}"/>')
            parts.append(_text("tick", at, HEIGHT - BOTTOM + 16, "middle", _short(tick)))
        parts += [_y_tick(self.y(tick), _short(tick)) for tick in _ticks(*self.y_range, 5)]
        return "".join([*parts, *_labels(x_label, y_label)])


def _text(kind: str, x: float, y: float, anchor: str, text: str) -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(text)}</text>'


def _y_tick(at: float, text: str) -> str:
    return f'<path class="grid" d="M{LEFT},{at}H{WIDTH - RIGHT}"/>' + _text("tick", LEFT - 6, at + 4, "end", text)


def _labels(x_label: str, y_label: str) -> tuple[str, str]:
    """The names of both axes."""
    turned = f'transform="translate(13,{TOP + (HEIGHT - TOP - BOTTOM) / 2}) rotate(-90)" text-anchor="middle"'
    along_y = f'<text class="label" {turned}>{escape(y_label)}</text>'
    return _text("label", (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 8, "middle", x_label), along_y


def _svg(parts: list[str], title: str, height: float = HEIGHT, width: float = WIDTH) -> Markup:
    body = "".join(parts)
    return Markup(
        f'<svg class="chart" viewBox="0 0 {width:g} {height:g}" role="img" aria-label="{escape(title)}" '
        f'style="max-width:{width:g}px">{body}</svg>'
    )


def _ticks(low: float, high: float, wanted: int) -> list[float]:
    """Round numbers within low..high, about `wanted` of them."""
    if not high > low:
        return [low]
    raw = (high - low) / wanted
    power = 10.0 ** math.floor(math.log10(raw))
    step = min((s * power for s in (1, 2, 2.5, 5, 10)), key=lambda s: abs(s - raw))
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(i * step, 12) for i in range(first, last + 1)]


def _span(values: Sequence[float], zero: bool = False) -> tuple[float, float]:
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if zero:
        low = min(low, 0.0)
    if high <= low:
        high = low + 1.0
    return low, high if not zero else high * 1.04


def _finite(value: float | None) -> TypeGuard[float]:
    return value is not None and math.isfinite(value)


def _short(value: float) -> str:
    if value == 0:
        return "0"
    if abs(value) >= 1e5 or abs(value) < 1e-3:
        return f"{value:.1e}".replace("e+0", "e").replace("e-0", "e-")
    return f"{value:.3g}" if abs(value) < 1000 else f"{value:.0f}"


def _clip(name: str) -> Markup:
    return escape(name if len(name) <= 20 else name[:19] + "…")
