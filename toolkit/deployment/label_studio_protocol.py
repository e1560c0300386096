"""Label Studio's protocol for a machine-learning backend, as plain values: what it asks, what it is answered.

    POST /setup    {"project": "1.17", "schema": "<View>...</View>"}                 -> {"model_version": "..."}
    POST /predict  {"tasks": [{"data": {"image": "..."}}], "label_config": "..."}    -> {"results": [prediction, ...]}

A prediction is {"model_version", "score", "result": [region, ...]}; a region names the tags of the labelling
configuration and holds its box in percent of the picture.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from label_tools.files.strict_xml import parse_xml_bytes
from label_tools.text.errors import InputError
from toolkit.prediction.detector import Found


@dataclass(frozen=True)
class Control:
    """The tags that a labelling configuration has for boxes. key: of the picture in a task's data; labels: of the
    boxes, empty where none are named."""

    from_name: str = "label"
    to_name: str = "image"
    key: str = "image"
    labels: frozenset[str] = frozenset()


def control_of(label_config: str | None) -> Control:
    """The first <RectangleLabels> of a configuration with the <Image> it belongs to. Raises InputError."""
    if not label_config:
        return Control()
    root = parse_xml_bytes(label_config.encode(), "label_config")
    pictures = {tag.get("name"): tag.get("value", "").removeprefix("$") for tag in root.iter("Image")}
    for tag in root.iter("RectangleLabels"):
        name, to_name = tag.get("name"), tag.get("toName")
        if name and to_name in pictures and to_name:
            labels = frozenset(filter(None, (label.get("value") for label in tag.iter("Label"))))
            return Control(name, to_name, pictures[to_name] or "image", labels)
    raise InputError("label_config: has no <RectangleLabels> on an <Image>, needs one for boxes")


def picture_of(task: Any, control: Control) -> str:
    """What a task calls its picture: an address, or a data: URI. Raises InputError."""
    data = task.get("data") if isinstance(task, dict) else None
    text = data.get(control.key) if isinstance(data, dict) else None
    if not isinstance(text, str) or not text:
        raise InputError(f'task: has no text at data["{control.key}"], needs the address of a picture')
    return text


def prediction(
    found: Found, names: Mapping[int, str], size: tuple[int, int], control: Control, version: str
) -> dict[str, Any]:
    """The prediction for one picture of `size` (width, height). Classes that the configuration lacks are left out."""
    width, height = size
    regions = []
    for one in found:
        name = names[one["category_id"]]
        if control.labels and name not in control.labels:
            continue
        x, y, w, h = one["bbox"]
        percent = {"x": x / width, "y": y / height, "width": w / width, "height": h / height}
        regions.append(
            {
                "from_name": control.from_name,
                "to_name": control.to_name,
                "type": "rectanglelabels",
                "original_width": width,
                "original_height": height,
                "image_rotation": 0,
                "score": one["score"],
                "value": {
                    **{key: round(100 * value, 5) for key, value in percent.items()},
                    "rotation": 0,
                    "rectanglelabels": [name],
                },
            }
        )
    scores = [region["score"] for region in regions]
    return {"model_version": version, "score": min(scores, default=0.0), "result": regions}
