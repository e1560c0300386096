"""Toy input that every test may use: drawn pictures with COCO files beside them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from label_tools.files import links

os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")
os.environ.setdefault("OPENCV_LOG_LEVEL", "OFF")
os.environ.setdefault("MPLBACKEND", "Agg")

# a shell that starts the tests in the background ignores SIGINT for them; tests of Ctrl-C need the usual handler
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

REAL_DATA = Path(os.environ.get("FRCNN_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")
SOURCES = {  # folder of REAL_DATA -> where its content comes from
    "raccoon": "github.com/datitran/raccoon_dataset, its photographs with `frcnn export labelme` beside them",
    "pennfudan": "the Penn-Fudan pedestrians: PNGImages as images, PedMasks as masks",
    "labelme_example": "examples/instance_segmentation of github.com/wkentaro/labelme",
    "coco_official": "PythonAPI's 100 images of val2014 and their results, github.com/MiXaiLL76/faster_coco_eval",
    "bccd": "github.com/Shenggan/BCCD_Dataset",
    "coco128": "github.com/lightly-ai/coco128_yolo",
}


def needs_real_data(*names: str) -> pytest.MarkDecorator:
    """Skips a test without these folders of real data, and says where to put what."""
    missing = [name for name in names if not (REAL_DATA / name).is_dir()]
    wanted = "; ".join(f"{name} ({SOURCES[name]})" for name in names if name in missing)
    reason = f"needs real data in the folder that FRCNN_DATA names: {wanted}"
    return pytest.mark.skipif(bool(missing), reason=reason)


@pytest.fixture(autouse=True)
def links_are_not_followed(monkeypatch):
    """`--follow-links` of a test says nothing for the next one."""
    monkeypatch.setenv(links.VARIABLE, "")


@pytest.fixture
def toy_set(tmp_path) -> Callable[..., Path]:
    """toy_set(name, num_images, seed) -> COCO file of dark pictures with bright squares and discs."""

    def make(name: str = "train", num_images: int = 6, seed: int = 0, size: int = 64) -> Path:
        import numpy as np
        from PIL import Image, ImageDraw

        rng = np.random.default_rng(seed)
        folder = tmp_path / "pictures"
        folder.mkdir(exist_ok=True)
        images, annotations = [], []
        for i in range(1, num_images + 1):
            width, height = (size, size + 16) if i % 3 == 0 else (size + 16, size)
            picture = Image.fromarray(rng.integers(0, 60, (height, width, 3), dtype=np.uint8))
            draw = ImageDraw.Draw(picture)
            file_name = f"{name}_{i:02d}.png"
            images.append({"id": i, "file_name": file_name, "width": width, "height": height})
            for k in range(int(rng.integers(0, 3)) if i > 2 else 1):  # some without objects
                side = int(rng.integers(14, 30))
                x, y = int(rng.integers(0, width - side)), int(rng.integers(0, height - side))
                kind = int(rng.integers(0, 2)) if i > 2 else k + i - 1
                shape = draw.rectangle if kind == 0 else draw.ellipse
                shape([x, y, x + side - 1, y + side - 1], fill=(230, 40, 40) if kind == 0 else (40, 200, 230))
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": i,
                        "category_id": kind + 1,
                        "bbox": [x, y, side, side],
                        "area": side * side,
                        "iscrowd": 0,
                    }
                )
            picture.save(folder / file_name)
        document = {
            "info": {"image_root": "pictures"},
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "square"}, {"id": 2, "name": "disc"}],
        }
        path = tmp_path / f"{name}.json"
        path.write_text(json.dumps(document))
        return path

    return make
