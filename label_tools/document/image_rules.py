"""The rules for the images of a COCO document: ids, file names, sizes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from label_tools.document.examined import Examined, key_of
from label_tools.document.values import is_too_long, short, whole
from label_tools.text.findings import ERROR, WARNING

LARGEST_IMAGE_SIDE = 1_000_000
Size = Callable[[str], tuple[int, int] | None]  # file_name -> width and height of the picture, None: it is not there


def images_of(items: list, size: Size | None, found: Examined) -> dict[Any, dict | None]:
    """{id as it is compared: image in our dialect, or None for one that is left out}."""
    images: dict[Any, dict | None] = {}
    first_id: dict[Any, int] = {}
    first_name: dict[str, int] = {}
    text_id = ""
    for i, item in enumerate(items):
        place = f"images[{i}]"
        if not isinstance(item, dict) or not isinstance(item.get("file_name"), str) or not item["file_name"]:
            found.refuse("B26", place, "needs an object with id, file_name, width and height")
            continue
        file_name, key = item["file_name"], key_of(item.get("id"))
        if key is None:
            found.refuse("B26", place, f"id {short(item.get('id'))}, needs a whole number or a text")
            continue
        if "\\" in file_name:
            found.say(WARNING, "B29", place, f'backslashes in file_name "{file_name}" read as slashes')
            file_name = file_name.replace("\\", "/")
        if key in first_id and items[first_id[key]] == item:
            found.say(WARNING, "B42", place, f"the same as images[{first_id[key]}]; read once")
            continue
        for what, value, first in (("id", key, first_id), ("file_name", file_name, first_name)):
            if first.setdefault(value, i) != i:
                text = f"{what} {short(value)} is already that of images[{first[value]}]"
                found.refuse("B42", place, text, "delete one of the two, its annotations too")
        if isinstance(key, str):
            text_id = text_id or f"{place}: id {short(key)}"
        elif type(item["id"]) is not int:
            found.say(WARNING, "B49", place, f"id {item['id']!r} read as {key}")
        if is_too_long(file_name):
            found.say(ERROR, "B38", place, f"file_name {short(file_name)} is longer than any file's name; left out")
            images[key] = None
            continue
        sides = _size(item, file_name, size, place, found)
        if file_name is item["file_name"] and type(item["id"]) is int and _written_size(item) == sides:
            images[key] = item  # shared with the document that was given: never changed below
        else:
            images[key] = sides and {**item, "id": key, "file_name": file_name, "width": sides[0], "height": sides[1]}
    if text_id:  # all of them are numbered, so that none stands between
        found.say(WARNING, "B49", text_id.partition(":")[0], f"{text_id.partition(': ')[2]} is a text; images numbered")
        found.image_ids = {key: number for number, key in enumerate(images, start=1)}
        for key, image in images.items():
            if image is not None:
                images[key] = {**image, "id": found.image_ids[key]}
    return images


def _written_size(item: dict) -> tuple[int, int] | str:
    """Width and height where both stand there as whole numbers."""
    width, height = item.get("width"), item.get("height")
    return (width, height) if type(width) is int and type(height) is int else "other"


def _size(item: dict, file_name: str, size: Size | None, place: str, found: Examined) -> tuple[int, int] | None:
    """Width and height; None where neither the document nor the picture gives them, which leaves the image out."""
    width, height = whole(item.get("width")), whole(item.get("height"))
    if width and height and min(width, height) > 0 and max(width, height) <= LARGEST_IMAGE_SIDE:
        return width, height
    says = f'"{file_name}" has size {short(item.get("width"))} x {short(item.get("height"))}'
    unsaid = all(item.get(side) in (None, -1, 0) for side in ("width", "height"))
    if unsaid and size is not None and (sides := size(file_name)) is not None:
        found.say(WARNING, "B52", place, f"{says}; taken from the picture: {sides[0]} x {sides[1]}")
        return sides
    needs = f"needs two whole numbers from 1 to {LARGEST_IMAGE_SIDE}"
    where = ", and the picture is not there" if unsaid and size is not None else ""
    if where:
        found.say(ERROR, "B52", place, f"{says}{where}; left out")
    else:
        found.refuse("B26", f'{place} "{file_name}"', f"size {says.partition(' has size ')[2]}, {needs}")
    return None
