"""`frcnn predict RUN images/`: pictures with boxes, the detections as JSON and CSV, and counts."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING

from label_tools.files import links
from label_tools.text.errors import FINDINGS, InputError, say
from label_tools.text.messages import counted
from toolkit.commands.flags import add_device, add_looks, add_outlines, at_least, check_score, outlines_of, picked

if TYPE_CHECKING:
    from label_tools.pictures.films import Film
    from toolkit.prediction.detector import Detector

MOST_NAMES = 8  # classes that a note names


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "predict",
        help="detect objects in pictures: boxes drawn, detections and counts",
        description="Writes detections.json, detections.csv, counts.csv and the pictures drawn. After a kill, the same "
        "command with the same --out goes on where it stopped. `torchrun -m toolkit predict` shares the pictures out.",
    )
    parser.add_argument("checkpoint", type=Path, metavar="RUN", help="run folder, or a checkpoint in it")
    parser.add_argument(
        "images",
        nargs="+",
        help='pictures, folders, "new/*.jpg", a list.txt of paths, - (paths on standard input), a film, or the number '
        "of a camera",
    )
    links.add_option(parser)
    parser.add_argument("--out", type=Path, metavar="DIR", help="default: predictions, or predictions-2, ...")
    parser.add_argument(
        "--score",
        type=float,
        help="show detections from this score (default: the checkpoint's own threshold of each class, else 0.5)",
    )
    add_looks(parser)
    parser.add_argument(
        "--max-pixels",
        type=int,
        metavar="N",
        help="largest picture that is read whole (default: 100 million); with --tiles larger TIFF files are read by "
        "windows",
    )
    add_outlines(parser, "masks")
    parser.add_argument("--pixel-size", type=float, metavar="MM", help="side of a pixel: areas of masks in mm2, too")
    parser.add_argument("--no-pictures", action="store_true", help="only JSON and CSV")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="of a film: every N-th frame (default: 1)")
    parser.add_argument(
        "--batch-size", type=int, default=4, metavar="N", help="pictures of one size at a time (default: 4)"
    )
    parser.add_argument(
        "--workers", type=int, default=-1, metavar="N", help="threads that read pictures ahead (default: by the cores)"
    )
    add_device(parser)
    parser.add_argument("--json", action="store_true", help="print detections.json on stdout too")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    from toolkit.prediction.open_detector import open_detector
    from toolkit.prediction.picture_sources import find_images
    from toolkit.prediction.predict_pictures_and_film import film_in, predict
    from toolkit.prediction.prediction_files import JSON
    from toolkit.prediction.tiles_and_tta import look_of
    from toolkit.rank_and_cores import this_process, worker_count
    from toolkit.training import run_folder
    from toolkit.training.progress import Progress

    check_score(args.score)
    if args.pixel_size is not None and not 0 < args.pixel_size < 1e6:
        raise InputError(f"--pixel-size: found {args.pixel_size}, needs a length in mm, more than 0")
    at_least(args, 1, "max_pixels", "batch_size", "every")
    if args.out is None and this_process().world_size > 1:
        raise InputError("--out: needs one folder for all processes of torchrun")
    outlines = outlines_of(args)
    film = film_in(args.images)
    files = [] if film else find_images(args.images)
    detector = open_detector(args.checkpoint, args.device)
    look = look_of(detector, args.checkpoint, args.tiles, args.tta, batch_size=args.batch_size)
    detector = look.detector if look else detector
    if look and not look.has_thresholds and args.score is None and this_process().first:
        again = " ".join(f"--{name} {value}" for name, value in (("tiles", args.tiles), ("tta", args.tta)) if value)
        again = f"frcnn evaluate {args.checkpoint} --split val {again}"
        say(
            f"note: score thresholds are those of plain pictures; {again} tells whether it pays and stores its own",
            error=True,
        )
    # before a folder is made: a damaged checkpoint leaves none
    out = args.out or run_folder.create(Path(), "predictions")
    if film:
        return _film(detector, film, out, args)
    progress = Progress()

    def each(done: int, total: int, error: str) -> None:
        if error:
            progress.line(f"skipped: {error}")
        progress.step(f"{done}/{counted(total, 'picture')}{progress.time_left(done, total)}", done, total)

    try:
        workers = args.workers if args.workers >= 0 else max(1, worker_count(-1))  # a thread costs little
        given = {"draw": not args.no_pictures, **picked(args, "score", "pixel_size", "max_pixels", "batch_size")}
        share = this_process()
        found = predict(detector, files, out, outlines=outlines, workers=workers, share=share, each=each, **given)
    except KeyboardInterrupt:
        progress.line(f"what is done is kept: the same command with --out {out} goes on")
        raise
    finally:
        progress.close()
    if found is None:  # the first process of torchrun writes and speaks
        return 0
    if args.json:
        with open(out / JSON, encoding="utf-8") as file:
            for line in file:
                say(line, end="")
    else:
        went_on = f" ({found.went_on} done before)" if found.went_on else ""
        total = counted(found.pictures - found.unreadable, "picture")
        say(f"{counted(found.objects, 'object')} in {total}{went_on}: {out}")
    if found.empty:
        read = found.pictures - found.unreadable
        say(nothing_found(args.checkpoint, detector, args.score, found.empty, read, found.below), error=True)
    return FINDINGS if found.unreadable else 0


def _film(detector: Detector, film: Film, out: Path, args: argparse.Namespace) -> int:
    """A film or a camera; Ctrl-C ends it there, with whole files."""
    from toolkit.prediction.predict_pictures_and_film import predict_film
    from toolkit.stopping import Stopped, StopSignal
    from toolkit.training.progress import Progress

    progress = Progress()

    def each(done: int, total: int) -> None:
        of = f"{done}/{counted(total, 'frame')}" if total else counted(done, "frame")
        progress.step(of + progress.time_left(done, total), done, total)

    with StopSignal(text="stopping after this frame; Ctrl-C again leaves at once without the files") as stop:
        given = {"draw": not args.no_pictures, **picked(args, "score", "every", "batch_size")}
        given |= {"outlines": outlines_of(args), "stop": lambda: bool(stop)}
        found = predict_film(detector, film, out, each=each, **given)
        requested = stop.requested
    progress.close()
    say(f"{counted(found.objects, 'object')} in {counted(found.pictures, 'frame')}: {out}")
    if requested:
        raise Stopped(requested)
    return 0


def validation_objects(run: Path, stored: dict[str, float]) -> dict[str, int]:
    """{class: objects of val that its stored threshold was chosen on}, as far as the run's files tell."""
    for place in (run, run.parent):
        try:
            metrics = json.loads((place / "val" / "metrics.json").read_bytes())
            chosen, counts = metrics["thresholds"], metrics["per_class"]
            return {n: counts[n]["num_objects"] for n in stored if abs(chosen[n]["threshold"] - stored[n]) < 1e-6}
        except (OSError, ValueError, LookupError, TypeError, AttributeError, RecursionError):
            continue
    return {}


def nothing_found(
    run: Path, detector: Detector, score: float | None, empty: int, total: int, below: dict[str, tuple[float, str]]
) -> str:
    """A note on pictures without objects: the thresholds, on how much they rest, the best score below, what to try."""
    from toolkit.prediction.detector import thresholds_of
    from toolkit.report.evaluation_text import FEW_OBJECTS

    stored, used = detector.score_thresholds, []
    objects = validation_objects(run, stored)
    thresholds = thresholds_of(detector, score)
    for category in detector.categories if score is None else []:
        name = category["name"]
        text = f"{name} {thresholds[category['id']]:.3f}"
        if name not in stored:
            text += " (no threshold was chosen yet; frcnn evaluate chooses one)"
        elif name in objects:
            few = f", fewer than {FEW_OBJECTS}: unreliable" if objects[name] < FEW_OBJECTS else ""
            text += f" (chosen on {counted(objects[name], 'validation object')}{few})"
        used.append(text)
    more = f" and {len(used) - MOST_NAMES} classes more" if len(used) > MOST_NAMES else ""
    shown = ", ".join(used[:MOST_NAMES]) + more if score is None else f"{score:g} (--score)"
    best = "there is no detection at any score"
    if below:
        name, (value, label) = max(below.items(), key=lambda item: item[1][0])
        best = f"best score below: {value:.3f} ({label} in {name})"
    hint = f"; --score S shows them from S on, for example --score {0.9 * value:.2g}" if below else ""
    return f"note: {empty} of {total} pictures show no object. Shown from score: {shown}; {best}{hint}"
