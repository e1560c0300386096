"""Detections to evaluate: read from a file of any program, from an earlier evaluation, or made by a run's checkpoint.

`read` brings them and the labels into the one form that is evaluated.
"""

from __future__ import annotations

from pathlib import Path

from label_tools.document import coco_file, repair, repairs_found
from label_tools.document.repair_images_and_categories import LARGEST_IMAGE_SIDE, Size
from label_tools.document.repairs_found import key_of
from label_tools.files.marked_folders import check_whole
from label_tools.files.pause_gc import collector_paused
from label_tools.files.strict_reading import loads
from label_tools.text.errors import InputError
from label_tools.text.findings import ERROR, WARNING, one_a_rule
from toolkit.evaluation.match_ids_and_names import to_our_ids
from toolkit.metrics.coco_tables import with_runs

LISTS = ("predictions", "detections", "results", "annotations")
TOGETHER = ("annotations.json", "detections.json", "metrics.json")  # of one evaluation, or its numbers are wrong


@collector_paused()
def read_detections(path: Path) -> list:
    """Read COCO results, the JSON of `frcnn predict`, or a COCO document with scores. InputError for anything else."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    found = loads(content, str(path))
    if isinstance(found, dict) and isinstance(found.get("images"), list) and "score_thresholds" in found:
        return of_predict(found, str(path))
    if isinstance(found, dict) and (theirs := of_document(found)) is not None:
        return theirs
    if not isinstance(found, list):
        hint = "; this is an annotations file" if isinstance(found, dict) and "images" in found else ""
        raise InputError(f"{path}: found an object at the top, needs a list of COCO results{hint}")
    return found


def read_evaluation(folder: Path) -> tuple[dict, list, Path]:
    """(labels, detections, the folder of the images) of an evaluation. InputError where one of its files is missing."""
    check_whole(folder, "evaluation", TOGETHER)
    document = coco_file.read_raw(folder / "annotations.json")
    root = coco_file.image_root(document, folder / "annotations.json")
    return document, read_detections(folder / "detections.json"), root


def detections_of(
    other: Path, document: dict, image_root: Path, split: str, *, device: str = "auto", batch_size: int = 4
) -> list:
    """What `other` (a COCO results file, a run, an evaluation's folder) detects on the images of `document`."""
    if other.is_file():
        return read_detections(other)
    if not other.is_dir():
        raise InputError(f"{other}: not found; needs a run, an evaluation's folder or a COCO results file")
    for place in (other / split, other):
        if (place / "annotations.json").is_file() and (place / "detections.json").is_file():
            check_whole(place, "evaluation", TOGETHER)
            translated = same_images(document, coco_file.read_raw(place / "annotations.json"))
            if translated:
                return _renumbered(read_detections(place / "detections.json"), *translated)
    from toolkit.prediction.detect_in_batches import detect_document  # here: numbers alone need no image library
    from toolkit.prediction.open_detector import open_detector

    return detect_document(open_detector(other, device), document, image_root, batch_size=batch_size)


def same_images(ours: dict, theirs: dict) -> tuple[dict, dict] | None:
    """({their image id: ours}, {their category id: ours}) when both documents have the same images and classes."""
    our_images = {i["file_name"]: i["id"] for i in ours["images"]}
    our_classes = {c["name"]: c["id"] for c in ours["categories"]}
    their_images = {i["id"]: i["file_name"] for i in theirs["images"]}
    their_classes = {c["id"]: c["name"] for c in theirs["categories"]}
    if set(our_images) != set(their_images.values()) or set(our_classes) != set(their_classes.values()):
        return None
    if len(our_images) != len(ours["images"]):
        return None  # names that repeat cannot tell images apart
    return (
        {i: our_images[name] for i, name in their_images.items()},
        {c: our_classes[name] for c, name in their_classes.items()},
    )


def _renumbered(detections: list, images: dict, classes: dict) -> list:
    return [{**d, "image_id": images[d["image_id"]], "category_id": classes[d["category_id"]]} for d in detections]


def of_predict(content: dict, where: str) -> list[dict]:
    """The JSON of `frcnn predict` as COCO results that name their image by `file_name`. Raises InputError."""
    names = {c["id"]: c["name"] for c in content["categories"] if isinstance(c, dict) and {"id", "name"} <= set(c)}
    results = []
    for n, image in enumerate(content["images"]):
        name = image.get("file_name") if isinstance(image, dict) else None
        if not isinstance(name, str) or not isinstance(image.get("detections", []), list):
            raise InputError(f"{where}, images[{n}]: needs file_name and a list of detections")
        for d in image.get("detections", []):
            label = d.get("label", names.get(d.get("category_id"))) if isinstance(d, dict) else None
            if label is None:
                raise InputError(f"{where}, images[{n}]: a detection without a label")
            numbers = {key: d[key] for key in ("bbox", "score", "segmentation") if key in d}
            results.append({"file_name": name, "category_name": label, **numbers})
    return results


def of_document(content: dict) -> list[dict] | None:
    """A COCO document whose annotations have a score, as MMDetection's and FiftyOne's exports, as results that name
    image and class; the list under the one key that holds one; None: neither."""
    images, classes, marked = (content.get(key) for key in ("images", "categories", "annotations"))
    if isinstance(images, list) and isinstance(classes, list) and isinstance(marked, list):
        if not marked or not all(isinstance(a, dict) and "score" in a for a in marked):
            return None
        files = {key_of(i.get("id")): i.get("file_name") for i in images if isinstance(i, dict)}
        names = {key_of(c.get("id")): c.get("name") for c in classes if isinstance(c, dict)}
        return [
            {
                **a,
                "file_name": files.get(key_of(a.get("image_id"))),
                "category_name": names.get(key_of(a.get("category_id"))),
            }
            for a in marked
        ]
    lists = [value for key, value in content.items() if key in LISTS and isinstance(value, list)]
    return lists[0] if len(lists) == 1 else None


def any_size(file_name: str) -> tuple[int, int]:
    """For numbers alone, which need no size of an image that has none."""
    return LARGEST_IMAGE_SIDE, LARGEST_IMAGE_SIDE


def read(
    document: dict,
    detections: list,
    document_name: str = "annotations",
    detections_name: str = "detections",
    sizes: Size | None = None,
) -> tuple[dict, list, list[str]]:
    """(document in our dialect, detections with its ids, what was repaired or matched by name). Raises InputError.

    The same verdict on a document as that of `frcnn check` and of training; boxes over the edge stay as written.
    """
    for key in ("images", "annotations", "categories"):
        if not isinstance(document, dict) or not isinstance(document.get(key), list):
            raise InputError(f'{document_name}: needs a COCO document with a list "{key}"')
    if not isinstance(detections, list):
        found = type(detections).__name__
        raise InputError(f"{detections_name}: found a {found}, needs a list of COCO results")
    found = repair.examine(document, document_name, sizes, clip=False)
    for finding in found.fatal or [f for f in found.findings if f.level == ERROR]:
        raise repairs_found.DocumentError(finding)
    detections, notes = to_our_ids(detections, found, detections_name)
    detections, of_masks = with_runs(found.usable(), detections, detections_name)
    repaired = [f for f in found.findings if f.level == WARNING or f.code == "B58"]
    repaired = [f for f in repaired if not (sizes is any_size and f.code == "B52")]
    return found.usable(), detections, [*one_a_rule(repaired), *notes, *of_masks]
