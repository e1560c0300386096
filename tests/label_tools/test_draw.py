"""`draw`: colours, what is painted where, labels that stay inside, contact sheets, and the command."""

from __future__ import annotations

import json
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.__main__ import main
from label_tools.document import coco_file
from label_tools.operations.draw_sheets_and_overlays import choose
from label_tools.pictures.fonts import Letters, shorten
from label_tools.pictures.paint_objects import FILL, paint
from label_tools.pictures.palette import PAGE_COLOURS, class_colour, ink, rgb
from label_tools.readers.open_labels import Source, open_source
from label_tools.shapes import rle
from label_tools.text.errors import InputError

RED = {1: (255, 0, 0)}
NAMES = {1: "cat"}


def annotation(x: float, y: float, w: float, h: float, **more) -> dict:
    return {"id": 1, "image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "iscrowd": 0, "segmentation": [], **more}


def painted(annotations: list[dict], size: tuple[int, int] = (100, 80), scale: float = 1.0) -> np.ndarray:
    picture = paint(Image.new("RGB", size), annotations, NAMES, RED, scale=scale, labels=False)
    return np.asarray(picture).astype(int)


def lab(colour: tuple[int, int, int]) -> np.ndarray:
    """CIE L*a*b* of an sRGB colour."""
    c = np.array(colour) / 255
    c = np.where(c > 0.04045, ((c + 0.055) / 1.055) ** 2.4, c / 12.92)
    matrix = [[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]]
    x, y, z = (np.array(matrix) @ c) / [0.9505, 1.0, 1.089]
    f = [np.cbrt(v) if v > 0.008856 else 7.787 * v + 16 / 116 for v in (x, y, z)]
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def test_colours_differ_and_stay():
    colours = [class_colour(k) for k in range(1, 61)]
    assert len(set(colours)) == 60 and class_colour(0) == colours[0]
    distance = [[np.linalg.norm(lab(a) - lab(b)) for a in colours[:k]] for k, b in enumerate(colours)]
    # 2.3 is a just noticeable difference (CIE76)
    assert min(min(row) for row in distance[1:12]) > 20
    assert min(min(row) for row in distance[1:40]) > 4


def test_a_box_is_outlined_and_its_inside_still_seen():
    pixels = painted([annotation(20, 10, 40, 50)])
    red = pixels[..., 0]
    assert red[10, 40] > 150 and red[59, 40] > 150 and red[30, 20] > 150 and red[30, 59] > 150
    assert 0 < red[30, 40] < 60  # a hint of colour
    assert pixels[:4].sum() == 0 and pixels[:, 70:].sum() == 0  # nothing elsewhere


def test_a_mask_is_filled_where_it_is():
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[20:60, 20:80] = 1
    mask[30:50, 40:60] = 0  # a hole
    segmentation = rle.to_rle(rle.encode(mask), 80, 100)
    red = painted([annotation(20, 20, 60, 40, segmentation=segmentation)])[..., 0]
    inside = round(255 * FILL)
    assert red[25, 30] == pytest.approx(inside, abs=2) and red[40, 70] == pytest.approx(inside, abs=2)
    assert red[40, 50] == 0  # the hole
    assert red[20, 50] > 150 and red[30, 50] > 150  # outlines outside and inside


def test_polygons_and_masks_of_one_shape_are_painted_alike():
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[20:60, 20:80] = 1
    by_mask = painted([annotation(20, 20, 60, 40, segmentation=rle.to_rle(rle.encode(mask), 80, 100))])
    # five points, so that it is not taken for a mere box
    flat = [20, 20, 50, 20, 80, 20, 80, 60, 20, 60]
    by_polygon = painted([annotation(20, 20, 60, 40, segmentation=[flat])])
    assert np.abs(by_mask - by_polygon)[24:56, 24:76].max() <= 2
    assert np.mean(np.abs(by_mask - by_polygon) > 60) < 0.03  # edges may be half a pixel apart


def test_a_polygon_covers_its_pixels_and_no_more():
    from label_tools.pictures.paint_objects import _mask

    # 60 x 40 pixels from (20, 20), on a canvas of twice the size: 120 x 80 of them from (40, 40)
    flat = [20, 20, 50, 20, 80, 20, 80, 60, 20, 60]
    mask = np.asarray(_mask(annotation(20, 20, 60, 40, segmentation=[flat]), (200, 160), (0, 0, 2, 2)))
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (40, 119, 40, 159)
    assert len(rows) == 120 * 80


def test_small_objects_lie_on_top_of_large_ones():
    outline = [[10, 10, 50, 10, 90, 10, 90, 70, 10, 70]]  # filled, and would dim what lies under it
    small, large = annotation(40, 30, 12, 12, category_id=2), annotation(10, 10, 80, 60, segmentation=outline)
    colours = {1: (255, 0, 0), 2: (0, 0, 255)}
    for order in ([large, small], [small, large]):
        picture = paint(Image.new("RGB", (100, 80)), order, {1: "a", 2: "b"}, colours, labels=False)
        assert picture.getpixel((40, 36))[2] > 240


def test_scale_moves_coordinates_but_not_the_pen():
    full, half = painted([annotation(20, 20, 60, 40)]), painted([annotation(20, 20, 60, 40)], scale=0.5)
    assert half.shape == (40, 50, 3)
    assert half[10, 25, 0] > 150 and half[29, 25, 0] > 150  # the edges at half the place
    thick = [int((p[:, p.shape[1] // 2, 0] > 120)[: p.shape[0] // 2].sum()) for p in (full, half)]
    assert thick[0] == pytest.approx(thick[1], abs=1)


@pytest.mark.parametrize("box", [(-5, -5, 20, 20), (95, 70, 30, 30), (0, 0, 100, 80), (99, 79, 1, 1), (300, 300, 5, 5)])
def test_objects_at_and_over_the_edge(box):
    assert painted([annotation(*box)]).shape == (80, 100, 3)
    mask = np.zeros((80, 100), dtype=np.uint8)
    mask[-1, -1] = mask[0, 0] = 1
    painted([annotation(0, 0, 100, 80, segmentation=rle.to_rle(rle.encode(mask), 80, 100))])


def test_a_box_around_the_whole_picture_can_be_seen():
    red = painted([annotation(0, 0, 100, 80)])[..., 0]
    assert min(red[0, 50], red[79, 50], red[40, 0], red[40, 99]) > 120


@pytest.mark.parametrize("reach", [-3, -1, 1, 2])
def test_spread_against_a_rank_filter(reach):
    from PIL import ImageFilter

    from label_tools.pictures.paint_objects import _spread

    pixels = np.zeros((40, 60), dtype=np.uint8)
    pixels[8:32, 8:52] = np.random.default_rng(0).integers(0, 2, (24, 44)) * 255
    kind = ImageFilter.MaxFilter if reach > 0 else ImageFilter.MinFilter
    expected = np.asarray(Image.fromarray(pixels).filter(kind(2 * abs(reach) + 1)))
    assert (_spread(pixels, reach) == expected).all()
    assert _spread(np.full((5, 5), 255, dtype=np.uint8), -2).tolist() == [
        [0] * 5,
        [0] * 5,
        [0, 0, 255, 0, 0],
        [0] * 5,
        [0] * 5,
    ]


def test_crowds_are_grey_and_ignore_regions_painted_once():
    region = annotation(20, 20, 40, 40, iscrowd=1, label="__ignore__")
    once = painted([region])
    assert once[20, 40, 0] == once[20, 40, 1] == once[20, 40, 2] > 100
    assert (painted([region, {**region, "id": 2, "category_id": 2}]) == once).all()


def label_boxes(picture: Image.Image, bare: Image.Image) -> tuple[int, int, int, int] | None:
    from PIL import ImageChops

    return ImageChops.difference(picture, bare).getbbox()


@pytest.mark.parametrize(
    "box", [(0, 0, 30, 30), (180, 0, 20, 20), (0, 130, 20, 20), (150, 130, 50, 20), (90, 70, 9, 9)]
)
def test_labels_stay_inside_the_picture(box):
    image = Image.new("RGB", (200, 150))
    bare = paint(image, [annotation(*box)], NAMES, RED, labels=False)
    with_label = paint(image, [annotation(*box)], NAMES, RED)
    area = label_boxes(with_label, bare)
    assert area is not None and area[2] - area[0] > 20 and area[3] - area[1] > 10


def test_labels_cover_neither_each_other_nor_an_object():
    """Six objects in one place: each label is inside the picture, free of the others, and takes at most 12 % of one."""
    from label_tools.pictures.name_tags import free_place

    taken, objects = np.empty((0, 4)), np.array([[50.0, 60, 90, 100]] * 6)
    for _ in range(6):
        x, y = free_place((50, 60, 90, 100), (30, 12), (300, 200), taken, objects)
        assert 0 <= x <= 270 and 0 <= y <= 188
        assert all(x >= c or x + 30 <= a or y >= d or y + 12 <= b for a, b, c, d in taken)
        covered = max(0, min(x + 30, 90) - max(x, 50)) * max(0, min(y + 12, 100) - max(y, 60)) / (40 * 40)
        assert covered <= 0.12
        taken = np.vstack([taken, (x, y, x + 30, y + 12)])
    # a picture full of one object of 40 x 40: a chip of 30 x 12 would take 22 % of it
    assert free_place((0, 0, 40, 40), (30, 12), (40, 40), np.empty((0, 4)), np.array([[0.0, 0, 40, 40]])) is None


def test_a_crowd_has_a_legend_instead_of_labels():
    """100 boxes of 10 pixels side by side leave no room for names: no chip, but a strip below that names the colour."""
    crowd = [annotation(20 + 10 * (k % 10), 20 + 10 * (k // 10), 10, 10, id=k) for k in range(100)]
    image = Image.new("RGB", (140, 140))
    picture = paint(image, crowd, NAMES, RED)
    assert picture.width == 140 and 150 < picture.height < 180
    bare = paint(image, crowd, NAMES, RED, labels=False)
    inside = (30, 30, 110, 110)
    assert label_boxes(picture.crop(inside), bare.crop(inside)) is None
    assert paint(image, crowd, NAMES, RED, legend=False).size == (140, 140)


def test_a_score_is_written_and_is_what_is_left_in_a_crowd():
    one = paint(Image.new("RGB", (200, 150)), [annotation(50, 50, 60, 60, score=0.98)], {1: "wheel"}, RED)
    plain = paint(Image.new("RGB", (200, 150)), [annotation(50, 50, 60, 60)], {1: "wheel"}, RED)
    assert label_boxes(one, plain) is not None


def test_the_first_colours_differ_for_every_kind_of_colour_blindness():
    """At least 15 CIELAB units apart, seen with Machado, Oliveira and Fernandes' (2009) matrices of full severity."""
    kinds = {
        "protanopia": [
            [0.152286, 1.052583, -0.204868],
            [0.114503, 0.786281, 0.099216],
            [-0.003882, -0.048116, 1.051998],
        ],
        "deuteranopia": [
            [0.367322, 0.860646, -0.227968],
            [0.280085, 0.672501, 0.047413],
            [-0.01182, 0.04294, 0.968881],
        ],
        "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    }
    for matrix in kinds.values():
        seen = []
        for colour in PAGE_COLOURS:
            linear = np.array(
                [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in np.array(rgb(colour)) / 255]
            )
            mixed = np.clip(np.array(matrix) @ linear, 0, 1)
            seen.append(lab(255 * np.where(mixed <= 0.0031308, 12.92 * mixed, 1.055 * mixed ** (1 / 2.4) - 0.055)))
        assert min(np.linalg.norm(a - b) for k, a in enumerate(seen) for b in seen[:k]) > 15


def test_text():
    letters = Letters(14)
    long = "a_very_long_class_name_that_no_box_can_hold" * 5
    short = shorten(long, letters, 120)
    assert letters.getlength(short) <= 120 and "…" in short and short[0] == long[0] and short[-1] == long[-1]
    assert shorten("cat", letters, 120) == "cat"
    assert shorten("a\x1b[31m\n", letters, 120) == "a?[31m?"
    assert ink((255, 255, 0)) == (0, 0, 0) and ink((0, 0, 120)) == (255, 255, 255)
    for name in ("Žluťoučký", "кошка", "γάτα", "猫", "\u202egnp"):
        paint(Image.new("RGB", (60, 60)), [annotation(5, 5, 30, 30)], {1: name}, RED)


# --- the command -----------------------------------------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five pictures of different shape; 2/deep.png in a folder of its own; the last one without objects."""
    files = ["a.jpg", "b.png", "2/deep.png", "wide.png", "none.png"]
    sizes = [(120, 80), (80, 120), (64, 64), (400, 40), (50, 50)]
    (tmp_path / "images" / "2").mkdir(parents=True)
    for file, size in zip(files, sizes):
        Image.effect_noise(size, 60).convert("RGB").save(tmp_path / "images" / file)
    annotations = [
        {"id": k, "image_id": k, "category_id": 1 + k % 2, "bbox": [5, 5, 30, 20], "area": 600, "iscrowd": 0}
        for k in range(1, 5)
    ]
    images = [{"id": k, "file_name": f, "width": s[0], "height": s[1]} for k, (f, s) in enumerate(zip(files, sizes), 1)]
    document = {"info": {"image_root": "images"}, "images": images, "annotations": annotations}
    coco_file.write(
        {**document, "categories": [{"id": 1, "name": "nut"}, {"id": 2, "name": "bolt"}]}, tmp_path / "a.json"
    )
    return tmp_path


def size(path: Path) -> tuple[int, int]:
    return Image.open(BytesIO(path.read_bytes())).size


def test_sheets_and_overlays(folder, capsys):
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out"), "--columns", "2", "--rows", "2"]) == 0
    made = sorted(p.relative_to(folder / "out").as_posix() for p in (folder / "out").rglob("*.jpg"))
    assert made == [
        "contact_sheet_1.jpg",
        "contact_sheet_2.jpg",
        "overlays/2/deep.png.jpg",
        "overlays/a.jpg",
        "overlays/b.png.jpg",
        "overlays/none.png.jpg",
        "overlays/wide.png.jpg",
    ]
    # small pictures are enlarged to 640, so that lines and names can be read
    assert size(folder / "out" / "overlays" / "b.png.jpg") == (427, 640)
    out = capsys.readouterr().out
    assert "contact_sheet_2.jpg" in out and "overlays: 5 pictures" in out
    # two columns of 320, a gap and two margins
    assert size(folder / "out" / "contact_sheet_1.jpg")[0] == 2 * 320 + 8 + 2 * 16


def test_same_input_same_bytes(folder):
    for out in ("one", "two"):
        assert main(["draw", str(folder / "a.json"), "--out", str(folder / out)]) == 0
    names = [p.relative_to(folder / "one") for p in (folder / "one").rglob("*.jpg")]
    assert len(names) == 6
    for name in names:
        assert (folder / "one" / name).read_bytes() == (folder / "two" / name).read_bytes()


def test_straight_from_labelme(tmp_path):
    Image.effect_noise((120, 80), 60).convert("RGB").save(tmp_path / "x.jpg")
    shape = {
        "label": "cat",
        "points": [[10, 10], [60, 15], [40, 70]],
        "shape_type": "polygon",
        "group_id": None,
        "flags": {},
    }
    content = {
        "version": "5.5.0",
        "flags": {"reviewed": False},
        "shapes": [shape],
        "imagePath": "x.jpg",
        "imageData": None,
        "imageHeight": 80,
        "imageWidth": 120,
    }
    (tmp_path / "x.json").write_text(json.dumps(content))
    # what a model labelled and nobody has reviewed is there to be looked at
    assert main(["draw", str(tmp_path), "--out", str(tmp_path / "out")]) == 0
    assert size(tmp_path / "out" / "overlays" / "x.jpg") == (640, 427)


def test_choosing(folder):
    source = open_source(folder / "a.json")
    every = [p.file_name for p in choose(source, None, 0, None)]
    assert every == ["2/deep.png", "a.jpg", "b.png", "none.png", "wide.png"]
    assert [p.file_name for p in choose(source, None, 0, ["bolt"])] == ["2/deep.png", "a.jpg"]
    some = [p.file_name for p in choose(source, 2, 0, None)]
    assert len(some) == 2 and some == sorted(some) and some == [p.file_name for p in choose(source, 2, 0, None)]
    assert len({tuple(p.file_name for p in choose(source, 2, seed, None)) for seed in range(10)}) > 1
    with pytest.raises(InputError, match=r"no class of a\.json; it has nut, bolt"):
        choose(source, None, 0, ["cat"])
    with pytest.raises(InputError, match="no image to draw"):
        choose(Source("empty", {"images": [], "annotations": [], "categories": []}, folder), None, 0, None)


def test_a_picture_that_cannot_be_opened_is_said_and_the_rest_drawn(folder, capsys):
    (folder / "images" / "b.png").write_bytes(b"broken")
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out")]) == 1
    error = capsys.readouterr().err
    assert error.count("b.png") == 1
    assert len(list((folder / "out" / "overlays").rglob("*.jpg"))) == 4


def test_when_no_picture_is_there_nothing_is_drawn(folder, capsys):
    (folder / "images").rename(folder / "elsewhere")
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out")]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "none of the 5 images is there" in error and "--image-root DIR" in error
    assert not (folder / "out").exists()
    where = ["--image-root", str(folder / "elsewhere")]
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out"), *where, "--sheet-only"]) == 0


def test_many_pictures_that_cannot_be_opened_are_not_a_page_each(folder, capsys):
    document = coco_file.read(folder / "a.json")
    more = [{"id": 100 + k, "file_name": f"gone{k}.jpg", "width": 9, "height": 9} for k in range(30)]
    coco_file.write({**document, "images": document["images"] + more}, folder / "a.json")
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out"), "--sheet-only"]) == 1
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 21 and lines[-1] == "warning: ... and 10 more pictures that cannot be opened"


def test_the_images_themselves_are_never_overwritten(folder):
    original = (folder / "images" / "a.jpg").read_bytes()
    (folder / "images").rename(folder / "overlays")
    document = coco_file.read(folder / "a.json")
    coco_file.write({**document, "info": {"image_root": "overlays"}}, folder / "a.json")
    assert main(["draw", str(folder / "a.json"), "--out", str(folder)]) == 2
    assert (folder / "overlays" / "a.jpg").read_bytes() == original


@pytest.mark.parametrize("arguments", [["--columns", "0"], ["--tile", "5"], ["--sample", "0"], ["--rows", "99"]])
def test_numbers_out_of_range(folder, arguments, capsys):
    assert main(["draw", str(folder / "a.json"), "--out", str(folder / "out"), *arguments]) == 2
    assert "a number from" in capsys.readouterr().err and not (folder / "out").exists()
