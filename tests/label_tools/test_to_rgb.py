"""Depths, values without data, bands, and files that are not read: scaled right, or said."""

from __future__ import annotations

import json
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.pictures.open_image import ImageError, image_info, open_image
from label_tools.pictures.unread_files import HAS_HEIC, not_read
from label_tools.rules.image_files import ImageRules
from label_tools.text.errors import InputError


def tiff(path: Path, pixels: np.ndarray, **tags) -> Path:
    Image.fromarray(pixels).save(path, tiffinfo={int(k[1:]): v for k, v in tags.items()})
    return path


def raw_tiff(path: Path, bands: int, planar: int = 1) -> Path:
    """A TIFF of 4 x 2 pixels with `bands` bands of 16 bits, written by hand: Pillow writes at most four, and no
    planes (planar 2)."""
    data = np.arange(8 * bands, dtype="<u2").tobytes()
    bits_at = 8 + 2 + 12 * 10 + 4
    values = [(256, 3, 1, 4), (257, 3, 1, 2), (258, 3, bands, bits_at), (259, 3, 1, 1), (262, 3, 1, planar)]
    values += [(273, 4, 1, bits_at + 2 * bands), (277, 3, 1, bands), (278, 3, 1, 2), (279, 4, 1, len(data))]
    values += [(284, 3, 1, planar)]
    entries = b"".join(struct.pack("<HHII", *value) for value in values)
    bits = struct.pack(f"<{bands}H", *[16] * bands)
    path.write_bytes(b"II*\0" + struct.pack("<IH", 8, 10) + entries + struct.pack("<I", 0) + bits + data)
    return path


def grey(path: Path) -> np.ndarray:
    return np.asarray(open_image(path))[..., 0]


def test_a_tiff_that_states_its_highest_value_is_scaled_by_it(tmp_path):
    """12 bits in 16: 4095 becomes 255 and 2048 becomes 2048 * 255 / 4095 = 127.5, by hand rounded to even: 128."""
    pixels = np.array([[0, 2048, 4095, 819]], dtype=np.uint16)
    assert grey(tiff(tmp_path / "a.tif", pixels, t281=4095)).tolist() == [[0, 128, 255, 51]]
    # without the tag 65535 is white: 4095 / 257 = 15.9
    assert grey(tiff(tmp_path / "b.tif", pixels)).tolist() == [[0, 8, 16, 3]]


def test_a_png_that_states_its_bits_is_scaled_by_them(tmp_path):
    """12 bits in 16, by the chunk sBIT, which stands behind IHDR: 33 bytes from the start; grey and colours."""
    pixels = np.array([[0, 2048, 4095, 819]] * 2, dtype=np.uint16)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    assert grey(tmp_path / "a.png")[0].tolist() == [0, 8, 16, 3]
    data = (tmp_path / "a.png").read_bytes()
    (tmp_path / "a.png").write_bytes(data[:33] + chunk(b"sBIT", b"\x0c") + data[33:])
    assert grey(tmp_path / "a.png")[0].tolist() == [0, 128, 255, 51]
    rows = b"".join(b"\0" + np.repeat(row[:, None], 3, 1).astype(">u2").tobytes() for row in pixels)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 4, 2, 16, 2, 0, 0, 0)) + chunk(b"sBIT", b"\x0c\x0c\x0c")
    end = chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
    (tmp_path / "b.png").write_bytes(data[:8] + header + end)
    assert grey(tmp_path / "b.png")[0].tolist() == [0, 128, 255, 51]
    assert np.asarray(open_image(tmp_path / "b.png", max_value=32767))[0, :, 2].tolist() == [0, 16, 32, 6]


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_bands_one_after_another_are_refused_with_the_way_out(tmp_path):
    """Pillow reads the 16 bits of such a file as two pixels of 8 bits, without a word."""
    with pytest.raises(ImageError, match="INTERLEAVE=PIXEL"):
        open_image(raw_tiff(tmp_path / "a.tif", 3, planar=2))


@pytest.mark.parametrize("nothing, tags", [(-9999.0, {}), (-9999.0, {"t42113": "-9999"}), (np.nan, {})])
def test_pixels_without_data_are_black_and_do_not_squeeze_the_others(tmp_path, nothing, tags):
    """Temperatures 20 to 36 and -9999 or no number: 20 is black, 36 white, 28 half of it."""
    pixels = np.array([[20.0, 28.0, 36.0, nothing]], dtype=np.float32)
    assert grey(tiff(tmp_path / "a.tif", pixels, **tags)).tolist() == [[0, 128, 255, 0]]


def test_a_value_of_its_own_stands_for_no_data_only_where_it_is_said(tmp_path):
    pixels = np.array([[1.0, 5.0, 9.0, 0.0]], dtype=np.float32)
    assert grey(tiff(tmp_path / "a.tif", pixels)).tolist() == [[28, 142, 255, 0]]  # 255 / 9 = 28.3
    assert grey(tiff(tmp_path / "b.tif", pixels, t42113="0")).tolist() == [[0, 128, 255, 0]]
    near = np.array([[-9999.0, -9000.0, 0.0, 9000.0]], dtype=np.float32)  # -9999 among others like it is a value
    assert grey(tiff(tmp_path / "c.tif", near)).tolist() == [[0, 13, 134, 255]]  # 9999 * 255 / 18999 = 134.2


def test_a_dark_deep_picture_is_a_warning_and_a_bright_one_a_note(tmp_path):
    tiff(tmp_path / "dark.tif", np.full((40, 60), 3000, np.uint16))
    tiff(tmp_path / "bright.tif", np.full((40, 60), 60000, np.uint16))
    rules = ImageRules(tmp_path, "a.json")
    for k, name in enumerate(("dark.tif", "bright.tif"), start=1):
        rules.check({"id": k, "file_name": name, "width": 60, "height": 40})
    said = [(f.level, f.place.split('"')[1], f.text[:12]) for f in rules.findings]
    assert said == [
        ("warning", "dark.tif", "nearly black"),
        ("note", "dark.tif", "16 bits a ch"),
        ("note", "bright.tif", "16 bits a ch"),
    ]


def test_colours_of_16_bits_are_seen_in_a_png_and_a_tiff(tmp_path):
    cv2 = pytest.importorskip("cv2")  # Pillow writes none
    pixels = np.full((40, 60, 3), 700, np.uint16)
    for name in ("a.png", "a.tif"):
        assert cv2.imwrite(str(tmp_path / name), pixels)
        assert image_info(tmp_path / name).bits == 16
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "b.png")
    assert image_info(tmp_path / "b.png").bits == 8


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
@pytest.mark.parametrize("bands", [3, 4])
def test_colours_of_12_bits_are_scaled_by_what_is_said_to_be_white(tmp_path, name, bands):
    """4095 becomes 255, 2048 becomes 127.5 and 819 becomes 51; without it /256 leaves 15, 8 and 3."""
    cv2 = pytest.importorskip("cv2")  # Pillow writes none
    pixels = np.zeros((1, 2, bands), np.uint16)
    pixels[0, 0, :3], pixels[0, 1, :3] = (819, 2048, 4095), 5000  # blue, green, red; more than white stays white
    assert cv2.imwrite(str(tmp_path / name), pixels)
    scaled = np.asarray(open_image(tmp_path / name, max_value=4095)).tolist()
    assert scaled == [[[255, 128, 51], [255, 255, 255]]]
    assert np.asarray(open_image(tmp_path / name)).tolist()[0][0] == [15, 8, 3]


def test_grey_is_scaled_by_what_is_said_to_be_white(tmp_path):
    """Of 16 bits by 4095; float from 0 to 40: 20 is half of it, below 0 and without data black. 8 bits stay."""
    deep = tiff(tmp_path / "a.tif", np.array([[0, 819, 4095, 9000]], dtype=np.uint16))
    assert np.asarray(open_image(deep, max_value=4095))[..., 0].tolist() == [[0, 51, 255, 255]]
    real = tiff(tmp_path / "b.tif", np.array([[20.0, 40.0, -3.0, -9999.0]], dtype=np.float32), t42113="-9999")
    assert np.asarray(open_image(real, max_value=40))[..., 0].tolist() == [[128, 255, 0, 0]]
    Image.fromarray(np.full((4, 4, 3), 200, np.uint8)).save(tmp_path / "c.png")
    assert np.asarray(open_image(tmp_path / "c.png", max_value=4095)).max() == 200


def test_convert_says_what_is_black_and_what_it_wrote_is_read_so_everywhere(tmp_path, capsys):
    """The file holds --max-value 4095: `check` is silent, a training's pixels are 3000 * 255 / 4095 = 187."""
    from label_tools.__main__ import main
    from toolkit.data.coco_index import read_index
    from toolkit.data.dataset import DetectionDataset

    Image.fromarray(np.full((40, 60), 3000, np.uint16)).save(tmp_path / "a.png")
    objects = [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [5, 5, 20, 20], "area": 400, "iscrowd": 0}]
    images = [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}]
    document = {"images": images, "annotations": objects, "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "in.json").write_text(json.dumps(document))
    words = ["convert", "coco", str(tmp_path / "in.json")]
    assert main([*words, "--out", str(tmp_path / "dark.json")]) == 0
    assert "a.png: nearly black" in capsys.readouterr().err
    assert main([*words, "--out", str(tmp_path / "out.json"), "--max-value", "4095"]) == 0
    assert "black" not in capsys.readouterr().err
    assert main(["check", str(tmp_path / "out.json")]) == 0
    assert "scaled to 8, 4095 as white" in (said := capsys.readouterr().out) and "black" not in said
    index = read_index(tmp_path / "out.json")
    assert (DetectionDataset(index).pixels(0) == 187).all()
    assert index.fingerprint != read_index(tmp_path / "dark.json").fingerprint
    assert main([words[0], words[1], str(tmp_path / "out.json"), "--out", str(tmp_path / "again.json")]) == 0
    assert json.loads((tmp_path / "again.json").read_text())["info"]["max_value"] == 4095


def test_a_raised_limit_is_written_from_python_too(tmp_path):
    from label_tools.readers.convert import convert

    Image.new("RGB", (60, 40)).save(tmp_path / "a.png")
    document = {"images": [{"id": 1, "file_name": "a.png", "width": 60, "height": 40}], "annotations": []}
    document |= {"categories": [{"id": 1, "name": "cat"}], "info": {"max_pixels": 300_000_000}}
    (tmp_path / "a.json").write_text(json.dumps(document))
    for given, written in ((200_000_000, 300_000_000), (400_000_000, 400_000_000)):
        made = convert(tmp_path / "a.json", "coco", max_pixels=given).document(tmp_path / "out.json")
        assert made["info"] == {"image_root": ".", "max_pixels": written}


def test_a_picture_over_the_limit_is_refused_before_training_and_allowed_where_convert_was_told(tmp_path):
    from toolkit.data.coco_index import read_index

    images = [{"id": 1, "file_name": "a.png", "width": 12_000, "height": 9_000}]
    document = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "cat"}]}
    (tmp_path / "a.json").write_text(json.dumps(document))
    (tmp_path / "a.png").write_bytes(b"never opened")
    with pytest.raises(
        InputError,
        match=r"a.png: 12000 x 9000 pixels, more than the limit of 100000000; a higher --max-pixels raises it",
    ):
        read_index(tmp_path / "a.json")
    (tmp_path / "a.json").write_text(json.dumps({**document, "info": {"max_pixels": 108_000_000}}))
    assert read_index(tmp_path / "a.json").opening == {"max_pixels": 108_000_000}
    (tmp_path / "a.json").write_text(json.dumps({**document, "info": {"max_value": "white"}}))
    with pytest.raises(InputError, match=r"info.max_value: found 'white', needs a number"):
        read_index(tmp_path / "a.json")


def test_too_many_bands_are_counted_and_the_way_out_is_said(tmp_path):
    with pytest.raises(ImageError, match=r"a TIFF of 6 bands of 16 bits.*gdal_translate -b 1") as caught:
        open_image(raw_tiff(tmp_path / "a.tif", 6))
    assert caught.value.code == "B62"
    (tmp_path / "b.tif").write_bytes((tmp_path / "a.tif").read_bytes()[:20])
    with pytest.raises(ImageError, match=r"damaged|no readable"):
        open_image(tmp_path / "b.tif")


def test_what_lies_beside_photographs_and_is_not_read():
    said = not_read(["a.jpg", "IMG_1.HEIC", "IMG_2.heic", "clip.MP4", "x.nef", "notes.txt"])
    counts = "1 MP4, 1 raw" if HAS_HEIC else "2 HEIC, 1 MP4, 1 raw"
    assert said.startswith(f"not read: {counts}; ") and "frcnn frames" in said
    assert not_read(["a.jpg", "b.png"]) == ""


@pytest.mark.skipif(not HAS_HEIC, reason="needs pillow-heif (the extra [heic])")
def test_heic_is_read_where_its_reader_is_installed(tmp_path):
    pixels = np.zeros((40, 60, 3), np.uint8)
    pixels[:10, :20] = (255, 0, 0)
    Image.fromarray(pixels).save(tmp_path / "a.heic", quality=95)
    picture = open_image(tmp_path / "a.heic")
    assert picture.size == (60, 40) and picture.getpixel((5, 5))[0] > 240
