"""Files that `frcnn predict` writes: detections.json, detections.csv, counts.csv, and the pictures drawn.

Each picture is one line of a journal as soon as it is done, so a command that was killed goes on where it stopped, and
several processes (torchrun) write one each. At the end the journals become the files, picture by picture, in the order
of the pictures: memory holds their names, not their detections.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from label_tools.files import marked_folders
from label_tools.files.atomic_write import atomic_write
from label_tools.files.write_json_csv import write_csv
from label_tools.text.errors import InputError, cannot_write

_LOG = logging.getLogger(__name__)
KIND = "prediction"
JSON, DETECTIONS, COUNTS = FILES = "detections.json", "detections.csv", "counts.csv"
_JOURNAL = ".predict-{}.jsonl"
_BEGIN = {JSON: b'{\n "categories": [', DETECTIONS: b"picture,", COUNTS: b"picture,"}
# {"file_name", "detections": [{"label", "category_id", "score", "bbox"}], "error"}; of masks also "segmentation" and
# "area" in pixels
Record = dict[str, Any]


class Journal:
    """The records of a folder as they come, over all processes; this one writes its own file.

    settings: what the records depend on; a journal of other settings is begun anew. Raises InputError where the files
    would replace some that no earlier prediction wrote.
    """

    def __init__(self, folder: Path, settings: Mapping[str, Any], rank: int = 0) -> None:
        folder = folder.resolve() if folder.is_symlink() else folder  # the user named that link
        self.folder, self.rank = folder, rank
        self.head = json.dumps(settings, sort_keys=True)
        self._places: dict[str, tuple[Path, int]] = {}  # name -> (journal, offset of its line)
        self._read: dict[Path, int] = {}  # journal -> bytes that were looked at
        own = folder / _JOURNAL.format(rank)
        marked_folders.refuse_link(own)
        _adopt_older(folder)
        marked_folders.refuse_foreign(folder, KIND, FILES)
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self.look()
            fresh = not self._read.get(own)
            self._file: IO[bytes] = open(own, "wb" if fresh else "r+b")  # noqa: SIM115
            if fresh:
                self._file.write(self.head.encode() + b"\n")
                self._file.flush()
            else:
                self._file.truncate(self._read[own])  # half a line, where the command was killed
                self._file.seek(self._read[own])
        except OSError as error:
            raise cannot_write(own, error) from error
        self._own = own

    def look(self) -> int:
        """Read what the processes have written since; -> pictures that are done."""
        for path in sorted(self.folder.glob(_JOURNAL.format("*"))):
            if path.is_symlink():
                continue
            with open(path, "rb") as file:
                at = self._read.get(path, 0)
                if not at:
                    head = file.readline()
                    if head.rstrip(b"\n").decode(errors="replace") != self.head:
                        continue
                    at = len(head)
                file.seek(at)
                for line in file:
                    if not line.endswith(b"\n"):
                        break
                    self._places[json.loads(line)["file_name"]] = (path, at)
                    at += len(line)
                self._read[path] = at
        return len(self._places)

    def __contains__(self, name: str) -> bool:
        return name in self._places

    def add(self, record: Record) -> None:
        line = json.dumps(record).encode() + b"\n"
        self._places[record["file_name"]] = (self._own, self._file.tell())
        try:
            self._file.write(line)
            self._file.flush()
        except OSError as error:
            raise cannot_write(self._own, error) from error
        self._read[self._own] = self._file.tell()

    def records(self, names: Iterable[str]) -> Iterator[Record]:
        """The record of each of these pictures."""
        files: dict[Path, IO[bytes]] = {}
        try:
            for name in names:
                path, at = self._places[name]
                file = files[path] if path in files else files.setdefault(path, open(path, "rb"))  # noqa: SIM115
                file.seek(at)
                yield json.loads(file.readline())
        finally:
            for file in files.values():
                file.close()

    def wait_for(self, names: list[str], *, pause: float = 0.5, give_up: float = 3600) -> None:
        """Until every process has done its part. InputError where nothing came for `give_up` seconds."""
        since, before = time.monotonic(), -1
        while (done := self.look()) < len(names) or any(name not in self for name in names):
            if done != before:
                since, before = time.monotonic(), done
            if time.monotonic() - since > give_up:
                raise InputError(
                    f"{self.folder}: {len(names) - done} pictures of other processes did not come; "
                    f"needs one --out that all machines see"
                )
            time.sleep(pause)

    def close(self) -> None:
        self._file.close()

    def remove(self) -> None:
        """When the files are written; the journals are no longer needed."""
        self.close()
        for path in self.folder.glob(_JOURNAL.format("*")):
            marked_folders.remove_file(path)


def _adopt_older(folder: Path) -> None:
    """Take the files of a prediction as ours where an older version wrote them, without a marker.

    Not where one was saved later than the others: that may be the user's work.
    """
    paths = {name: folder / name for name in FILES}
    if not all(path.is_file() for path in paths.values()):
        return
    times = [path.stat().st_mtime for path in paths.values()]
    if max(times) - min(times) < 60 and all(_begins(path, _BEGIN[name]) for name, path in paths.items()):
        marked_folders.adopt(folder, KIND, FILES)


def _begins(path: Path, with_: bytes) -> bool:
    with open(path, "rb") as file:
        return file.read(len(with_)) == with_


def write_files(
    folder: Path,
    records: Callable[[], Iterator[Record]],
    categories: list[dict[str, Any]],
    thresholds: Mapping[int, float],
    pixel_size: float | None = None,
) -> None:
    """detections.json, detections.csv and counts.csv of `records()`, which is read once for each.

    The tables have the areas of masks in pixels, and with pixel_size (mm) in mm2.
    """
    names = {c["id"]: c["name"] for c in categories}
    head = {"categories": categories, "score_thresholds": {names[i]: t for i, t in thresholds.items()}}
    areas = _areas(records, pixel_size)
    first = next(records(), {})
    place = ("picture", *(key for key in _FRAME if key in first))
    with marked_folders.together(folder, KIND) as made:
        with atomic_write(made / JSON) as file:
            file.write(json.dumps(head, indent=1).encode()[:-2] + b',\n "images": [')
            for number, record in enumerate(records()):
                file.write((b",\n  " if number else b"\n  ") + json.dumps(record).encode())
            file.write(b"\n ]\n}\n")
        write_csv(made / DETECTIONS, (*place, *_COLUMNS, *areas), _detection_rows(records(), areas))
        write_csv(made / COUNTS, (*place, "class", "count", *areas), _count_rows(records(), names, areas))


_COLUMNS = ("class", "score", "x", "y", "width", "height")
_FRAME = ("frame", "time")  # seconds; of a film


def _place(record: Record) -> list[Any]:
    return [record["file_name"], *(record[key] for key in _FRAME if key in record)]


def _areas(records: Callable[[], Iterator[Record]], pixel_size: float | None) -> dict[str, float]:
    """{column: factor from pixels} of the areas of masks; none where no detection has a mask."""
    if not any("area" in one for record in records() for one in record["detections"]):
        if pixel_size is not None:
            _LOG.warning("--pixel-size: no detection has a mask, so there are no areas")
        return {}
    return {"area": 1.0} if pixel_size is None else {"area": 1.0, "area_mm2": pixel_size**2}


def _detection_rows(records: Iterator[Record], areas: Mapping[str, float]) -> Iterator[list[Any]]:
    for record in records:
        for one in record["detections"]:
            box = (f"{value:.2f}" for value in one["bbox"])
            yield [*_place(record), one["label"], one["score"], *box, *_scaled(one.get("area", 0), areas)]


def _scaled(area: int, areas: Mapping[str, float]) -> Iterator[str]:
    return (f"{area * factor:.10g}" for factor in areas.values())


def _count_rows(records: Iterator[Record], names: Mapping[int, str], areas: Mapping[str, float]) -> Iterator[list[Any]]:
    """Every class of every picture, also those of which there is none; nothing of a picture that cannot be read."""
    for record in records:
        if "error" not in record:
            counts, covered = Counter[int](), Counter[int]()
            for one in record["detections"]:
                counts[one["category_id"]] += 1
                covered[one["category_id"]] += one.get("area", 0)
            for number, name in names.items():
                yield [*_place(record), name, counts[number], *_scaled(covered[number], areas)]
