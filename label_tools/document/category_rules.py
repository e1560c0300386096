"""The rules for the categories of a COCO document: ids, names, two of one name, roots that only group the others."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Collection
from typing import Any

from label_tools.document.examined import Examined, key_of
from label_tools.document.values import short
from label_tools.text.clean_label import clean_label
from label_tools.text.findings import NOTE, WARNING


def categories_of(items: list, annotations: list, found: Examined) -> dict[Any, dict]:
    """{id as it is compared: category in our dialect}."""
    categories: dict[Any, dict] = {}
    by_name: dict[str, Any] = {}
    spelling: dict[str, str] = {}
    text_id = ""
    if not items:
        found.refuse("B44", "categories", "no category at all, needs one or more")
    used: Counter | None = None
    for i, item in enumerate(items):
        place = f"categories[{i}]"
        key = key_of(item.get("id")) if isinstance(item, dict) else None
        if key is None or not isinstance(item.get("name"), str) or not item["name"].strip():
            found.refuse("B26", place, "needs an object with id and name")
            continue
        clean, wrong = clean_label(item["name"])
        if wrong:
            found.refuse("B37", place, wrong, "rename the class")
            continue
        if clean != item["name"]:
            found.say(WARNING, "B36", place, f"name {short(item['name'])} read as {short(clean)}")
        if categories.get(key, {}).get("name") == clean:
            found.say(WARNING, "B44", place, f"id {short(item['id'])}, name {short(clean)} a second time; read once")
            continue
        if key in categories:
            fix = "every class needs one id and one name"
            found.refuse("B44", place, f"the id {short(item['id'])} is already that of another category", fix)
            continue
        if clean in by_name:
            if used is None:
                used = Counter(key_of(a.get("category_id")) for a in annotations if isinstance(a, dict))
            other = by_name[clean]
            if used[key] and used[other]:
                text = f"the name {short(clean)} is already that of id {short(other)}"
                found.refuse("B44", place, text, "every class needs one id and one name")
                continue
            unused = key if not used[key] else other
            text = f"the name {short(clean)} stands twice; id {short(unused)}, which no annotation has, is left out"
            found.say(WARNING, "B44", place, text)
            if unused == key:
                continue
            del categories[other]
        elif spelling.setdefault(clean.casefold(), clean) != clean:
            other = spelling[clean.casefold()]
            text = f'"{clean}" beside "{other}": perhaps one class in two spellings'
            change = " ".join(map(shlex.quote, (found.name, f"{clean}={other}")))
            found.say(WARNING, "B36", place, text, f"make it one: frcnn rename {change} --out NEW.json")
        by_name[clean] = key
        text_id = text_id or (place if isinstance(key, str) else "")
        categories[key] = {**item, "id": key, "name": clean}
    _say_roots(categories, annotations, found)
    if text_id:
        found.say(WARNING, "B49", text_id, "ids of categories are texts; categories numbered")
        found.category_ids = {key: number for number, key in enumerate(categories, start=1)}
        for key, category in categories.items():
            category["id"] = found.category_ids[key]
    return categories


def _say_roots(categories: dict[Any, dict], annotations: list, found: Examined) -> None:
    """Name a category without objects that only groups the others, as Roboflow's category 0 does."""
    group = grouping_class(categories.values())
    if group is None or any(isinstance(a, dict) and key_of(a.get("category_id")) == group["id"] for a in annotations):
        return
    name = group["name"]
    text = f'"{name}" groups the others (it is their supercategory) and has no object, but counts as a class'
    fix = f"drop it: frcnn rename {shlex.quote(found.name)} {shlex.quote(name + '=')} --out NEW.json"
    found.say(NOTE, "B44", f'categories "{name}"', text, fix)


def grouping_class(categories: Collection[dict]) -> dict | None:
    """The category that is the supercategory of all others; None where there is none."""
    above = {c.get("supercategory") for c in categories}
    for one in categories if len(categories) > 1 else ():
        if one["name"] in above and all(c is one or c.get("supercategory") == one["name"] for c in categories):
            return one
    return None
