"""From the image path that a label file holds to the picture that it means, never outside the image root.

Label files travel: between Windows and Linux, from one folder to another, and from strangers. What they say about
their image is a hint that is checked, not an address that is followed (rows B29 to B32 and B38).
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import lru_cache
from pathlib import Path, PureWindowsPath

from label_tools.pictures.images import SUFFIXES, ImageError, ImageInfo, image_info
from label_tools.shapes.instances import RefusedError
from label_tools.text.findings import WARNING

Remark = Callable[[str, str, str], None]


class ImageFolder:
    """The image root, with the lookups that are the same for every label file remembered.

    follow_links: allow symbolic links that lead out of the root (off: a label file from elsewhere could name one).
    """

    def __init__(self, root: str | os.PathLike, *, max_pixels: int, follow_links: bool = False) -> None:
        self.root = os.path.abspath(root)
        self.max_pixels = max_pixels
        self.follow_links = follow_links
        self._real_root = os.path.realpath(self.root)
        self._folder_is_inside = lru_cache(maxsize=100_000)(self._is_inside)
        self._by_name: dict[str, list[str]] | None = None

    def find(self, image_path: object, label_folder: str, remark: Remark) -> str:
        """The absolute path of the picture that `image_path`, found in a file of `label_folder`, means.

        Raises RefusedError: B26 no text, B30 absolute and not to be found, B31 outside the root, B32 missing.
        """
        if not isinstance(image_path, str) or not image_path.strip():
            raise RefusedError("B26", f"imagePath {image_path!r}, needs the image's file name")
        if "\0" in image_path:
            raise RefusedError("B31", "imagePath holds a NUL character")
        text = image_path
        if text.startswith(("/", "\\\\")) or text[1:2] == ":":  # /home/x/a.jpg, \\server\a.jpg, C:\a.jpg
            return self._elsewhere(text, label_folder, remark)
        if "\\" in text and not os.path.exists(os.path.join(label_folder, text)):
            text = PureWindowsPath(text).as_posix()
            remark(WARNING, "B29", f'backslashes in "{image_path}" read as slashes')
        path = os.path.normpath(os.path.join(label_folder, text))
        if not path.startswith(self.root + os.sep):
            mend = f"if that is meant, name the folder of all images: --image-root {_upper(self.root, path)}"
            raise RefusedError("B31", f'imagePath "{image_path}" leads out of the image root', mend)
        if not os.path.isfile(path):
            path = self._other_case(path, image_path, remark)
        self.check_links(path, image_path)
        return path

    def find_named(self, name: str, label_folder: str, remark: Remark) -> str:
        """Like `find`, for formats that give a name rather than a path: beside the file, then below the root."""
        clean = PureWindowsPath(name).as_posix() if "\\" in name else name
        for folder in (label_folder, self.root):
            path = os.path.normpath(os.path.join(folder, clean))
            if path.startswith(self.root + os.sep) and os.path.isfile(path):
                return self.find(os.path.relpath(path, label_folder), label_folder, remark)
        here = self._everywhere().get(PureWindowsPath(name).name, [])
        if len(here) == 1 and ".." not in Path(clean).parts:
            return self.find(os.path.relpath(here[0], label_folder), label_folder, remark)
        try:
            return self.find(name, self.root, remark)
        except RefusedError as error:
            if error.code != "B32":
                raise
            mend = "restore it, name the folder of the images with --image-root, or delete the label file"
            raise RefusedError(error.code, error.text, mend) from error

    def file_name(self, path: str) -> str:
        """`path` as file_name in a COCO file: from the root, with slashes. Raises RefusedError if it is no text."""
        name = path[len(self.root) + 1 :].replace(os.sep, "/")
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise RefusedError("B38", "the image's file name is not valid UTF-8; rename it") from error
        return name

    def info(self, path: str) -> ImageInfo:
        """The image's header. Raises RefusedError (B64 to B67) for what is no readable image."""
        try:
            return image_info(path, max_pixels=self.max_pixels)
        except ImageError as error:
            raise RefusedError(error.code, f"{self.file_name(path)}: {error.text}") from error

    def _elsewhere(self, text: str, label_folder: str, remark: Remark) -> str:
        """An absolute path of another machine: the one file of that name beside the label file or in the root."""
        name = PureWindowsPath(text).name
        beside = os.path.join(label_folder, name)
        found = [beside] if os.path.isfile(beside) else self._everywhere().get(name, [])
        inside = [p for p in found if p.startswith(self.root + os.sep)]
        if len(inside) != 1:
            where = f"{len(inside)} files" if inside else "no file"
            mend = "put the image beside its label file, or name the folder of all images with --image-root"
            raise RefusedError("B30", f'imagePath "{text}" is absolute and {where} of that name is here', mend)
        self.check_links(inside[0], text)
        remark(WARNING, "B30", f'imagePath "{text}" is absolute; "{self.file_name(inside[0])}" taken instead')
        return inside[0]

    def _other_case(self, path: str, image_path: str, remark: Remark) -> str:
        """The one file whose name differs from a missing one only in upper and lower case."""
        folder, name = os.path.split(path)
        try:
            same = [n for n in os.listdir(folder) if n.casefold() == name.casefold()]
        except OSError:
            same = []
        if len(same) != 1 or not os.path.isfile(os.path.join(folder, same[0])):
            raise RefusedError("B32", f'image "{image_path}" does not exist', "restore it or delete the label file")
        remark(WARNING, "B32", f'image "{image_path}" does not exist; "{same[0]}" taken instead')
        return os.path.join(folder, same[0])

    def check_links(self, path: str, image_path: str) -> None:
        if self.follow_links:
            return
        if not self._folder_is_inside(os.path.dirname(path)) or (os.path.islink(path) and not self._is_inside(path)):
            mend = "pass --follow-links if the links in this folder are your own"
            raise RefusedError("B31", f'image "{image_path}" is a link that leads out of the image root', mend)

    def _is_inside(self, path: str) -> bool:
        real = os.path.realpath(path)
        return real == self._real_root or real.startswith(self._real_root.rstrip(os.sep) + os.sep)

    def _everywhere(self) -> dict[str, list[str]]:
        if self._by_name is None:
            self._by_name = {}
            for folder, name in walk(self.root, SUFFIXES):
                self._by_name.setdefault(name, []).append(os.path.join(folder, name))
        return self._by_name


def walk(root: str | os.PathLike, suffixes: tuple[str, ...]) -> list[tuple[str, str]]:
    """(folder, name) of all files below `root` with one of the suffixes (any case), sorted by relative path.

    Folders and files whose name starts with a dot are passed over, links to folders are not entered.
    """
    found = []
    for folder, folders, names in os.walk(root):
        folders[:] = [f for f in folders if not f.startswith(".")]
        parts = Path(folder).relative_to(root).parts
        found += [(parts, n, folder) for n in names if n.lower().endswith(suffixes) and n[0] != "."]
    return [(folder, name) for _, name, folder in sorted(found)]


def _upper(root: str, path: str) -> str:
    return os.path.relpath(os.path.commonpath([root, os.path.dirname(path)]))
