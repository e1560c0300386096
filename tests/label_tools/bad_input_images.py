"""The cases of `test_bad_input.py` that concern COCO, VOC and YOLO files, images and masks."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

from tests.label_tools.bad_input_makers import (
    GOOD,
    Case,
    H,
    W,
    annotation,
    coco,
    content,
    good,
    ids,
    masks,
    picture,
    with_image,
    without,
)

NAN, INF = float("nan"), float("inf")
TWO = [{"id": 1, "file_name": "good.jpg", "width": W, "height": H}]


def _images(**more) -> list[dict]:
    return [{**TWO[0], **more}]


def _and_one_of(file_name: str) -> list[dict]:
    return [*_images(), {**TWO[0], "id": 77, "file_name": file_name}]


def _box(*bbox, **more) -> dict:
    return annotation(bbox=list(bbox), area=1, **more)


def _rle(counts, size=(H, W), **more) -> dict:
    return annotation(segmentation={"size": list(size), "counts": counts}, **more)


HALF = [W * H // 2, W * H // 2]
COCO = [
    Case("B01", "width 0", coco(_box(10, 10, 0, 9)), "leave out"),
    Case("B02", "negative width", coco(_box(30, 10, -20, 20)), "repair", 1, "read with its corners sorted"),
    Case("B04", "outside", coco(_box(70, 10, 20, 20)), "leave out"),
    Case("B05", "over the edge", coco(_box(50, 10, 20, 20)), "repair", 1),
    Case("B05", "by rounding", coco(_box(44, 10, 20.000001, 20)), "accept", 1),
    *(Case("B06", str(v), coco(_box(10, v, 20, 20)), "leave out") for v in (NAN, INF, -INF)),
    *(Case("B07", f"{v:.0e}", coco(_box(10, 10, v, 20)), "leave out") for v in (2e8, 3e38, 1e308)),
    Case("B07", "400 digits", coco(_box(10, 10, 10**400, 20)), "leave out"),
    Case("B07", "polygon", coco(annotation(segmentation=[[1, 1, 2e8, 5, 5, 9]])), "repair", 1, "the box is kept"),
    Case("B06", "polygon", coco(annotation(segmentation=[[1, 1, NAN, 5, 5, 9]])), "repair", 1, "the box is kept"),
    Case("B08", "2 points", coco(annotation(segmentation=[[1, 1, 5, 5]])), "repair", 1, "the box is kept"),
    Case("B09", "one list", coco(annotation(segmentation=[10, 10, 30, 10, 30, 30])), "repair", 1),
    Case("B09", "odd", coco(annotation(segmentation=[[10, 10, 30, 10, 30, 30, 5]])), "repair", 1, "the box is kept"),
    Case(
        "B09",
        "one odd list",
        coco(annotation(segmentation=[10, 10, 30, 10, 30, 30, 5])),
        "repair",
        1,
        "the box is kept",
    ),
    Case("B12", "twice", coco(annotation(), annotation(id=3)), "repair", 1),
    Case("B17", "thin", coco(_box(10, 10, 0.001, 9)), "leave out"),
    Case("B18", "long", lambda f: _long(f), "note", 1),
    Case("B26", "a text", coco("x"), "leave out"),
    Case("B26", "bbox null and no segmentation", coco(annotation(bbox=None)), "leave out"),
    Case("B26", "bbox of words", coco(_box("1", "2", "3", "x")), "leave out"),
    Case("B49", "bbox of texts", coco(_box("1", "2", "3", "4")), "repair", 1, "read as numbers"),
    Case("B26", "bbox of true", coco(_box(True, 2, 9, 9)), "leave out"),
    Case("B26", "segmentation a text", coco(annotation(segmentation="x")), "repair", 1, "the box is kept"),
    Case("B20", "no annotations", coco(drop="annotations"), "refuse", text='"annotations"'),
    Case("B29", "backslashes", coco(annotation(), images=_images(file_name=".\\good.jpg")), "repair", 1),
    Case("B38", "file_name of 300 bytes", coco(annotation(), images=_and_one_of("a" * 296 + ".jpg")), "leave out", 1),
    Case("B38", "path of 5000 bytes", coco(annotation(), images=_and_one_of("a/" * 2498 + "a.jpg")), "leave out", 1),
    Case("B31", "file_name leads out", coco(images=_images(file_name="../../etc/passwd")), "refuse", text="etc/passwd"),
    Case("B32", "no such image", coco(images=_images(file_name="no.jpg")), "refuse", text="no.jpg"),
    Case("B40", "ids twice", coco(annotation(id=1)), "repair", 1),
    Case("B40", "no id", coco(without(annotation(), "id")), "repair", 1),
    Case("B41", "id 0", coco(annotation(id=0)), "repair", 1),
    Case("B42", "image id twice", coco(images=TWO + _images(file_name="b.jpg")), "refuse", text="id 1"),
    Case("B42", "file_name twice", coco(images=TWO + _images(id=2)), "refuse", text="good.jpg"),
    Case("B43", "no such image", coco(annotation(image_id=9)), "leave out"),
    Case("B43", "no such category", coco(annotation(category_id=9)), "refuse", text="category_id 9"),
    Case(
        "B44",
        "gaps",
        coco(annotation(category_id=90), categories=[{"id": 1, "name": "cat"}, {"id": 90, "name": "b"}]),
        "accept",
        1,
    ),
    Case(
        "B44",
        "id 0",
        coco(annotation(category_id=0), categories=[{"id": 1, "name": "cat"}, {"id": 0, "name": "b"}]),
        "accept",
        1,
    ),
    Case(
        "B44",
        "name twice",
        coco(annotation(category_id=2), categories=[{"id": 1, "name": "cat"}, {"id": 2, "name": "cat"}]),
        "refuse",
        text="cat",
    ),
    Case(
        "B44",
        "name twice, one unused",
        coco(annotation(), categories=[{"id": 0, "name": "cat"}, {"id": 1, "name": "cat"}]),
        "repair",
        1,
        "which no annotation has",
    ),
    Case("B42", "the same image twice", coco(annotation(), images=TWO + TWO[:1]), "repair", 1),
    Case("B43", "category null, one class", coco(annotation(category_id=None)), "repair", 1),
    Case("B49", "iscrowd null", coco(annotation(iscrowd=None)), "repair", 1),
    Case("B49", 'iscrowd "0"', coco(annotation(iscrowd="0")), "repair", 1),
    Case("B49", "iscrowd true", coco(annotation(iscrowd=True)), "repair", 1),
    Case("B52", "size -1", coco(annotation(), images=_images(width=-1, height=-1)), "repair", 1),
    Case("B52", "no size", coco(annotation(), images=[without(_images()[0], "width", "height")]), "repair", 1),
    Case("B57", "turned", coco(annotation(bbox=[20, 20, 16, 8], attributes={"rotation": 90.0})), "repair", 1),
    Case(
        "B44", "id twice", coco(categories=[{"id": 1, "name": "cat"}, {"id": 1, "name": "dog"}]), "refuse", text="id 1"
    ),
    *(
        Case("B37", f"COCO {ord(sign):x}", coco(annotation(), categories=[{"id": 1, "name": f"a{sign}b"}]), "refuse")
        for sign in "\n\r\t\x1b\x85\u2028"
    ),
    Case("B36", "blanks", coco(annotation(), categories=[{"id": 1, "name": " cat"}]), "repair", 1),
    Case(
        "B47",
        "corners",
        coco(_box(30, 20, 60, 40), _box(35, 25, 62, 44), _box(40, 30, 63, 47)),
        "refuse",
        text="x2 - x1",
    ),
    Case("B48", "fractions", lambda f: _fractions(f), "refuse", text="pixels"),
    Case("B49", "ids as text", coco(annotation(image_id="1", category_id="1")), "repair", 1),
    Case("B49", "image ids as text", coco(annotation(), images=_images(id="1")), "repair", 1),
    Case("B50", "no area", coco(without(annotation(), "area")), "repair", 1),
    Case("B50", "area of 400 digits", coco(annotation(area=10**400)), "repair", 1),
    Case("B50", "area NaN", coco(annotation(area=NAN)), "repair", 1),
    Case("B50", "no iscrowd", coco(without(annotation(), "iscrowd")), "accept", 1),
    Case("B50", "no bbox", coco(annotation(bbox=None, segmentation=[[10, 10, 30, 10, 30, 30]])), "repair", 1),
    Case("B51", "good RLE", coco(_rle(HALF, bbox=[W // 2, 0, W // 2, H])), "accept", 1),
    *(
        Case("B59", name, coco(annotation(segmentation=[outline])), "repair", 1, "the box is kept")
        for name, outline in (
            ("elsewhere", [45, 40, 60, 40, 60, 47]),
            ("outside", [-50, -50, -10, -50, -10, -10]),
        )
    ),
    Case(
        "B58",
        "one crowd of two",
        coco(_rle(HALF, iscrowd=1, bbox=[W // 2, 0, W // 2, H])),
        "note",
        1,
        "--crowd-as-object",
    ),
    Case("B51", "iscrowd 7", coco(annotation(iscrowd=7)), "leave out"),
    *(
        Case("B51", name, coco(_rle(counts, size)), "repair", 1, "the box is kept")
        for name, counts, size in (
            ("empty counts", [], (H, W)),
            ("empty text", "", (H, W)),
            ("short", [5, 5], (H, W)),
            ("long", [9999], (H, W)),
            ("negative", [-5, W * H + 5], (H, W)),
            ("fractions", [0.5, W * H - 0.5], (H, W)),
            ("null", None, (H, W)),
            ("text of rubbish", "hello world", (H, W)),
            ("text cut off", "oooooo", (H, W)),
            ("non-ASCII", "é", (H, W)),
            ("huge size", [5], (2**31 - 1, 2**31 - 1)),
            ("size 0", [0], (0, 0)),
            ("size of one", [5], (5,)),
            ("another size", [50], (5, 10)),
            ("size a text", [5], ("5", "1")),
            ("huge count", [2**63], (H, W)),
        )
    ),
    Case("B52", "another size", coco(images=_images(width=W + 1)), "refuse", text="B52"),
]


def _long(folder: Path) -> list[str]:
    argv = coco(annotation(bbox=[0, 11, 220, 2], area=440), images=_images(width=220, file_name="long.jpg"))(folder)
    picture(folder / "long.jpg", (220, H))
    return argv


def _fractions(folder: Path) -> list[str]:
    make = coco(_box(0.1, 0.1, 0.5, 0.5))(folder)
    document = json.loads((folder / "in.json").read_text())
    document["annotations"] = document["annotations"][1:]
    (folder / "in.json").write_text(json.dumps(document))
    return make


def _voc(xml: str):
    def make(folder: Path) -> list[str]:
        picture(folder / "good.jpg")
        picture(folder / "a.jpg")
        (folder / "good.xml").write_text(VOC.format("good.jpg", "2", "3", "30", "40"))
        (folder / "a.xml").write_bytes(xml.encode() if isinstance(xml, str) else xml)
        return ["convert", "voc", str(folder)]

    return make


VOC = (
    "<annotation><filename>{}</filename><size><width>64</width><height>48</height></size><object><name>cat</name>"
    "<bndbox><xmin>{}</xmin><ymin>{}</ymin><xmax>{}</xmax><ymax>{}</ymax></bndbox></object></annotation>"
)
BOMB = '<!DOCTYPE a [<!ENTITY b "xxxxxxxxxx"><!ENTITY c "&b;&b;&b;&b;&b;">]><annotation>&c;</annotation>'


def _yolo(lines: str, names: str = "cat\ndog\n"):
    def make(folder: Path) -> list[str]:
        for name, text in (("good", "0 0.5 0.5 0.25 0.25\n"), ("a", lines)):
            picture(folder / "images" / f"{name}.jpg")
            (folder / "labels").mkdir(exist_ok=True)
            (folder / "labels" / f"{name}.txt").write_text(text)
        (folder / "classes.txt").write_text(names)
        return ["convert", "yolo", str(folder)]

    return make


OTHERS = [
    Case(
        "B02",
        "VOC corners swapped",
        _voc(VOC.format("a.jpg", 30, 3, 2, 40)),
        "repair",
        1,
        "read with its corners sorted",
    ),
    Case("B01", "VOC width 0", _voc(VOC.format("a.jpg", 30, 3, 30, 40)), "leave out"),
    Case("B06", "VOC nan", _voc(VOC.format("a.jpg", "nan", 3, 30, 40)), "leave out"),
    Case("B26", "VOC text", _voc(VOC.format("a.jpg", "x", 3, 30, 40)), "leave out"),
    Case("B20", "VOC cut off", _voc(VOC[:80]), "leave out"),
    Case("B20", "VOC empty", _voc(""), "leave out"),
    Case("B20", "VOC entities", _voc(BOMB), "leave out"),
    Case("B21", "other XML", _voc("<svg/>"), "note"),
    Case("B52", "VOC another size", _voc(VOC.format("a.jpg", 2, 3, 30, 40).replace("64", "65")), "leave out"),
    Case("B32", "VOC stale name", _voc(VOC.format("000012.xml", 2, 3, 30, 40)), "repair", 1),
    Case("B31", "VOC leads out", _voc(VOC.format("../../../etc/passwd", 2, 3, 30, 40)), "leave out"),
    Case("B01", "YOLO width 0", _yolo("0 .5 .5 0 .1"), "leave out"),
    Case("B06", "YOLO nan", _yolo("0 nan .5 .1 .1"), "leave out"),
    Case("B07", "YOLO in pixels", _yolo("0 32 24 20 20"), "leave out"),
    Case("B09", "YOLO 8 numbers", _yolo("0 .5 .5 .6 .6\n0 .1 .1 .2 .2 .3 .3 .4"), "leave out", 1),
    Case("B19", "YOLO outlines with a confidence", _yolo("0 .1 .1 .2 .2 .3 .3 .4"), "refuse", text="a detector"),
    Case("B19", "YOLO with a confidence", _yolo("0 .1 .1 .2 .2 .3"), "refuse", text="a detector"),
    Case("B19", "YOLO with a track", _yolo("0 .1 .1 .2 .2 .3 17"), "refuse", text="a track"),
    Case("B19", "DOTA", _yolo("10 10 30 10 30 20 10 20 ship 0"), "refuse", text="DOTA"),
    Case("B26", "YOLO text", _yolo("cat .5 .5 .1 .1"), "leave out"),
    Case("B26", "YOLO 3 numbers", _yolo("0 .5 .5"), "leave out"),
    Case("B35", "YOLO unknown class", _yolo("7 .5 .5 .1 .1"), "refuse", text="class 7"),
    Case("B05", "YOLO over the edge", _yolo("0 .95 .5 .2 .2"), "repair", 1),
    Case("B12", "YOLO twice", _yolo("0 .5 .5 .2 .2\n0 .5 .5 .2 .2"), "repair", 1),
    Case("B34", "YOLO empty", _yolo(""), "accept", 0),
]


def _turned(orientation: int, suffix: str):
    """An image that lies 48 x 64 in the file when its rotation swaps the sides, so that it is 64 x 48 upright."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    size = (H, W) if orientation in (5, 6, 7, 8) else (W, H)
    return with_image(lambda path: picture(path, size, exif=exif), f"a.{suffix}")


def _labelled_unturned(path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(path, (W, H), exif=exif)


def _bytes(data: bytes):
    return lambda path: path.write_bytes(data)


def _jpeg(path: Path) -> bytes:
    return picture(path).read_bytes()


def _cut(path: Path) -> None:
    path.write_bytes(_jpeg(path)[:30])


def _deep(mode: str, dtype, suffix: str = "png"):
    def write(path: Path) -> None:
        Image.fromarray((20 * np.arange(W * H)).reshape(H, W).astype(dtype)).save(path)

    return with_image(write, f"a.{suffix}")


def _frames(path: Path) -> None:
    frames = [Image.new("P", (W, H), k) for k in range(3)]
    frames[0].save(path, save_all=True, append_images=frames[1:])


def _huge(path: Path) -> None:
    path.write_bytes(
        b"BM"
        + (0).to_bytes(8, "little")
        + (54).to_bytes(4, "little")
        + (40).to_bytes(4, "little")
        + (20_000).to_bytes(4, "little") * 2
        + (1).to_bytes(2, "little")
        + (24).to_bytes(2, "little")
        + bytes(24)
    )


def _sized(width: int, height: int):
    def make(folder: Path) -> list[str]:
        good(folder)
        picture(folder / "a.jpg", (width, height))
        box = {**GOOD, "points": [[1, 1], [5, 5]]}
        (folder / "a.json").write_text(json.dumps(content([box], imageWidth=width, imageHeight=height)))
        return ["convert", "labelme", str(folder)]

    return make


IMAGES = [
    *(
        Case("B60", f"{suffix} {o}", _turned(o, suffix), "accept", 1)
        for suffix in ("jpg", "png", "tif", "webp")
        for o in range(1, 9)
    ),
    Case("B60", "labelled before rotation", with_image(_labelled_unturned), "repair", 1),
    Case("B61", "99", with_image(lambda p: picture(p, exif=_exif(99))), "accept", 1),
    Case("B61", "corrupt", with_image(lambda p: picture(p, exif=b"Exif\0\0II*\0\xff\xff\xff\xff")), "accept", 1),
    *(
        Case("B62", mode, with_image(lambda p, m=mode: picture(p, mode=m), name), "accept", 1)
        for mode, name in (
            ("L", "a.jpg"),
            ("CMYK", "a.jpg"),
            ("P", "a.png"),
            ("RGBA", "a.png"),
            ("LA", "a.png"),
            ("1", "a.png"),
            ("YCbCr", "a.jpg"),
        )
    ),
    Case("B62", "16 bits", _deep("I;16", np.uint16), "accept", 1),
    Case("B62", "float", _deep("F", np.float32, "tif"), "accept", 1),
    Case("B63", "frames", with_image(_frames, "a.gif"), "accept", 1),
    Case("B64", "HEIC", with_image(_bytes(b"\0\0\0\x18ftypheic" + bytes(40))), "leave out", text="HEIC"),
    Case("B64", "AVIF", with_image(_bytes(b"\0\0\0\x18ftypavif" + bytes(40))), "leave out", text="AVIF"),
    Case("B65", "empty", with_image(_bytes(b"")), "leave out", text="empty"),
    Case("B65", "zeros", with_image(_bytes(bytes(500))), "leave out", text="zero"),
    Case("B65", "web page", with_image(_bytes(b"<!DOCTYPE html><html>")), "leave out", text="HTML"),
    Case("B65", "header cut off", with_image(_cut), "leave out"),
    Case("B66", "20,000 x 20,000", with_image(_huge, "a.bmp"), "leave out", text="--max-pixels"),
    Case("B66", "limit lowered", with_image(picture, options=("--max-pixels", "100")), "refuse", text="limit of 100"),
    Case("B67", "EPS", with_image(_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 64 48\n")), "leave out"),
    Case("B67", "PDF", with_image(_bytes(b"%PDF-1.4\n")), "leave out"),
    Case("B67", "PSD", with_image(_bytes(b"8BPS\0\x01" + bytes(100))), "leave out"),
    Case("B68", "PNG named jpg", with_image(lambda p: picture(p, format="PNG")), "accept", 1),
    Case("B69", "1 x 1", _sized(1, 1), "leave out"),
    Case("B69", "15 high", _sized(64, 15), "leave out"),
    Case("B69", "16 x 1700", _sized(16, 1700), "note", 1),
]


def _exif(value: int) -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = value
    return exif


def _palette(path: Path) -> None:
    values = np.zeros((H, W), np.uint8)
    values[5:20, 5:20], values[30:40, 30:40] = 1, 15
    image = Image.fromarray(values)
    image.putpalette(list(np.random.default_rng(1).integers(0, 256, 768)))
    image.save(path)


def _smooth(path: Path) -> None:
    from PIL import ImageDraw

    large = Image.new("L", (W * 8, H * 8))
    ImageDraw.Draw(large).ellipse([60, 60, 330, 300], fill=255)
    large.resize((W, H), Image.Resampling.BILINEAR).save(path)


def _colours(path: Path, alpha: bool = False) -> None:
    values = np.zeros((H, W, 4 if alpha else 3), np.uint8)
    values[5:20, 5:20, :3] = (255, 0, 0)
    Image.fromarray(values).save(path)


def _color_masks(*options: str, alpha: bool = False):
    def make(folder: Path) -> list[str]:
        (folder.parent / "colors.txt").write_text("255 0 0 cat\n1 1 1 dog\n")
        argv = masks(lambda p: _colours(p, alpha), *options, mode="class")(folder)
        _colours(folder / "masks" / "good.png")
        return [a.replace("COLORS", str(folder.parent / "colors.txt")) for a in argv]

    return make


def _class_masks(save, *options: str):
    def make(folder: Path) -> list[str]:
        (folder.parent / "labels.txt").write_text("_background_\ncat\ndog\n")
        return [*masks(save, mode="class")(folder), "--labels", str(folder.parent / "labels.txt"), *options]

    return make


def _stray(path: Path) -> None:
    ids((1, slice(5, 9), slice(5, 9)))(path)
    ids((1, slice(5, 9), slice(5, 9)))(path.with_name("nobody.png"))


def _candidates(path: Path) -> None:
    ids((1, slice(5, 9), slice(5, 9)))(path)
    ids((1, slice(5, 9), slice(5, 9)))(path.with_name("a_mask.png"))


A, B = slice(5, 20), slice(30, 40)
MASKS = [
    Case("B80", "another size", masks(ids((1, A, A), size=(W + 1, H))), "leave out"),
    Case("B80", "before EXIF rotation", masks(ids((1, A, A)), images=_labelled_unturned), "repair", 1),
    Case("B81", "palette", masks(_palette), "accept", 2),
    Case("B82", "ids 300 and 65535", masks(ids((300, A, A), (65535, B, B), dtype=np.uint16)), "accept", 2),
    Case("B82", "id 70000", masks(ids((70000, A, A), dtype=np.int32), name="a.tif"), "refuse", text="70000"),
    Case("B83", "JPEG", masks(lambda p: ids((200, A, A))(p), name="a.jpg"), "refuse", text="JPEG"),
    Case("B83", "smoothed ids", masks(_smooth), "refuse", text="anti-aliasing"),
    Case("B83", "smoothed binary", masks(_smooth, mode="binary"), "note", 1),
    Case("B84", "0 and 255 as ids", masks(ids((255, A, A))), "refuse", text="--mode binary"),
    Case("B84", "ids as binary", masks(ids((1, A, A), (2, B, B)), mode="binary"), "refuse", text="not a binary mask"),
    Case("B84", "0 and 255", masks(ids((255, A, A)), mode="binary"), "accept", 1),
    Case("B84", "classes", _class_masks(ids((1, A, A), (2, B, B))), "accept", 2),
    Case("B84", "unknown class", _class_masks(ids((3, A, A))), "refuse", text="values 3"),
    Case("B84", "void", _class_masks(ids((1, A, A), (255, B, B)), "--void", "255"), "accept", 1),
    Case("B84", "class without names", masks(ids((1, A, A)), mode="class"), "refuse", text="--labels"),
    Case("B85", "one pixel", masks(ids((1, slice(5, 6), slice(7, 8)))), "accept", 1),
    Case("B85", "one column", masks(ids((1, slice(5, 25), slice(7, 8)))), "accept", 1),
    Case("B86", "no object", masks(ids()), "accept", 0),
    Case("B86", "no object, binary", masks(ids(), mode="binary"), "accept", 0),
    Case("B87", "colours", _color_masks("--colors", "COLORS"), "accept", 1),
    Case("B87", "colours unexplained", masks(_colours), "refuse", text="--colors"),
    Case("B87", "transparency", masks(lambda p: _colours(p, True)), "refuse", text="transparency"),
    Case("B88", "mask without image", masks(_stray), "leave out", 1),
    Case("B88", "two candidates", masks(_candidates), "refuse", text="a_mask.png"),
    Case("B88", "image without mask", masks(lambda p: None), "accept", 0),
    Case("B89", "scattered", masks(ids((1, A, A), (1, B, B))), "note", 1),
    Case("B89", "components", masks(ids((1, A, A), (1, B, B)), "--components"), "accept", 2),
    Case("B65", "mask damaged", masks(lambda p: p.write_bytes(b"\x89PNG\r\n\x1a\n")), "leave out"),
]
