"""Train the labelling loop's model on all labelled pictures; the test pictures stay those of the first training."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

from label_tools.document import coco_file
from label_tools.document.stratified_split import split_document, subset
from label_tools.files import marked_folders
from label_tools.pictures.duplicates import fingerprint_files
from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.labelling.choose_pictures import look_alikes
from toolkit.labelling.loop_file import LEAST, Loop, now
from toolkit.run import train

FIRST = {"train": 0.6, "val": 0.15, "test": 0.25}  # of the pictures of the first training
LATER = {"train": 0.8, "val": 0.2}  # of all pictures that are not of the test part


def train_loop(loop: Loop, runs: Path, options: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    """Train on everything that is labelled, evaluate on the fixed test pictures. -> (the training's entry, notes).

    The first training deals the test pictures, which stay; a later picture that looks like one of them is left out.
    options: those of `toolkit.run.train`. Raises what training raises, with the state as it was.
    """
    notes: list[str] = []
    conversion = convert(loop.folder, "labelme", labels=loop.classes or None)
    notes += [one.line() for one in conversion.findings if one.level == "error"]
    number = len(loop.trainings) + 1
    labels = loop.hidden / f"labels-{number:02d}"
    document = conversion.document(labels / "train.json")
    if len(document["images"]) < LEAST:
        raise InputError(
            f"{loop.folder}: {counted(len(document['images']), 'labelled picture')}, needs {LEAST} or more to train "
            "and to test with; `frcnn loop next` picks more"
        )
    parts = _parts(loop, document, notes)
    while labels.exists():  # of a training that did not end
        number += 1
        labels = loop.hidden / f"labels-{number:02d}"
    with marked_folders.new_folder(labels) as made:
        for name, part in parts.items():
            coco_file.write(
                coco_file.with_image_root(part, loop.folder.resolve(), labels.resolve()), made / f"{name}.json"
            )
    run = train(labels, runs=runs, name=f"loop-{len(loop.trainings) + 1}", **options)
    metrics = run.metrics("test")
    entry = {
        "when": now(),
        "run": coco_file.relative(run.folder.resolve(), loop.folder.resolve()),
        "labelled": len(document["images"]),
        "objects": len(document["annotations"]),
        "test": len(parts["test"]["images"]),
        "AP": metrics["AP"],
        "AP50": metrics["AP50"],
        "interval": (metrics.get("intervals") or {}).get("AP"),
    }
    loop.parts = {name: sorted(i["file_name"] for i in parts[name]["images"]) for name in ("val", "test")}
    loop.classes = loop.classes or [c["name"] for c in document["categories"]]
    loop.model = entry["run"]
    loop.trainings.append(entry)
    loop.save()
    return entry, notes


def _parts(loop: Loop, document: dict[str, Any], notes: list[str]) -> dict[str, dict[str, Any]]:
    groups = look_alikes(list(fingerprint_files([loop.folder / i["file_name"] for i in document["images"]])))
    sizes = Counter(groups)
    keys = {image["id"]: group for image, group in zip(document["images"], groups) if sizes[group] > 1}
    if not loop.parts:
        return split_document(document, FIRST, groups=keys)
    names = {image["file_name"]: image["id"] for image in document["images"]}
    gone = [name for name in loop.parts["test"] if name not in names]
    if gone:
        notes.append(
            f"{counted(len(gone), 'test picture')} without usable labels now ({gone[0]} ...): this AP rests on fewer "
            "pictures than those before"
        )
    test = {names[name] for name in loop.parts["test"] if name in names}
    if not test:
        raise InputError(f"{loop.folder}: none of the test pictures has labels any more ({gone[0]} ...)")
    held = {keys[i] for i in test if i in keys}
    near = {i for i, key in keys.items() if key in held} - test
    if near:
        notes.append(f"left out, they look like test pictures: {', '.join(n for n, i in names.items() if i in near)}")
    rest = subset(document, set(names.values()) - test - near)
    fixed = {names[name]: "val" for name in loop.parts.get("val", ()) if name in names}
    parts = split_document(rest, LATER, groups={i: k for i, k in keys.items() if k not in held}, fixed=fixed)
    return {**parts, "test": subset(document, test)}
