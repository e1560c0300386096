"""How many planted label errors do the suspects name, and how many of the suspects are planted?

    python benchmarks/suspects.py LABELS.json OUT [--each 20] [--folds 3] [--model NAME] [--device D] ...
    python benchmarks/suspects.py LABELS.json OUT [--each 20] --run RUN     (which did not learn LABELS)

Plants --each errors of four kinds in a COCO file, one to a label: its label missing, a label where nothing is, its box
moved by .3 of its width and .15 of its height (IoU .42), another class (where there are several). Then what `frcnn
loop suspects` does: cross-validation, suspects in their order. A suspect is right when one of its boxes has an IoU of
.5 or more with a planted error's box, as labelled or as it was. Errors that were in the labels before count as wrong,
so the precision is a lower bound. Prints recall and precision by kind and along the list.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from label_tools.document import coco_file
from toolkit.evaluation.compute_metrics import compute_metrics
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.evaluation.read_detections import detections_of
from toolkit.experiments.crossval import crossval
from toolkit.labelling.fix_suspects import accused
from toolkit.metrics.iou_and_matching import iou_of

KINDS = ("missing", "added", "moved", "wrong class")
HIT, FREE = 0.5, 0.05  # IoU of a suspect with an error; of a label on nothing with any label, at most
LENGTHS = (10, 20, 50, 100)


def best_iou(box: list[float], others: list[list[float]]) -> float:
    return float(iou_of(np.repeat([box], len(others), 0), np.array(others)).max()) if others else 0.0


def moved(box: list[float], size: tuple[int, int]) -> list[float] | None:
    """A box moved to a side that has room; None where the picture has none."""
    start = list(box[:2])
    for axis, part in enumerate((0.3, 0.15)):
        step = part * box[2 + axis]
        if start[axis] + step + box[2 + axis] <= size[axis]:
            start[axis] += step
        elif start[axis] >= step:
            start[axis] -= step
        else:
            return None
    return [*start, *box[2:]]


def plant(document: dict, each: int, rng: np.random.Generator) -> list[dict]:
    """Spoil a document in place -> its errors, {"kind", "image_id", "boxes": as labelled and as it was}."""
    sizes = {image["id"]: (image["width"], image["height"]) for image in document["images"]}
    classes = [one["id"] for one in document["categories"]]
    labels = [one for one in document["annotations"] if not one.get("iscrowd")]
    kinds = [kind for kind in KINDS if kind != "wrong class" or len(classes) > 1]
    chosen = iter(rng.permutation(len(labels)))
    gone, added, errors = set(), [], []
    for kind in (kind for kind in kinds for _ in range(each)):
        fit = (
            one
            for one in map(labels.__getitem__, chosen)
            if kind != "moved" or moved(one["bbox"], sizes[one["image_id"]])
        )
        if (label := next(fit, None)) is None:
            raise SystemExit(f"--each {each}: too few labels")
        w, h = label["bbox"][2:]
        width, height = sizes[label["image_id"]]
        boxes = [label["bbox"]]
        if kind == "missing":
            gone.add(label["id"])
        elif kind == "wrong class":
            label["category_id"] = int(rng.choice([one for one in classes if one != label["category_id"]]))
        elif kind == "moved":
            label["bbox"] = moved(label["bbox"], sizes[label["image_id"]])
            boxes = [label["bbox"], boxes[0]]
        else:
            here = [one["bbox"] for one in labels if one["image_id"] == label["image_id"]]
            for _ in range(200):
                box = [float(rng.uniform(0, max(width - w, 1))), float(rng.uniform(0, max(height - h, 1))), w, h]
                if best_iou(box, here) <= FREE:
                    break
                w, h = w * 0.98, h * 0.98  # where the picture is full, a smaller one
            boxes = [box]
            added.append({**label, "bbox": box, "area": box[2] * box[3]})
        label.pop("segmentation", None)
        errors.append({"kind": kind, "image_id": label["image_id"], "boxes": boxes})
    first = max(one["id"] for one in document["annotations"]) + 1
    for number, one in enumerate(added):
        one.pop("segmentation", None)
        one["id"] = first + number
    document["annotations"] = [one for one in document["annotations"] if one["id"] not in gone] + added
    return errors


def hits(suspects: list[dict], errors: list[dict]) -> np.ndarray:
    """[S,E] whether a suspect names an error."""
    found = np.zeros((len(suspects), len(errors)), bool)
    for s, suspect in enumerate(suspects):
        for e, error in enumerate(errors):
            if error["image_id"] == suspect["image_id"]:
                boxes = [box for box in (suspect["bbox"], suspect["label_bbox"]) if box]
                found[s, e] = max(best_iou(box, error["boxes"]) for box in boxes) >= HIT
    return found


def share(part: float, whole: float) -> str:
    return f"{part / whole:.2f} ({part:.0f} of {whole:.0f})" if whole else "none"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("labels", type=Path)
    parser.add_argument("out", type=Path, help="a new folder; of an earlier call: goes on with it")
    parser.add_argument("--each", type=int, default=20, help="errors of each kind")
    parser.add_argument("--folds", type=int, default=3)
    parser.add_argument("--run", type=Path, help="in place of a cross-validation")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--model", default="fasterrcnn_tiny_fpn")
    parser.add_argument("--epochs", type=int, default=12)
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--max-size", type=int)
    parser.add_argument("--workers", type=int, default=-1)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--seed", type=int, default=0, help="of the errors")
    args = parser.parse_args()
    document = coco_file.read(args.labels)
    root = coco_file.image_root(document, args.labels)
    document["info"] = {"image_root": Path(os.path.relpath(root.resolve(), args.out.resolve())).as_posix()}
    errors = plant(document, args.each, np.random.default_rng(args.seed))
    args.out.mkdir(parents=True, exist_ok=True)
    coco_file.write(document, args.out / "planted.json")
    (args.out / "errors.json").write_text(json.dumps(errors))
    place = args.out / "crossval"
    if args.run:
        evaluation = compute_metrics(document, detections_of(args.run, document, root, "planted", device=args.device))
        write_evaluation(place, evaluation, root)
        metrics = evaluation.metrics
    else:
        options = {key: getattr(args, key) for key in ("model", "epochs", "workers", "device")}
        options |= {key: getattr(args, key) for key in ("image_size", "max_size") if getattr(args, key)}
        metrics = crossval(args.out / "planted.json", place, args.folds, jobs=args.jobs, **options)
    suspects = json.loads((place / "suspects.json").read_bytes())
    found = hits(suspects, errors)
    print(f"{args.labels}: {len(document['images'])} pictures, {len(errors)} errors planted")
    print(f"the detector, on the spoiled labels: AP {metrics['AP']:.3f}, AP50 {metrics['AP50']:.3f}")
    for kind in KINDS:
        mine = [e for e, error in enumerate(errors) if error["kind"] == kind]
        print(f"recall of {kind:12} {share(found[:, mine].any(0).sum(), len(mine))}")
    print(f"recall of all          {share(found.any(0).sum(), len(errors))}")
    for kind in sorted({one["kind"] for one in suspects}):
        rows = [s for s, suspect in enumerate(suspects) if suspect["kind"] == kind]
        print(f"precision of {kind:12} {share(found[rows].any(1).sum(), len(rows))}")
    print(f"precision of all          {share(found.any(1).sum(), len(suspects))}")
    for number in (n for n in LENGTHS if n < len(suspects)):
        recall, precision = found[:number].any(0).sum(), found[:number].any(1).sum()
        print(f"first {number:3} suspects: precision {share(precision, number)}, recall {share(recall, len(errors))}")
    pictures = [one.image["id"] for one in accused(place)]
    for number in (n for n in LENGTHS if n < len(pictures)):
        inside = sum(error["image_id"] in pictures[:number] for error in errors)
        of = len(document["images"])
        print(f"first {number:3} pictures of {of}: hold {share(inside, len(errors))} of the errors")


if __name__ == "__main__":
    main()
