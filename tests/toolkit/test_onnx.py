"""An exported detector: equal to the run at every size, refused when it is not, run without torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from label_tools.document import coco_file
from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import NAMES, draw_data, untrained_run
from toolkit.__main__ import main
from toolkit.data.tiles import Tiles
from toolkit.deployment import agreement, bench, bench_process, export
from toolkit.deployment.bench_process import Setting
from toolkit.deployment.http_service import Service
from toolkit.deployment.original_network import DRAWS, Loaded
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.networks import onnx_forward
from toolkit.prediction.detect_in_batches import detect_document, detect_pictures
from toolkit.prediction.onnx_detector import OnnxDetector
from toolkit.prediction.open_detector import open_detector
from toolkit.prediction.picture_sources import Picture
from toolkit.prediction.torch_detector import TorchDetector

ROOT = Path(__file__).resolve().parents[2]
THRESHOLDS = {"square": 0.33, "disc": 0.4}


@pytest.fixture(scope="module")
def place(tmp_path_factory) -> Path:
    """A folder with `run`, an untrained network and val.json, and `model.onnx`, its export."""
    folder = tmp_path_factory.mktemp("export")
    draw_data(folder / "data")
    run = untrained_run(folder / "run", THRESHOLDS)
    export.export_onnx(run, folder / "model.onnx", data=folder / "data" / "val.json")
    return folder


def test_exported_finds_the_same_at_sizes_that_were_never_traced(place):
    original, exported = TorchDetector(place / "run"), OnnxDetector(place / "model.onnx")
    random = np.random.default_rng(1)
    for height, width in ((17, 230), (64, 64), (199, 40), (428, 640), (301, 33)):
        image = random.integers(0, 256, (height, width, 3), dtype=np.uint8)
        (theirs,), (ours,) = original.detect([image]), exported.detect([image])
        assert len(theirs) == len(ours) > 0
        for one, other in zip(theirs, ours):
            assert one["category_id"] == other["category_id"]
            assert one["bbox"] == pytest.approx(other["bbox"], abs=0.01)
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)


def test_thresholds_of_each_class_lie_in_the_graph(place):
    detector = OnnxDetector(place / "model.onnx")
    image = np.random.default_rng(2).integers(0, 256, (80, 90, 3), dtype=np.uint8)
    boxes, labels, scores = detector.arrays(image)
    shown = detector.arrays(image, ("boxes", "labels", "scores"))
    keep = scores >= np.array([2, *THRESHOLDS.values()], dtype=np.float32)[labels]
    assert 0 < keep.sum() < len(keep)
    for one, other in zip(shown, (boxes[keep], labels[keep], scores[keep])):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("min_size, max_size", [(320, 534), (64, 96)])
def test_resize_is_torchvisions_to_a_rounding(min_size, max_size):
    transform = GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3).eval()
    random = np.random.default_rng(0)
    # 428 and 843: traced by torchvision itself they become 319 and 533 pixels
    for height, width in ((428, 640), (843, 602), (602, 843), (1, 1), (5, 300), (320, 320)):
        image = torch.from_numpy(random.integers(0, 256, (height, width, 3), dtype=np.uint8))
        batch, _ = transform([image.permute(2, 0, 1).float() / 255])
        (size,) = batch.image_sizes
        ours = onnx_forward.resized(image, min_size, max_size)
        assert tuple(ours.shape[:2]) == size
        theirs = batch.tensors[0, :, : size[0], : size[1]].permute(1, 2, 0)
        torch.testing.assert_close(ours, theirs, rtol=0, atol=2e-6)


def test_difference_counts_what_has_no_partner():
    def found(*rows):
        table = np.array(rows, dtype=float).reshape(-1, 6)
        return table[:, :4], table[:, 4].astype(int), table[:, 5]

    one = found((0, 0, 10, 10, 1, 0.9), (20, 20, 30, 30, 2, 0.8))
    assert agreement.difference(one, one) == (0, 0, 0)
    # changed places, .005 px and .00002 apart
    other = found((20, 20, 30, 30.005, 2, 0.80002), (0, 0, 10, 10, 1, 0.9))
    assert agreement.difference(one, other) == pytest.approx((0.005, 0.00002, 0))
    assert agreement.difference(one, found((0, 0, 10, 10, 1, 0.9)))[2] == 1
    assert agreement.difference(one, found((0, 0, 10, 10, 1, 0.9), (20, 20, 30, 30, 1, 0.8)))[2] == 1  # other class
    assert agreement.difference(found(), found()) == (0, 0, 0)


def test_a_graph_that_differs_is_not_written(place, tmp_path, monkeypatch):
    right = onnx_forward.resized
    monkeypatch.setattr(
        onnx_forward, "resized", lambda image, low, high: right(image, low - 1, high)
    )  # torchvision's mistake
    with pytest.raises(export.DisagreementError, match=r"not written: .* pictures differ: val1"):
        export.export_onnx(place / "run", tmp_path / "wrong.onnx", data=place / "data" / "val.json")
    assert not list(tmp_path.iterdir())


def test_where_a_rounding_decides_nothing_is_compared(place, tmp_path, monkeypatch):
    """The file finds another box than the network: its fault, unless the network does so with other roundings."""
    image = np.zeros((40, 50, 3), dtype=np.uint8)

    def ends_at(end):
        return [np.array([[0.0, 0, 10, end]]), np.array([1]), np.array([0.9])]

    # with other roundings: the network's box; another; .008 px from it, which allows the file .018 and not .02
    for exported, other, undecided in ((14, 10, 0), (14, 16, 1), (10.017, 10.008, 1), (10.02, 10.008, 0)):
        result = agreement.Agreement()
        result.add("a.png", image, ends_at(10), ends_at(exported), lambda _, other=other: [ends_at(10), ends_at(other)])
        assert (len(result.differ), len(result.undecided)) == (1 - undecided, undecided)
        assert result.box_gap == pytest.approx(0 if undecided else exported - 10)
    # all pictures undecided: nothing was shown, and nothing is written
    right = onnx_forward.resized
    monkeypatch.setattr(onnx_forward, "resized", lambda image, low, high: right(image, low - 1, high))
    nothing = [np.zeros((0, 4)), np.zeros(0, dtype=np.int64), np.zeros(0)]
    monkeypatch.setattr(Loaded, "detect_otherwise", lambda self, image: [nothing])
    with pytest.raises(export.DisagreementError, match=r"not written: in \d+ of \d+ pictures a rounding decides"):
        export.export_onnx(place / "run", tmp_path / "unsure.onnx", data=place / "data" / "val.json")
    assert not list(tmp_path.iterdir())


def test_other_roundings_find_the_same_where_scores_are_apart(place):
    network = Loaded.of(place / "run")
    image = np.asarray(Image.open(next((place / "data").glob("val*.png"))).convert("RGB"))
    others = list(network.detect_otherwise(image))
    assert len(others) == 1 + DRAWS and others[0][0].dtype == np.float64
    gaps = [agreement.difference(network.detect(image), other) for other in others]
    assert all(not unpaired and 0 < box < 0.01 and 0 < score < 1e-4 for box, score, unpaired in gaps)
    assert len(set(gaps)) > 2  # in units of the last bit
    again = list(network.detect_otherwise(image))  # and the weights are as they were
    assert all(np.array_equal(a, b) for one, two in zip(others, again) for a, b in zip(one, two))


def test_metadata_says_what_the_file_is(place):
    meta = OnnxDetector(place / "model.onnx").meta
    assert [c["name"] for c in json.loads(meta["classes"])] == list(NAMES)
    assert json.loads(meta["score_thresholds"]) == THRESHOLDS
    assert meta["checkpoint_sha256"] == TorchDetector(place / "run").identity
    assert meta["opset"] == "17" and {"torch", "onnxruntime"} <= set(json.loads(meta["versions"]))
    compared = json.loads(meta["agreement"])
    assert compared["pictures_that_differ"] == 0 and compared["sizes"] >= 20
    assert compared["largest_gap_pixels"] < 0.01 and compared["AP_original"] == compared["AP_exported"]


def test_what_is_no_export_is_one_line(place, tmp_path):
    import onnx

    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(InputError, match=r"text\.onnx: is no ONNX model"):
        open_detector(tmp_path / "text.onnx")
    model = onnx.load(place / "model.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "other.onnx")
    with pytest.raises(InputError, match="another program's model, needs a file of `frcnn export onnx`"):
        open_detector(tmp_path / "other.onnx")
    with pytest.raises(InputError, match=r"gone\.onnx: cannot be read"):
        open_detector(tmp_path / "gone.onnx")
    with pytest.raises(InputError, match="is there already"):
        export.export_onnx(place / "run", place / "model.onnx", data=place / "data" / "val.json")
    with pytest.raises(InputError, match=r"needs a file name that ends with \.onnx"):
        export.export_onnx(place / "run", tmp_path / "model.pt", data=place / "data" / "val.json")
    with pytest.raises(InputError, match="not found; needs the file there, or --images with its folder"):
        export.export_onnx(
            place / "run", tmp_path / "model.onnx", data=place / "data" / "val.json", image_root=tmp_path
        )


WITHOUT_TORCH = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in ("torch", "torchvision"):
            raise ImportError(name)

sys.meta_path.insert(0, Refuse())
from toolkit.__main__ import main

sys.exit(main(sys.argv[1:]))
"""


def without_torch(*words: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", WITHOUT_TORCH, *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_predict_runs_without_torch(place, tmp_path):
    pictures = sorted((place / "data").rglob("val*.png"))
    done = without_torch("predict", place / "model.onnx", *pictures, "--out", tmp_path / "out")
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out" / "detections.json").read_bytes())
    detector = TorchDetector(place / "run")
    assert len(found["images"]) == len(pictures)
    assert found["score_thresholds"] == THRESHOLDS and detector.score_thresholds == THRESHOLDS


def test_evaluate_runs_without_torch_and_gives_the_numbers_of_the_run(place, tmp_path):
    data = place / "data" / "val.json"
    done = without_torch("evaluate", place / "model.onnx", "--data", data, "--out", tmp_path / "out", "--json")
    assert done.returncode == 0, done.stderr
    ours = json.loads(done.stdout)
    document = json.loads(data.read_bytes())
    theirs = coco_metrics(document, detect_document(TorchDetector(place / "run"), document, data.parent))
    assert ours["AP"] == pytest.approx(theirs["AP"], abs=1e-9) and ours["num_detections"] == theirs["num_detections"]
    assert {name: one["threshold"] for name, one in ours["thresholds"].items()} == THRESHOLDS
    assert (tmp_path / "out" / "report.html").is_file()
    done = without_torch("evaluate", place / "model.onnx")
    assert done.returncode == 2 and "needs --data FILE" in done.stderr


@pytest.mark.slow
def test_int8_is_written_only_with_an_ap_that_holds(place, tmp_path, monkeypatch):
    out = tmp_path / "int8.onnx"
    export.export_onnx(place / "run", out, data=place / "data" / "val.json", int8=True)
    detector = OnnxDetector(out)
    assert detector.meta["precision"] == "int8" and "AP_exported" in json.loads(detector.meta["agreement"])
    assert out.stat().st_size < (place / "model.onnx").stat().st_size / 2
    monkeypatch.setattr(export, "MOST_LOST", -1.0)  # AP would have to rise by 1
    with pytest.raises(export.DisagreementError, match="in 8-bit integers, more than"):
        export.export_onnx(place / "run", tmp_path / "worse.onnx", data=place / "data" / "val.json", int8=True)
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]


@pytest.mark.parametrize("flags", [[], ["--int8"], ["--for", "x-anylabeling"]])
@pytest.mark.parametrize(
    "model, why",
    [
        ("maskrcnn_tiny_fpn", ", because it has masks; needs a network of boxes alone"),
        ("anchors_tiny", "; needs a network of torchvision's kind (fasterrcnn_...)"),
    ],
)
def test_a_network_that_does_not_export_is_refused_in_one_line(place, tmp_path, capsys, model, why, flags):
    run = untrained_run(tmp_path / "run", THRESHOLDS, model)
    out, data = tmp_path / "out" / "model.onnx", place / "data" / "val.json"
    assert main(["export", "onnx", str(run), "--out", str(out), "--data", str(data), *flags]) == 2
    said = capsys.readouterr()
    assert said.err == f"error: {model}: does not export to ONNX{why}\n"
    assert not said.out and [path.name for path in tmp_path.iterdir()] == ["run"]


def test_a_recorded_max_value_opens_the_pictures_of_the_exported_detector_too(place, tmp_path):
    # white at 4095: 2048 of 12 bits is 255 * 2048 / 4095 = 127.5, in the middle; at the file's own 65535 it is 8
    data = draw_data(tmp_path / "data", train=0)
    document = json.loads((data / "val.json").read_bytes())
    for image in document["images"]:
        grey = np.asarray(Image.open(data / image["file_name"]).convert("L")).astype(np.uint16) * 16
        Image.fromarray(grey).save(data / image["file_name"])
    document["info"]["max_value"] = 4095
    (data / "val.json").write_text(json.dumps(document))
    run = untrained_run(tmp_path / "run", THRESHOLDS, opening={"max_value": 4095})
    export.export_onnx(run, tmp_path / "model.onnx", data=data / "val.json")
    original, exported = TorchDetector(run), open_detector(tmp_path / "model.onnx")
    assert exported.opening == original.opening == {"max_value": 4095}
    assert OnnxDetector(place / "model.onnx").opening == {}

    picture = data / document["images"][0]["file_name"]
    (theirs,), (ours,) = (
        [seen.found for seen in detect_pictures(one, [Picture("it", picture)])] for one in (original, exported)
    )
    assert [one["bbox"] for one in ours] == [pytest.approx(one["bbox"], abs=0.01) for one in theirs]
    served, _ = Service(exported, None, 0.0, 10**6).detect(picture.read_bytes())
    assert served == ours
    setting = Setting("onnx", None, None, tmp_path / "model.onnx")
    measured = bench_process.measured(setting, [(1, picture)], coco_file.opening(document), [1, 2], "cpu", 1)
    assert [one["bbox"] for one in measured["detections"]] == [one["bbox"] for one in ours]

    exported.opening = {}  # almost black
    dark, _ = Service(exported, None, 0.0, 10**6).detect(picture.read_bytes())
    assert dark != ours


def test_tiles_of_the_training_go_with_the_file(place, tmp_path):
    run = untrained_run(tmp_path / "run", THRESHOLDS, tiles=[60, 20])
    export.export_onnx(run, tmp_path / "model.onnx", data=place / "data" / "val.json")
    exported, image = open_detector(tmp_path / "model.onnx"), np.random.default_rng(5).integers(0, 256, (60, 100, 3))
    assert (exported.tiles, exported.reads_windows) == (Tiles(60, 20), True) and exported.whole().tiles is None
    (theirs,), (ours,) = (one.detect([image.astype(np.uint8)]) for one in (TorchDetector(run), exported))
    assert [one["bbox"] for one in ours] == [pytest.approx(one["bbox"], abs=0.01) for one in theirs]
    assert ours != exported.whole().detect([image.astype(np.uint8)])[0]


def test_x_anylabeling_gets_a_file_of_its_type_dfine(place, tmp_path):
    import onnxruntime
    import yaml

    out = tmp_path / "model.onnx"
    result = export.export_onnx(place / "run", out, data=place / "data" / "val.json", program="x-anylabeling")
    assert not result.differ and result.detections > 0
    config = yaml.safe_load((tmp_path / "model.yaml").read_bytes())
    assert (config["type"], config["model_path"], config["classes"]) == ("dfine", "model.onnx", list(NAMES))
    # what that type feeds and unpacks
    session = onnxruntime.InferenceSession(out, providers=["CPUExecutionProvider"])
    assert [(one.name, one.shape) for one in session.get_inputs()] == [
        ("images", [1, 3, 640, 640]),
        ("orig_target_sizes", [1, 2]),
    ]
    picture = np.zeros((1, 3, 640, 640), dtype=np.float32)
    picture[:, :, 80:560] = np.random.default_rng(3).random((3, 480, 640), dtype=np.float32)
    size = np.array([[640, 640]], dtype=np.int64)
    labels, boxes, scores = session.run(None, {"images": picture, "orig_target_sizes": size})
    assert labels.shape == scores.shape == boxes.shape[:2] and labels.min() >= 0 and labels.max() <= 1
    assert boxes[..., 1].min() >= 80 - 1e-3 and boxes[..., 3].max() <= 560 + 1e-3  # in the picture, not in the black
    with pytest.raises(InputError, match=r"another program's model|found format x-anylabeling"):
        open_detector(out)


@pytest.mark.parametrize("height, width", [(48, 640), (480, 640), (640, 333), (640, 640), (37, 500), (900, 100)])
def test_the_picture_is_found_in_the_square(height, width):
    from toolkit.deployment import anylabeling

    seen = []

    class Watching(anylabeling.InSquare):
        def forward(self, images, sizes):
            return super().forward(images, sizes)

    image = np.random.default_rng(4).integers(1, 256, (height, width, 3), dtype=np.uint8)
    square, small, _, _ = anylabeling.in_square(image)
    blob = torch.from_numpy((square / 255).astype(np.float32)).permute(2, 0, 1)[None]
    nothing = [torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(onnx_forward, "detect", lambda _, cut: seen.append(cut) or nothing)
        Watching(None, [0.5])(blob, torch.tensor([[640, 640]]))
    np.testing.assert_array_equal(seen[0].numpy(), small)


@pytest.mark.slow
def test_bench_measures_every_setting_and_names_those_that_are_not_beaten(place, tmp_path):
    data = place / "data" / "val.json"
    settings = {"image_sizes": [64], "proposals": [20], "forms": ("torch", "onnx")}
    result = bench.bench(place / "run", tmp_path / "out", data=data, threads=1, **settings)
    assert [row["form"] for row in result["rows"]] == ["torch", "onnx"]
    one, other = result["rows"]
    assert one["AP"] == pytest.approx(other["AP"], abs=1e-6) and min(one["seconds"], other["seconds"]) > 0
    assert other["memory_mb"] < one["memory_mb"]  # a process that never loads torch
    assert sum(row["pareto"] for row in result["rows"]) == 1  # as good and faster: only that one
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.name[0] != ".") == sorted(bench.FILES)
    assert "times as fast as torch, 64 px, 20 proposals" in bench.advice(result)


def test_pareto_line():
    rows = [{"seconds": s, "AP": ap} for s, ap in ((1.0, 0.5), (2.0, 0.4), (3.0, 0.5), (4.0, 0.6), (0.5, None))]
    bench._mark_pareto(rows)
    assert [row["pareto"] for row in rows] == [True, False, False, True, True]
