"""Next steps that the numbers of a run suggest, the most valuable first, each with its evidence.

Each rule looks at one kind of trouble and gives a step or nothing. Steps are ordered by `points`: the AP50, of 100,
that the step should bring; what makes the numbers themselves unreliable counts by how far they may be off. The figures
are estimates: errors of one kind alone are taken away, and kinds do not add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from label_tools.text.messages import counted
from toolkit.report.read_logs import Training

MOST = 5
LEAST = 0.5  # points of AP50: less is not worth a line
RARE = 0.2  # a class with fewer objects than this share of the largest class is rare
MUCH_LESS = 0.75  # a training loss under this share of the validation loss is no accident of augmentation


@dataclass(frozen=True)
class Step:
    """what: one sentence to do; why: the evidence; brings: what to expect; link: the section that shows it."""

    name: str
    points: float
    what: str
    why: str
    brings: str
    link: str = ""
    command: str = ""


@dataclass(frozen=True)
class Facts:
    """What a run knows: metrics.json of the split shown and of others, its log, objects in training, curve.json."""

    metrics: dict
    others: dict[str, dict]
    training: Training
    folder: str
    trained_on: dict[str, int]  # {class: objects in train.json}
    curve: dict | None = None

    @property
    def split(self) -> str:
        return self.metrics.get("split") or "this set"

    def gain(self, kind: str) -> float:
        """Points of AP50 that fixing all errors of a kind would give back."""
        return 100 * (self.metrics["error_kinds"]["kinds"][kind]["gain"] or 0)

    def own(self, kind: str) -> float:
        """The same, but no more than the detector does wrong on the training pictures, too.

        As measured where those were evaluated, else as the losses say. The rest is `_learned_by_heart`.
        """
        train = self.others.get("train")
        if not train:
            return self.gain(kind) * self.loss_ratio
        there = train["error_kinds"]["kinds"][kind]["gain"]
        return self.gain(kind) if there is None else min(self.gain(kind), 100 * there)

    @property
    def loss_ratio(self) -> float:
        """Loss on the training pictures over that on val, at the epoch that was evaluated; 1 where both are alike."""
        train, val = self.losses
        return train / val if val and train < MUCH_LESS * val else 1.0

    @property
    def losses(self) -> tuple[float, float]:
        """(training loss, validation loss) at the epoch that was evaluated, else the last that has both; else zeros."""
        pairs = _losses(self.training)
        epoch = (self.metrics.get("checkpoint") or {}).get("epoch", -1)
        return pairs.get(epoch) or next(reversed(pairs.values()), (0.0, 0.0))

    def over(self, kind: str) -> int:
        """Errors of a kind over the classes' thresholds."""
        return self.metrics["error_kinds"]["kinds"][kind]["num_over_threshold"] or 0

    def doubted(self, kind: str) -> dict:
        """{"num", "num_images", "over_threshold"} of the suspected label errors of a kind."""
        return (self.metrics.get("suspect_kinds") or {}).get(kind) or {"num": 0, "num_images": 0, "over_threshold": 0}

    def explained(self, doubt: str, error: str) -> float:
        """The share of the errors over the thresholds that suspected labels of a kind may be."""
        wrong = self.over(error)
        return min(1.0, self.doubted(doubt)["over_threshold"] / wrong) if wrong else 0.0


def next_steps(facts: Facts) -> list[Step]:
    """At most five steps, the most valuable first; none where nothing was evaluated."""
    if facts.metrics["AP50"] is None:
        return []
    steps = [step for rule in RULES if (step := rule(facts)) and step.points >= LEAST]
    return sorted(steps, key=lambda step: -step.points)[:MOST]


def percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _brings(points: float) -> str:
    return f"about {points:.1f} points of AP50"


def _leak(facts: Facts) -> Step | None:
    copies = facts.metrics.get("copies_in_train") or []
    if not copies:
        return None
    number = facts.metrics["num_images"]
    return Step(
        "leak",
        100.0 + len(copies),
        f"Split again: {len(copies)} of the {number} pictures of {facts.split} are in the training part, too.",
        f"The same file lies in both, under the same or another name; the first: {copies[0]}. The network has seen it.",
        "numbers that hold for new pictures; they will be lower than these",
        command="frcnn split",
    )


def _missing_labels(facts: Facts) -> Step | None:
    found, share = facts.doubted("no label"), facts.explained("no label", "background")
    points = share * facts.gain("background")
    return Step(
        "missing labels",
        points,
        f"Look at {counted(found['num'], 'place')} in {counted(found['num_images'], 'picture')} where a label may be"
        " missing, and draw the missing ones.",
        f"The detector is confident there and no label is near. They make up {percent(share)} of the false "
        f"detections where no label is, which together cost {facts.gain('background'):.1f} points of AP50.",
        f"up to {points:.1f} points of AP50, if all of them are objects",
        "suspects",
    )


def _wrong_classes(facts: Facts) -> Step | None:
    found, points = facts.doubted("other class"), facts.explained("other class", "class") * facts.gain("class")
    return Step(
        "wrong classes",
        points,
        f"Look at {counted(found['num'], 'label')} whose class may be wrong.",
        "The detector is confident of another class at the same place. Errors of the class cost "
        f"{facts.gain('class'):.1f} points of AP50.",
        f"up to {points:.1f} points of AP50, if the labels are wrong and not the detector",
        "suspects",
    )


def _loose_labels(facts: Facts) -> Step | None:
    """Boxes that some labels have and others do not: the detector is tight on most, and far off on a few."""
    found, objects = facts.doubted("loose box"), facts.metrics["num_objects"]
    fit = facts.metrics.get("histograms", {}).get("iou", {}).get("count") or []
    tight = sum(fit[4:]) / max(sum(fit), 1)  # IoU from 0.7 on
    if not found["num"] or tight < 0.6 or found["num"] < 0.02 * objects:
        return None
    share = min(1.0, found["over_threshold"] / max(facts.over("localisation"), found["over_threshold"], 1))
    points = share * facts.gain("localisation")
    return Step(
        "loose labels",
        points,
        f"Look at {counted(found['num'], 'label')} whose box differs from the detector's.",
        f"{percent(tight)} of the boxes found fit their label with IoU 0.7 or more; these do not. Boxes under "
        f"IoU 0.5 cost {facts.gain('localisation'):.1f} points of AP50.",
        f"up to {points:.1f} points of AP50, from the boxes under IoU 0.5; the others bring AP",
        "suspects",
    )


def _background(facts: Facts) -> Step | None:
    wrong = facts.over("background")
    left = max(0, wrong - facts.doubted("no label")["over_threshold"])
    points = facts.own("background") * (left / wrong if wrong else 0)
    return Step(
        "background",
        points,
        "Add pictures without objects that show what the detector takes for objects.",
        f"{counted(left, 'false detection')} over the threshold where nothing is labelled, besides places that may "
        "lack a label.",
        _brings(points),
        "gallery-false",
    )


def _confused(facts: Facts) -> Step | None:
    table = facts.metrics["confusion"]
    names, rows = table["classes"], table["counts"]
    pairs = [(rows[i][j], i, j) for i in range(len(names) - 1) for j in range(len(names) - 1) if i != j]
    most, i, j = max(pairs, default=(0, 0, 0))
    if not most:
        return None
    which = "objects of the classes" if most < sum(pair[0] for pair in pairs) / 4 else f"{names[i]} and {names[j]}"
    doubted = facts.doubted("other class")["over_threshold"]
    points = facts.own("class") * max(0.0, 1 - doubted / max(facts.over("class"), 1))
    return Step(
        "confused classes",
        points,
        f"Label more {which} that look alike, or make one class of them.",
        f"{names[i]} is taken for {names[j]} {counted(most, 'time')} at the thresholds. Errors of the class cost "
        f"{facts.gain('class'):.1f} points of AP50.",
        _brings(points),
        "confusion",
    )


def _localisation(facts: Facts) -> Step | None:
    loose = _loose_labels(facts)
    points = facts.own("localisation") - (loose.points if loose else 0)
    anchors = facts.metrics.get("anchors") or {}
    poor = anchors and anchors["covered"] < 0.8
    what = "Train longer or with a larger --image-size."
    over = facts.over("localisation")
    under = facts.metrics["error_kinds"]["kinds"]["localisation"]["num"] - over
    why = f"Too far off (IoU 0.1 to 0.5): {counted(over, 'detection')} over the threshold, {under} under it."
    if poor:
        what = "Fit the anchors or the image size to the objects."
        why += f" Only {percent(anchors['covered'])} of the objects have an anchor with IoU 0.5 or more."
    elif facts.metrics["AP75"] is not None:
        why += f" AP75 is {facts.metrics['AP75']:.3f}, AP50 {facts.metrics['AP50']:.3f}."
    tries = anchors.get("proposals") or []
    reaching = [one for one in tries if one["reached"] > anchors["covered"]] or tries or [{"flags": ""}]
    command = f"frcnn train ... {reaching[0]['flags']}" if poor else ""
    return Step("boxes too far off", points, what, why, _brings(points), "anchors" if poor else "errors", command)


def _duplicates(facts: Facts) -> Step | None:
    points = facts.own("duplicate")
    return Step(
        "duplicates",
        points,
        "Look for objects that are labelled twice, or once as a whole and once in parts.",
        f"{counted(facts.over('duplicate'), 'detection')} over the threshold find an object a second time.",
        _brings(points),
        "errors",
        "frcnn check",
    )


def _explained_by_size(facts: Facts) -> float:
    """Points of recall lost because objects that the network sees small are found less often than the others."""
    seen = facts.metrics.get("seen_size")
    if not seen or not seen["num_small"] or not seen["num_larger"]:
        return 0.0
    less = seen["recall_larger"] - seen["recall_small"]
    return 100 * max(0.0, less) * seen["num_small"] / (seen["num_small"] + seen["num_larger"])


def _small(facts: Facts) -> Step | None:
    points = _explained_by_size(facts)
    if points < LEAST:
        return None
    seen = facts.metrics["seen_size"]
    share = seen["num_small"] / (seen["num_small"] + seen["num_larger"])
    return Step(
        "small objects",
        points,
        "Train with a larger --image-size, or with --tiles on parts of the pictures.",
        f"{percent(share)} of the objects are under {seen['pixels']} pixels wide as the network sees them: it finds "
        f"{percent(seen['recall_small'])} of these and {percent(seen['recall_larger'])} of the others.",
        f"about {points:.1f} points of recall, if small ones were found as often as the others",
        "objects",
    )


def _missed(facts: Facts) -> Step | None:
    rare = _rare_class(facts)
    points = facts.own("missed") - _explained_by_size(facts) - (rare.points if rare else 0)
    number = facts.metrics["error_kinds"]["kinds"]["missed"]["num"]
    return Step(
        "missed objects",
        points,
        "Look at the missed objects: label more that look like them, or take away labels where nothing is to be seen.",
        f"{counted(number, 'object')} of {facts.metrics['num_objects']} have no detection at any score.",
        _brings(points),
        "gallery-missed",
    )


def _rare_class(facts: Facts) -> Step | None:
    """The rare class that is behind the others; rare in training, or where that is not known in this split."""
    classes = {n: one for n, one in facts.metrics["per_class"].items() if one["AP50"] is not None}
    objects = facts.trained_on or {name: one["num_objects"] for name, one in classes.items()}
    largest = max(objects.values(), default=0)
    best: Step | None = None
    for name, one in classes.items():
        others = [other["AP50"] for n, other in classes.items() if n != name and objects.get(n, 0) >= RARE * largest]
        if not others or objects.get(name, 0) >= RARE * largest:
            continue
        behind = 100 * (sum(others) / len(others) - one["AP50"])
        points = behind / len(classes)
        if behind >= 5 and (best is None or points > best.points):
            where = "in the training part" if facts.trained_on else "here"
            best = Step(
                "rare class",
                points,
                f"Label more {name}.",
                f"{counted(objects.get(name, 0), 'object')} {where}, while the largest class has {largest}; its AP50 "
                f"is {one['AP50']:.3f}, that of the common classes {sum(others) / len(others):.3f}.",
                f"about {points:.1f} points of AP50, if it came up to the others",
                "classes",
            )
    return best


def _few_images(facts: Facts) -> Step | None:
    ends = (facts.metrics.get("intervals") or {}).get("AP50")
    if not ends or facts.metrics.get("crossval"):
        return None
    number, width = facts.metrics["num_images"], 100 * (ends[1] - ends[0])
    if width < 5:
        return None
    return Step(
        "few pictures",
        width / 2 if width >= 10 else width / 4,
        f"Label {3 * number} more pictures for {facts.split}, or evaluate on every picture by cross-validation.",
        f"The 95 % interval of AP50 is {width:.0f} points wide ({ends[0]:.3f} to {ends[1]:.3f}).",
        f"a surer number, not a better one: an interval of {width / 2:.0f} points",
        "headline",
        "frcnn crossval",
    )


def _learned_by_heart(facts: Facts) -> Step | None:
    """Far better on the training pictures than on others: by AP50 where both were evaluated, else by the losses."""
    train, here, command = facts.others.get("train"), facts.metrics["AP50"], "frcnn curve"
    if train and train["AP50"] is not None:
        gap = 100 * (train["AP50"] - here)
        why = f"AP50 is {train['AP50']:.3f} on the training pictures and {here:.3f} on {facts.split}."
    else:
        gap = 100 * (1 - here) * (1 - facts.loss_ratio)
        there, on_val = facts.losses
        why = f"The loss is {there:.2f} on the training pictures and {on_val:.2f} on val"
        least = min((val for _, val in _losses(facts.training).values()), default=on_val)
        why += f", where it was {least:.2f} before." if least < 0.87 * on_val else "."
        why += " The command measures the difference in AP50."
        command = f"frcnn evaluate {facts.folder} --split train"
    points = gap / 2
    if gap < 5:
        return None
    return Step(
        "learned by heart",
        points,
        "Label more training pictures, or use stronger augmentation (--augment strong).",
        why,
        f"about {points:.1f} points of AP50, if it closed half of the gap; `frcnn curve` measures it",
        "training",
        command,
    )


def _losses(training: Training) -> dict[int, tuple[float, float]]:
    """{epoch: (training loss, validation loss)} of each epoch that has both."""
    train, val = ({r["epoch"]: total for r, total in training.losses(key)} for key in ("train_loss", "val_loss"))
    return {epoch: (total, val[epoch]) for epoch, total in train.items() if epoch in val}


def _still_rising(facts: Facts) -> Step | None:
    ap = [record["AP50"] for record in facts.training.epochs if isinstance(record.get("AP50"), (int, float))]
    if len(ap) < 4 or ap[-1] < max(ap):
        return None
    third = max(1, len(ap) // 3)
    rise = 100 * (ap[-1] - ap[-1 - third])
    points = rise / 2
    return Step(
        "still rising",
        points,
        f"Train longer: {2 * len(ap)} epochs instead of {len(ap)}.",
        f"AP50 on val rose by {rise:.1f} points in the last {counted(third, 'epoch')} and was highest in the last.",
        f"about {points:.1f} points of AP50, if it goes on half as fast",
        "training",
        f"--epochs {2 * len(ap)}",
    )


def _hardly_trained(facts: Facts) -> Step | None:
    """Next to nothing is found, and the loss still fell when the training ended: no other line means much then."""
    losses, here = [train for train, _ in _losses(facts.training).values()], facts.metrics["AP50"]
    if here >= 0.1 or not losses or (len(losses) > 1 and losses[-1] >= losses[-2]):
        return None
    epochs = len(losses)
    fell = f", and the training loss still fell, to {losses[-1]:.2f} from {losses[-2]:.2f}" if epochs > 1 else ""
    return Step(
        "hardly trained",
        100.5,  # more than all errors of one kind can cost, less than a leak
        f"Train longer: {4 * epochs} epochs instead of {epochs}.",
        f"AP50 is only {here:.3f}{fell}.",
        "numbers that the other lines can rest on",
        "training",
        f"--epochs {4 * epochs}",
    )


def _more_labels(facts: Facts) -> Step | None:
    fit = (facts.curve or {}).get("fit")
    if not fit or not fit["answer"].startswith("yes"):
        return None
    low, high = fit["gain_interval"]
    points = 100 * (fit["AP_ahead"] - fit["AP_now"])
    return Step(
        "more labels",
        points,
        f"Label more pictures: {fit['num_images_ahead']} for training, twice as many as now.",
        f"The learning curve still rises: AP {fit['AP_now']:.3f} now, {fit['AP_ahead']:.3f} expected.",
        f"{100 * low:.1f} to {100 * high:.1f} points of AP",
        "training",
    )


RULES: tuple[Callable[[Facts], Step | None], ...] = (
    *(_leak, _missing_labels, _wrong_classes, _loose_labels, _background, _confused, _localisation, _duplicates),
    *(_small, _missed, _rare_class, _few_images, _learned_by_heart, _still_rising, _hardly_trained, _more_labels),
)
