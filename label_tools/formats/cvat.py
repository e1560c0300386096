"""CVAT XML 1.1, "for images" and "for video": one file for many pictures. Reading and writing.

    <annotations><version>1.1</version>
      <image id="0" name="sub/a.jpg" width="640" height="480">
        <box label="cat" xtl="10" ytl="8" xbr="40" ybr="36" rotation="30"/>     degrees about the centre, clockwise
        <polygon label="cat" points="10,8;40,8;40,36"/>
        <ellipse label="cat" cx="20" cy="20" rx="10" ry="5" rotation="30"/>
        <mask label="cat" rle="2, 3, 1" left="5" top="7" width="3" height="2"/>  row by row, zeros first
      </image>
      <track id="0" label="cat"><box frame="3" outside="0" keyframe="1" xtl= .../></track>   picture frame_000003.*
    </annotations>

Shapes of one `group_id` and label are pieces of one object, as in CVAT's own COCO export. A cuboid becomes the box
around its points. Polylines, points and skeletons have no area and are left out; a tag describes the whole
picture and is no object. Frames in which a track is `outside` do not hold it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from xml.etree import ElementTree
from xml.sax.saxutils import escape, quoteattr

import numpy as np

from label_tools.document.coco_file import own_shape
from label_tools.files.strict_reading import parse_xml
from label_tools.formats.image_records import Described, Drawn, Make, left_out, read_numbers, sorted_box
from label_tools.shapes import geometry, instances, rle
from label_tools.shapes.instances import Instance, RefusedError, Remark, check_range
from label_tools.text.findings import NOTE

SHAPES = ("box", "polygon", "ellipse", "mask", "cuboid", "polyline", "points", "skeleton")
_CUBOID = [f"{axis}{corner}{face}" for face in (1, 2) for corner in ("tl", "bl", "tr", "br") for axis in ("x", "y")]
_MEND = "export with images, or `ffmpeg -i VIDEO -start_number 0 frame_%06d.png` in the folder of the images"
_ENDINGS = (".png", ".PNG", ".jpg", ".jpeg", ".JPG")  # what CVAT gives the frames of a video


def is_cvat(root: ElementTree.Element) -> bool:
    """Whether this is the root element of a CVAT file."""
    return root.tag == "annotations" and (root.find("image") is not None or root.find("track") is not None)


def describe(path: str) -> Iterator[Described]:
    """The pictures of the file; for a video, the frames on which something was drawn. Raises TextError, OSError."""
    root = parse_xml(path)
    for i, image in enumerate(root.iterfind("image")):
        yield _image(image, i)
    yield from _frames(root)


def _image(image: ElementTree.Element, i: int) -> Described:
    name = image.get("name") or ""
    subset = image.get("subset")  # of a project: images/train/a.jpg
    names = [f"{subset}/{name}", name] if subset else [name]
    one = Described(names if name else [], [], _size(image.get("width"), image.get("height")), f'image "{name[:80]}"')
    if not name:
        one.place, one.refusal = f"image[{i}]", RefusedError("B26", "no name")
    shapes = [e for e in image if e.tag in SHAPES]
    one.objects = [Drawn(f"{e.tag}[{k}]", e.get("label"), _make(e), _extra(e), _group(e)) for k, e in enumerate(shapes)]
    if tags := sum(e.tag == "tag" for e in image):
        one.said.append((NOTE, "B14", f"tags: {tags}; they say something of the whole image and are not objects"))
    return one


def _frames(root: ElementTree.Element) -> Iterator[Described]:
    stated = root.find("meta//original_size")  # of a task, a job or a project
    size = None if stated is None else _size(stated.findtext("width"), stated.findtext("height"))
    frames: dict[int, list[Drawn]] = {}
    for track in root.iterfind("track"):
        for element in track:
            number = element.get("frame", "")
            if element.tag not in SHAPES or not number.isdecimal():
                continue
            here = frames.setdefault(int(number), [])
            if element.get("outside") != "1":
                place = f"track {track.get('id')}, {element.tag}"
                here.append(Drawn(place, track.get("label"), _make(element), _extra(element)))
    for index in sorted(frames):
        stem = f"frame_{index:06d}"
        yield Described([stem + e for e in _ENDINGS], frames[index], size, f"frame {index}", fix=_MEND)


def _size(width: str | None, height: str | None) -> tuple[float, float] | None:
    try:
        return float(width or 0), float(height or 0)
    except ValueError:
        return None


def _extra(element: ElementTree.Element) -> dict | None:
    return {"occluded": 1} if element.get("occluded") == "1" else None


def _group(element: ElementTree.Element) -> str | None:
    group = element.get("group_id")
    return group if group and group != "0" else None


def _make(element: ElementTree.Element) -> Make:
    readers = {"box": _box, "polygon": _polygon, "ellipse": _ellipse, "mask": _mask, "cuboid": _cuboid}
    if element.tag not in readers:
        return left_out(element.tag)
    return partial(readers[element.tag], element)


def _values(element: ElementTree.Element, *keys: str) -> list[float]:
    return read_numbers([element.get(key) for key in keys], ", ".join(keys[:4]))


def _angle(element: ElementTree.Element) -> float:
    return math.radians(read_numbers([element.get("rotation") or 0], "rotation")[0])


def _box(element: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    corners = _values(element, "xtl", "ytl", "xbr", "ybr")
    check_range(corners, width, height)
    x1, y1, x2, y2 = corners
    x, y, w, h = sorted_box(x1, y1, x2, y2, remark)
    if angle := _angle(element):
        flat = geometry.turned_box(x + w / 2, y + h / 2, w, h, angle)
        return instances.from_polygon(label, flat, width, height, remark)
    return instances.from_box(label, (x, y, w, h), width, height, remark)


def _polygon(element: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    pairs = [pair.split(",") for pair in (element.get("points") or "").split(";") if pair.strip()]
    if any(len(pair) != 2 for pair in pairs):
        raise RefusedError("B26", f"points {element.get('points')!r:.60}, needs `x,y;x,y;...`")
    flat = read_numbers([v for pair in pairs for v in pair], "points")
    return instances.from_polygon(label, geometry.without_repeats(flat), width, height, remark)


def _ellipse(element: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    cx, cy, rx, ry = _values(element, "cx", "cy", "rx", "ry")
    return instances.from_ellipse(label, cx, cy, rx, ry, _angle(element), width, height, remark)


def _cuboid(element: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    remark(NOTE, "B14", "cuboid read as the box around its points")
    return instances.from_box(label, geometry.polygon_box(_values(element, *_CUBOID)), width, height, remark)


def _mask(element: ElementTree.Element, label: str, width: int, height: int, remark: Remark) -> Instance:
    left, top, w, h = (int(v) for v in _values(element, "left", "top", "width", "height"))
    check_range((left, top, left + w, top + h), width, height)
    counts = read_numbers([c.strip() for c in (element.get("rle") or "").split(",") if c.strip()], "rle")
    if w < 1 or h < 1 or any(c < 0 or c != int(c) for c in counts) or sum(counts) > w * h:
        raise RefusedError("B15", f"mask of {w} x {h} pixels has run lengths that sum to {sum(counts):g}")
    flat = np.repeat(np.arange(len(counts)) % 2 == 1, np.array(counts, dtype=np.int64))
    pixels = np.pad(flat, (0, w * h - len(flat))).reshape(h, w)  # CVAT may leave out the last zeros
    runs = rle.from_crop(pixels, left, top, height, width)
    return instances.from_runs(label, runs, width, height, remark)


def document_text(images: list[tuple[dict, list[tuple[str, dict]]]], names: list[str]) -> str:
    """The XML of a COCO document; images: (its entry, [(class name, annotation)]), in order.

    Polygons are written as polygons (as a box where one is the box), several of one object with one group_id; run
    lengths as masks. So only boxes become boxes.
    """
    labels = "".join(f"<label><name>{escape(n)}</name><attributes></attributes></label>" for n in names)
    lines = [
        '<?xml version="1.0" encoding="utf-8"?>',
        "<annotations>",
        "  <version>1.1</version>",
        f"  <meta><task><size>{len(images)}</size><mode>annotation</mode><labels>{labels}</labels></task></meta>",
    ]
    for number, (image, objects) in enumerate(images):
        size = f'width="{image["width"]}" height="{image["height"]}"'
        lines.append(f'  <image id="{number}" name={quoteattr(Path(image["file_name"]).as_posix())} {size}>')
        for group, (name, annotation) in enumerate(objects, start=1):
            lines += [f"    {text}" for text in _elements(name, annotation, image, group)]
        lines.append("  </image>")
    return "\n".join([*lines, "</annotations>", ""])


def _elements(name: str, annotation: dict, image: dict, group: int) -> list[str]:
    head = f'label={quoteattr(name)} source="manual" occluded="{int(bool(annotation.get("occluded")))}" z_order="0"'
    shape = own_shape(annotation)
    if isinstance(shape, dict):
        return [_mask_element(head, shape, image)]
    if shape is None:
        x, y, w, h = annotation["bbox"]
        return [f'<box {head} xtl="{x!r}" ytl="{y!r}" xbr="{x + w!r}" ybr="{y + h!r}"></box>']
    if len(shape) > 1:
        head += f' group_id="{group}"'
    texts = (";".join(f"{a!r},{b!r}" for a, b in zip(flat[0::2], flat[1::2])) for flat in shape)
    return [f'<polygon {head} points="{points}"></polygon>' for points in texts]


def _mask_element(head: str, shape: dict, image: dict) -> str:
    crop, (left, top, w, h) = rle.crop(rle.to_runs(shape), image["height"], image["width"])
    pixels = crop.ravel()
    edges = np.flatnonzero(np.diff(pixels.astype(np.int8), prepend=0, append=0))
    counts = np.diff(np.concatenate(([0], edges, [pixels.size] if edges[-1] < pixels.size else [])))
    text = ", ".join(map(str, counts.astype(int)))
    return f'<mask {head} rle="{text}" left="{left}" top="{top}" width="{w}" height="{h}"></mask>'
