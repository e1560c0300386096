"""Fingerprints: what is the same picture, what looks alike, what does not."""

from __future__ import annotations

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from label_tools.pictures import duplicates
from label_tools.pictures.duplicates import fingerprint, fingerprint_files, look_alike, same_pixels
from label_tools.shapes.components import join


def scene(seed: int, size: tuple[int, int] = (160, 120)) -> Image.Image:
    """A smooth random picture: 6x6 random colours blown up, so two seeds have nothing in common."""
    noise = np.random.default_rng(seed).integers(0, 256, (6, 6, 3), dtype=np.uint8)
    return Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)


def jpeg(image: Image.Image, quality: int) -> Image.Image:
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=quality)
    return Image.open(buffer).convert("RGB")


def test_dhash_by_hand():
    # A ramp that brightens to the right: every pixel is brighter than its left neighbour, 64 ones.
    ramp = Image.fromarray(np.tile(np.arange(0, 252, 28, dtype=np.uint8), (8, 1))).convert("RGB")  # 9x8
    assert fingerprint(ramp).dhash == 2**64 - 1
    # Mirrored it darkens everywhere: 64 zeros.
    assert fingerprint(ramp.transpose(Image.Transpose.FLIP_LEFT_RIGHT)).dhash == 0
    # Only the first row brightens: the 8 highest bits.
    rows = np.zeros((8, 9), dtype=np.uint8)
    rows[0] = np.arange(0, 252, 28)
    assert fingerprint(Image.fromarray(rows).convert("RGB")).dhash == 0xFF << 56


def test_same_pixels_whatever_the_file(tmp_path):
    image = scene(1)
    image.save(tmp_path / "a.png")
    image.save(tmp_path / "b.bmp")
    image.save(tmp_path / "c.png", compress_level=0)
    scene(2).save(tmp_path / "d.png")
    prints = list(fingerprint_files([tmp_path / name for name in ("a.png", "d.png", "b.bmp", "c.png")]))
    assert same_pixels(prints) == [[0, 2, 3]]
    assert look_alike(prints) == []  # equal pixels are not reported twice


def test_size_belongs_to_the_pixels():
    # 2x8 and 8x2 pixels of one colour have the same bytes but are not the same picture.
    a, b = Image.new("RGB", (2, 8), "red"), Image.new("RGB", (8, 2), "red")
    assert fingerprint(a).pixels != fingerprint(b).pixels


@pytest.mark.parametrize(
    "change",
    [
        lambda image: jpeg(image, 40),
        lambda image: image.resize((80, 60)),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
        lambda image: image.convert("L").convert("RGB"),
    ],
    ids=["jpeg 40", "half size", "brighter", "grey"],
)
@pytest.mark.parametrize("seed", range(5))
def test_changed_copies_look_alike(change, seed):
    image = scene(seed)
    pairs = look_alike([fingerprint(scene(90)), fingerprint(image), fingerprint(change(image))])
    assert [(pair.i, pair.j, pair.turn) for pair in pairs] == [(1, 2, "")]


def test_different_pictures_do_not_look_alike():
    assert look_alike([fingerprint(scene(seed)) for seed in range(60)]) == []


def test_likeness_needs_both_signs():
    # Same dHash (a ramp), but one picture is bright only in its last tenth: correlation stays below 0.9.
    ramp = np.tile(np.linspace(0, 250, 90), (80, 1))
    late = np.where(ramp > 222, ramp, ramp / 25)
    a, b = (fingerprint(Image.fromarray(x.astype(np.uint8)).convert("RGB")) for x in (ramp, late))
    assert (a.dhash ^ b.dhash).bit_count() <= 8
    assert look_alike([a, b]) == []
    assert look_alike([a, b], correlation=0.0) != []


def test_blank_pictures_are_alike_only_when_equal():
    prints = [fingerprint(Image.new("RGB", (40, 40), (v, v, v))) for v in (0, 10, 10, 200)]
    assert same_pixels(prints) == [[1, 2]]
    assert look_alike(prints) == []


def test_correlation_is_pearsons():
    a, b = np.random.default_rng(0).integers(0, 256, (2, 1024), dtype=np.uint8)
    x, y = duplicates._standardised(np.stack([a, b // 3]))
    assert x @ y == pytest.approx(np.corrcoef(a, b // 3)[0, 1], abs=1e-6)


@pytest.mark.parametrize("turn", range(7))
def test_flips_and_quarter_turns_look_alike(turn):
    """Each of the seven other ways to lay a picture, saved as a JPEG, and told by name."""
    transpose = duplicates._TRANSPOSE[turn]
    for seed in range(4):
        image = scene(seed)
        copy = jpeg(image.transpose(transpose), 60)
        (pair,) = look_alike([fingerprint(scene(90)), fingerprint(image), fingerprint(copy)])
        assert (pair.i, pair.j, pair.turn) == (1, 2, duplicates._TURNS[turn])


def test_black_pictures_with_noise_are_not_alike():
    """The hashes of dark pictures agree; their noise does not. All pairs of a block in one product, the same answer."""
    rng = np.random.default_rng(0)
    dark = []
    for _ in range(40):
        pixels = np.zeros((64, 64), np.uint8)
        pixels[rng.integers(0, 64, 6), rng.integers(0, 64, 6)] = 255
        dark.append(Image.fromarray(np.repeat(np.repeat(pixels, 4, 0), 4, 1)).convert("RGB"))
    assert look_alike([fingerprint(one) for one in dark]) == []
    again = [*dark, jpeg(dark[7], 90)]
    assert [(pair.i, pair.j) for pair in look_alike([fingerprint(one) for one in again])] == [(7, 40)]


def test_nothing_in_nothing_out():
    assert same_pixels([]) == [] and look_alike([]) == [] and join(0, []) == []


@given(st.lists(st.integers(0, 2**64 - 1), max_size=40), st.integers(0, 20), st.integers(0, 7))
def test_close_pairs_against_plain_python(hashes, distance, turn):
    table = np.zeros((len(hashes), 8), dtype=np.uint64)
    table[:, 0] = table[:, turn] = np.array(hashes, dtype=np.uint64)
    same = np.ones((len(hashes), 1024), dtype=np.float32)  # what they look like does not matter here
    arguments = (table, same, np.arange(len(hashes)), distance, 0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "_BLOCK", 7)
        found = [pair for k in range(0, len(hashes), 7) for pair in duplicates._close_pairs(k, turn, *arguments)]
    expected = [
        (i, j, (hashes[i] ^ hashes[j]).bit_count())
        for i in range(len(hashes))
        for j in range(i + 1, len(hashes))
        if (hashes[i] ^ hashes[j]).bit_count() <= distance
    ]
    assert sorted(found) == expected


def test_three_alike_are_tied_by_two_pairs():
    image = scene(1)
    alike = [fingerprint(x) for x in (image, jpeg(image, 90), jpeg(image, 50), image.resize((80, 60)))]
    pairs = look_alike([*alike, fingerprint(scene(2))])
    assert len(pairs) == 3 and join(5, [(pair.i, pair.j) for pair in pairs]) == [0, 0, 0, 0, 4]
    # a copy of the first with the same pixels is represented by it
    assert look_alike([alike[0], alike[0], alike[1]]) == [duplicates.Alike(0, 2, pairs[0].bits)]


@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=20))
def test_popcount_of_numpy_1(hashes):
    class OldNumpy:
        uint16, uint8 = np.uint16, np.uint8

    values = np.array(hashes, dtype=np.uint64)[:, None]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(duplicates, "np", OldNumpy)
        counts = duplicates._popcount(values)
    assert counts[:, 0].tolist() == [h.bit_count() for h in hashes]


@pytest.mark.parametrize(
    ("name", "photograph"),
    [
        ("IMG_0001_jpg.rf.0002a88a.jpg", "IMG_0001"),
        ("a/photo_jpeg.rf.55f4a1c9d1c2f1f3a7d9e5b8c6a4f2e1.jpg", "a/photo"),
        ("my.photo_png.rf.AbCdEf123456.jpg", "my.photo"),
        ("night_aug3.jpg", "night"),
        ("night-augmented-12.png", "night"),
        ("night.jpg", None),
        ("august_3.jpg", None),
        ("aug3.jpg", None),
        ("perf.rf.jpg", None),
    ],
)
def test_the_photograph_behind_a_name(name, photograph):
    assert duplicates.photograph_of(name) == photograph


def test_copies_by_name_with_the_photograph():
    names = [
        "a.jpg",
        "x_jpg.rf.000111.jpg",
        "a_aug1.jpg",
        "b.jpg",
        "x_jpg.rf.000222.jpg",
        "sub/a_aug2.jpg",
        "y_aug1.jpg",
    ]
    assert duplicates.copies_by_name(names) == [[0, 2], [1, 4]]


def test_what_a_program_did_to_a_photograph_counts_beside_the_photograph():
    changed = ["aug_3_a.jpg", "a_hflip.jpg", "a_rot90.png", "a-bright2_flip.jpg", "a - Copy (2).jpg"]
    assert duplicates.copies_by_name(["a.jpg", *changed, "b.jpg"]) == [[0, 1, 2, 3, 4, 5]]
    assert duplicates.copies_by_name(["corn_crop_001.jpg", "corn_crop_002.jpg", "cam_dark1.jpg"]) == []


def test_join_by_hand():
    assert join(6, [(0, 2), (2, 3), (5, 4)]) == [0, 1, 0, 0, 4, 4]
    assert join(4, [(3, 2, 1)]) == [0, 1, 1, 1]


@given(st.integers(1, 12), st.data())
def test_join_is_the_transitive_closure(count, data):
    pairs = data.draw(st.lists(st.tuples(st.integers(0, count - 1), st.integers(0, count - 1)), max_size=12))
    near = np.eye(count, dtype=bool)
    for a, b in pairs:
        near[a, b] = near[b, a] = True
    for middle in range(count):  # Warshall
        near |= near[:, [middle]] & near[[middle], :]
    assert join(count, pairs) == [int(np.argmax(row)) for row in near]


@pytest.mark.parametrize("jobs", [1, 2])
def test_jobs_keep_the_order(tmp_path, jobs):
    paths = []
    for seed in range(6):
        paths.append(tmp_path / f"{seed}.png")
        scene(seed).save(paths[-1])
    assert list(fingerprint_files(paths, jobs)) == [fingerprint(scene(seed)) for seed in range(6)]
