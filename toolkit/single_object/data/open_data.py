"""`--data`: a generator's name, an original PurdueShapes5 file, or the user's own labelled folder."""

from __future__ import annotations

import re
from pathlib import Path

from label_tools.readers.convert import convert
from label_tools.text.errors import InputError
from toolkit.single_object.data import drawn_scenes, purdue_shapes5
from toolkit.single_object.data.coco_objects import Selection, choose, read
from toolkit.single_object.data.digits import draw_digit_grid, draw_digits
from toolkit.single_object.data.samples import Samples

DRAWN = ("shapes5", "digits", "digit_grid", "dominant", "largest")
_TRAIN_SEED, _VAL_SEED = 0, 1  # of the drawn sets; the same for every run, so that runs can be compared


def open_data(
    data: str, val: Path | None, train_images: int, val_images: int, selection: Selection
) -> tuple[Samples, Samples]:
    """-> (training, validation) samples.

    data: `shapes5`, `shapes5-noise20` (per cent), `digits`, `digit_grid`, `dominant`, `largest`: drawn, as many as
    asked for. A folder with train.json and val.json (made by `frcnn split`), a COCO file together with `val`, a
    Pascal VOC folder (Annotations, JPEGImages, ImageSets/Main/train.txt and val.txt), or a PurdueShapes5 .gz file
    together with `val`: read whole.
    """
    if is_drawn(data):
        name, _, noise = data.partition("-noise")
        if noise and name != "shapes5":
            raise InputError(f"--data {data}: only shapes5 has noise variants")
        if selection.classes:
            raise InputError(f"--classes {' '.join(selection.classes)}: chooses from files, --data {data} is drawn")
        if val:
            raise InputError(f"--val {val}: is for files, --data {data} is drawn, with its validation pictures")
        share = int(noise or 0) / 100
        return (draw(name, "train", train_images, selection, share), draw(name, "val", val_images, selection, share))
    path = Path(data)
    parts = check_files(path, val)
    if parts is None:
        return _voc(path, selection)
    if path.suffix == ".gz":
        if selection.classes:
            raise InputError(f"--classes {' '.join(selection.classes)}: {path} is read whole")
        pair = [purdue_shapes5.read_purdue(part) for part in parts]
    else:
        pair = [read(part, selection) for part in parts]
    if pair[0].classes != pair[1].classes:
        raise InputError(
            f"{parts[1]}: has the classes {', '.join(pair[1].classes)}, {parts[0]} has "
            f"{', '.join(pair[0].classes)}; needs the same in the same order"
        )
    return pair[0], pair[1]


def is_drawn(data: str) -> bool:
    """Whether `--data` names pictures that we draw, not a file or folder."""
    return re.fullmatch(rf"({'|'.join(DRAWN)})(-noise\d{{1,2}})?", data) is not None


def draw(name: str, part: str, count: int, selection: Selection, noise: float = 0.0) -> Samples:
    """`count` drawn pictures of part "train" or "val"; of `selection` the size and keep_empty count."""
    seed = _TRAIN_SEED if part == "train" else _VAL_SEED
    if name == "shapes5":
        return purdue_shapes5.draw_shapes5(count, seed=seed, noise=noise)
    if name in ("dominant", "largest"):
        return drawn_scenes.draw(name, count, side=selection.size, seed=seed, keep_empty=selection.keep_empty)
    return (draw_digits if name == "digits" else draw_digit_grid)(count, seed=seed, part=part)


def _voc(path: Path, selection: Selection) -> tuple[Samples, Samples]:
    """Train and val of a Pascal VOC folder; its corners count from 1, see the conversion's `one_based`."""
    conversion = convert(path, "voc", one_based=True)
    document = conversion.document(path / "annotations.json")
    pair = []
    for part in ("train", "val"):
        listed = path / "ImageSets" / "Main" / f"{part}.txt"
        try:
            names = {line.strip() for line in listed.read_text(encoding="utf-8").splitlines() if line.strip()}
        except (OSError, UnicodeDecodeError):
            raise InputError(
                f"{listed}: cannot be read; a VOC folder lists its parts there; or use `frcnn convert` "
                "and `frcnn split`"
            ) from None
        images = [i for i in document["images"] if Path(i["file_name"]).stem in names]
        samples = choose({**document, "images": images}, conversion.image_root, selection, f"{path} {part}")
        lost = len(names) - len({Path(i["file_name"]).stem for i in images})
        samples.left_out.update({f"listed in {part}.txt, without labels that can be read": lost} if lost else {})
        pair.append(samples)
    return pair[0], pair[1]


def check_files(path: Path, val: Path | None = None) -> tuple[Path, Path] | None:
    """The files to train on and to validate on, None for a VOC folder. Refuses what is not there, reads nothing."""
    if not path.exists():
        raise InputError(
            f"--data {path}: not found; needs {', '.join(DRAWN)}, a folder of `frcnn split`, a COCO file "
            "with --val, or a PurdueShapes5 .gz file with --val"
        )
    if path.is_dir() and (path / "Annotations").is_dir():
        if val:
            raise InputError(f"--val {val}: a VOC folder has its own, ImageSets/Main/val.txt in {path}")
        return None
    if path.is_dir():
        pair = path / "train.json", val or path / "val.json"
        if not pair[0].is_file():
            raise InputError(
                f"{path}: holds no train.json; `frcnn convert` and `frcnn split` make one from LabelMe, "
                "masks, VOC, YOLO or COCO"
            )
    elif val is None:
        raise InputError(f"{path}: needs --val FILE to validate on")
    else:
        pair = path, val
    if not pair[1].is_file():
        raise InputError(f"{pair[1]}: not found; needs a file to validate on")
    return pair
