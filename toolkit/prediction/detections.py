"""Detections in one picture, as arrays, as COCO results, as a drawing."""

from __future__ import annotations

import base64
import html
import io
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from label_tools.pictures import open_image
from label_tools.pictures.paint_objects import paint
from label_tools.text.errors import InputError
from label_tools.text.messages import counted
from toolkit.data.boxes import corners

NOTEBOOK_SIDE = 800  # pixels of the longer side of a picture in a notebook


@dataclass(frozen=True, eq=False)
class Detections:
    """Detections of one picture, best first.

    boxes [N,4] float64 XYXY pixels of the picture; labels [N] int64, 1..K; names: the class of each; scores [N] in
    0..1; classes: all K names, `classes[label - 1]`.
    """

    boxes: np.ndarray
    labels: np.ndarray
    names: list[str]
    scores: np.ndarray
    classes: tuple[str, ...]
    picture: Path | Image.Image = field(repr=False)
    _results: list[dict[str, Any]] = field(repr=False)

    @classmethod
    def of(cls, results: list[dict], categories: list[dict], picture: Path | Image.Image) -> Detections:
        """From entries of COCO's results format and the classes of the checkpoint."""
        label_of = {category["id"]: label for label, category in enumerate(categories, 1)}
        classes = tuple(category["name"] for category in categories)
        labels = np.array([label_of[one["category_id"]] for one in results], dtype=np.int64)
        return cls(
            boxes=corners([one["bbox"] for one in results]),
            labels=labels,
            names=[classes[label - 1] for label in labels],
            scores=np.array([one["score"] for one in results], dtype=np.float64),
            classes=classes,
            picture=picture,
            _results=results,
        )

    def __len__(self) -> int:
        return len(self.boxes)

    def __repr__(self) -> str:
        found = ", ".join(f"{number} {name}" for name, number in self.counts().items() if number)
        return f"Detections({counted(len(self), 'object')}{': ' + found if found else ''})"

    def counts(self) -> dict[str, int]:
        """{class: objects found}, every class of the detector, also those with none."""
        found = Counter(self.names)
        return {name: found[name] for name in self.classes}

    def to_coco(self, image_id: int = 0) -> list[dict[str, Any]]:
        """Entries of COCO's results format, category ids as in the labels that the detector was trained on."""
        return [{**one, "image_id": image_id} for one in self._results]

    def draw(self) -> Image.Image:
        """The picture with boxes or masks, classes and scores; a legend below it where they do not fit."""
        picture = open_image.open_image(self.picture) if isinstance(self.picture, Path) else self.picture
        names = {one["category_id"]: name for one, name in zip(self._results, self.names, strict=True)}
        return paint(picture, self._results, names)

    def _repr_html_(self) -> str:
        text = html.escape(repr(self))
        try:
            picture = self.draw()
        except InputError as error:  # the file went meanwhile
            return f"<p>{text}: {html.escape(str(error))}</p>"
        picture.thumbnail((NOTEBOOK_SIDE, NOTEBOOK_SIDE))
        buffer = io.BytesIO()
        picture.save(buffer, "JPEG", quality=88)
        content = base64.b64encode(buffer.getvalue()).decode()
        return (
            f'<figure><img alt="{text}" src="data:image/jpeg;base64,{content}"><figcaption>{text}</figcaption></figure>'
        )
