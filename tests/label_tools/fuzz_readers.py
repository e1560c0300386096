"""Byte mutations of valid files through one reader; run as a program, because a reader may take the process with it.

    python -m tests.label_tools.fuzz_readers READER COUNT SEED FOLDER

Prints one JSON line: {"results": n, "input_errors": n, "worst_s": s, "rss_mb": m}. Any other exception, and a
case over the time limit, ends it with a traceback; the number of the case is in FOLDER/case.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from label_tools.document import coco_file
from label_tools.formats import voc, yolo
from label_tools.formats.image_records import read_pictures
from label_tools.formats.labelme import Options, read_file
from label_tools.formats.masks import MaskOptions, read_mask
from label_tools.formats.via import CSV_HEAD
from label_tools.pictures.find_image import ImageFolder
from label_tools.pictures.open_image import image_info, image_size, open_image, open_mask
from label_tools.readers.program_folder import PROGRAMS
from label_tools.shapes.instances import RefusedError
from label_tools.text.errors import InputError
from label_tools.text.findings import Finding
from label_tools.text.rule_limits import MAX_PIXELS
from tests.label_tools.bad_input_images import VOC
from tests.label_tools.bad_input_labels import SQUARE
from tests.label_tools.bad_input_makers import GOOD, H, W, annotation, content, encode_rle, picture, png, shape

SECONDS = 5
TOKENS = [
    b"NaN",
    b"Infinity",
    b"-1",
    b"1e999",
    b"99999999999999999999",
    b"null",
    b"true",
    b'""',
    b"[]",
    b"{}",
    b"\0",
    b"\xff",
    b"0",
    b"1e-30",
    b'"',
    b"]",
    b"}",
    b"\\ud800",
    b"&lt;",
    b"2147483647",
    b"9" * 400,
]

VALUE = re.compile(rb'-?\d+(?:\.\d+)?|"[^"]*"')


def mutated(data: bytes, rng: random.Random) -> bytes:
    """One to four small accidents: bits, bytes, pieces lost, doubled, moved, replaced by something nasty."""
    result = bytearray(data)
    for _ in range(rng.choice((1, 1, 1, 2, 4))):
        at = rng.randrange(len(result) + 1)
        kind = rng.randrange(11)
        size = rng.choice((1, 2, 4, 16, 64))
        if kind == 0 and at < len(result):
            result[at] ^= 1 << rng.randrange(8)
        elif kind == 1 and at < len(result):
            result[at] = rng.choice((0, 1, 0x7F, 0x80, 0xFF, rng.randrange(256)))
        elif kind == 2:
            del result[at : at + size]
        elif kind == 3:
            result[at:at] = result[at : at + size]
        elif kind == 4:
            result[at : at + rng.choice((0, 1, size))] = rng.choice(TOKENS)
        elif kind == 5:
            del result[at:]
        elif kind >= 7 and (values := list(VALUE.finditer(result))):  # keeps JSON valid
            value = rng.choice(values)
            result[value.start() : value.end()] = rng.choice(TOKENS)
        else:
            result[at:at] = bytes(rng.randrange(256) for _ in range(size))
        if not result:
            result = bytearray(b"\0")
    return bytes(result)


def readers(folder: Path) -> dict[str, tuple[list[bytes], str, Callable[[Path], object]]]:
    """Per reader: valid files, the ending, and what reads one."""
    picture(folder / "a.jpg")
    images = ImageFolder(folder, max_pixels=MAX_PIXELS)
    info = image_info(folder / "a.jpg")
    mask = shape([[10, 10], [16, 14]], "mask", mask=png(np.ones((5, 7))))
    shapes = [
        GOOD,
        shape(SQUARE, "polygon"),
        shape([[30, 20], [33, 24]], "circle"),
        mask,
        shape([[9, 9], [25, 30]], "line", group_id=1),
        shape([[9, 9]], "points", group_id=1),
    ]
    document = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": W, "height": H}],
        "annotations": [
            annotation(id=1),
            annotation(segmentation=[[1, 1, 30, 1, 30, 30]]),
            annotation(id=3, segmentation={"size": [H, W], "counts": [100, 50, W * H - 150]}),
            annotation(id=4, segmentation={"size": [H, W], "counts": "d3`0c0"}),
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    options = Options(thicken_lines=3, point_box=4)

    def read_coco(path: Path) -> object:
        findings: list[Finding] = []
        return coco_file.read(path, findings)

    def read_masks(path: Path) -> object:
        try:
            return read_mask(str(path), info, MaskOptions("instance", "cat"), lambda *_: None)
        except RefusedError as error:
            raise InputError(error.text) from error

    def read_image(path: Path) -> object:
        size = image_size(path, max_pixels=1_000_000)
        open_mask(path, max_pixels=1_000_000)[0]
        return open_image(path, max_pixels=1_000_000).size == size

    return {
        "labelme": (
            [json.dumps(content(shapes, imageData=png(np.zeros((H, W))))).encode()],
            ".json",
            lambda p: read_file(str(p), p.name, images, options),
        ),
        "coco": ([json.dumps(document).encode()], ".json", read_coco),
        "voc": ([VOC.format("a.jpg", 2, 3, 30, 40).encode()], ".xml", lambda p: voc.read_file(str(p), images)),
        "yolo": (
            [b"0 0.5 0.5 0.25 0.25\n1 0.1 0.1 0.5 0.1 0.5 0.7\n"],
            ".txt",
            lambda p: yolo.read_file(
                str(p), str(folder / "a.jpg"), images, yolo.Classes({k: f"c{k}" for k in range(100)})
            ),
        ),
        **{name: (files, suffix, program_reader(name, images)) for name, files, suffix in program_files(folder)},
        "masks": (mask_files(folder), ".png", read_masks),
        "images": (image_files(folder), ".jpg", read_image),
    }


def program_reader(name: str, images: ImageFolder) -> Callable[[Path], object]:
    describe = PROGRAMS[name.partition("-")[0]].describe
    return lambda path: read_pictures(describe, str(path), images)


def program_files(folder: Path) -> list[tuple[str, list[bytes], str]]:
    """(program, valid files, ending) of the programs whose own files are read."""
    pixels = np.zeros((H, W, 4), np.uint8)
    pixels[5:9, 10:31] = 255
    Image.fromarray(pixels).save(folder / "m.png")
    sizes = {"original_width": W, "original_height": H, "image_rotation": 0}
    box = {"x": 10, "y": 12, "width": 31, "height": 43, "rotation": 20, "rectanglelabels": ["cat"]}
    brush = {"format": "rle", "rle": encode_rle(pixels.ravel()), "brushlabels": ["cat"]}
    polygon = {"points": [[1, 1], [50, 2], [30, 40.5]], "polygonlabels": ["dog"]}
    results = [{"type": "x", "value": value, **sizes} for value in (box, brush, polygon)]
    studio = [{"id": 1, "data": {"image": "/data/upload/1/a.jpg"}, "annotations": [{"result": results}]}]
    shapes = (
        {"name": "rect", "x": 1, "y": 2, "width": 9, "height": 8},
        {"name": "ellipse", "cx": 20, "cy": 20, "rx": 9, "ry": 5, "theta": 0.5},
        {"name": "polygon", "all_points_x": [0, 9, 9], "all_points_y": [0, 0, 9]},
    )
    regions = [{"shape_attributes": s, "region_attributes": {"type": "cat"}} for s in shapes]
    via = {"a.jpg1": {"filename": "a.jpg", "size": 1, "regions": regions}}
    rect, cat = (json.dumps(v).replace('"', '""') for v in (shapes[0], {"type": "cat"}))
    table = f'{CSV_HEAD}\na.jpg,1,"{{}}",1,0,"{rect}","{cat}"\n'
    solo = "type.unity.com/unity.solo."
    boxes = [{"instanceId": 1, "labelName": "cat", "origin": [1, 2], "dimension": [9, 8]}]
    instances = [{"instanceId": 2, "labelName": "cat", "color": [255, 255, 255, 255]}]
    annotations = [
        {"@type": solo + "BoundingBox2DAnnotation", "values": boxes},
        {"@type": solo + "InstanceSegmentationAnnotation", "filename": "m.png", "instances": instances},
    ]
    capture = {"filename": "a.jpg", "dimension": [W, H], "annotations": annotations}
    elements = (
        '<box label="cat" xtl="1" ytl="2" xbr="9" ybr="8" rotation="20" group_id="1"/>'
        '<polygon label="cat" points="1,2;9,2;9,8" group_id="1"/><ellipse label="cat" cx="9" cy="9" rx="4" ry="3"/>'
        '<mask label="cat" rle="2, 3, 1" left="5" top="7" width="3" height="2"/><points label="x" points="1,2"/>'
    )
    cvat = f'<annotations><image id="0" name="a.jpg" width="{W}" height="{H}">{elements}</image></annotations>'
    return [
        ("labelstudio", [json.dumps(studio).encode()], ".json"),
        ("via", [json.dumps(via).encode()], ".json"),
        ("via-csv", [table.encode()], ".csv"),
        ("unity", [json.dumps({"frame": 0, "captures": [capture]}).encode()], ".json"),
        ("cvat", [cvat.encode()], ".xml"),
    ]


def mask_files(folder: Path) -> list[bytes]:
    ids = np.zeros((H, W), np.uint16)
    ids[4:20, 6:30], ids[30:40, 40:50] = 1, 300
    palette = Image.fromarray(ids.clip(0, 2).astype(np.uint8))
    palette.putpalette(list(range(48)))
    files = []
    for image in (Image.fromarray(ids), palette, Image.fromarray(ids > 0)):
        image.save(folder / "m.png")
        files.append((folder / "m.png").read_bytes())
    return files


def image_files(folder: Path) -> list[bytes]:
    exif = Image.Exif()
    exif[0x0112] = 6
    kinds = (
        ("jpg", {"exif": exif}),
        ("jpg", {"progressive": True}),
        ("png", {"exif": exif}),
        ("webp", {}),
        ("gif", {}),
        ("bmp", {}),
        ("tif", {"exif": exif}),
        ("tif", {"compression": "tiff_lzw"}),
    )
    return [picture(folder / f"i.{suffix}", (33, 21), **options).read_bytes() for suffix, options in kinds]


def too_long(*_: object) -> None:
    raise TimeoutError(f"over {SECONDS} s")


def main(reader: str, count: int, seed: int, folder: Path) -> None:
    files, suffix, read = readers(folder)[reader]
    target = folder / f"case{suffix}"
    signal.signal(signal.SIGALRM, too_long)
    counts = {"results": 0, "input_errors": 0}
    worst = 0.0
    for number in range(-len(files), count):  # first the files as they are
        data = (
            files[number]
            if number < 0
            else mutated(files[number % len(files)], random.Random(seed * 1_000_003 + number))
        )
        target.write_bytes(data)
        (folder / "case").write_text(str(number))
        start = time.perf_counter()
        signal.alarm(SECONDS)
        try:
            read(target)
            counts["results"] += 1
        except InputError:
            counts["input_errors"] += 1
            assert number >= 0, "a valid file was refused"
        signal.alarm(0)
        worst = max(worst, time.perf_counter() - start)
    print(json.dumps({**counts, "worst_s": round(worst, 3), "rss_mb": round(most_memory())}))


def most_memory() -> float:
    """MB that this process held at most. On Linux ru_maxrss begins with what the parent held before it forked."""
    status = Path("/proc/self/status")
    if status.exists():
        (line,) = [line for line in status.read_text().splitlines() if line.startswith("VmHWM:")]
        return int(line.split()[1]) / 1e3
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1e3)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4]))
