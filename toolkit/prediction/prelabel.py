"""Detections as LabelMe files to correct by hand: the loop from labels to detector to more labels closes here.

A person's files are never overwritten: an image that has a LabelMe file beside it or in the output folder is left out.
Every file carries the image flag `reviewed: false` and a `score` on each shape; labelme keeps both.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from label_tools.formats import labelme_write
from label_tools.text.errors import InputError
from label_tools.text.json_csv import write_json
from toolkit.prediction.detector import over, thresholds_of
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.sources import Picture, find_images
from toolkit.prediction.stream import detect_pictures


def prelabel(
    run: Path, sources: list[Path], out: Path, *, score: float | None = None, device: str = "auto"
) -> Iterator[tuple[Path, int | None, float, str]]:
    """Write out/NAME.json for every unlabelled picture; yields (picture, objects, lowest score kept, why left out);
    objects None: it cannot be read.

    NAME keeps the picture's folder below its source. Shapes are rectangles over the thresholds of `predict`. Refuses
    pictures whose drafts would have one name.
    """
    todo: list[tuple[Path, Path, Path, Path | None]] = []
    done: list[tuple[Path, Path, Path, Path | None]] = []
    for path, name in find_images(sources):
        target = out / name.with_suffix(".json")
        labelled = next((p for p in (path.with_suffix(".json"), target) if p.exists()), None)
        (done if labelled else todo).append((path, name, target, labelled))
    first: dict[Path, Path] = {}
    for path, _, target, _ in todo:
        if first.setdefault(target, path) != path:
            raise InputError(f"{first[target]} and {path}: would both become {target}; rename one of them")
    for path, _, _, labelled in done:
        yield path, 0, 0.0, f"has {labelled}"
    if not todo:
        return
    detector = open_detector(run, device)
    thresholds = thresholds_of(detector, score)
    names = {c["id"]: c["name"] for c in detector.categories}
    seen = detect_pictures(detector, (Picture(name.as_posix(), path) for path, name, _, _ in todo))
    for (path, _, target, _), one in zip(todo, seen, strict=True):
        if one.pixels is None:
            yield path, None, 0.0, one.error
            continue
        found = over(one.found, thresholds)
        height, width = one.pixels.shape[:2]
        image_path = os.path.relpath(path.resolve(), target.parent.resolve()).replace(os.sep, "/")
        image = {"width": width, "height": height}
        content = labelme_write.file_content(image, found, names, image_path, {"reviewed": False})
        write_json(target, content)
        yield path, len(found), min((d["score"] for d in found), default=1.0), ""
