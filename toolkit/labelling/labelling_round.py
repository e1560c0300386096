"""Open and close a labelling round: a folder for labelme with pictures in order and their drafts.

DIR/.loop/round-01/001_cat.jpg is a link to the picture (a copy where links cannot be made), 001_cat.json its draft.
What a person ticked (flag `reviewed`) or changed goes to DIR/cat.json when the round is closed; the rest is as if it
had never been picked.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.write_json_csv import write_json
from label_tools.formats.labelme import file_bytes
from label_tools.text.errors import InputError
from toolkit.labelling.count_corrections import difference, total
from toolkit.labelling.drafts import SCORE
from toolkit.labelling.loop_file import Loop, now
from toolkit.labelling.scan_folder import is_reviewed, read_drafts, read_label_file

REVIEWED, UNTOUCHED, KEPT_BACK = "reviewed", "untouched", "kept back"


@dataclass(frozen=True)
class Pick:
    """A picture for a round. draft: content of its LabelMe file, without its path; why: the reason for this one."""

    name: str
    draft: dict[str, Any]
    why: str


@dataclass(frozen=True)
class Outcome:
    """What became of a picture. state: REVIEWED, UNTOUCHED, KEPT_BACK; text: why it was kept back."""

    name: str
    state: str
    changes: dict[str, float] | None = None
    text: str = ""


def folder_of(loop: Loop, number: int) -> Path:
    return loop.hidden / f"round-{number:02d}"


def open_round(loop: Loop, picks: Sequence[Pick]) -> Path:
    """Make the round's folder and enter it into the state. -> the folder. The folder is there whole, or not at all."""
    number = 1 + max((one["number"] for one in loop.rounds), default=0)
    while folder_of(loop, number).exists():  # by a command that was killed before it could enter it into the state
        number += 1
    folder = folder_of(loop, number)
    with marked_folders.new_folder(folder) as made:
        files = fill(made, folder, [(loop.folder / pick.name, pick.draft) for pick in picks], loop.classes)
    entries = [
        {"name": pick.name, "file": file, "why": pick.why, "drafted": len(pick.draft["shapes"])}
        for pick, file in zip(picks, files, strict=True)
    ]
    loop.rounds.append({"number": number, "opened": now(), "closed": None, "minutes": 0.0, "pictures": entries})
    loop.save()
    return folder


def fill(made: Path, folder: Path, contents: Sequence[tuple[Path, dict[str, Any]]], labels: Sequence[str]) -> list[str]:
    """Write links to pictures, in their order, and their LabelMe files into `made`, which will be `folder`; labels.txt,
    and drafts.json, the shapes as they were. -> the links' names."""
    digits = max(3, len(str(len(contents))))
    names = [f"{i:0{digits}d}_{source.name}" for i, (source, _) in enumerate(contents, 1)]
    for name, (source, draft) in zip(names, contents, strict=True):
        _link(source, made / name, folder)
        content = {**draft, "imagePath": name, "flags": {"reviewed": False}}
        (made / name).with_suffix(".json").write_bytes(file_bytes(content))
    (made / "labels.txt").write_text("".join(f"{label}\n" for label in labels), encoding="utf-8")
    write_json(made / "drafts.json", {name: draft["shapes"] for name, (_, draft) in zip(names, contents, strict=True)})
    return names


def close_round(loop: Loop) -> list[Outcome]:
    """Take over what a person reviewed in the open round; sum up the changes. Files that cannot be used stay."""
    entry = loop.open_round
    if entry is None:
        raise InputError(f"{loop.folder}: no round is open; `frcnn loop next` opens one")
    folder = folder_of(loop, entry["number"])
    drafts = read_drafts(folder)
    outcomes = [_take_over(loop, folder, one, drafts) for one in entry["pictures"]]
    reviewed = [one.changes for one in outcomes if one.changes is not None]
    loop.rounds[-1] = {
        **entry,
        "closed": now(),
        "reviewed": len(reviewed),
        "changes": total(reviewed),
        "pictures": [{**one, "state": out.state} for one, out in zip(entry["pictures"], outcomes)],
    }
    loop.save()  # before anything is tidied up: a kill in between loses nothing
    _tidy(folder, entry["pictures"], outcomes)
    return outcomes


def reviewed_so_far(loop: Loop) -> int:
    """Pictures of the open round that closing would take over."""
    entry = loop.open_round
    assert entry is not None
    folder = folder_of(loop, entry["number"])
    drafts = read_drafts(folder)
    return sum(judged(folder / one["file"], drafts.get(one["file"]))[0] == REVIEWED for one in entry["pictures"])


def kept_back(loop: Loop) -> list[Path]:
    """Label files that rounds which are over could not take over, and that nobody has moved away since."""
    files = [
        _json(folder_of(loop, entry["number"]) / one["file"])
        for entry in loop.rounds
        for one in entry["pictures"]
        if entry["closed"] and one.get("state") == KEPT_BACK
    ]
    return sorted(file for file in files if file.exists())


def _take_over(loop: Loop, folder: Path, one: dict[str, Any], drafts: dict[str, list]) -> Outcome:
    file = folder / one["file"]
    state, content, text = judged(file, drafts.get(one["file"]))
    if state != REVIEWED or content is None:
        return Outcome(one["name"], state, text=text)
    picture, ours = loop.folder / one["name"], _json(file)
    target = picture.with_suffix(".json")
    if not picture.is_file():
        return Outcome(one["name"], KEPT_BACK, text=f"{picture}: the picture is gone; its labels stay in {ours}")
    odd = sorted({shape["label"] for shape in content["shapes"]} - set(loop.classes) - {"__ignore__"})
    if odd:
        text = f'{ours}: label "{odd[0]}" is none of the classes ({", ".join(loop.classes)}); stays there'
        return Outcome(one["name"], KEPT_BACK, text=text)
    changes = difference(
        drafts.get(one["file"], []), content["shapes"], loop.costs, ticked=content["flags"].get("reviewed") is True
    )
    own = {"imagePath": picture.name, "imageData": None, "flags": {"reviewed": True}}
    final = file_bytes({**content, "shapes": [_without_score(shape) for shape in content["shapes"]], **own})
    if target.exists():
        if target.read_bytes() == final:  # by this command, killed before it could enter it into the state
            return Outcome(one["name"], REVIEWED, changes)
        text = f"{target}: was written by somebody else meanwhile; yours stay in {ours}"
        return Outcome(one["name"], KEPT_BACK, text=text)
    with atomic_write(target) as out:
        out.write(final)
    return Outcome(one["name"], REVIEWED, changes)


def _without_score(shape: dict[str, Any]) -> dict[str, Any]:
    """A copy of the shape without the model's score: a person has reviewed it."""
    kept = {k: v for k, v in shape.items() if k != "score"}
    return {**kept, "description": ""} if str(kept.get("description", "")).startswith(SCORE) else kept


def judged(file: Path, draft: list | None) -> tuple[str, dict[str, Any] | None, str]:
    """(state, content, why it is kept back) of a picture's file in a round."""
    if not _json(file).exists():
        return UNTOUCHED, None, ""  # deleted in labelme: as if it had not been picked
    content, problem = read_label_file(_json(file))
    if content is None:
        return KEPT_BACK, None, problem
    if draft is None:
        return (REVIEWED if _ticked(content) else UNTOUCHED), content, ""
    if not isinstance(content.get("flags"), dict):
        content["flags"] = {}
    changes = difference(draft, content["shapes"])
    changed = any(changes[key] for key in ("moved", "renamed", "added", "deleted"))
    return (REVIEWED if changed or _ticked(content) else UNTOUCHED), content, ""


def _ticked(content: dict[str, Any]) -> bool:
    return is_reviewed(content) and isinstance(content.get("flags"), dict) and "reviewed" in content["flags"]


def _json(file: Path) -> Path:
    return file.with_suffix(".json")


def _link(source: Path, place: Path, folder: Path) -> None:
    """A link at `place`, which will lie in `folder`, to a picture; a copy where links cannot be made."""
    target = os.path.relpath(source.resolve(), folder.resolve())
    try:
        os.symlink(target, place)
    except (OSError, NotImplementedError):
        shutil.copy2(source, place)


def _tidy(folder: Path, entries: list[dict[str, Any]], outcomes: list[Outcome]) -> None:
    """Remove what is not needed any more: all but the label files that were kept back."""
    links = [folder / entry["file"] for entry in entries]
    done = [_json(link) for link, outcome in zip(links, outcomes) if outcome.state != KEPT_BACK]
    for path in (*links, *done, folder / "labels.txt", folder / "drafts.json"):
        with suppress(OSError):
            path.unlink()
    with suppress(OSError):  # not empty
        folder.rmdir()
