"""Assign images to parts (train, val, test): stratified by class, and groups of related images stay together.

Iterative stratification (Sechidis, Tsoumakas, Vlahavas 2011): take the class that fewest undecided images
hold, and give each of its images to the part that still lacks most of that class. Images without objects
count as a class of their own, so they are spread too.

Why not the package iterative-stratification: it splits single samples and has no groups, and here frames of
one video, copies of one photograph and pictures that look alike must stay together. So the unit is a group
of images. Groups of several are placed first, while there is room; single images then fill each part to its
exact size. Ties are broken by a hash of seed and file name: the order of the file, the machine and the
Python version do not matter.

How small is small: every part that is asked for gets at least one group, so 3 images become 1, 1, 1;
4 become 2, 1, 1; 5 become 3, 1, 1. Fewer groups than parts are refused.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Collection, Hashable, Iterable, Mapping, Sequence

from label_tools.text.errors import InputError
from label_tools.text.messages import counted

SHARES = {"train": 0.7, "val": 0.2, "test": 0.1}  # by default
PARTS = tuple(SHARES)
NO_OBJECT = None  # the class of images that hold nothing


def split_document(
    document: dict,
    fractions: Mapping[str, float],
    seed: int = 0,
    groups: Mapping[int, Hashable] | None = None,
    fixed: Mapping[int, str] | None = None,
) -> dict[str, dict]:
    """Split a COCO document by image into one document per part; ids, categories and `info` are kept.

    fractions: part name -> share, e.g. {"train": .7, "val": .2, "test": .1}; they add up to 1, and a part
    with share 0 is left out. groups: image id -> any key; images with equal keys stay together, an image
    without a key stands alone. fixed: image id -> part, decided before (an earlier split).
    Raises InputError for bad fractions and for too few groups.
    """
    fractions = check_fractions(fractions)
    images = document["images"]
    keys = groups or {}
    members: dict[Hashable, list[dict]] = {}
    for image in images:
        key = ("group", keys[image["id"]]) if image["id"] in keys else ("image", image["id"])
        members.setdefault(key, []).append(image)
    part_of = assign(
        [[image["file_name"] for image in group] for group in members.values()],
        _classes_of(document, members.values()),
        part_sizes(len(images), fractions),
        seed,
        [_fixed_part(group, fixed or {}) for group in members.values()],
    )
    of_image = {image["id"]: part for group, part in zip(members.values(), part_of) for image in group}
    return {name: subset(document, {i for i, p in of_image.items() if p == name}) for name in fractions}


def check_fractions(fractions: Mapping[str, float]) -> dict[str, float]:
    """The parts with a share above 0. InputError unless the shares lie in 0..1 and add up to 1."""
    for name, share in fractions.items():
        if not 0 <= share <= 1:  # also false for NaN
            raise InputError(f"--{name} {share:g}: a share is a number from 0 to 1")
    total = sum(fractions.values())
    if abs(total - 1) > 1e-6:
        given = " ".join(f"--{name} {share:g}" for name, share in fractions.items())
        raise InputError(f"{given}: the shares add up to {total:g}, they must add up to 1")
    return {name: share for name, share in fractions.items() if share > 0}


def part_sizes(count: int, fractions: Mapping[str, float]) -> dict[str, int]:
    """Whole numbers that add up to `count`, nearest to the shares (largest remainder), none of them 0.

    >>> part_sizes(4, {"train": 0.7, "val": 0.2, "test": 0.1})
    {'train': 2, 'val': 1, 'test': 1}
    """
    if count < len(fractions):
        raise InputError(
            f"{counted(count, 'image')} cannot fill {len(fractions)} parts ({', '.join(fractions)}): "
            "label more images, or ask for fewer parts (for example --train .5 --val .5 --test 0)"
        )
    exact = {name: share * count for name, share in fractions.items()}
    sizes = {name: int(value) for name, value in exact.items()}
    by_remainder = sorted(fractions, key=lambda name: sizes[name] - exact[name])
    for name in by_remainder[: count - sum(sizes.values())]:
        sizes[name] += 1
    while 0 in sizes.values():
        largest = max(sizes, key=sizes.__getitem__)
        empty = next(name for name in sizes if sizes[name] == 0)
        sizes[largest] -= 1
        sizes[empty] += 1
    return sizes


def assign(
    files: Sequence[Sequence[str]],
    classes: Sequence[Counter],
    sizes: Mapping[str, int],
    seed: int,
    fixed: Sequence[str | None],
) -> list[str]:
    """The part of every group. files: file names per group; classes: images per class in the group;
    sizes: images wanted per part; fixed: a part that is already decided, or None."""
    if len(files) < len(sizes):
        raise InputError(
            f"{sum(map(len, files))} images form only {counted(len(files), 'group')} that must "
            f"stay together, too few for {len(sizes)} parts ({', '.join(sizes)}): ask for fewer parts, "
            "or tie fewer together (another --group-by, --duplicates exact)"
        )
    total = _sum(classes)
    count = sum(sizes.values())
    room = dict(sizes)
    wanted = {part: {c: total[c] * size / count for c in total} for part, size in sizes.items()}
    names = (f"{seed}\n{min(group)}".encode("utf-8", "surrogatepass") for group in files)
    order = [hashlib.sha256(name).hexdigest() for name in names]  # of equal ones, whatever the order of the file
    result: list[str | None] = [None] * len(files)
    empty = dict.fromkeys(sizes)  # the parts that hold nothing yet, in order
    undecided = len(files)

    def place(group: int, part: str) -> None:
        nonlocal undecided
        result[group] = part
        undecided -= 1
        empty.pop(part, None)
        room[part] -= len(files[group])
        for name, number in classes[group].items():
            wanted[part][name] -= number

    def allowed(size: int) -> list[str]:
        """Where a group of `size` images may go: where it fits, else where most room is left; but one of the empty
        parts when only as many groups are left as parts are empty."""
        if undecided <= len(empty):
            return list(empty)
        fitting = [part for part in room if room[part] >= size]
        return fitting or [max(room, key=room.__getitem__)]

    for group, part in enumerate(fixed):
        if part is not None:
            place(group, part)
    for several in (True, False):
        open_groups = {g for g in range(len(files)) if result[g] is None and (len(files[g]) > 1) == several}
        left = _sum(classes[group] for group in open_groups)
        while open_groups:
            rarest = min(left, key=lambda name: (left[name], name is NO_OBJECT, str(name)))
            batch = [group for group in open_groups if rarest in classes[group]]
            for group in sorted(batch, key=lambda g: (-len(files[g]), order[g])):
                parts = allowed(len(files[group]))
                place(group, max(parts, key=lambda part: _need(part, rarest, wanted, sizes, room)))
                left.subtract(classes[group])
            open_groups.difference_update(batch)
            left = +left  # without those that reached 0
    return [str(part) for part in result]


def _sum(counters: Iterable[Counter]) -> Counter:
    total: Counter = Counter()
    for counter in counters:
        total.update(counter)
    return total


def _need(
    part: str, rarest: object, wanted: Mapping, sizes: Mapping[str, int], room: Mapping[str, int]
) -> tuple[float, float, int]:
    """A part's need for images of a class; of two equal ones the smaller part comes first, so that the second of two
    images is for measuring when the first is for learning. What is still equal goes to the first part."""
    lacks = round(wanted[part][rarest], 9)
    return lacks, lacks / sizes[part], room[part]


def _classes_of(document: dict, groups: Collection[Sequence[dict]]) -> list[Counter]:
    """Per group: how many of its images hold each class (by category id; NO_OBJECT where there is none)."""
    held: dict[int, set] = {}
    for annotation in document["annotations"]:
        if not annotation.get("iscrowd"):  # an ignore region is not an object
            held.setdefault(annotation["image_id"], set()).add(annotation["category_id"])
    return [Counter(c for image in group for c in held.get(image["id"], {NO_OBJECT})) for group in groups]


def _fixed_part(group: Sequence[dict], fixed: Mapping[int, str]) -> str | None:
    """The part that an earlier split gave this group. Raises InputError if it gave two."""
    parts = sorted({fixed[image["id"]] for image in group if image["id"] in fixed})
    if len(parts) > 1:
        files = ", ".join(f"{i['file_name']} ({fixed[i['id']]})" for i in group if i["id"] in fixed)
        raise InputError(f"{files}: must stay together now, but the kept split has them apart; split anew")
    return parts[0] if parts else None


def subset(document: dict, image_ids: set[int]) -> dict:
    """The document with only these images and their annotations; every category stays, so ids agree."""
    return {
        **document,
        "images": [image for image in document["images"] if image["id"] in image_ids],
        "annotations": [a for a in document["annotations"] if a["image_id"] in image_ids],
    }
