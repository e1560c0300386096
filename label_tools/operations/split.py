"""Split a COCO file into train.json, val.json, test.json; split.json says which file went where and why."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shlex
from collections import Counter
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from label_tools.document import coco_file
from label_tools.document.stratified_split import PARTS, SHARES, check_fractions, split_document
from label_tools.files.marked_folders import adopt, refuse_foreign, together
from label_tools.files.strict_reading import loads
from label_tools.pictures.duplicates import NEAR_DISTANCE, copies_by_name, fingerprint_files, look_alike, same_pixels
from label_tools.pictures.find_image import refuse_links_out
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.given_split import part_of_folders
from label_tools.shapes.components import join
from label_tools.text.errors import InputError
from label_tools.text.messages import counted

MANIFEST = "split.json"


@dataclass(frozen=True)
class Tie:
    """Images that must stay together, and why: "group-by", "copies by name", "same pixels" or "look alike"."""

    why: str
    images: tuple[int, ...]  # indices into document["images"]


def split_file(
    annotations: Path,
    *,
    fractions: dict[str, float] | None = None,
    seed: int = 0,
    group_by: str | None = None,
    duplicates: str = "near",
    near_distance: int | None = None,
    keep: Path | None = None,
    keep_given: bool = False,
    out: Path | None = None,
    image_root: Path | None = None,
    jobs: int = 1,
) -> dict:
    """Split the COCO file `annotations`, or that of a folder, into `out`/{train,val,test,split}.json. -> the manifest.

    fractions: shares of the parts, by default SHARES. image_root: in place of the file's own. keep_given: the parts
    are those that the folders of the images name. Raises InputError before anything is written.
    """
    if keep_given and (keep is not None or group_by is not None):
        raise InputError(f"--keep-given decides for every image; leave out {'--keep' if keep else '--group-by'}")
    fractions = check_fractions(SHARES if fractions is None else fractions)
    annotations = coco_file.file_of(Path(annotations))
    out = annotations.parent if out is None else Path(out)
    _adopt_older(out)
    refuse_foreign(out, "split", [MANIFEST, *(f"{name}.json" for name in PARTS)], [annotations])
    document = coco_file.read(annotations, sizes=sizes_below, images=image_root)
    if image_root is not None:  # the file names none, or a wrong one
        document = coco_file.with_image_root(document, image_root, annotations.parent)
    names = [image["file_name"] for image in document["images"]]
    given = [part_of_folders(PurePosixPath(name).parts[:-1]) for name in names]
    counts = Counter(part for part in given if part is not None)
    if keep_given:
        if None in given or not given:
            outside = next((name for name, part in zip(names, given) if part is None), "no image")
            text = f'"{outside}" lies in no folder that is named after a part (train, val, test)'
            raise InputError(f"--keep-given: {text}")
        fractions = {name: counts[name] / len(given) for name in PARTS if counts[name]}
    ties = [] if keep_given else _ties(document, annotations, group_by, duplicates, near_distance, jobs)
    fixed = _kept(document, annotations, keep)
    if keep_given:
        fixed = {image["id"]: part for image, part in zip(document["images"], given) if part is not None}
    parts = split_document(document, fractions, seed, group_keys(document, ties), fixed)
    warnings = warnings_of(parts, fractions)
    if not keep_given and keep is None and None not in given and len(counts) > 1:
        says = ", ".join(f"{name} {counts[name]}" for name in PARTS if counts[name])
        warnings.append(f"the set is split already, its folders say ({says}); --keep-given keeps that")
    manifest = {
        "annotations": coco_file.relative(annotations, out),
        "annotations_sha256": hashlib.sha256(annotations.read_bytes()).hexdigest(),
        "fractions": fractions,
        "seed": seed,
        "group_by": group_by,
        "duplicates": duplicates,
        "parts": {name: _summary(part) for name, part in parts.items()},
        "warnings": warnings,
        "kept_together": [{"why": tie.why, "files": [names[k] for k in tie.images]} for tie in ties],
        "files": dict(sorted((i["file_name"], name) for name, part in parts.items() for i in part["images"])),
    }
    with together(out, "split", inputs=[annotations]) as made:
        for name, part in parts.items():
            root = coco_file.image_root(document, annotations)
            coco_file.write(coco_file.with_image_root(part, root, out), made / f"{name}.json")
        (made / MANIFEST).write_bytes((json.dumps(manifest, indent=1, ensure_ascii=False) + "\n").encode())
    return manifest


def group_by_name(names: Sequence[str], pattern: str) -> list[Hashable]:
    """A key per file name: its folder for "folder", else what the regular expression finds in it (its first
    group if it has one), None where it finds nothing. InputError: no regular expression, or no match."""
    if pattern == "folder":
        return [str(PurePosixPath(name).parent) for name in names]
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise InputError(f"--group-by {pattern}: not a regular expression: {error}") from error
    matches = [compiled.search(name) for name in names]
    if not any(matches):
        raise InputError(f"--group-by {pattern}: matches no file_name (the first is {names[0]!r})")
    return [m and (m.group(1) if compiled.groups else m.group()) for m in matches]


def _ties(
    document: dict, annotations: Path, group_by: str | None, duplicates: str, near_distance: int | None, jobs: int
) -> list[Tie]:
    images = document["images"]
    ties = []
    if group_by and images:
        groups: dict[Hashable, list[int]] = {}
        for index, key in enumerate(group_by_name([image["file_name"] for image in images], group_by)):
            if key is not None:
                groups.setdefault(key, []).append(index)
        ties += [Tie("group-by", tuple(group)) for group in groups.values() if len(group) > 1]
    if not group_by:  # the user's own groups are better
        copies = copies_by_name([image["file_name"] for image in images])
        ties += [Tie("copies by name", tuple(group)) for group in copies]
    if duplicates == "off":
        return ties
    from tqdm import tqdm

    distance = NEAR_DISTANCE if near_distance is None else near_distance
    if not 0 <= distance <= 64:
        raise InputError(f"--near-distance {distance}: a number of bits from 0 to 64")
    paths = [coco_file.image_path(document, annotations, image) for image in images]
    refuse_links_out(coco_file.image_root(document, annotations), (i["file_name"] for i in images), annotations)
    if missing := next((path for path in paths if not os.path.isfile(path)), None):
        fix = "--image-root DIR names the folder of the images, --duplicates off splits without opening them"
        raise InputError(f"{missing}: no such file; {fix}")
    opening = coco_file.opening(document, str(annotations))
    try:
        # disable=None: a bar only on a terminal
        prints = list(tqdm(fingerprint_files(paths, jobs, **opening), "duplicates", len(paths), disable=None))
    except InputError as error:
        fix = f"`frcnn check {shlex.quote(str(annotations))} --decode --fix` writes a copy without it"
        raise InputError(f"{error} ({fix}; --duplicates off splits without opening the images)") from error
    ties += [Tie("same pixels", tuple(group)) for group in same_pixels(prints)]
    if duplicates == "near":
        ties += [Tie("look alike", (pair.i, pair.j)) for pair in look_alike(prints, distance)]
    return ties


def group_keys(document: dict, ties: Sequence[Tie]) -> dict[int, int]:
    """Group tied images: {image id: key of its group}, without untied images."""
    images = document["images"]
    roots = join(len(images), [tie.images for tie in ties])
    sizes = Counter(roots)
    return {image["id"]: root for image, root in zip(images, roots) if sizes[root] > 1}


def _kept(document: dict, annotations: Path, manifest: Path | None) -> dict[int, str]:
    """Parts from an earlier split.json {image id: part}: that of the same file in any folder, else of the
    same name. Raises InputError where no image is known, which would be a new split."""
    if manifest is None:
        return {}
    files, now, then = _read_manifest(manifest)["files"], coco_file.image_root(document, annotations), None
    beside = [path for name in PARTS if (path := Path(manifest).parent / f"{name}.json").is_file()]
    if beside:  # the manifest's own names start where those of its parts do
        then = coco_file.image_root(coco_file.read_raw(beside[0]), beside[0])
    paths = {os.path.abspath(then / name): part for name, part in files.items()} if then else {}
    found = {
        i["id"]: paths.get(os.path.abspath(now / i["file_name"]), files.get(i["file_name"])) for i in document["images"]
    }
    kept = {image_id: part for image_id, part in found.items() if part is not None}
    if files and document["images"] and not kept:
        name, theirs = document["images"][0]["file_name"], min(files)
        raise InputError(f'{manifest}: found "{theirs}" and others, none of which is in {annotations} ("{name}", ...)')
    return kept


def _read_manifest(path: Path) -> dict:
    try:
        manifest = loads(path.read_bytes(), os.fspath(path))
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    files, parts = (manifest.get(key) if isinstance(manifest, dict) else None for key in ("files", "parts"))
    if not isinstance(files, dict) or not isinstance(parts, dict) or not set(map(str, files.values())) <= set(parts):
        raise InputError(f'{path}: no manifest of a split ("parts", and "files": {{file name: part}})')
    return manifest


def _adopt_older(out: Path) -> None:
    """Adopt a split by an older version, which has no marker, if its parts hold what split.json says."""
    try:
        manifest = _read_manifest(out / MANIFEST)
        parts = {name: out / f"{name}.json" for name in manifest["parts"] if name in PARTS}
        files = {name: loads(path.read_bytes(), os.fspath(path)) for name, path in parts.items()}
        listed = {image["file_name"]: name for name, document in files.items() for image in document["images"]}
        whole = listed == manifest["files"] and all(
            _summary(document) == manifest["parts"][name] for name, document in files.items()
        )
    except (InputError, OSError, LookupError, TypeError, AttributeError):
        return  # none, or not whole: what lies there is refused as somebody else's
    if whole:
        adopt(out, "split", [MANIFEST, *(path.name for path in parts.values())])


def _summary(part: dict) -> dict:
    names = {category["id"]: category["name"] for category in part["categories"]}
    objects: Counter = Counter()
    holders: dict[str, set] = {name: set() for name in names.values()}
    for annotation in part["annotations"]:
        if not annotation.get("iscrowd"):
            objects[names[annotation["category_id"]]] += 1
            holders[names[annotation["category_id"]]].add(annotation["image_id"])
    held = set().union(*holders.values()) if holders else set()
    return {
        "images": len(part["images"]),
        "objects": objects.total(),
        "images_without_objects": len(part["images"]) - len(held),
        "classes": {name: {"images": len(holders[name]), "objects": objects[name]} for name in holders},
    }


def warnings_of(parts: dict[str, dict], fractions: dict[str, float]) -> list[str]:
    """Warnings about these parts for whoever trains on them."""
    summaries = {name: _summary(part) for name, part in parts.items()}
    found = []
    total = sum(s["images"] for s in summaries.values())
    for name, summary in summaries.items():
        share = summary["images"] / total
        if abs(share - fractions[name]) > max(0.05, 1.5 / total):
            found.append(
                f"{name} got {summary['images']} of {counted(total, 'image')} "
                f"({share:.0%}, not {fractions[name]:.0%}): "
                "groups of images that must stay together leave no better way, or the set is very small "
                "(--duplicates exact makes smaller groups)"
            )
        missing = [c for c, counts in summary["classes"].items() if counts["objects"] == 0]
        everywhere = [c for c in missing if any(s["classes"][c]["objects"] for s in summaries.values())]
        if everywhere:
            what = "the model cannot learn it" if name == "train" else "nothing there measures it"
            found.append(f"{name} holds no object of {', '.join(everywhere)}: {what}; label more images of it")
    if not any(s["objects"] for s in summaries.values()):
        found.append("no object at all: nothing can be learned from these parts")
    return found
