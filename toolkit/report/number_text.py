"""Text of a number, its interval and its count of objects, the same in all output."""

from __future__ import annotations

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
_SIZE_OF = {"s": "small", "m": "medium", "l": "large"}


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
    numbers = metrics if name is None else metrics["per_class"][name]
    text = number(numbers[key], objects_of(numbers, key))
    ends = interval(metrics, key, name)
    return f"{text} ({ends_text(ends)})" if ends and numbers[key] is not None else text


def sets(metrics: dict) -> list[tuple[str, dict]]:
    """[("by boxes", numbers), ("by masks", numbers)], or [("", numbers)] where there are no masks."""
    return [("by boxes", metrics), ("by masks", metrics["segm"])] if metrics.get("segm") else [("", metrics)]
