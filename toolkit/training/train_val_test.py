"""The splits of a run, train, val and test: find their COCO files, read them, check them against each other."""

from __future__ import annotations

import logging
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from label_tools.document import coco_file
from label_tools.files.marked_folders import check_whole
from label_tools.pictures.open_image import sizes_below
from label_tools.readers.given_split import parts_in
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.config import Config
from toolkit.data.coco_index import Index, index_of, read_large_index, with_outlines, without_outline
from toolkit.data.tiles import cut, tiles_for
from toolkit.networks import registry
from toolkit.training.out_of_memory import check_mask_memory
from toolkit.training.run_folder import is_run

log = logging.getLogger(__name__)
SPLITS = ("train", "val", "test")


@dataclass
class Split:
    """One split: name, file, index for training, and the COCO document until `forget` frees it.

    large: the file needs no repair and its document is not read: a million labels take gigabytes.
    """

    name: str
    path: Path
    index: Index
    document: dict[str, Any] | None
    large: bool = False

    def whole(self) -> dict[str, Any]:
        """The document; RuntimeError after `forget`."""
        if self.document is None and self.large:
            self.document = coco_file.read(self.path)
        if self.document is None:
            raise RuntimeError(f"{self.name}: its document was let go of")
        return self.document

    def keep(self, folder: Path) -> None:
        """Copy the file into a run, its image_root pointing at the images where they are."""
        if self.document is None and self.large:
            root = os.path.relpath(self.index.image_root.resolve(), folder.resolve())
            coco_file.copy_large(self.path, folder / f"{self.name}.json", root)
            return
        document = coco_file.with_image_root(self.whole(), self.index.image_root.resolve(), folder.resolve())
        coco_file.write(document, folder / f"{self.name}.json")

    def forget(self) -> None:
        """Free the document: a million labels take gigabytes, and training does not need them."""
        self.document, self.large = None, False


Labels = dict[str, Split]  # by name, those that exist; train is always there


def find_files(data: Path, val: Path | None, test: Path | None) -> dict[str, Path]:
    """{train, val, test: COCO file}, those that exist."""
    if data.is_dir():
        files = parts_in(data)
        if "train" not in files:
            labels = data / "annotations.json"
            how = (
                f"`frcnn split {labels}` makes one"
                if labels.is_file()
                else "`frcnn convert` and `frcnn split` make one"
            )
            raise InputError(f"{data}: holds no train.json; {how}")
        if is_run(data):
            log.warning("%s is a run: its labels are used; `frcnn train --resume %s` would go on with it", data, data)
    elif data.is_file():
        files = {"train": data}
    else:
        raise InputError(f"{data}: not found; needs a folder with train.json and val.json, or a COCO file")
    files.update({name: path for name, path in (("val", val), ("test", test)) if path})
    for name, path in list(files.items()):
        if not path.is_file():
            if path in (val, test):
                raise InputError(f"--{name} {path}: not found")
            del files[name]
    return files


def read_labels(files: dict[str, Path], images: Path | None) -> Labels:
    """Read each file once. images: folder that file names start from, where the file does not say it rightly."""
    labels = {}
    for folder in dict.fromkeys(path.parent for path in files.values()):
        check_whole(folder, "split")
    for name, path in files.items():
        if name == "train" and (index := read_large_index(path, images)) is not None:
            labels[name] = Split(name, path, index, None, large=True)
            continue
        document = coco_file.read(path, sizes=sizes_below, images=images)
        root = images if images else coco_file.image_root(document, path)
        labels[name] = Split(name, path, index_of(document, root, str(path)), document)
    return labels


def check_labels(labels: Labels) -> None:
    """Refuse an image in two splits, a training set without objects, and classes that differ between the splits."""
    refuse_overlap(labels)
    path, train = labels["train"].path, labels["train"].index
    if not train.class_counts().sum():
        crowds = f" but {len(train.boxes)} crowds, which are not targets" if len(train.boxes) else ""
        raise InputError(f"{path}: has no object in {len(train)} images{crowds}; needs at least one")
    check_test(labels, train.classes)
    if "val" not in labels:
        log.warning(
            f"no val.json: nothing is evaluated, so there is no AP, no report and no early stop, and `best` will hold "
            f"the weights of the last epoch; `frcnn split {path}` makes a val.json, or give --val FILE"
        )
        return
    val_path, val = labels["val"].path, labels["val"].index
    if val.classes != train.classes or val.category_ids != train.category_ids:
        raise InputError(
            f"{val_path}: has the classes {', '.join(val.classes)}; "
            f"{path} has {', '.join(train.classes)}; needs the same, in order"
        )
    if not val.class_counts().sum():
        log.warning(
            f"{val_path}: has no object, so AP is undefined: the last epoch will count as the best, "
            f"and nothing stops early"
        )
    for name, here, there in zip(train.classes, train.class_counts(), val.class_counts(), strict=True):
        if there and not here:
            log.warning(f"class {name!r} is in val but never in train")


def refuse_overlap(labels: Labels) -> None:
    """Raise InputError when two splits have an image file in common, whatever names lead to it.

    Only val with exactly the images of train is a warning: a way to see whether a network can learn them by heart.
    """
    if len(labels) < 2:
        return  # a million paths are seconds and hundreds of megabytes
    owner: dict[str, str] = {}
    shared: dict[tuple[str, str], list[str]] = {}
    folders: dict[str, str] = {}  # folder -> without links; resolving each file takes minutes for a million
    for name, split in labels.items():
        for row in range(len(split.index)):
            folder, file = os.path.split(split.index.path(row))
            if folder not in folders:
                folders[folder] = os.path.realpath(folder)
            path = os.path.join(folders[folder], file)
            path = os.path.realpath(path) if os.path.islink(path) else path
            if (other := owner.setdefault(path, name)) != name:
                shared.setdefault((other, name), []).append(file)
    for (one, two), files in shared.items():
        if {one, two} == {"train", "val"} and len(files) == len(labels[one].index) == len(labels[two].index):
            log.warning(f"{two} has exactly the images of {one}: AP says how well they are remembered, no more")
            continue
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        raise InputError(
            f"{labels[one].path} and {labels[two].path} both have the image {files[0]}{more}: what is learned from "
            f"cannot measure; `frcnn split` makes parts without a common image"
        )


def keep_outlines(labels: Labels, config: Config) -> None:
    """For a network with masks: keep the outlines of train and val. Refuses objects that have none, unless
    boxes_as_masks lets the box stand for them, and images whose masks would need too much memory."""
    if not registry.find(config.model.model).masks:
        return
    for split in (labels[name] for name in ("train", "val") if name in labels):
        bare = without_outline(split.whole())
        if bare and not config.data.boxes_as_masks:
            objects = counted(int(split.index.class_counts().sum()), "object")
            raise InputError(
                f"{split.path}: {len(bare)} of {objects} have no outline, the first with id "
                f"{bare[0]}; --model {config.model.model} learns masks: needs outlines, a network of boxes such as "
                f"{config.model.model.replace('maskrcnn', 'fasterrcnn')}, or --boxes-as-masks where every box is full"
            )
        check_mask_memory(split.index, config.model)
        split.index = with_outlines(split.index, split.whole())


def cut_labels(labels: Labels, config: Config) -> bool:
    """With `tiles`: make the rows of train and val tiles; the documents stay those of the pictures. -> whether so."""
    train = labels["train"]
    tiles = tiles_for(config.data.tiles, train.index, config.model.image_size)
    if tiles is None:
        return False
    pictures = len(train.index)
    for split in (labels[name] for name in ("train", "val") if name in labels):
        split.index = cut(split.index, tiles, all_tiles=split is not train)
    tile = counted(len(train.index), "tile")
    log.info(f"{tiles}: {counted(pictures, 'training picture')} become {tile}, of those without objects some")
    return True


def check_test(labels: Labels, classes: Sequence[str]) -> None:
    """Refuse a test set whose classes would not fit when training is over."""
    if "test" in labels and set(labels["test"].index.classes) != set(classes):
        raise InputError(
            f"{labels['test'].path}: has the classes {', '.join(labels['test'].index.classes)}; "
            f"{labels['train'].path} has {', '.join(classes)}; needs the same"
        )
