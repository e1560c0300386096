"""`frcnn demo`: the whole main job on the sample data; what `make demo` runs."""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("demo", help="the whole job on the sample data: convert to report, in minutes")
    parser.add_argument("--sample", type=Path, default=_sample(), metavar="DIR", help="folder with labelme/ and masks/")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where it goes (default: demo)")
    parser.add_argument("--epochs", type=int, help="fewer for a quick look")
    parser.add_argument("--short", action="store_true", help="two epochs: shows that it runs, not that it learns")
    parser.set_defaults(run=run)


def _sample() -> Path:
    return Path(__file__).resolve().parents[2] / "sample_data"


def run(args: argparse.Namespace) -> int:
    from label_tools.text.errors import InputError

    sample = args.sample
    if not (sample / "labelme").is_dir():
        raise InputError(f"{sample}: has no labelme/; the sample data is part of the source checkout, see --sample")
    from toolkit.__main__ import main
    from toolkit.training import run_folder

    started = time.monotonic()
    args.out.mkdir(parents=True, exist_ok=True)
    run = next(f"demo{n}" for n in ["", *(f"-{i}" for i in range(2, 10_000))] if not (args.out / f"demo{n}").exists())
    work = args.out / "labels"
    labels = ["--labels", str(sample / "labels.txt")]
    steps = [
        ("LabelMe files to COCO", ["convert", "labelme", sample / "labelme", *labels, "--out", work / "labelme.json"]),
        (
            "instance masks to COCO",
            ["convert", "masks", sample / "masks", *labels, "--mode", "instance", "--out", work / "masks.json"],
        ),
        ("both in one file", ["merge", work / "labelme.json", work / "masks.json", "--out", work / "annotations.json"]),
        ("look for faults", ["check", work / "annotations.json"]),
        ("split by image", ["split", work / "annotations.json", "--train", ".75", "--val", ".25", "--test", "0"]),
        (
            "fine-tune, evaluate, report",
            ["train", work, "--model", "fasterrcnn_tiny_fpn", "--name", run, "--runs", args.out, *_epochs(args)],
        ),
    ]
    for number, (text, command) in enumerate(steps, 1):
        words = [str(word) for word in command]
        print(f"\n[{number}/{len(steps) + 1}] {text}\n$ frcnn {' '.join(words)}", flush=True)
        code = main(words)
        if code in (130, 143):  # a signal; the command has said how to go on
            return code
        if code:
            print(f"error: demo: step {number} ({command[0]}) ended with exit code {code}", file=sys.stderr)
            return code
    folder = args.out / run
    pictures = folder / "predictions"
    val = run_folder.read_json(folder / "val.json")
    root = (folder / val["info"]["image_root"]).resolve()
    words = ["predict", str(folder), *(str(root / i["file_name"]) for i in val["images"]), "--out", str(pictures)]
    print(f"\n[{len(steps) + 1}/{len(steps) + 1}] draw detections\n$ frcnn predict {folder} ... --out {pictures}")
    code = main(words)
    if code:
        return code
    metrics = run_folder.read_json(folder / "val" / "metrics.json")
    print(
        f"\nmAP on the {metrics['num_images']} held-out images: AP {metrics['AP']:.3f}  AP50 {metrics['AP50']:.3f}  "
        f"AP75 {metrics['AP75']:.3f}   ({time.monotonic() - started:.0f} s)"
    )
    print(f"report:   {folder / 'report.html'}\npictures: {pictures}")
    return 0


def _epochs(args: argparse.Namespace) -> list[str]:
    if args.short:
        return ["--epochs", "2"]
    return ["--epochs", str(args.epochs)] if args.epochs else []
