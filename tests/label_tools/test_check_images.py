"""`check` on image files: missing, outside, damaged, of other size, kind or colour; headers alone and every pixel."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.pictures.open_image import open_image
from label_tools.rules.check import check_document, examine

WIDTH, HEIGHT = 100, 80


def picture(seed: int = 0) -> Image.Image:
    rng = np.random.default_rng(seed)
    return Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((WIDTH, HEIGHT))


def document(*files: str, size: tuple[int, int] = (WIDTH, HEIGHT)) -> dict:
    return {
        "images": [{"id": k, "file_name": f, "width": size[0], "height": size[1]} for k, f in enumerate(files, 1)],
        "annotations": [
            {"id": k, "image_id": k, "category_id": 1, "bbox": [2, 2, 10, 10], "area": 100, "iscrowd": 0}
            for k in range(1, len(files) + 1)
        ],
        "categories": [{"id": 1, "name": "a"}],
    }


def findings(folder: Path, *files: str, decode: bool = False, **kwargs) -> list[tuple[str, str, str]]:
    every = check_document(document(*files, **kwargs), folder, decode=decode)
    return [(f.level, f.code, f.text) for f in every]


def codes(folder: Path, *files: str, decode: bool = False, **kwargs) -> list[str]:
    return [f"{level} {code}" for level, code, _ in findings(folder, *files, decode=decode, **kwargs)]


def test_sound_images(tmp_path):
    picture(1).save(tmp_path / "a.png")
    picture(2).save(tmp_path / "b.jpg")
    assert findings(tmp_path, "a.png", "b.jpg") == findings(tmp_path, "a.png", "b.jpg", decode=True) == []


def test_missing_and_in_other_case(tmp_path):
    picture(1).save(tmp_path / "a.png")
    picture(2).save(tmp_path / "Photo.JPG")
    result = examine(document("a.png", "photo.jpg", "gone.png"), tmp_path, "x.json")
    assert [(f.level, f.code, f.place) for f in result.findings] == [
        ("warning", "B32", 'image 2 "photo.jpg"'),
        ("error", "B32", 'image 3 "gone.png"'),
    ]
    # the repaired document names the file that is there, and leaves out the image that is not
    assert [image["file_name"] for image in result.document["images"]] == ["a.png", "Photo.JPG"]
    assert len(result.document["annotations"]) == 2


def test_two_files_in_other_case_are_no_repair(tmp_path):
    picture(1).save(tmp_path / "PHOTO.png")
    picture(2).save(tmp_path / "Photo.png")
    if len(list(tmp_path.iterdir())) < 2:
        pytest.skip("this file system does not tell case apart")
    picture(3).save(tmp_path / "a.png")
    assert codes(tmp_path, "a.png", "photo.png") == ["error B32"]


def test_a_wrong_root_is_one_finding(tmp_path):
    ((level, code, text),) = findings(tmp_path, "a.png", "b.png", "c.png")
    assert (level, code) == ("error", "B32") and text.startswith("none of the 3 images is in")


@pytest.mark.parametrize("name", ["../secret.png", "/etc/passwd", "a/../../secret.png", "..\\secret.png"])
def test_names_that_lead_out(tmp_path, name):
    root = tmp_path / "root"
    root.mkdir()
    picture().save(tmp_path / "secret.png")
    picture().save(root / "a.png")
    assert "error B31" in codes(root, "a.png", name)


def test_link_that_leads_out(tmp_path):
    root = tmp_path / "root"
    root.mkdir()
    picture().save(tmp_path / "secret.png")
    (root / "a.png").symlink_to(tmp_path / "secret.png")
    assert codes(root, "a.png") == ["warning B31"]
    (root / "sub").mkdir()
    (root / "a.png").rename(root / "sub" / "b.png")
    assert codes(root, "b.png") == ["warning B31", "warning B32"]  # found in another folder, and a link all the same


def test_other_size(tmp_path):
    picture().save(tmp_path / "a.png")
    ((level, code, text),) = findings(tmp_path, "a.png", size=(50, 40))
    assert (level, code, text) == ("error", "B52", "50 x 40 in the document, 100 x 80 in the file")


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_rotation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture().save(tmp_path / "a.jpg", exif=exif)
    turned = orientation >= 5  # a person sees 80 x 100
    assert codes(tmp_path, "a.jpg", size=(HEIGHT, WIDTH) if turned else (WIDTH, HEIGHT)) == []
    if turned:
        ((_, code, text),) = findings(tmp_path, "a.jpg")
        assert code == "B52" and f"after its EXIF rotation ({orientation})" in text


def truncated(path: Path) -> None:
    picture().resize((WIDTH, HEIGHT)).save(path, "JPEG", quality=95)
    data = path.read_bytes()
    path.write_bytes(data[: len(data) * 2 // 3])


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", "error B65"),
        (b"<html>not found</html>", "error B65"),
        (b"\0" * 500, "error B65"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n", "error B67"),
        (b"\0\0\0\x18ftypheic\0\0\0\0heicmif1", "error B64"),
    ],
)
def test_files_that_are_no_image(tmp_path, content, code):
    picture().save(tmp_path / "a.png")
    (tmp_path / "b.jpg").write_bytes(content)
    assert codes(tmp_path, "a.png", "b.jpg") == [code]


def test_damage_that_only_decoding_finds(tmp_path):
    picture().save(tmp_path / "a.png")
    picture().save(tmp_path / "b.png")
    whole = (tmp_path / "b.png").read_bytes()
    middle = len(whole) // 2
    (tmp_path / "b.png").write_bytes(whole[:middle] + bytes(40) + whole[middle + 40 :])
    assert codes(tmp_path, "a.png", "b.png") == []
    assert codes(tmp_path, "a.png", "b.png", decode=True) == ["error B65"]


def with_thumbnail(path: Path) -> None:
    """A JPEG whose header holds a small JPEG, end marker and all, as cameras write it."""
    small = BytesIO()
    picture(1).resize((40, 32)).save(small, "JPEG")
    comment = small.getvalue()
    plain = BytesIO()
    picture(2).save(plain, "JPEG", quality=95)
    segment = b"\xff\xfe" + (len(comment) + 2).to_bytes(2, "big") + comment
    path.write_bytes(plain.getvalue()[:2] + segment + plain.getvalue()[2:])


@pytest.mark.parametrize("name", ["plain.jpg", "thumbnail.jpg", "picture.png"])
@pytest.mark.parametrize("left", [0.6, 0.97])
def test_a_file_that_was_cut_off_is_found_without_decoding_all(tmp_path, monkeypatch, name, left):
    path = tmp_path / name
    picture().save(tmp_path / "a.png")
    if name == "thumbnail.jpg":
        with_thumbnail(path)
    else:
        picture(2).save(path)
    opened = []
    monkeypatch.setattr("label_tools.rules.image_files.open_image", lambda p: (opened.append(p.name), open_image(p))[1])
    assert codes(tmp_path, "a.png", name) == [] and opened == []
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * left)])
    ((level, code, text),) = findings(tmp_path, "a.png", name)
    assert (level, code) == ("error", "B65") and "truncated" in text
    assert opened == [name]


def test_odd_ends_are_not_taken_for_cut_off_files(tmp_path):
    """Bytes behind the end, few and many, a second picture, and an end that is missing where nothing else is."""
    for name, tail in {"a.jpg": b"SEFT", "b.jpg": bytes(10_000), "c.png": b"\n", "d.png": bytes(10_000)}.items():
        picture(1).save(tmp_path / name)
        (tmp_path / name).write_bytes((tmp_path / name).read_bytes() + tail)
    picture(2).save(tmp_path / "e.mpo", "MPO", save_all=True, append_images=[picture(3)])
    picture(4).save(tmp_path / "f.png")
    (tmp_path / "f.png").write_bytes((tmp_path / "f.png").read_bytes()[:-12])  # without IEND; Pillow reads it all
    names = sorted(p.name for p in tmp_path.iterdir())
    assert codes(tmp_path, *names) == ["note B63"]  # the MPO's second frame


def test_a_bomb_is_refused_from_its_header(tmp_path):
    import struct
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 2, 0, 0, 0)
    (tmp_path / "b.png").write_bytes(
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    )
    picture().save(tmp_path / "a.png")
    assert codes(tmp_path, "a.png", "b.png", decode=True) == ["error B66"]


def test_tiny_and_very_long(tmp_path):
    picture().resize((15, 40)).save(tmp_path / "tiny.png")
    assert findings(tmp_path, "tiny.png", size=(15, 40)) == [("error", "B69", "15 x 40 pixels, needs 16 or more")]
    picture().resize((2000, 16)).save(tmp_path / "long.png")
    assert codes(tmp_path, "long.png", size=(2000, 16)) == ["note B69"]


def test_notes_on_what_is_used_all_the_same(tmp_path):
    picture(1).save(tmp_path / "png.jpg", "PNG")
    picture(2).convert("RGBA").save(tmp_path / "alpha.png")
    Image.fromarray(np.arange(WIDTH * HEIGHT, dtype=np.uint16).reshape(HEIGHT, WIDTH)).save(tmp_path / "deep.png")
    picture(3).save(tmp_path / "moving.gif", save_all=True, append_images=[picture(4)])
    assert codes(tmp_path, "png.jpg", "alpha.png", "deep.png", "moving.gif") == [
        "note B62",
        "note B62",
        "note B63",
        "note B68",
    ]


def test_copies_within_one_document(tmp_path):
    picture(1).save(tmp_path / "a.png")
    picture(1).save(tmp_path / "b.bmp")
    picture(1).save(tmp_path / "c.jpg", quality=70)
    picture(2).save(tmp_path / "d.png")
    assert codes(tmp_path, "a.png", "b.bmp", "c.jpg", "d.png") == []
    found = findings(tmp_path, "a.png", "b.bmp", "c.jpg", "d.png", decode=True)
    assert [(level, code) for level, code, _ in found] == [("warning", "B53"), ("note", "B53")]
    assert found[0][2] == "2 images have the same pixels: a.png, b.bmp"


def test_inputs_stay_as_they_are(tmp_path):
    picture(1).save(tmp_path / "a.png")
    truncated(tmp_path / "b.jpg")
    before = {path.name: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()}
    check_document(document("a.png", "b.jpg"), tmp_path, decode=True)
    assert {path.name: hashlib.sha256(path.read_bytes()).digest() for path in tmp_path.iterdir()} == before
