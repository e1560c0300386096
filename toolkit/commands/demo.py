"""`frcnn demo`: the whole main job on the sample data; what `make demo` runs."""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

from label_tools.text.errors import FINDINGS, FINE, InputError, say
from label_tools.text.findings import ERROR

STEPS = 7


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser("demo", help="the whole job on the sample data, in minutes")
    parser.add_argument("--sample", type=Path, default=_sample(), metavar="DIR", help="folder with labelme/ and masks/")
    parser.add_argument("--out", type=Path, default=Path("demo"), metavar="DIR", help="where it goes (default: demo)")
    parser.add_argument("--epochs", type=int, help="fewer for a quick look")
    parser.add_argument("--short", action="store_true", help="two epochs: shows that it runs, not that it learns")
    parser.set_defaults(run=run)


def _sample() -> Path:
    """The sample data: in an installed package, else in the source checkout."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "sample_data"
    return installed if installed.is_dir() else package.parent / "sample_data"


def run(args: argparse.Namespace) -> int:
    from toolkit.run import train

    sample, out, started = args.sample, args.out, time.monotonic()
    if not (sample / "labelme").is_dir():
        raise InputError(f"{sample}: has no labelme/; needs the sample data, see --sample")
    work = out / "labels"
    if not _make_labels(sample, work):
        return FINDINGS
    options: dict[str, Any] = {"model": "maskrcnn_tiny_fpn"}  # the sample has outlines: they are learned, and drawn
    if args.short or args.epochs:
        options["epochs"] = 2 if args.short else args.epochs
    words = " ".join(f"--{name} {value}" for name, value in options.items())
    _tell(6, "fine-tune, evaluate, report", f"train {work} {words} --name demo --runs {out}")
    trained = train(work, name="demo", runs=out, **options)
    pictures = trained.folder / "predictions"
    _tell(7, "draw detections", f"predict {trained.folder} ... --out {pictures}")
    _draw(trained, pictures)
    metrics = trained.metrics("val")
    seconds = time.monotonic() - started
    say(f"\nmAP on the {metrics['num_images']} held-out images   ({seconds:.0f} s)")
    for name, numbers in (("boxes", metrics), ("outlines", metrics.get("segm", {}))):
        found = "  ".join(f"{key} {numbers.get(key) or 0:.3f}" for key in ("AP", "AP50", "AP75"))
        say(f"  by {name + ':':10}{found}")
    say(f"report:   {trained.folder / 'report.html'}\npictures: {pictures}")
    return FINE


def _tell(number: int, text: str, command: str) -> None:
    say(f"\n[{number}/{STEPS}] {text}\n$ frcnn {command}")


def _make_labels(sample: Path, work: Path) -> bool:
    """Two kinds of labels to one COCO file, checked and split. -> whether the check found no error."""
    from label_tools.commands.check import as_text
    from label_tools.commands.split import table
    from label_tools.operations.edit import merge_files, write_edited
    from label_tools.operations.split import split_file
    from label_tools.readers.classes import read_labels
    from label_tools.readers.convert import convert, report_lines
    from label_tools.rules.check import examine_files

    names, flag = read_labels(sample / "labels.txt"), f"--labels {sample / 'labels.txt'}"
    kinds: dict[str, dict[str, Any]] = {"labelme": {}, "masks": {"mode": "instance"}}
    for number, (kind, options) in enumerate(kinds.items(), 1):
        file = work / f"{kind}.json"
        words = " ".join([flag, *(f"--{name} {value}" for name, value in options.items())])
        what = {"labelme": "LabelMe files", "masks": "instance masks"}[kind]
        _tell(number, f"{what} to COCO", f"convert {kind} {sample / kind} {words} --out {file}")
        account = convert(sample / kind, kind, labels=names, **options).write(file)
        say(f"{file}: " + "\n".join(report_lines(account)))
    parts, whole = [work / f"{kind}.json" for kind in kinds], work / "annotations.json"
    _tell(3, "both in one file", f"merge {' '.join(map(str, parts))} --out {whole}")
    edited = merge_files(parts, whole)
    write_edited(edited, whole, parts)
    say(f"{whole}: {len(edited.document['images'])} images, {edited.objects_out} objects")
    _tell(4, "look for faults", f"check {whole}")
    results = examine_files([whole])
    findings = [finding for result in results for finding in result.findings]
    say(as_text(results, findings))
    if any(finding.level == ERROR for finding in findings):
        return False
    _tell(5, "split by image", f"split {whole} --train .75 --val .25 --test 0")
    say(table(split_file(whole, fractions={"train": 0.75, "val": 0.25, "test": 0.0})))
    return True


def _draw(trained, out: Path) -> None:
    """The validation pictures with what the trained detector finds."""
    from label_tools.document import coco_file
    from label_tools.pictures.own_output import drawing_paths
    from toolkit.prediction.draw_boxes_and_batches import save_jpeg

    file = trained.folder / "val.json"
    document = coco_file.read(file)
    root = coco_file.image_root(document, file)
    paths = {image["file_name"]: root / image["file_name"] for image in document["images"]}
    found = dict(zip(paths, trained.predict(list(paths.values())), strict=True))
    for name, path in drawing_paths(out, paths).items():
        save_jpeg(found[name].draw(), path)
    say(f"{sum(map(len, found.values()))} objects in {len(found)} pictures: {out}")
