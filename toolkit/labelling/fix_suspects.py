"""Write a folder of suspected label errors for labelme, worst picture first, and put the fixes into the labels.

Every label of a picture is there as it was. What is doubted says so in its description; a detection that accuses a
label is one more shape, of a class of its own: `RBC?` is a suggestion and never becomes a label, unless a person
renames it to RBC. Only pictures that were ticked (`reviewed`) or changed count.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.document import coco_file
from label_tools.document.coco_values import are_numbers
from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.write_json_csv import write_json
from label_tools.formats.image_records import ImageRecord, Tally
from label_tools.formats.labelme import file_bytes, file_content, read_shapes
from label_tools.formats.labelme_shapes import Options
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.convert import Conversion
from label_tools.shapes import outline, rle
from label_tools.text.errors import InputError, as_written
from toolkit.experiments.crossval import crossval
from toolkit.labelling.count_corrections import difference, same_points
from toolkit.labelling.labelling_round import KEPT_BACK, REVIEWED, fill, judged
from toolkit.labelling.scan_folder import read_drafts
from toolkit.training import run_folder

SUGGESTED = "?"  # ends the class of a suggestion
SUSPECT, DOUBT = "suspect: ", "in doubt: "
LIST = "suspects.json"
_WORDS = {
    "no label": "unlabelled {}",
    "other class": "{} of another class",
    "loose box": "loose {}",
    "outline off": "{} with another outline",
    "not found": "{} not found",
}


@dataclass(frozen=True)
class Accused:
    """A picture with its suspects, those of `metrics/find_suspects.py` as stored in suspects.json."""

    image: dict[str, Any]
    suspects: list[dict[str, Any]]

    @property
    def text(self) -> str:
        """`18 unlabelled RBC, 2 loose WBC`."""
        named = Counter(_WORDS[s["kind"]].format(s["label_class"] or s["class_name"]) for s in self.suspects)
        return ", ".join(f"{number} {what}" for what, number in named.most_common())


def evaluated(run: Path, folds: int) -> Path:
    """The folder of a cross-validation over all labels of `run`: `run` itself when it is one, else beside it, trained
    with the run's own recipe (again: it goes on where it was stopped). No picture is evaluated by a model that learned
    it."""
    if (run / "suspects.json").is_file() and not (run / run_folder.CONFIG).is_file():
        return run
    run_folder.check(run)
    place = run.parent / f"{run.name}-suspects"
    document, root = _all_labels(run)
    labels = run.parent / f"{run.name}-suspects.json"
    if not labels.is_file():
        coco_file.write(coco_file.with_image_root(document, root, labels.parent.resolve()), labels)
    if not (place / "suspects.json").is_file():
        crossval(labels, place, folds, config=run / run_folder.CONFIG)
    return place


def _all_labels(run: Path) -> tuple[dict[str, Any], Path]:
    """Train, val and test of a run as one document with new ids, file names from the root of train."""
    images: list[dict] = []
    annotations: list[dict] = []
    first: Path | None = None
    categories: list[dict] = []
    openings: list[tuple[object, dict[str, Any]]] = []
    for split in ("train", "val", "test"):
        file = run / f"{split}.json"
        if not file.is_file():
            continue
        document = coco_file.read(file, sizes=sizes_below)
        root = coco_file.image_root(document, file).resolve()
        openings.append((file, coco_file.opening(document, str(file))))
        first, categories = first or root, categories or document["categories"]
        ids = {c["id"]: next(o["id"] for o in categories if o["name"] == c["name"]) for c in document["categories"]}
        rows = {image["id"]: len(images) + k for k, image in enumerate(document["images"], 1)}
        for image in document["images"]:
            name = coco_file.relative(root / image["file_name"], first)
            images.append({**image, "id": rows[image["id"]], "file_name": name})
        for one in document["annotations"]:
            new = {"image_id": rows[one["image_id"]], "category_id": ids[one["category_id"]]}
            annotations.append({**one, "id": len(annotations) + 1, **new})
    if first is None:
        raise InputError(f"{run}: holds no train.json")
    info = coco_file.joined_opening(openings)
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}, first


def accused(place: Path) -> list[Accused]:
    """The pictures of an evaluation folder with suspects, those with the most expected errors first."""
    document = coco_file.read(place / "annotations.json")
    images = {image["id"]: image for image in document["images"]}
    found: dict[Any, list[dict]] = {}
    with as_written(place / "suspects.json", "frcnn evaluate"):
        for suspect in json.loads((place / "suspects.json").read_bytes()):
            found.setdefault(suspect["image_id"], []).append(_checked(suspect))
        pictures = [Accused(images[i], suspects) for i, suspects in found.items()]
        return sorted(pictures, key=lambda one: (-sum(s["suspicion"] for s in one.suspects), one.image["file_name"]))


def _checked(suspect: dict[str, Any]) -> dict[str, Any]:
    """An entry of suspects.json. Raises LookupError, TypeError or ValueError for what we would not write."""
    names = [suspect["text"], suspect["label_class"] or suspect["class_name"], suspect["class_name"] or ""]
    row, box, mask = suspect["annotation"], suspect["bbox"], suspect.get("mask")
    if suspect["kind"] not in _WORDS or not all(isinstance(name, str) for name in names):
        raise ValueError("kind, text or class")
    if not (row is None or type(row) is int) or not (box is None or are_numbers(box, 4)):
        raise ValueError("annotation or bbox")
    if mask is not None:
        rle.to_runs(mask)
    float(suspect["suspicion"])
    return suspect


def write_folder(place: Path, out: Path, pictures: Sequence[Accused]) -> None:
    """Make `out`: links to the pictures in their order, LabelMe files, labels.txt. Raises InputError if it exists."""
    document = coco_file.read(place / "annotations.json")
    root = coco_file.image_root(document, place / "annotations.json")
    names = {c["id"]: c["name"] for c in document["categories"]}
    of_image: dict[Any, list[tuple[int, dict]]] = {}
    for row, annotation in enumerate(document["annotations"]):
        of_image.setdefault(annotation["image_id"], []).append((row, annotation))
    contents = [
        (root / one.image["file_name"], _content(one, of_image.get(one.image["id"], []), names)) for one in pictures
    ]
    labels = [*names.values(), *(f"{name}{SUGGESTED}" for name in names.values())]
    with marked_folders.new_folder(out) as made:
        files = fill(made, out, contents, labels)
        entries = [
            {"file": file, "path": coco_file.relative(path.resolve(), out.resolve()), "text": one.text}
            for file, (path, _), one in zip(files, contents, pictures, strict=True)
        ]
        write_json(made / LIST, {"classes": list(names.values()), "pictures": entries})


def _content(one: Accused, labels: Sequence[tuple[int, dict]], names: dict[int, str]) -> dict[str, Any]:
    content = file_content(one.image, [], names, "")
    doubts = {s["annotation"]: f"{DOUBT}{s['text']}" for s in one.suspects if s["annotation"] is not None}
    drawn = [(annotation, names, doubts.get(row, "")) for row, annotation in labels]
    for suspect in one.suspects:
        if suspect["bbox"]:
            box = [round(v, 2) for v in suspect["bbox"]]
            detection = {"category_id": 0, "bbox": box, **_drawn(suspect.get("mask"))}
            drawn.append((detection, {0: f"{suspect['class_name']}{SUGGESTED}"}, f"{SUSPECT}{suspect['text']}"))
    group = 0
    for annotation, classes, description in drawn:
        pieces = file_content(one.image, [annotation], classes, "")["shapes"]
        group += len(pieces) > 1
        for piece in pieces:
            shape = {**piece, "description": description, "group_id": group if len(pieces) > 1 else None}
            if shape not in content["shapes"]:  # an ignore region stands in the document once per class
                content["shapes"].append(shape)
    return content


def _drawn(mask: dict[str, Any] | None) -> dict[str, Any]:
    """A detection's mask as the outline that is suggested."""
    if mask is None:
        return {}
    polygons, _ = outline.simplified(rle.to_runs(mask), *mask["size"])
    return {"segmentation": polygons or mask}


@dataclass(frozen=True)
class Fixed:
    """A picture that a person went through. shapes: what it holds now, without suggestions."""

    picture: Path
    shapes: list[dict[str, Any]]
    changes: dict[str, float]


def read_fixed(folder: Path) -> tuple[list[Fixed], list[str]]:
    """(pictures that were ticked or changed, what cannot be used) of a folder that `write_folder` made."""
    try:
        listed = json.loads((folder / LIST).read_bytes())
        entries = [(str(e["file"]), str(e["path"])) for e in listed["pictures"]]
        classes = {str(name) for name in listed["classes"]}
    except (OSError, RecursionError, ValueError, LookupError, TypeError):
        raise InputError(f"{folder}: not a folder that `frcnn loop suspects` made ({LIST} cannot be read)") from None
    drafts, fixed, problems = read_drafts(folder), [], []
    for file, path in entries:
        state, content, text = judged(folder / file, drafts.get(file))
        if state == KEPT_BACK:
            problems.append(text)
        if state != REVIEWED or content is None:
            continue
        shapes = [_settled(s) for s in content["shapes"] if not s["label"].endswith(SUGGESTED) or s["label"] in classes]
        before = [s for s in drafts.get(file, []) if not str(s.get("description", "")).startswith(SUSPECT)]
        if odd := sorted({s["label"] for s in shapes} - classes - {"__ignore__"}):
            problems.append(
                f'{folder / file}: label "{odd[0]}" is none of {", ".join(sorted(classes))}; left as it was'
            )
            continue
        picture = Path(os.path.normpath(folder.resolve() / path))
        fixed.append(Fixed(picture, shapes, difference(before, shapes)))
    return fixed, problems


def _settled(shape: dict[str, Any]) -> dict[str, Any]:
    note = str(shape.get("description") or "")
    return {**shape, "description": ""} if note.startswith((SUSPECT, DOUBT)) else shape


def fix_coco(file: Path, fixed: Sequence[Fixed], out: Path | None) -> int:
    """Pictures of a COCO file that are fixed. With `out` the file with their new labels goes there; annotations that
    did not change stay as they are, with all their keys."""
    document = coco_file.read(file, sizes=sizes_below)
    root = coco_file.image_root(document, file)
    by_path = {one.picture.resolve(): one for one in fixed}
    ours = {i["id"]: by_path[p] for i in document["images"] if (p := (root / i["file_name"]).resolve()) in by_path}
    names = {c["id"]: c["name"] for c in document["categories"]}
    annotations = [a for a in document["annotations"] if a["image_id"] not in ours]
    number = max((a["id"] for a in document["annotations"]), default=0)
    for image in document["images"]:
        if image["id"] not in ours:
            continue
        left = list(ours[image["id"]].shapes)
        for annotation in (a for a in document["annotations"] if a["image_id"] == image["id"]):
            pieces = file_content(image, [annotation], names, "")["shapes"]
            matches = [next((s for s in left if s["label"] == p["label"] and same_points(s, p)), None) for p in pieces]
            if all(matches):
                annotations.append(annotation)
                left = [s for s in left if not any(s is m for m in matches)]
        for new in _annotations(left, image, names):
            number += 1
            annotations.append({**new, "id": number, "image_id": image["id"]})
    if out is not None and ours:
        marked_folders.refuse_link(out)
        if out.exists():
            raise InputError(f"{out}: exists, and is never overwritten; move it away")
        changed = {**document, "annotations": annotations}
        coco_file.write(coco_file.with_image_root(changed, root, out.parent), out)
    return len(ours)


def _annotations(shapes: list[dict], image: dict[str, Any], names: dict[int, str]) -> list[dict[str, Any]]:
    """Shapes as annotations, read as `frcnn convert labelme` reads them."""
    record, tally = ImageRecord(image["file_name"], image["width"], image["height"], [], ""), Tally()
    record.instances = read_shapes(shapes, record, image["file_name"], Options(), tally)
    ids = {k: i for k, i in enumerate(names, 1)}
    spelling = {name: name for name in names.values()}
    conversion = Conversion(Path(), Path(), [record], tally, list(names.values()), spelling=spelling)
    made = conversion.document("annotations.json")["annotations"]
    return [{**one, "category_id": ids[one["category_id"]]} for one in made]


def fix_labelme(folder: Path, fixed: Sequence[Fixed], kept: Path | None) -> int:
    """Pictures in `folder` that are fixed. With `kept` their LabelMe files are written, the ones before kept there."""
    number = 0
    for one in fixed:
        file = one.picture.with_suffix(".json")
        if not one.picture.resolve().is_relative_to(folder.resolve()) or not file.is_file():
            continue
        number += 1
        if kept is None:
            continue
        place = kept / one.picture.resolve().relative_to(folder.resolve()).with_suffix(".json")
        if not place.exists():
            with atomic_write(place) as copy:
                copy.write(file.read_bytes())
        content = {**json.loads(file.read_bytes()), "shapes": one.shapes}
        with atomic_write(file) as target:
            target.write(file_bytes(content))
    return number
