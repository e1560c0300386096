"""Rules for the image files behind a COCO document. By default only headers are read, and the pixels of files
that seem cut off or have more than 8 bits a channel; `decode` reads every pixel.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from label_tools.document import coco_file
from label_tools.pictures.duplicates import Fingerprint, fingerprint, look_alike, same_pixels
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import ImageError, ImageInfo, image_info, may_be_cut_off, open_image
from label_tools.pictures.to_rgb import nearly_black
from label_tools.shapes.instances import RefusedError
from label_tools.text.findings import ERROR, NOTE, WARNING, Finding
from label_tools.text.rule_limits import LEAST_IMAGE_SIDE, MAX_PIXELS, MOST_IMAGE_ASPECT

_SUFFIXES = {
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "MPO": (".jpg", ".jpeg", ".mpo"),
    "PNG": (".png",),
    "BMP": (".bmp",),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "GIF": (".gif",),
}
_MAY_HAVE_FRAMES = ("GIF", "TIFF", "WEBP", "MPO")
_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")


class ImageRules:
    """Checks the images of one document. `findings` grows; `prints` holds fingerprints when decoding.

    opening: how its pictures are opened, `coco_file.opening`.
    """

    def __init__(
        self, root: Path, name: str, *, decode: bool = False, opening: Mapping[str, Any] = MappingProxyType({})
    ) -> None:
        self.root, self.name, self.decode, self.opening = root, name, decode, opening
        self._limit = opening.get("max_pixels", MAX_PIXELS)
        self.findings: list[Finding] = []
        self.prints: list[tuple[str, Fingerprint]] = []
        self.checked = 0
        self._images = ImageFolder(root, max_pixels=self._limit, follow_links=True)  # a link is a warning

    def check(self, image: dict) -> dict | None:
        """The entry of one image, repaired where that is safe, or None when the image cannot be used."""
        self.checked += 1
        if not coco_file.is_inside(image["file_name"]):
            return self._bad(image, "B31", "file_name leads out of the image root", "use a relative path")
        path = self.root / image["file_name"]
        if not os.path.isfile(path):  # unlike Path.is_file, False for a name that is too long
            try:
                said: list[tuple[str, str, str]] = []
                path = Path(self._images.find(image["file_name"], self._images.root, lambda *one: said.append(one)))
            except RefusedError as error:
                return self._bad(image, error.code, error.text, "put it there, or remove the entry")
            for level, code, text in said:
                self._say(level, code, image, text)
            image = {**image, "file_name": self._images.file_name(str(path))}
        if not path.resolve().is_relative_to(self.root.resolve()):
            self._say(WARNING, "B31", image, f"is a link that leads out of {self.root}", "copy the file there")
        try:
            info = image_info(path, max_pixels=self._limit)
            if info.format in _MAY_HAVE_FRAMES or (self.decode and info.format == "PNG"):
                info = image_info(path, max_pixels=self._limit, frames=True)
            if self.decode or info.bits > 8 or may_be_cut_off(path, info.format):
                picture = open_image(path, **self.opening)
                if text := nearly_black(info.bits, picture):
                    command = f"frcnn convert coco {shlex.quote(self.name)} --max-value 4095 --out NEW.json"
                    self._say(WARNING, "B62", image, text, f"say what is white: {command}")
                if self.decode:
                    self.prints.append((image["file_name"], fingerprint(picture)))
        except ImageError as error:
            return self._bad(image, error.code, error.text, "replace the file, or remove the entry")
        self._notes(image, info)
        return self._sizes(image, info)

    def _sizes(self, image: dict, info: ImageInfo) -> dict | None:
        said, seen = (image["width"], image["height"]), (info.width, info.height)
        if said != seen:
            text = f"{said[0]} x {said[1]} in the document, {seen[0]} x {seen[1]} in the file"
            if said == info.stored_size:
                text += (
                    f" after its EXIF rotation ({info.orientation}); "
                    "it cannot be told whether the boxes were drawn before or after"
                )
            return self._bad(image, "B52", text, "convert again from the labels, or restore the image")
        if min(seen) < LEAST_IMAGE_SIDE:
            return self._bad(image, "B69", f"{seen[0]} x {seen[1]} pixels, needs {LEAST_IMAGE_SIDE} or more")
        if max(seen) > MOST_IMAGE_ASPECT * min(seen):
            self._say(NOTE, "B69", image, f"{seen[0]} x {seen[1]} pixels: a strip", "train with --tiles")
        return image

    def _notes(self, image: dict, info: ImageInfo) -> None:
        suffix = Path(image["file_name"]).suffix.lower()
        if suffix not in _SUFFIXES.get(info.format, (suffix,)):
            self._say(NOTE, "B68", image, f"is {info.format} by its content; read as that")
        if info.frames > 1:
            self._say(NOTE, "B63", image, f"{info.frames} frames; only the first one is used")
        if info.bits > 8:
            white = f", {self.opening['max_value']:g} as white" if "max_value" in self.opening else ""
            self._say(NOTE, "B62", image, f"{info.bits} bits a channel; scaled to 8{white}")
        if info.mode in _ALPHA:
            self._say(NOTE, "B62", image, "has transparency, which is dropped")

    def summary(self) -> list[Finding]:
        """The findings; a single one if no image at all was found."""
        missing = [f for f in self.findings if f.code == "B32" and f.level == ERROR]
        if len(missing) == self.checked > 1:
            text = f"none of the {self.checked} images is in {self.root}, the first is {missing[0].place}"
            return [Finding("B32", ERROR, self.name, "images", text, "say where they are: --image-root DIR")]
        return self.findings

    def duplicates(self) -> Iterator[Finding]:
        """B53: pictures of this document that are the same or look alike; needs `decode`."""
        files = [file for file, _ in self.prints]
        prints = [one for _, one in self.prints]
        for group in same_pixels(prints):
            listed = ", ".join(files[index] for index in group)
            text = f"{len(group)} images have the same pixels: {listed}"
            yield Finding("B53", WARNING, self.name, "images", text, "keep one; `split` keeps them in one part")
        for pair in look_alike(prints):
            text = f"{files[pair.i]} and {files[pair.j]} look alike ({pair})"
            yield Finding("B53", NOTE, self.name, "images", text, "`split` keeps them in one part")

    def _say(self, level: str, code: str, image: dict, text: str, fix: str = "") -> None:
        place = f'image {image["id"]} "{image["file_name"]}"'
        self.findings.append(Finding(code, level, self.name, place, text, fix))

    def _bad(self, image: dict, code: str, text: str, fix: str = "") -> dict | None:
        self._say(ERROR, code, image, text, fix)
        return None
