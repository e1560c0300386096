"""label_tools.pictures.open_image: rotation, formats, modes, limits, damage; the header and the pixels must agree."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.pictures.open_image import ImageError, image_info, image_size, open_image, open_mask
from label_tools.text.errors import InputError

UPRIGHT = np.zeros((40, 60, 3), np.uint8)  # height 40, width 60; a mark in each corner tells the rotations apart
UPRIGHT[:10, :20] = (255, 0, 0)
UPRIGHT[:10, 40:] = (0, 255, 0)
UPRIGHT[30:, :20] = (0, 0, 255)
# how the pixels of an upright picture lie in a file with orientation 1 to 8 (EXIF 2.3, table 6)
STORED = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, 1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}


def exif(orientation: int) -> Image.Exif:
    block = Image.Exif()
    block[0x0112] = orientation
    return block


def save(path: Path, array: np.ndarray, **options) -> Path:
    Image.fromarray(np.ascontiguousarray(array)).save(path, **options)
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "webp", "jpg"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_all_eight_rotations_give_the_upright_picture(tmp_path, orientation, suffix):
    options = {"png": {}, "tif": {}, "webp": {"lossless": True}, "jpg": {"quality": 95, "subsampling": 0}}[suffix]
    path = save(tmp_path / f"a.{suffix}", STORED[orientation](UPRIGHT), exif=exif(orientation), **options)
    picture = open_image(path)
    assert picture.mode == "RGB" and picture.size == (60, 40) == image_size(path)
    assert np.abs(np.asarray(picture).astype(int) - UPRIGHT).mean() < (3 if suffix == "jpg" else 1e-9)
    assert (open_mask(path)[0][2, 2] > 200).tolist() == [True, False, False]
    info = image_info(path)
    assert info.orientation == orientation
    assert info.stored_size == ((40, 60) if orientation >= 5 else (60, 40))


def test_a_png_that_names_its_rotation_behind_the_pixels(tmp_path):
    path = save(tmp_path / "a.png", STORED[6](UPRIGHT))
    data = path.read_bytes()
    block = exif(6).tobytes().removeprefix(b"Exif\0\0")
    chunk = struct.pack(">I4s", len(block), b"eXIf") + block + struct.pack(">I", zlib.crc32(b"eXIf" + block))
    path.write_bytes(data[:-12] + chunk + data[-12:])  # 12: the IEND chunk
    assert image_size(path) == (60, 40) == open_image(path).size


@pytest.mark.parametrize("value", [0, 9, 99, 65535])
def test_an_orientation_that_is_none(tmp_path, value):
    path = save(tmp_path / "a.jpg", UPRIGHT, exif=exif(value))
    assert image_size(path) == (60, 40) == open_image(path).size


def test_a_corrupt_exif_block(tmp_path):
    for number, block in enumerate(
        (b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0junk", b"Exif\0\0", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff")
    ):
        path = save(tmp_path / f"{number}.jpg", UPRIGHT, exif=block)
        assert image_size(path) == (60, 40) == open_image(path).size


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "I;16", "I", "F"])
def test_every_mode_becomes_rgb(tmp_path, mode):
    suffix = {"CMYK": "jpg", "YCbCr": "jpg", "F": "tif", "I": "tif"}.get(mode, "png")
    path = tmp_path / f"a.{suffix}"
    if mode in ("I;16", "I", "F"):
        save(
            path,
            np.linspace(0, 65535, 2400)
            .reshape(40, 60)
            .astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]),
        )
        darkest, brightest = np.asarray(open_image(path))[[0, -1], [0, -1], 0]
        assert (darkest, brightest) == (0, 255)  # 65535 / 257 = 255
    else:
        Image.fromarray(UPRIGHT).convert(mode).save(path)
    picture = open_image(path)
    assert picture.mode == "RGB" and picture.size == (60, 40)


def test_transparency_is_dropped_not_blended(tmp_path):
    values = np.dstack([UPRIGHT, np.zeros((40, 60), np.uint8)])
    assert (np.asarray(open_image(save(tmp_path / "a.png", values))) == UPRIGHT).all()


def test_pixels_of_a_mask_are_raw(tmp_path):
    ids = np.zeros((40, 60), np.uint16)
    ids[3, 4], ids[5, 6] = 300, 65535
    assert (open_mask(save(tmp_path / "a.png", ids))[0] == ids).all()
    palette = Image.fromarray(ids.clip(0, 15).astype(np.uint8))
    palette.putpalette(list(range(255, 255 - 48, -1)))
    palette.save(tmp_path / "p.png")
    assert (open_mask(tmp_path / "p.png")[0] == ids.clip(0, 15)).all()


def test_the_first_of_several_frames(tmp_path):
    frames = [Image.new("L", (60, 40), 80 * k) for k in (1, 2)]
    frames[0].save(tmp_path / "a.gif", save_all=True, append_images=frames[1:])
    assert image_info(tmp_path / "a.gif", frames=True).frames == 2
    assert np.asarray(open_image(tmp_path / "a.gif"))[0, 0].tolist() == [80, 80, 80]


@pytest.mark.parametrize("keep", [0.3, 0.6, 0.9])
@pytest.mark.parametrize("suffix", ["jpg", "png", "bmp", "webp", "tif"])
def test_a_cut_off_file_is_refused_and_left_alone(tmp_path, keep, suffix):
    noise = np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)
    path = save(tmp_path / f"a.{suffix}", noise)
    cut = path.read_bytes()[: int(keep * path.stat().st_size)]
    path.write_bytes(cut)
    with pytest.raises(ImageError, match=f"a.{suffix}"):
        open_image(path)
    assert path.read_bytes() == cut


def test_limits_hold_before_decoding(tmp_path):
    path = save(tmp_path / "a.png", UPRIGHT)
    for read in (image_size, open_image, open_mask):
        assert read(path, max_pixels=2400) is not None  # 60 * 40
        with pytest.raises(ImageError, match="limit of 2399") as error:
            read(path, max_pixels=2399)
        assert error.value.code == "B66"


def test_more_than_pillow_allows_if_the_caller_does(tmp_path, monkeypatch):
    path = save(tmp_path / "a.png", UPRIGHT)
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)  # Pillow stops beyond twice that
    assert open_image(path, max_pixels=3000).size == (60, 40)
    assert Image.MAX_IMAGE_PIXELS == 1000


@pytest.mark.parametrize(
    "data, code",
    [
        (b"", "B65"),
        (bytes(64), "B65"),
        (b"<html>", "B65"),
        (b"%PDF-1.4", "B67"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "B67"),
        (b"\0\0\0\x18ftypheic" + bytes(20), "B64"),
        (b"\xff\xd8\xff", "B65"),
        (b"\x89PNG\r\n\x1a\n", "B65"),
    ],
)
def test_what_is_no_image(tmp_path, data, code):
    path = tmp_path / "a.jpg"
    path.write_bytes(data)
    for read in (image_size, open_image):
        with pytest.raises(ImageError, match=r"a\.jpg") as error:
            read(path)
        assert error.value.code == code
    assert isinstance(error.value, InputError)


def test_missing_folder_and_bytes(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        open_image(tmp_path / "no.png")
    with pytest.raises(ImageError):
        open_image(tmp_path)
    data = save(tmp_path / "a.png", UPRIGHT).read_bytes()
    assert image_size(data) == (60, 40)
    with pytest.raises(ImageError, match="embedded image"):
        open_image(data[:60])


def test_infinite_pixels_are_refused(tmp_path):
    values = np.ones((4, 4), np.float32)
    values[1, 1] = np.inf
    with pytest.raises(ImageError, match="infinite"):
        open_image(save(tmp_path / "a.tif", values))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"quality": 5},
        {"comment": b"x" * 300},
        {"dpi": (72, 72)},
        {"exif": exif(6)},
        {"icc_profile": b"x" * 200},
        {"restart_marker_rows": 1},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_the_quick_look_at_a_jpeg_is_pillows(tmp_path, mode, options):
    from label_tools.pictures import open_image

    path = tmp_path / "a.jpg"
    Image.fromarray(UPRIGHT).convert(mode).save(path, **options)
    quick = open_image._plain_jpeg(path)
    assert (quick is None) == (mode == "CMYK" or "exif" in options or "icc_profile" in options)
    slow = image_info(path.read_bytes())
    assert image_info(path) == slow
    if quick:
        assert quick == (slow.width, slow.height, slow.mode)
