"""Warn when a set is too small for its numbers, from metrics.json alone."""

from __future__ import annotations

FEW_IMAGES = 50
FEW_OBJECTS = 20  # of a class
MOST_NAMES = 3


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
    text = (
        f"SMALL SET: evaluated on {_count(metrics['num_images'], 'image')}, {_count(metrics['num_objects'], 'object')}"
    )
    if rare:
        more = f" and {len(rare) - MOST_NAMES} classes more" if len(rare) > MOST_NAMES else ""
        text += f" (fewer than {FEW_OBJECTS} of a class: {', '.join(rare[:MOST_NAMES])}{more})"
    text += "; numbers from so few images are noisy"
    if metrics.get("checkpoint"):  # of a run, not of anybody's detections
        if metrics.get("split") == "val" and metrics["settings"]["thresholds_from"] == "these images":
            text += ", and val also chose the epoch and the thresholds, so they look a little too good"
        text += ". frcnn crossval, which evaluates every image once, is the better tool"
    return text + "."


def _count(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
