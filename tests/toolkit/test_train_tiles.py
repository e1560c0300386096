"""Training on tiles: which object belongs to which tile, and a run that sees pictures in tiles from then on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import TINY, draw_data, records
from toolkit import checkpoint, config, fine_tune
from toolkit.__main__ import main
from toolkit.data.coco_index import index_of
from toolkit.data.dataset import DetectionDataset
from toolkit.data.tiles import Tiles, cut, joined, tiles_for
from toolkit.prediction.detect_in_batches import detect_document
from toolkit.prediction.tiles_and_tta import look_of
from toolkit.prediction.torch_detector import TorchDetector


def index_with(folder: Path, boxes, width: int = 250, height: int = 100):
    """The index of a picture [height, width] whose pixel (x, y) is (x, y, 7), with these bboxes."""
    y, x = np.mgrid[:height, :width]
    pixels = np.stack([x, y, np.full_like(x, 7)], axis=2).astype(np.uint8)
    Image.fromarray(pixels).save(folder / "a.png")
    document = {
        "info": {},
        "images": [{"id": 30, "file_name": "a.png", "width": width, "height": height}],
        "annotations": [
            {"id": n, "image_id": 30, "category_id": 5, "bbox": box, "iscrowd": 0} for n, box in enumerate(boxes, 1)
        ],
        "categories": [{"id": 5, "name": "bolt"}],
    }
    return index_of(document, folder, "labels")


def test_an_object_belongs_to_the_tiles_that_show_half_of_it(tmp_path):
    # tiles of 100 that share 25 begin at 0, 75, 150
    index = index_with(
        tmp_path,
        [
            [10, 10, 20, 20],  # in the first alone
            [80, 10, 30, 20],  # 20 of 30 px in the first, whole in the second
            [88, 40, 30, 20],  # 12 of 30 px in the first: not its object
            [0, 70, 250, 30],  # 250 px long: 100 of them in each tile, no half of it, and it fills 3000 of 10000 px
            [0, 30, 250, 70],  # fills 7000 of 10000 px of each tile
        ],
    )
    tiles = cut(index, Tiles(100, 25), all_tiles=True)
    assert tiles.image_ids.tolist() == [1, 2, 3] and tiles.num_pictures == 1 and len(tiles) == 3
    assert tiles.sizes.tolist() == [[100, 100]] * 3
    found = [tiles.boxes[tiles.objects(row)].tolist() for row in range(3)]
    assert found == [
        [[10, 10, 30, 30], [80, 10, 100, 30], [0, 30, 100, 100]],
        [[5, 10, 35, 30], [13, 40, 43, 60], [0, 30, 100, 100]],
        [[0, 30, 100, 100]],
    ]
    assert tiles.path(2) == tmp_path / "a.png" and tiles.fingerprint == index.fingerprint


@pytest.mark.parametrize("cache", [0, 30_000, 10**6])  # nothing, one tile, all of them
def test_the_pixels_of_a_tile_are_those_of_its_window(tmp_path, cache):
    tiles = cut(index_with(tmp_path, [[10, 10, 20, 20]]), Tiles(100, 25), all_tiles=True)
    data = DetectionDataset(tiles, None, cache)
    for row, start in ((2, 150), (0, 0), (1, 75), (2, 150)):
        image, target = data[row, 0]
        assert tuple(image.shape) == (3, 100, 100) and target["image_id"] == row + 1
        assert image[0, 5].tolist() == list(range(start, start + 100)) and image[1, :, 0].tolist() == list(range(100))
    assert len(data._cache) == min(3, cache // 30_000) and data.cache_bytes >= 0


def test_of_tiles_without_objects_no_more_than_of_the_others(tmp_path):
    index = index_with(tmp_path, [[210, 10, 20, 20]], width=1000)
    tiles = Tiles(100, 0)
    assert len(cut(index, tiles, all_tiles=True)) == 10
    few = cut(index, tiles, all_tiles=False)
    assert few.cut.windows[:, 0].tolist() == [0, 200]
    assert len(cut(index_with(tmp_path, [], width=1000), tiles, all_tiles=True).boxes) == 0


def test_what_tiles_found_becomes_what_is_in_the_picture(tmp_path):
    tiles = cut(index_with(tmp_path, [[80, 10, 30, 20]]), Tiles(100, 25), all_tiles=True)
    in_tiles = [
        {"image_id": 1, "category_id": 5, "bbox": [80, 10, 20, 20], "score": 0.9},  # cut by the first tile's border
        {"image_id": 2, "category_id": 5, "bbox": [5, 10, 30, 20], "score": 0.8},  # whole
    ]
    assert joined(in_tiles, tiles.cut) == [{"image_id": 30, "category_id": 5, "bbox": [80, 10, 30, 20], "score": 0.8}]
    assert joined([], tiles.cut) == []


def test_which_tiles(tmp_path):
    index = index_with(tmp_path, [[10, 10, 60, 20]])
    assert tiles_for("none", index, 64) is None
    assert tiles_for("auto", index, 64) == Tiles(120, 60)  # twice the largest object, which the overlap holds
    assert tiles_for("auto", index, 200) == Tiles(200, 60)  # what the network sees, so that nothing shrinks
    assert tiles_for("80", index, 64) == Tiles(80, 40)
    assert config.checked("tiles", 80, "recipe.yaml") == "80"
    for text in ("many", "-3", "²"):
        with pytest.raises(InputError, match="--tiles: found"):
            tiles_for(text, index, 64)


def test_a_run_trained_on_tiles_sees_tiles_wherever_it_detects(tmp_path, capsys):
    data = draw_data(tmp_path / "data", train=3, val=2)
    words = ["train", str(data), *TINY, "--max-time", "1e-6", "--tiles", "40", "--runs", str(tmp_path / "runs")]
    assert main(words) == 0
    said = capsys.readouterr().err
    # an object of at most 29 px: an overlap of 20, half of 40; 64 px are three tiles a side, 9 a picture
    assert "tiles of 40 px, overlap 20: 3 training pictures become" in said
    run = tmp_path / "runs" / "train"
    assert json.loads((run / "run.json").read_text())["num_images"] == {"train": 3, "val": 2}
    assert len(json.loads((run / "train.json").read_text())["images"]) == 3  # the original annotations

    # it ended before its first step; it goes on with the tiles that it began with
    assert main(["train", "--resume", str(run), "--max-time", "0", "--no-report"]) == 0
    assert checkpoint.read_meta(run / "best")["tiles"] == [40, 20] and records(run)[-1]["epoch"] == 2

    seen = []
    predictor = TorchDetector(run)
    whole = predictor.whole()
    whole.detect = lambda images: seen.extend(image.shape for image in images) or [[] for _ in images]
    predictor.whole = lambda: whole
    document = json.loads((data / "val.json").read_text())
    detect_document(predictor, document, data)
    assert seen == [(40, 40, 3)] * 18
    look = look_of(TorchDetector(run), run, "auto", None)
    assert look.tiles == Tiles(40, 20) and look.detector.detector.tiles is None


def test_the_network_that_the_machine_takes_is_said_once(tmp_path, caplog):
    """Though the recipe is resolved for so many pictures, and again for so many tiles."""
    caplog.set_level("INFO")
    draw_data(tmp_path, train=3, val=1)
    recipe = fine_tune.Recipe({"tiles": "40", "device": "cpu"}, {})
    labels, config = fine_tune.prepare(fine_tune.Source(tmp_path), recipe)
    assert labels["train"].index.cut is not None and config.model.model != "auto"
    assert caplog.text.count("network: ") == 1


def test_masks_are_refused(tmp_path, capsys):
    data = draw_data(tmp_path / "data", train=2, val=1)
    words = [*TINY, "--runs", str(tmp_path / "runs"), *["--model", "maskrcnn_tiny_fpn", "--tiles", "40"]]
    recipe = tmp_path / "r.json"
    recipe.write_text('{"boxes_as_masks": true}')
    assert main(["train", str(data), *words, "--config", str(recipe)]) == 2
    assert "--tiles: not for networks with masks; needs a network of boxes" in capsys.readouterr().err
    assert not (tmp_path / "runs").exists()
