"""Read gallery.json for the page: check every entry, embed the pictures as data: addresses, place their tags."""

from __future__ import annotations

import base64
import math
import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

from label_tools.document.coco_file import is_inside
from label_tools.files.strict_reading import loads
from label_tools.text.errors import InputError

CROPS = ("missed", "false", "suspects")
KINDS = ("true", "missed", "crowd", "right", "false")
MOST_TAGS = 6  # a picture with more to say has colours and lines, and says the rest on hover and when enlarged


@dataclass
class Pictures:
    """images and crops as the templates show them; colours: (class, "#rrggbb") in the order of the classes."""

    images: list[dict] = field(default_factory=list)
    crops: dict[str, list[dict]] = field(default_factory=lambda: {name: [] for name in CROPS})
    colours: list[tuple[str, str]] = field(default_factory=list)
    num_images: int = 0
    note: str = ""


def read_pictures(folder: Path, where: str, problems: list[str]) -> Pictures:
    """The pictures of the evaluation in `folder`; what is not as written becomes a problem.

    where: the folder as seen from the page, from which links to the images start.
    """
    made = Pictures()
    try:
        content = loads((folder / "gallery.json").read_bytes(), "gallery.json")
        if isinstance(content, dict) and "galleries" in content:
            made.note = "The pictures are those of an older version: `frcnn evaluate` makes them again."
            return made
        made.note, made.num_images = str(content["note"]), int(content["num_images"])
        made.colours = [(str(name), _colour(colour)) for name, colour in content["colours"]]
        root = f"{where}/{content['image_root']}"
        images, crops = list(content["images"]), dict(content["crops"])
    except (OSError, LookupError, TypeError, ValueError, InputError) as error:
        problems.append(f"gallery.json cannot be read: {error}")
        return Pictures()
    numbers = {name: k for k, (name, _) in enumerate(made.colours)}
    odd = 0
    for items, whole, place in [(images, True, made.images), *((crops.get(n), False, made.crops[n]) for n in CROPS)]:
        for item in items if isinstance(items, list) else [{}]:
            try:
                checked = _item(item, numbers, root, whole=whole)
                picture = (folder / "pictures" / Path(item["file"]).name).read_bytes()
            except (LookupError, TypeError, ValueError, AttributeError):
                odd += 1
            except OSError:
                continue
            else:
                checked["address"] = "data:image/jpeg;base64," + base64.b64encode(picture).decode()
                place.append(checked)
    if odd:
        problems.append(f"gallery.json: {odd} entries are not as frcnn wrote them, and are left out")
    return made


def _colour(text: str) -> str:
    if not re.fullmatch("#[0-9a-fA-F]{6}", text):
        raise ValueError(f"{text!r} is no colour")
    return text


def _item(item: dict, numbers: dict[str, int], root: str, *, whole: bool) -> dict:
    """An entry with numbers where there must be some. Raises LookupError, TypeError or ValueError."""
    found: dict = {key: str(item[key]) for key in ("title", "file_name")}
    found["link"] = quote(f"./{root}/{item['file_name']}") if is_inside(found["file_name"]) else ""
    if whole:
        found["objects"] = [(str(name), int(number)) for name, number in item["objects"]]
        found["suspects"] = int(item["suspects"])
    found["boxes"] = [_shape(box, numbers) for box in item["boxes"]]
    found["view"] = _four(item["view"])
    if min(found["view"][2:]) <= 0:
        raise ValueError
    return found


def _shape(box: dict, numbers: dict[str, int]) -> dict:
    kind = str(box["kind"])
    if kind not in KINDS:
        raise ValueError(kind)
    return {
        "kind": kind,
        "k": numbers[box["class"]],
        "bbox": _four(box["bbox"]),
        "outline": [[float(v) for v in ring] for ring in box.get("outline") or []],
        "score": None if box["score"] is None else float(box["score"]),
        "shown": bool(box["shown"]),
        "hint": str(box["hint"]),
    }


def _four(values: list) -> list[float]:
    x, y, w, h = (float(value) for value in values)
    if not all(map(math.isfinite, (x, y, w, h))):
        raise ValueError
    return [x, y, w, h]


def tags(item: dict, width: int) -> list[dict]:
    """Texts of what is wrong in a picture, {"text", "x", "y", "size"}, where they cover no box and no other text.

    width: about how wide the page shows the picture. A picture where much is wrong has none.
    """
    x, y, w, h = item["view"]
    size = 12.5 * w / width  # the same size on the page, whatever part of the image is shown
    wrong = [box for box in item["boxes"] if box["kind"] in ("false", "missed") and box["shown"]]
    taken = [box["bbox"] for box in item["boxes"] if box["shown"]]
    drawn: list[dict] = []
    for box in wrong if len(wrong) <= MOST_TAGS else []:
        bx, by, bw, bh = box["bbox"]
        if not (x <= bx + bw / 2 <= x + w and y <= by + bh / 2 <= y + h):
            continue
        text = box["hint"].split(": ", 1)[-1]
        wide = 0.66 * size * len(text)
        left = max(min(bx, x + w - wide), x + 0.2 * size)
        others = [one for one in taken if one is not box["bbox"]]
        for base in (by - 0.35 * size, by + bh + size):
            room = [left, base - 0.9 * size, wide, 1.1 * size]
            if base - size < y or base + 0.3 * size > y + h or any(_meet(room, one) for one in others):
                continue
            taken.append(room)
            drawn.append({"text": text, "x": left, "y": base, "size": size})
            break
    return drawn


def _meet(a: list[float], b: list[float]) -> bool:
    return a[0] < b[0] + b[2] and b[0] < a[0] + a[2] and a[1] < b[1] + b[3] and b[1] < a[1] + a[3]
