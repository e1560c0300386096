"""`frcnn predict RUN images/`: pictures with boxes and one JSON."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("predict", help="detect objects in pictures: boxes drawn, and one JSON")
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument("images", type=Path, nargs="+", help="pictures or folders of pictures")
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: predictions, or predictions-2, ...")
    parser.add_argument(
        "--score",
        type=float,
        help="show detections from this score (default: the checkpoint's own threshold of each class, else 0.5)",
    )
    parser.add_argument("--no-pictures", action="store_true", help="only the JSON")
    parser.add_argument("--device", default="auto", help="auto | cpu | cuda | cuda:N")
    parser.add_argument("--json", action="store_true", help="print the JSON on stdout too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from label_tools.pictures.our_outputs import drawing_paths
    from label_tools.text.atomic import atomic_write
    from label_tools.text.errors import FINDINGS, InputError
    from label_tools.text.messages import counted
    from toolkit import checkpoint
    from toolkit.prediction import drawing, predict
    from toolkit.training import run_folder
    from toolkit.training.progress import Progress

    if args.score is not None and not 0 <= args.score <= 1:
        raise InputError(f"--score: found {args.score}, needs 0 to 1")
    files = predict.find_images(args.images)
    meta = checkpoint.read_meta(checkpoint.find(args.checkpoint))
    records, bad = [], 0
    below: dict[Path, tuple[float, str]] = {}
    # before a folder is made: a damaged checkpoint or an unknown device leaves none
    results = predict.predict(args.checkpoint, files, score=args.score, device=args.device, below=below)
    out = args.out or run_folder.create(Path(), "predictions")
    drawings = {} if args.no_pictures else drawing_paths(out, {name.as_posix(): path for path, name in files})
    progress = Progress()
    for done, (path, name, detections, error) in enumerate(results, 1):
        record: dict[str, Any] = {"file_name": name.as_posix(), "detections": detections}
        if error:
            bad += 1
            record["error"] = error
            progress.line(f"skipped: {error}")
        elif not args.no_pictures:
            drawing.save_jpeg(drawn(path, detections), drawings[name.as_posix()])
        records.append(record)
        progress.step(f"{done}/{counted(len(files), 'picture')}", done, len(files))
    progress.close()
    content = predict.to_json(records, meta["classes"], predict.thresholds_of(meta, args.score))
    with atomic_write(out / "detections.json") as file:
        file.write(content)
    if args.json:
        sys.stdout.write(content.decode())
    else:
        total = sum(len(r["detections"]) for r in records)
        print(f"{counted(total, 'object')} in {counted(len(records) - bad, 'picture')}: {out}")
    empty = sum(not r["detections"] and "error" not in r for r in records)
    if empty:
        total = len(records) - bad
        print(predict.nothing_found(args.checkpoint, meta, args.score, empty, total, below), file=sys.stderr)
    return FINDINGS if bad else 0


def drawn(path: Path, detections: list):
    from label_tools.pictures import images
    from toolkit.prediction import drawing

    return drawing.draw_detections(images.open_image(path), detections)
