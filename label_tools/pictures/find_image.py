"""Find the image that a label file names, never outside the image root.

Label files are moved between systems and folders, and come from strangers. The image name in them
is a hint to be checked, not an address to be followed (rows B29 to B32 and B38). A name is tried
as it is written; then one other file of the image root is taken, with a warning, where only one can be meant.
"""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from difflib import get_close_matches
from functools import cached_property, lru_cache
from itertools import islice
from pathlib import Path, PurePosixPath, PureWindowsPath
from urllib.parse import unquote

from label_tools.document.coco_file import is_inside
from label_tools.files import links
from label_tools.pictures.open_image import SUFFIXES, ImageError, ImageInfo, image_info
from label_tools.shapes.instances import RefusedError, Remark
from label_tools.text.errors import InputError
from label_tools.text.findings import WARNING
from label_tools.text.messages import counted
from label_tools.text.rule_limits import MAX_PIXELS

_LABEL_SUFFIXES = (".xml", ".json", ".txt")
UPLOADED = re.compile(r"^[0-9a-f]{8}-(?=.)")  # what Label Studio puts before the name of an uploaded file
_NUMBERED = re.compile(r" ?\(\d+\)$")
_SHOWN = 3  # of several pictures that may be meant
_ADVISED, _COMPARED = 20, 1000  # missing pictures for which a similar name is looked for, among so many


class ImageFolder:
    """The image root, with the lookups that are the same for every label file remembered.

    follow_links: allow symbolic links that lead out of the root (off: a label file from elsewhere could name one).
    """

    def __init__(self, root: str | os.PathLike, *, max_pixels: int, follow_links: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.max_pixels = max_pixels
        self.follow_links = follow_links or links.followed()
        self._inside = self.root.rstrip(os.sep) + os.sep
        self._real_root = os.path.realpath(self.root)
        self._folder_is_inside = lru_cache(maxsize=100_000)(self._is_inside)
        self._advised = 0

    def find(self, written: object, label_folder: str, remark: Remark, own: str = "") -> str:
        """The absolute path of the picture that is meant by `written` in a label file of `label_folder`.

        own: the label file's name, where it describes one picture; a picture of that name is then the last guess.
        Tried in this order: the name as written, beside the label file or from the image root; the name in another
        folder, in other upper and lower case, percent-encoded, composed differently; another extension; `own`. The
        first step that finds a picture decides, the one whose folders are most like the written ones and the label
        file's. Raises RefusedError where several are left or none: B26 no text, B30 absolute, B31 outside the root,
        B32 missing.
        """
        if not isinstance(written, str) or not written.strip():
            raise RefusedError("B26", f"imagePath {written!r}, needs the image's file name")
        if "\0" in written:
            raise RefusedError("B31", "imagePath holds a NUL character")
        path = self._as_written(written, label_folder, remark, own) or self._guessed(written, label_folder, remark, own)
        self.check_links(path, written)
        return path

    def find_any(self, names: Sequence[str], label_folder: str, remark: Remark, own: str = "") -> str:
        """`find` for a picture that may be called by several names, the best first."""
        for name in names:
            if "\0" not in name and (path := self._as_written(name, label_folder, remark, own)):
                self.check_links(path, name)
                return path
        first: RefusedError | None = None
        for name in names:
            try:
                return self.find(name, label_folder, remark, own)
            except RefusedError as error:
                first = first or error
        raise first or RefusedError("B26", "names no image")

    def _unless_renamed(self, path: str, written: str, label_folder: str, remark: Remark, own: str) -> str:
        """`path`, the picture that is written, or the one beside it that is called as the label file is, where `path`
        has a label file of its own: both were renamed together, and the name inside is the old one."""
        stem = os.path.splitext(own)[0]
        folder, name = os.path.split(path)
        named, suffix = os.path.splitext(name)
        if not own or stem in (named, name) or not os.path.isfile(mine := os.path.join(folder, stem + suffix)):
            return path
        if not self._is_of_another(tuple(path[len(self._inside) :].split(os.sep)), label_folder, own):
            return path
        text = f'image "{written}" has a label file of its own'
        remark(WARNING, "B32", f'{text}; "{self.file_name(mine)}" taken instead')
        return mine

    def _as_written(self, written: str, label_folder: str, remark: Remark, own: str) -> str:
        """The picture at the written path, or ""."""
        for text in (written, PureWindowsPath(written).as_posix()) if "\\" in written else (written,):
            for folder in dict.fromkeys((label_folder, self.root)):
                path = os.path.normpath(os.path.join(folder, text))
                if not path.startswith(self._inside) or not os.path.isfile(path):
                    continue
                if path.lower().endswith(_LABEL_SUFFIXES):  # some versions of labelme write their own file's name
                    continue
                if text is not written:
                    remark(WARNING, "B29", f'backslashes in "{written}" read as slashes')
                if own and folder != label_folder and (label_folder + os.sep).startswith(self._inside):
                    self._say_taken("B32", written, path, remark)  # it should lie beside the label file
                return self._unless_renamed(path, written, label_folder, remark, own)
        return ""

    def _guessed(self, written: str, label_folder: str, remark: Remark, own: str) -> str:
        """The only picture of the root that `written` can mean, reported with a warning. Raises RefusedError."""
        name = _Name(written)
        places = {os.path.normpath(os.path.join(f, *name.folders, name.name)) for f in (label_folder, self.root)}
        if name.absolute:
            places = {os.path.normpath(written)}
        code = "B32" if any(place.startswith(self._inside) for place in places) else "B31"
        code = "B30" if name.absolute else code
        for place in sorted(places):
            if not place.startswith(self._inside) and place.lower().endswith(SUFFIXES) and os.path.isfile(place):
                raise RefusedError("B31", f'image "{written}" lies outside the image root', self._raise_root(place))
        near = tuple(os.path.relpath(label_folder, self.root).split(os.sep))  # ("..", "Annotations", "cam1")
        for entries in self._candidates(name, near, own if code == "B32" or name.is_image else ""):
            best = _nearest([e for e in entries if not self._is_of_another(e, label_folder, own)], name.folders, near)
            if len(best) > 1:
                shown = ", ".join("/".join(entry) for entry in best[:_SHOWN])
                more = f" and {len(best) - _SHOWN} more" * (len(best) > _SHOWN)
                text = f"{_why(code, written)}; {len(best)} files may be meant: {shown}{more}"
                raise RefusedError(code, text, "name one of them in the label file, or its folder with --image-root")
            if best:
                path = os.path.join(self.root, *best[0])
                folders = best[0][:-1]
                mirrored = bool(folders) and near[len(near) - len(folders) :] == folders
                # labels and pictures in two trees: a mirrored folder, or the one picture of that very name
                if not (near[0] == ".." and best[0][-1] == written and (mirrored or len(entries) == 1)):
                    self._say_taken(code, written, path, remark)
                return path
        looked = f"among the {counted(len(self._index.entries), 'image')} of {self.root}"
        text = f"{_why(code, written)}; looked {'beside the label file and ' * bool(own)}{looked}"
        raise RefusedError(code, text, self._advice(name.name, label_folder, own))

    def _candidates(self, name: _Name, near: tuple[str, ...], own: str) -> Iterator[list[Entry]]:
        index = self._index
        if name.absolute:  # beside the label file, whatever lies elsewhere
            beside = (*near, name.name) if near != (".",) else (name.name,)
            yield [beside] if beside in index.entries else []
        yield index.named(name.name)
        yield index.of_stem(name.name)  # written without its extension
        stem = PurePosixPath(own).stem
        mine = index.named(stem) + index.of_stem(stem) if own else []  # the picture of a.jpg.txt and of a.txt
        if name.name.lower().endswith(_LABEL_SUFFIXES):  # no name of a picture, and from another time
            yield mine
        stem, suffix = os.path.splitext(name.name)
        yield mine + (index.of_stem(stem) if not suffix[1:].isdigit() else [])
        if bare := UPLOADED.sub("", stem):
            yield index.of_stem(bare) if bare != stem else []
        yield index.numbered_copies(stem)

    def _is_of_another(self, entry: Entry, label_folder: str, own: str) -> bool:
        """Whether a picture has a label file of its own, beside it or in a mirrored folder, that is not this one."""
        if not own:
            return False
        label, folders = os.path.splitext(entry[-1])[0] + os.path.splitext(own)[1], entry[:-1]
        this = os.path.join(label_folder, own)
        mirrored = Path(label_folder, *[".."] * len(folders), *folders, label)
        others = (os.path.join(self.root, *folders, label), os.path.normpath(mirrored))
        return any(path != this and os.path.isfile(path) for path in others)

    def _say_taken(self, code: str, written: str, path: str, remark: Remark) -> None:
        remark(WARNING, code, f'{_why(code, written)}; "{self.file_name(path)}" taken instead')

    def _advice(self, name: str, label_folder: str, own: str) -> str:
        close: list[str] = []
        if self._advised < _ADVISED:
            self._advised += 1
            ending = name.lower().endswith(SUFFIXES)
            entries = islice(sorted(self._index.entries), _COMPARED)
            paths = {e[-1] if ending else os.path.splitext(e[-1])[0]: "/".join(e) for e in entries}
            alike = get_close_matches(name, paths, n=3, cutoff=0.75)
            close = [
                paths[found]
                for found in alike
                if _may_be_renamed(name, found)
                and not self._is_of_another(tuple(paths[found].split("/")), label_folder, own)
            ]
        meant = f'"{close[0]}" lies here, is it meant? Else ' if close else ""
        delete = ", or delete the label file" * bool(own)
        return f"{meant}restore it, or name the folder that holds it with --image-root{delete}"

    def _raise_root(self, path: str) -> str:
        """Advice to choose a root that holds both folders, so that the picture is found."""
        root = os.path.relpath(os.path.commonpath([self.root, os.path.dirname(path)]))
        return f"if that is meant, name the folder of all images: --image-root {shlex.quote(root)}"

    def file_name(self, path: str) -> str:
        """`path` as file_name in a COCO file: from the root, with slashes. Raises RefusedError if it is not text."""
        name = path[len(self._inside) :].replace(os.sep, "/")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise RefusedError("B38", "the image's file name is not valid UTF-8; rename it") from error
        return name

    def info(self, path: str) -> ImageInfo:
        """The image's header. Raises RefusedError (B64 to B67) for what is not a readable image."""
        try:
            return image_info(path, max_pixels=self.max_pixels)
        except ImageError as error:
            raise RefusedError(error.code, f"{self.file_name(path)}: {error.text}") from error

    def check_links(self, path: str, written: str) -> None:
        if self.follow_links:
            return
        if not self._folder_is_inside(os.path.dirname(path)) or (os.path.islink(path) and not self._is_inside(path)):
            text = f'image "{written}" is a link that leads out of the image root'
            raise RefusedError("B31", text, links.REMEDY)

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)

    @cached_property
    def _index(self) -> _Index:
        start = len(self._inside)
        return _Index(tuple(path[start:].split(os.sep)) for path in walk(self.root, SUFFIXES))


def refuse_links_out(root: str | os.PathLike, names: Iterable[str], where: object = "") -> None:
    """Raise InputError when a picture, one of `names` below `root`, lies elsewhere: by its name, or behind a link.

    where: the file that names them, for the message.
    """
    folder = ImageFolder(root, max_pixels=MAX_PIXELS)
    for name in names:
        if not is_inside(name):
            raise InputError(f'{where or root}: file_name "{name}" leads out of the image root')
        try:
            folder.check_links(os.path.join(folder.root, name), name)
        except RefusedError as error:
            raise InputError(f"{where or root}: {error.text}; {error.fix}") from error


Entry = tuple[str, ...]  # the folders below the root and the name


class _Index:
    """An index of the pictures below a root, by the parts of their names that survive a move between computers."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self.entries: set[Entry] = set(entries)
        self._names: dict[str, list[Entry]] = {}
        self._stems: dict[str, list[Entry]] = {}
        for entry in sorted(self.entries):
            self._names.setdefault(fold(entry[-1]), []).append(entry)
            self._stems.setdefault(fold(os.path.splitext(entry[-1])[0]), []).append(entry)

    def named(self, name: str) -> list[Entry]:
        """Pictures of this name; if there are none, those that differ only in case or in Unicode composition."""
        alike = self._names.get(fold(name), [])
        return [entry for entry in alike if entry[-1] == name] or alike

    def of_stem(self, stem: str) -> list[Entry]:
        return self._stems.get(fold(stem), [])

    def numbered_copies(self, stem: str) -> list[Entry]:
        """Pictures whose name is `stem` except for the number that a browser or drive appends to copies: `a (1)`."""
        return self._copies.get(_NUMBERED.sub("", fold(stem)), [])

    @cached_property
    def _copies(self) -> dict[str, list[Entry]]:
        copies: dict[str, list[Entry]] = {}
        for name, entries in self._stems.items():
            copies.setdefault(_NUMBERED.sub("", name), []).extend(entries)
        return copies


class _Name:
    """A picture's path as written in a label file: name, folders, whether it is a path of another computer."""

    def __init__(self, written: str) -> None:
        text = unquote(written.removeprefix("file://")) if "%" in written or "://" in written else written
        self.absolute = text.startswith(("/", "\\\\")) or text[1:2] == ":"
        parts = PureWindowsPath(text).parts if "\\" in text or text[1:2] == ":" else PurePosixPath(text).parts
        parts = parts[1:] if self.absolute else parts
        self.folders, self.name = parts[:-1], parts[-1] if parts else text
        self.is_image = self.name.lower().endswith(SUFFIXES)


def fold(name: str) -> str:
    """Normalise a name where file systems differ: upper and lower case, and how an accent is composed."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def _nearest(entries: list[Entry], written: Sequence[str], label: Sequence[str]) -> list[Entry]:
    """Of several pictures, those whose folders match the written ones best, then the label file's."""
    entries = list(dict.fromkeys(entries))
    if len(entries) < 2:
        return entries
    wanted, beside = ({fold(part) for part in parts} for parts in (written, label))

    def likeness(entry: Entry) -> tuple[int, int]:
        folders = {fold(part) for part in entry[:-1]}
        return len(folders & wanted), len(folders & beside)

    top = max(map(likeness, entries))
    return [entry for entry in entries if likeness(entry) == top]


def _may_be_renamed(name: str, other: str) -> bool:
    """Whether two names may be one picture, renamed; not if their numbers differ: photo_447 is not photo_44."""
    numbers, others = ([int(n) for n in re.findall(r"\d{1,18}", text)] for text in (name, other))
    return not numbers or not others or numbers == others


def _why(code: str, written: str) -> str:
    return f'image "{written}" ' + {"B30": "is absolute", "B31": "leads out of the image root"}.get(
        code, "does not exist"
    )


def walk(root: str | os.PathLike, suffixes: tuple[str, ...]) -> list[str]:
    """The paths of all files below `root` with one of the suffixes (any case), sorted by relative path.

    Folders and files whose name starts with a dot are passed over, links to folders are not entered.
    """
    found = []
    for folder, folders, names in os.walk(os.fspath(root)):
        folders[:] = [f for f in folders if not f.startswith(".")]
        parts = Path(folder).relative_to(root).parts
        found += [(parts, n, folder) for n in names if n.lower().endswith(suffixes) and n[0] != "."]
    return [os.path.join(folder, name) for _, name, folder in sorted(found)]
