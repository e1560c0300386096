"""Make the walkthrough: the figures, index.html and numbers.json in one folder."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Collection
from pathlib import Path

from anchors.arguments import check_count
from anchors.walkthrough import figures_grid, figures_head, figures_mask, figures_rpn, worked_example
from anchors.walkthrough.page import page
from anchors.walkthrough.picture import Picture, read_picture
from anchors.walkthrough.train_on_picture import Learned, train_on_picture

FROM_BOXES = {
    "01_grid": figures_grid.grid,
    "02_nine_anchors": figures_grid.nine,
    "03_all_centres": figures_grid.centres,
    "04_inside": figures_grid.inside,
    "05_iou": figures_grid.heat,
    "06_labels": figures_rpn.rpn_labels,
    "07_sample": figures_rpn.rpn_sample,
    "08_deltas": figures_rpn.rpn_deltas,
}
FROM_TRAINING = {
    "09_proposals": figures_rpn.proposals_before_nms,
    "10_nms": figures_rpn.proposals_after_nms,
    "11_rois": figures_rpn.sampled_rois,
    "12_roi_pooling": figures_head.bins,
    "13_losses": figures_head.losses,
    "14_detections": figures_head.detections,
    "15_mask": figures_mask.mask,
}
FILES = [f"{name}.png" for name in (*FROM_BOXES, *FROM_TRAINING)]


def walkthrough(image: str | None, labels: str | None, out: str, *, seed: int, quick: bool) -> int:
    """Write the walkthrough of a picture (None: the lesson's own) into `out`, all of it or nothing."""
    check_count(seed, "seed")
    picture = read_picture(image, labels)
    folder = Path(out)
    refuse_foreign_files(folder)
    folder.mkdir(parents=True, exist_ok=True)
    start = time.monotonic()
    with tempfile.TemporaryDirectory(dir=folder, prefix=".walkthrough-") as temporary:
        numbers = write_all(Path(temporary), picture, seed=seed, quick=quick)
        refuse_foreign_files(folder)  # once more: the training took its time
        for path in sorted(Path(temporary).iterdir()):
            os.replace(path, folder / path.name)
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    found = numbers["picture"]
    print(f"{found['anchors']['all']:,} anchors, {found['anchors']['inside']:,} inside")
    print("{positive:,} positive, {negative:,} negative, {ignored:,} ignored".format(**found["labels"]))
    print("sample: {positive} + {negative}".format(**found["sample"]))
    print(folder / "index.html")
    return 0


def refuse_foreign_files(folder: Path) -> None:
    """Raise ValueError where a file of the walkthrough's name is not as a walkthrough wrote it (numbers.json lists the
    SHA-256 of each), or is a link."""
    parts = [path.name for name in FILES for path in folder.glob(f"{Path(name).stem}_?.png")]
    names = [name for name in [*FILES, *parts, "numbers.json", "index.html"] if os.path.lexists(folder / name)]
    try:
        numbers = json.loads((folder / "numbers.json").read_bytes())
        written = dict(numbers["files"]) if "files" in numbers else of_older_version(folder, names, numbers.keys())
    except (OSError, ValueError, RecursionError, TypeError, AttributeError):
        written = {}
    for path in (folder / name for name in names):
        ours = bool(written) if path.name == "numbers.json" else written.get(path.name) == sha256(path)
        if path.is_symlink() or not ours:
            what = "was changed since" if path.name in written else "was not written by"
            raise ValueError(f"{path}: {what} a walkthrough, and is never overwritten; use another --out")


def of_older_version(folder: Path, names: list[str], keys: Collection[str]) -> dict[str, str | None]:
    """The files of a walkthrough whose numbers.json lists none; not what was saved later, which may be the user's."""
    if not {"example", "picture", "training"} <= set(keys):
        return {}
    last = (folder / "numbers.json").stat().st_mtime + 60
    return {name: sha256(folder / name) for name in names if (folder / name).stat().st_mtime <= last}


def sha256(path: Path) -> str | None:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else None


def write_all(folder: Path, picture: Picture, *, seed: int, quick: bool) -> dict:
    found = worked_example.anchoring(picture.boxes, seed)
    for name, draw in FROM_BOXES.items():
        draw(folder / f"{name}.png", picture, found)
    learned = train_on_picture(picture, seed=seed, quick=quick)
    for name, draw_learned in FROM_TRAINING.items():
        draw_learned(folder / f"{name}.png", picture, learned)
    numbers = {
        "example": worked_example.numbers(worked_example.anchoring(worked_example.BOXES, seed)),
        "picture": {
            "objects": dict(sorted(Counter(picture.names).items())),
            "boxes": [[round(v, 3) for v in box] for box in picture.boxes.tolist()],
            **worked_example.numbers(found),
        },
        "training": of_training(picture, learned),
        "mask": of_mask(picture),
    }
    (folder / "index.html").write_text(page(numbers, folder, FILES), encoding="utf-8")
    numbers["files"] = {path.name: sha256(path) for path in folder.iterdir()}
    text = json.dumps(numbers, indent=1, sort_keys=True) + "\n"
    (folder / "numbers.json").write_text(text, encoding="utf-8")
    return numbers


def of_mask(picture: Picture) -> dict:
    found = figures_mask.round_trip(picture)
    return {"object": picture.names[found.row], "size": figures_mask.SIZE, "iou": round(found.iou, 4)}


def of_training(picture: Picture, learned: Learned) -> dict:
    """The numbers of the tiny network's training; one seed gives the same numbers on one machine."""
    sample = learned.train["roi_sample"]
    foreground = int((sample.labels > 0).sum())
    return {
        "steps": len(learned.history),
        "objects": len(picture.boxes),
        "first_losses": rounded(learned.history[0]),
        "last_losses": rounded(learned.history[-1]),
        "candidates": len(learned.test["candidates"].boxes),
        "kept": len(learned.test["nms_keep"]),
        "rois_foreground": foreground,
        "rois_background": len(sample.labels) - foreground,
        "shapes": {
            "anchors": list(learned.test["anchors"].shape),
            "pooled": list(learned.train["pooled"].shape),
            "class_logits": list(learned.train["class_logits"].shape),
            "box_deltas": list(learned.train["box_deltas"].shape),
        },
        "detections": [
            {
                "step": step,
                "best_scores": [round(float(s), 3) for s in found["scores"][:4]],
                "found": figures_head.objects_found(picture, found),
            }
            for step, found in learned.snapshots
        ],
    }


def rounded(losses: dict[str, float]) -> dict[str, float]:
    return {name: round(value, 5) for name, value in losses.items()}
