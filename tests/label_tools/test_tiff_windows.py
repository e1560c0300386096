"""Large TIFF pictures by windows: every compression, strips and tiles, what cannot be read so."""

from __future__ import annotations

import json
from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from label_tools.pictures.open_image import ImageError
from label_tools.pictures.tiff_windows import Windows


def picture(height: int = 1500, width: int = 300) -> np.ndarray:
    y, x = np.mgrid[:height, :width]
    return np.stack([x % 256, y % 256, (x + y) % 256], axis=2).astype(np.uint8)


@pytest.mark.parametrize("compression", ["raw", "packbits", "tiff_lzw", "tiff_adobe_deflate", "jpeg"])
@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_window_is_that_part_of_the_picture(tmp_path, compression, mode):
    path = tmp_path / "a.tif"
    Image.fromarray(picture()).convert(mode).save(path, compression=compression)
    with Image.open(path) as image:
        whole = np.asarray(image.convert("RGB"))
    windows = Windows(path)
    assert windows.shape == whole.shape
    for y1, y2, x1, x2 in ((0, 1500, 0, 300), (90, 1333, 17, 250), (1499, 1500, 299, 300), (10, 10, 0, 5)):
        assert np.array_equal(windows[y1:y2, x1:x2], whole[y1:y2, x1:x2])


@pytest.mark.parametrize("big", [False, True])
def test_tiles_of_the_file(tmp_path, big):
    """Tiles of 64 x 32, the last ones padded: laid out by hand, as no library here writes them."""
    whole = picture(100, 150)
    padded = np.zeros((128, 192, 3), dtype=np.uint8)
    padded[:100, :150] = whole
    tiles = [padded[y : y + 32, x : x + 64].tobytes() for y in range(0, 128, 32) for x in range(0, 192, 64)]
    tags = ImageFileDirectory_v2(b"II+\0\x08\0\0\0" + b"\0" * 8 if big else b"II*\0\0\0\0\0")
    for key, value in {256: 150, 257: 100, 258: (8, 8, 8), 259: 1, 262: 2, 277: 3, 322: 64, 323: 32}.items():
        tags[key] = value
    size = 64 * 32 * 3
    tags[324], tags[325] = tuple(range(10_000, 10_000 + size * 12, size)), (size,) * 12
    out = BytesIO()
    tags.save(out)
    (tmp_path / "a.tif").write_bytes(out.getvalue().ljust(10_000, b"\0") + b"".join(tiles))
    windows = Windows(tmp_path / "a.tif")
    assert np.array_equal(windows[0:100, 0:150], whole) and np.array_equal(windows[30:70, 60:130], whole[30:70, 60:130])


def test_what_cannot_be_read_by_windows(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "turned.tif", tiffinfo={274: 6})
    Image.fromarray(picture()).save(tmp_path / "a.png")
    Image.fromarray(picture()).save(tmp_path / "cut.tif", compression="tiff_lzw")
    content = (tmp_path / "cut.tif").read_bytes()
    (tmp_path / "cut.tif").write_bytes(content[:8] + b"\xff" * 1000 + content[1008:])
    with pytest.raises(ImageError, match="is turned"):
        Windows(tmp_path / "turned.tif")
    with pytest.raises(ImageError, match="no TIFF that can be read by windows"):
        Windows(tmp_path / "a.png")
    with pytest.raises(ImageError, match="no such file"):
        Windows(tmp_path / "none.tif")
    with pytest.raises(ImageError, match="damaged image, strip 0"):
        Windows(tmp_path / "cut.tif")[0:1500, 0:300]


def test_predict_reads_a_picture_over_the_limit_by_windows(tmp_path, capsys):
    from tests.toolkit.training_fixtures import untrained_run
    from toolkit.__main__ import main

    run = untrained_run(tmp_path / "run", {"square": 0.2})
    Image.fromarray(picture(300, 400)).save(tmp_path / "large.tif", compression="tiff_lzw")
    found = {}
    for limit in ("1000000", "50000"):  # of 120,000 pixels
        words = ["--tiles", "150", "--max-pixels", limit, "--out", str(tmp_path / limit)]
        assert main(["predict", str(run), str(tmp_path / "large.tif"), *words]) == 0
        found[limit] = json.loads((tmp_path / limit / "detections.json").read_text())["images"]
    assert found["1000000"] == found["50000"] and found["50000"][0]["detections"]
    assert (tmp_path / "1000000" / "large.tif.jpg").exists() and not (tmp_path / "50000" / "large.tif.jpg").exists()
    assert "large.tif" in capsys.readouterr().err  # that it was not drawn is said
    words = ["--max-pixels", "50000", "--out", str(tmp_path / "o")]
    assert main(["predict", str(run), str(tmp_path / "large.tif"), *words]) == 1  # without tiles it is refused
    assert "more than the limit" in capsys.readouterr().err
