"""What to say of pictures in which nothing was found."""

from __future__ import annotations

import json
from pathlib import Path

from toolkit.metrics.small_set_warning import FEW_OBJECTS
from toolkit.prediction.detector import Detector, thresholds_of

MOST_NAMES = 8  # classes that a note names


def validation_objects(run: Path, stored: dict[str, float]) -> dict[str, int]:
    """{class: objects of val that its stored threshold was chosen on}, as far as the run's files tell."""
    for place in (run, run.parent):
        try:
            metrics = json.loads((place / "val" / "metrics.json").read_bytes())
            chosen, counts = metrics["thresholds"], metrics["per_class"]
            return {n: counts[n]["num_objects"] for n in stored if abs(chosen[n]["threshold"] - stored[n]) < 1e-6}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return {}


def nothing_found(
    run: Path, detector: Detector, score: float | None, empty: int, total: int, below: dict[str, tuple[float, str]]
) -> str:
    """A note on pictures without objects: the thresholds, on how much they rest, the best score below, what to try."""
    stored, used = detector.score_thresholds, []
    objects = validation_objects(run, stored)
    thresholds = thresholds_of(detector, score)
    for category in detector.categories if score is None else []:
        name = category["name"]
        text = f"{name} {thresholds[category['id']]:.3f}"
        if name not in stored:
            text += " (no threshold was chosen yet; frcnn evaluate chooses one)"
        elif name in objects:
            few = f", fewer than {FEW_OBJECTS}: unreliable" if objects[name] < FEW_OBJECTS else ""
            text += f" (chosen on {objects[name]} validation object{'s' * (objects[name] != 1)}{few})"
        used.append(text)
    more = f" and {len(used) - MOST_NAMES} classes more" if len(used) > MOST_NAMES else ""
    shown = ", ".join(used[:MOST_NAMES]) + more if score is None else f"{score:g} (--score)"
    best = "there is no detection at any score"
    if below:
        name, (value, label) = max(below.items(), key=lambda item: item[1][0])
        best = f"best score below: {value:.3f} ({label} in {name})"
    hint = f"; --score S shows them from S on, for example --score {0.9 * value:.2g}" if below else ""
    return f"note: {empty} of {total} pictures show no object. Shown from score: {shown}; {best}{hint}"
