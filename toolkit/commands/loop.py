"""`frcnn loop`: label what helps most, correct instead of draw, train, and know what it saved."""

from __future__ import annotations

import argparse
import shlex
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from label_tools.text.errors import FINDINGS, InputError, say
from label_tools.text.messages import counted
from toolkit.commands import flags

if TYPE_CHECKING:
    from toolkit.labelling.labelling_round import Outcome
    from toolkit.labelling.loop_file import Loop

STATE = "state"


class _Verbs(argparse._SubParsersAction):
    """Sub-commands, where a first word that is none of them is a folder whose state is wanted."""

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: Any = None) -> None:
        super().__call__(parser, namespace, values if values[0] in self.choices else [STATE, *values], option_string)


def add(subparsers: argparse._SubParsersAction) -> None:
    parser = subparsers.add_parser(
        "loop",
        help="label what helps most, correct drafts, train, repeat",
        description="`frcnn loop DIR` says what is labelled in a folder of pictures and what to do next.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="DIR | COMMAND", action=_Verbs)
    vars(verbs)["others_too"] = True
    state = _verb(verbs, STATE, "what is labelled, and what to do next", _state)
    state.add_argument("--labels", type=Path, metavar="FILE", help="one class a line; kept for the next times")
    following = _verb(verbs, "next", "pick pictures, draft them, open labelme on them, read what changed", _next)
    following.add_argument("-n", "--number", type=int, default=20, help="pictures of a new round (default: 20)")
    following.add_argument("--labels", type=Path, metavar="FILE", help="one class a line; kept for the next times")
    following.add_argument("--model", type=Path, metavar="RUN", help="drafts by this run (default: the last trained)")
    following.add_argument("--seed", type=int, default=0, help="of the pictures drawn at random (default: 0)")
    following.add_argument(
        "--random-share",
        type=float,
        metavar="SHARE",
        help="of a round drawn by chance, the rest is ranked (default: 1)",
    )
    flags.add_device(following)
    following.add_argument("--no-window", action="store_true", help="make the round's folder, start nothing")
    _verb(verbs, "close", "read what changed in a round that was labelled without `next`", _close)
    train = _verb(verbs, "train", "train on all that is labelled, with the same test pictures", _train)
    train.add_argument("--runs", type=Path, default=Path("runs"), metavar="DIR", help="where it goes (default: runs)")
    flags.add_recipe(train)
    doubted = verbs.add_parser(
        "suspects",
        help="labels that are probably wrong, as a folder for labelme",
        description="Worst picture first, over train, val and test by cross-validation with the run's recipe. "
        "Suggestions are of the class NAME?: rename one to NAME to take it. Then: frcnn loop apply.",
    )
    doubted.add_argument("checkpoint", type=Path, metavar="RUN", help="a run, or a folder of frcnn crossval")
    doubted.add_argument("--out", type=Path, required=True, metavar="DIR", help="the new folder")
    doubted.add_argument("--folds", type=int, default=3, help="of the cross-validation (default: 3)")
    doubted.add_argument("-n", "--number", type=int, default=100, help="pictures at most (default: 100)")
    doubted.set_defaults(run=_suspects)
    applied = verbs.add_parser(
        "apply",
        help="show what was fixed in a folder of suspects, and write it into the labels",
        description="Without --write it only shows the difference. A COCO file is never changed: FILE.fixed.json is "
        "written. LabelMe files are, and what they were is kept in DIR/.loop/before-fix.",
    )
    applied.add_argument("suspects", type=Path, metavar="SUSPECTS", help="the folder that `loop suspects` made")
    applied.add_argument(
        "labels", type=Path, nargs="+", metavar="LABELS", help="COCO files, or folders of LabelMe files"
    )
    applied.add_argument("--write", action="store_true", help="write it")
    applied.set_defaults(run=_apply)
    simulated = verbs.add_parser(
        "simulate",
        help="does the ranking beat chance on labelled data?",
        description="Ranking and chance each choose as many pictures of a labelled set, and a model is trained on what "
        "each chose. All flags of `frcnn train` apply, --epochs and --seed aside.",
    )
    simulated.add_argument("annotations", type=Path, metavar="FILE", help="COCO file of labelled pictures")
    simulated.add_argument("--out", type=Path, required=True, metavar="FILE", help="JSON with every number")
    simulated.add_argument(
        "--seeds",
        type=int,
        nargs="+",
        default=[0, 1, 2, 3, 4],
        metavar="S",
        help="each begins anew with other pictures (default: 0 to 4)",
    )
    for name, value, text in (
        ("start", 12, "pictures of the first model"),
        ("step", 12, "pictures more a round"),
        ("rounds", 2, "rounds"),
        ("steps", 120, "steps of each training"),
    ):
        simulated.add_argument(f"--{name}", type=int, default=value, metavar="N", help=f"{text} (default: {value})")
    flags.add_recipe(simulated)
    simulated.set_defaults(run=_simulate)
    _verb(verbs, "status", "the history: labelled, AP, minutes, clicks", _status)


def _verb(verbs: argparse._SubParsersAction, name: str, text: str, run: Any) -> argparse.ArgumentParser:
    parser = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
    parser.add_argument("folder", type=Path, nargs="?", default=Path(), metavar="DIR", help="pictures (default: here)")
    parser.set_defaults(run=run)
    return parser


def _state(args: argparse.Namespace) -> int:
    from toolkit.labelling import labelling_round, loop_file
    from toolkit.labelling.scan_folder import BROKEN, DRAFT, LABELLED, NOTHING, scan

    loop = loop_file.read(args.folder)
    if args.labels:
        with loop_file.held(args.folder) as loop:
            _classes(loop, args.labels)
            loop.save()
    found, lonely = scan(args.folder)
    count = {state: sum(one.state == state for one in found) for state in (LABELLED, DRAFT, BROKEN, NOTHING)}
    say(
        f"{counted(len(found), 'picture')}: {count[LABELLED]} labelled, {count[DRAFT]} drafted and not reviewed, "
        f"{count[NOTHING]} without labels"
    )
    for one in found:
        if one.state == BROKEN:
            say(f"not usable: {one.problem}")
    for path in lonely:
        say(f"no picture beside {path}: deleted or renamed?")
    for path in labelling_round.kept_back(loop):
        say(f"kept back in an earlier round: {path}; fix it and move it beside its picture, under the picture's name")
    names = {one.name for one in found}
    gone = [name for name in loop.parts.get("test", ()) if name not in names]
    if gone:
        say(f"{counted(len(gone), 'test picture')} not there any more: {', '.join(gone[:5])}")
    say(f"last model: {loop.model or 'none yet'}")
    folder = _shown(args.folder)
    if loop.open_round:
        number, pictures = loop.open_round["number"], len(loop.open_round["pictures"])
        done = labelling_round.reviewed_so_far(loop)
        say(f"round {number} is open: {done} of {counted(pictures, 'picture')} reviewed")
        say(f"next: frcnn loop next{folder}   (goes on with it; frcnn loop close{folder} ends it)")
    elif count[LABELLED] > (loop.trainings[-1]["labelled"] if loop.trainings else loop_file.LEAST - 1):
        say(f"next: frcnn loop train{folder}")
    elif count[NOTHING]:
        say(f"next: frcnn loop next{folder}")
    else:
        say("every picture is labelled")
    return 0


def _next(args: argparse.Namespace) -> int:
    from label_tools.operations.start_labelme import find_labelme, labelme_command, start
    from toolkit.labelling import labelling_round, loop_file
    from toolkit.labelling.choose_pictures import RANDOM_SHARE, choose

    program = None if args.no_window else find_labelme()
    with loop_file.held(args.folder) as loop:
        if args.labels:
            _classes(loop, args.labels)
        entry = loop.open_round
        if entry is None:
            share = RANDOM_SHARE if args.random_share is None else args.random_share
            picks, notes = choose(
                loop, args.number, model=args.model, seed=args.seed, device=args.device, random_share=share
            )
            for note in notes:
                say(note)
            folder = labelling_round.open_round(loop, picks)
            entry = loop.open_round
            assert entry is not None
            drafted = sum(one["drafted"] for one in entry["pictures"])
            say(f"round {entry['number']}: {counted(len(picks), 'picture')}, {counted(drafted, 'draft')} in {folder}")
        else:
            folder = labelling_round.folder_of(loop, entry["number"])
            say(f"round {entry['number']} goes on: {counted(len(entry['pictures']), 'picture')} in {folder}")
        if program is None:
            say(f"label {folder} in labelme, then: frcnn loop close{_shown(args.folder)}")
            return 0
        say("tick the flag `reviewed` of a picture whose drafts are right; a corrected one needs no tick")
        started = time.monotonic()
        try:
            start(labelme_command(program, folder, folder / "labels.txt", folder), folder)
        finally:
            entry["minutes"] = round(entry["minutes"] + (time.monotonic() - started) / 60, 2)
            loop.save()
        outcomes = labelling_round.close_round(loop) if labelling_round.reviewed_so_far(loop) else []
        if not outcomes:
            say("nothing reviewed yet; the round stays open")
        return _tell(loop, outcomes)


def _close(args: argparse.Namespace) -> int:
    from toolkit.labelling import labelling_round, loop_file

    with loop_file.held(args.folder) as loop:
        return _tell(loop, labelling_round.close_round(loop))


def _tell(loop: Loop, outcomes: list[Outcome]) -> int:
    from toolkit.labelling.labelling_round import KEPT_BACK, REVIEWED

    if not outcomes:
        return 0
    kept_back = [one for one in outcomes if one.state == KEPT_BACK]
    for one in kept_back:
        say(f"kept back: {one.name}: {one.text}")
    reviewed = sum(one.state == REVIEWED for one in outcomes)
    say(f"{reviewed} of {len(outcomes)} pictures reviewed: {_changes(loop.rounds[-1]['changes'])}")
    return FINDINGS if kept_back else 0


def _changes(changes: dict[str, float]) -> str:
    counts = ", ".join(f"{changes[key]:.0f} {key}" for key in ("kept", "moved", "renamed", "added", "deleted"))
    return f"{counts}; {changes['clicks']:.0f} clicks, {changes['clicks_from_nothing']:.0f} to draw them from nothing"


def _train(args: argparse.Namespace) -> int:
    from toolkit.labelling import loop_file
    from toolkit.labelling.train_loop import train_loop

    with loop_file.held(args.folder) as loop:
        entry, notes = train_loop(loop, args.runs, flags.training_options(args))
    for note in notes:
        say(f"note: {note}")
    say(_training(entry))
    return 0


def _training(entry: dict[str, Any]) -> str:
    value = "n/a" if entry["AP"] is None else f"{entry['AP']:.3f}"
    within = "" if not entry["interval"] else f" ({entry['interval'][0]:.3f} to {entry['interval'][1]:.3f})"
    return (
        f"{entry['labelled']} labelled, AP {value}{within} on {counted(entry['test'], 'test picture')}: {entry['run']}"
    )


def _status(args: argparse.Namespace) -> int:
    from toolkit.labelling import loop_file
    from toolkit.labelling.count_corrections import total

    loop = loop_file.read(args.folder)
    for entry in loop.trainings:
        say(f"{entry['when']}  {_training(entry)}")
    closed = [one for one in loop.rounds if one["closed"]]
    for one in closed:
        say(
            f"{one['closed']}  round {one['number']}: {one['reviewed']} of {len(one['pictures'])} pictures, "
            f"{one['minutes']:.1f} minutes, {_changes(one['changes'])}"
        )
    if closed:
        changes = total([one["changes"] for one in closed])
        say(f"in all: {sum(one['minutes'] for one in closed):.1f} minutes, {_changes(changes)}")
    elif not loop.trainings:
        say("nothing happened yet")
    return 0


def _suspects(args: argparse.Namespace) -> int:
    from toolkit.labelling.fix_suspects import accused, evaluated, write_folder

    place = evaluated(args.checkpoint, args.folds)
    pictures = accused(place)
    if not pictures:
        say("no label is suspected")
        return 0
    write_folder(place, args.out, pictures[: args.number])
    for one in pictures[: args.number]:
        say(f"{one.image['file_name']}: {one.text}")
    folder = shlex.quote(str(args.out))
    say(f"{counted(min(len(pictures), args.number), 'picture')} of {len(pictures)} with suspects in {folder}")
    say(f"next: frcnn label {folder} --labels {folder}/labels.txt; then: frcnn loop apply {folder} LABELS")
    return 0


def _apply(args: argparse.Namespace) -> int:
    from toolkit.labelling.fix_suspects import fix_coco, fix_labelme, read_fixed

    fixed, problems = read_fixed(args.suspects)
    for one in fixed:
        say(f"{one.picture.name}: {', '.join(f'{n} {k}' for k, n in one.changes.items() if 'clicks' not in k and n)}")
    for problem in problems:
        say(f"not usable: {problem}")
    for target in args.labels:
        if target.is_dir():
            place = target / ".loop" / "before-fix"
            number = fix_labelme(target, fixed, place if args.write else None)
            where = f"{target} (before: {place})"
        else:
            place = target.with_name(f"{target.stem}.fixed.json")
            number = fix_coco(target, fixed, place if args.write else None)
            where = str(place)
        done = f"written to {where}" if args.write else "nothing written; --write does"
        say(f"{target}: {counted(number, 'reviewed picture')}: {done if number else 'left as it is'}")
    return FINDINGS if problems else 0


def _simulate(args: argparse.Namespace) -> int:
    from label_tools.files import marked_folders
    from label_tools.files.write_json_csv import write_json
    from toolkit.labelling.simulate import Plan, simulate

    plan = Plan(start=args.start, step=args.step, rounds=args.rounds, steps=args.steps)
    options = flags.flags_given(args)
    marked_folders.refuse_foreign_file(args.out, "simulation", [args.annotations])

    def each(point: dict[str, Any]) -> None:
        value = "n/a" if point["AP"] is None else f"{point['AP']:.3f}"
        say(f"seed {point['seed']}  {point['images']:4d} pictures  {point['strategy']:12} AP {value}")

    result = simulate(args.annotations, args.seeds, plan, options, each)
    with marked_folders.one_file(args.out, "simulation", inputs=[args.annotations]) as made:
        write_json(made, result)
    say("pictures  strategy      AP                        minus random")
    for row in result["summary"]:
        say(f"{row['images']:8d}  {row['strategy']:12}  {_within(row['AP']):24}  {_within(row['difference'])}")
    return 0


def _within(found: dict[str, float | None]) -> str:
    if found["mean"] is None:
        return "n/a"
    if found["low"] is None or found["high"] is None:
        return f"{found['mean']:.3f}"
    return f"{found['mean']:.3f} ({found['low']:.3f} to {found['high']:.3f})"


def _classes(loop: Loop, file: Path) -> None:
    from label_tools.readers.classes import NO_CLASSES, read_labels

    names = [name for name in read_labels(file) if name not in NO_CLASSES]
    if loop.trainings and names != loop.classes:
        raise InputError(f"{file}: other classes than the model's ({', '.join(loop.classes)}); begin anew with them")
    loop.classes = names


def _shown(folder: Path) -> str:
    return "" if folder == Path() else f" {shlex.quote(str(folder))}"
