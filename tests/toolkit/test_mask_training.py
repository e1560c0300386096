"""Masks from outlines to a trained network and back: the same numbers as torchvision's own way, and what is refused."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from label_tools.shapes import rle
from label_tools.text.errors import InputError
from tests.toolkit.training_fixtures import NAMES, TINY, digest, draw_data, frcnn, records
from toolkit.__main__ import main
from toolkit.config import STANDARD, Model
from toolkit.data import copy_paste, packed_masks, transforms
from toolkit.data.boxes import coco_results
from toolkit.data.coco_index import index_of, with_outlines
from toolkit.data.dataset import DetectionDataset
from toolkit.evaluation.compute_metrics import coco_metrics
from toolkit.networks import builder, kept_maps, load_weights, mask_branch, registry
from toolkit.training import forward_pass, out_of_memory

SIZES = {"min_size": 64, "max_size": 96}
MASKED = ["--model", "maskrcnn_tiny_fpn", *TINY[2:]]


def with_polygons(folder: Path) -> Path:
    """Gives every object of `draw_data` its outline: the rectangle, or an octagon in the ellipse. -> folder"""
    for path in folder.glob("*.json"):
        document = json.loads(path.read_text())
        for one in document["annotations"]:
            x, y, w, h = one["bbox"]
            corners = [(0, 0), (1, 0), (1, 1), (0, 1)]
            if one["category_id"] == 2:
                corners = [(0.3, 0), (0.7, 0), (1, 0.3), (1, 0.7), (0.7, 1), (0.3, 1), (0, 0.7), (0, 0.3)]
            one["segmentation"] = [[v for a, b in corners for v in (x + a * w, y + b * h)]]
        path.write_text(json.dumps(document))
    return folder


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return with_polygons(draw_data(tmp_path_factory.mktemp("masks") / "data"))


def drawn_masks(count: int, height: int, width: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    masks = []
    for _ in range(count):
        mask = np.zeros((height, width), bool)
        y, x = int(rng.integers(0, height - 12)), int(rng.integers(0, width - 12))
        mask[y : y + int(rng.integers(5, 12)), x : x + int(rng.integers(5, 12))] = rng.random() < 2
        mask[y + 2, x + 2] = False  # a hole
        masks.append(mask)
    return masks


# --- packed masks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 8, 9, 20])
def test_packed_masks_are_the_masks(count):
    masks = drawn_masks(count, 30, 40)
    packed = packed_masks.pack(masks, 30, 40)
    assert packed.shape == (-(-count // 8), 30, 40) and packed.dtype == np.uint8
    for number, mask in enumerate(masks):
        assert (packed_masks.unpack(packed, number) == mask).all()
        assert (packed_masks.unpack(torch.from_numpy(packed), number).numpy() == mask).all()
    order = list(range(count))[::-1]
    assert (packed_masks.chosen(packed, order) == packed_masks.pack([masks[k] for k in order], 30, 40)).all()


def test_boxes_go_around_their_masks():
    mask = np.zeros((10, 12), bool)
    mask[3:5, 4:9] = True
    boxes = packed_masks.tight_boxes(packed_masks.pack([mask, np.zeros_like(mask)], 10, 12), 2)
    assert boxes.tolist() == [[4, 3, 9, 5], [0, 0, 0, 0]]


def test_an_outline_becomes_the_mask_that_coco_fills(data):
    document = json.loads((data / "train.json").read_text())
    index = with_outlines(index_of(document, data, "train.json"), document)
    dataset = DetectionDataset(index)
    ring = rle.to_rle(rle.encode(drawn_masks(1, 64, 64)[0]), 64, 64)
    for row in range(len(index)):
        target = dataset[(row, 0)][1]
        mine = [a for a in document["annotations"] if a["image_id"] == target["image_id"]]
        assert target["packed_masks"].shape == (1 if mine else 0, 64, 64)
        for number, one in enumerate(mine):
            wanted = rle.decode(rle.rasterize(one["segmentation"], 64, 64), 64, 64)
            assert (packed_masks.unpack(target["packed_masks"], number).numpy() == wanted).all()
    assert (packed_masks.mask_of(ring, np.zeros(4), 64, 64) == drawn_masks(1, 64, 64)[0]).all()
    assert packed_masks.mask_of(None, np.array([2, 3, 6.4, 5]), 8, 8).sum() == 4 * 2  # the whole box


def test_other_outlines_are_other_data(data):
    document = json.loads((data / "train.json").read_text())
    index = index_of(document, data, "train.json")
    other = copy.deepcopy(document)
    other["annotations"][0]["segmentation"][0][0] += 1
    prints = {with_outlines(index, d).fingerprint for d in (document, other)} | {index.fingerprint}
    assert len(prints) == 3


# --- augmentation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("level", ["light", "medium", "strong"])
def test_masks_move_with_their_image(level):
    """Each mask is painted into the image in a grey of its own, so the image itself tells where it has gone."""
    masks = drawn_masks(10, 80, 96, seed=3)
    boxes = np.array([packed_masks.tight_boxes(m[None].astype(np.uint8), 1)[0] for m in masks])
    augment = transforms.build(level)
    for seed in range(12):
        for number in (0, 9):  # the second plane, too
            image = np.zeros((80, 96, 3), np.uint8)
            image[masks[number]] = 255
            out, moved, kept, packed = augment.with_masks(image, boxes, packed_masks.pack(masks, 80, 96), seed)
            assert len(moved) == len(kept) and packed.shape[1:] == out.shape[:2]
            if number not in kept.tolist():
                continue
            mask = packed_masks.unpack(packed, kept.tolist().index(number)).astype(bool)
            bright = out.max(axis=2).astype(int)
            inside, outside = bright[mask].mean(), bright[~mask].mean()
            assert inside > outside + 60, (level, seed, number, inside, outside)
            y, x = np.nonzero(mask)
            box = moved[kept.tolist().index(number)]
            assert box.tolist() == [x.min(), y.min(), x.max() + 1, y.max() + 1]


def test_a_flip_turns_the_masks_over_exactly():
    import albumentations as A

    masks = drawn_masks(9, 40, 50)
    boxes = np.array([packed_masks.tight_boxes(m[None].astype(np.uint8), 1)[0] for m in masks])
    flip = transforms.Augment([A.HorizontalFlip(p=1)])
    _, moved, kept, packed = flip.with_masks(
        np.zeros((40, 50, 3), np.uint8), boxes, packed_masks.pack(masks, 40, 50), 0
    )
    assert kept.tolist() == list(range(9))
    assert (packed == packed_masks.pack(masks, 40, 50)[:, :, ::-1]).all()
    assert np.allclose(moved[:, [0, 2]], 50 - boxes[:, [2, 0]])


def test_an_image_without_objects_is_augmented():
    image, boxes, kept, packed = transforms.build("strong").with_masks(
        np.zeros((20, 30, 3), np.uint8), np.zeros((0, 4), np.float32), np.zeros((0, 20, 30), np.uint8), 0
    )
    assert len(boxes) == len(kept) == len(packed) == 0 and packed.shape[1:] == image.shape[:2]


def test_pasting_cuts_along_the_outline_and_covers_what_lies_below():
    rng = np.random.default_rng(0)
    disc = (np.indices((40, 40)) - 20).astype(float)
    disc = (disc**2).sum(axis=0) < 12**2
    donor_image = np.full((40, 40, 3), 40, np.uint8)
    donor_image[disc] = 250
    donor = copy_paste.Sample(
        donor_image,
        packed_masks.tight_boxes(disc[None].astype(np.uint8), 1),
        np.array([2]),
        packed_masks.pack([disc], 40, 40),
    )
    host_mask = np.zeros((60, 60), bool)
    host_mask[2:20, 2:20] = True
    host = copy_paste.Sample(
        np.zeros((60, 60, 3), np.uint8),
        np.array([[2, 2, 20, 20]], np.float32),
        np.array([1]),
        packed_masks.pack([host_mask], 60, 60),
    )
    done = 0
    for _ in range(20):
        image, boxes, labels, packed = copy_paste.paste(host, [donor], rng)
        if len(labels) == 1:
            continue
        done += 1
        old, new = (packed_masks.unpack(packed, k).astype(bool) for k in (0, 1))
        assert not (old & new).any()  # what was pasted lies in front
        # bright all over, half covered at the edge: nothing of the donor's grey ground came along
        assert image[new].min() > 60 and image[new].mean() > 215 and image[~new].max() < 150
        assert (boxes == packed_masks.tight_boxes(packed, 2)).all() and labels.tolist() == [1, 2]
    assert done > 10
    assert (host.masks == packed_masks.pack([host_mask], 60, 60)).all()  # the inputs stay


# --- the network ----------------------------------------------------------------------------------------------------


def a_network(name: str = "maskrcnn_tiny_fpn", **sizes):
    torch.manual_seed(0)
    model, architecture, about = builder.build(
        name, 3, weights="none", trainable_layers=5, norm="group", batch_size=2, sizes={**SIZES, **sizes}
    )
    return model, architecture, about


def a_batch():
    masks = [drawn_masks(3, 90, 70, seed=k) for k in (1, 2)]
    images = [torch.rand(3, 90, 70) for _ in masks]
    targets = []
    for ours in masks:
        packed = packed_masks.pack(ours, 90, 70)
        targets.append(
            {
                "boxes": torch.from_numpy(packed_masks.tight_boxes(packed, len(ours))),
                "labels": torch.tensor([1, 2, 1]),
                "packed_masks": torch.from_numpy(packed),
            }
        )
    return images, targets, masks


def test_losses_are_those_of_torchvisions_own_resize():
    model, *_ = a_network()
    images, targets, masks = a_batch()
    theirs = copy.deepcopy(model)
    theirs.transform.__class__ = GeneralizedRCNNTransform
    plain = [
        {"boxes": t["boxes"], "labels": t["labels"], "masks": torch.from_numpy(np.stack(m).astype(np.uint8))}
        for t, m in zip(targets, masks)
    ]
    losses = []
    for network, given in ((model, targets), (theirs, plain)):
        network.train()
        torch.manual_seed(5)
        losses.append({k: v.item() for k, v in network(copy.deepcopy(images), copy.deepcopy(given)).items()})
    assert losses[0] == losses[1]
    assert set(losses[0]) == {*forward_pass.LOSSES, forward_pass.MASK_LOSS} and losses[0]["loss_mask"] > 0


def test_detected_masks_are_those_that_torchvision_pastes():
    model, *_ = a_network(box_score_thresh=0.0, box_detections_per_img=30)
    theirs = copy.deepcopy(model)
    theirs.transform.__class__ = GeneralizedRCNNTransform
    image = torch.rand(3, 75, 110)
    model.eval(), theirs.eval()
    with torch.inference_mode():
        ours, whole = model([image])[0], theirs([image.clone()])[0]
    results = coco_results(7, {**ours, "size": (75, 110)}, (1, 2))
    assert len(results) == len(whole["masks"]) == 30
    for one, mask in zip(results, whole["masks"]):
        assert one["segmentation"]["size"] == [75, 110]
        decoded = rle.decode(rle.to_runs(one["segmentation"]), 75, 110)
        assert (decoded == (mask[0] > 0.5).numpy()).all()


def test_kept_maps_give_the_losses_of_the_network():
    model, *_ = a_network()
    model.train()
    images, targets, _ = a_batch()
    losses = []
    for kept in (False, True):
        torch.manual_seed(5)
        given = [{**t, "image_id": 1} for t in copy.deepcopy(targets)]
        if kept:
            views = [kept_maps.seen_by(model, image, target) for image, target in zip(images, given)]
            assert all("masks" not in view.target for view in views)
            torch.manual_seed(5)
            losses.append(kept_maps.losses_of(model, views))
        else:
            losses.append(model(copy.deepcopy(images), given))
    assert set(losses[0]) == set(losses[1]) and forward_pass.MASK_LOSS in losses[1]
    for name, value in losses[0].items():
        assert losses[1][name].item() == pytest.approx(value.item(), rel=0.02, abs=0.002), (
            name
        )  # kept in half precision


@pytest.mark.parametrize("box", [[-5.0, -4.0, 20.0, 18.0], [40.0, 30.0, 70.0, 60.0], [3.2, 4.7, 3.9, 5.1]])
def test_a_mask_over_the_edge_or_smaller_than_a_pixel_is_pasted_as_torchvision_does(box):
    probabilities = torch.rand(28, 28)
    theirs = paste_masks_in_image(probabilities[None, None], torch.tensor([box]), (50, 60))[0, 0] > 0.5
    ours = packed_masks.pasted(probabilities, torch.tensor(box), 50, 60)
    assert (rle.decode(rle.to_runs(ours), 50, 60) == theirs.numpy()).all()


def test_the_mask_branch_begins_with_one_mask_for_objects_of_any_class():
    model, architecture, about = builder.build(
        "maskrcnn_tiny_fpn", 4, weights="auto", trainable_layers=5, norm="auto", batch_size=2, sizes=SIZES
    )
    assert "starter" in about and architecture["first_weights"].startswith("starter")
    rows = model.roi_heads.mask_predictor.mask_fcn_logits.weight
    assert (rows == rows[:1]).all() and rows[0].abs().sum() > 0
    begun = load_weights.read(registry.find("maskrcnn_tiny_fpn").mask_branch)
    assert all(name.startswith(mask_branch.LEARNED) for name in begun)
    fine = "backbone.fpn.fine.weight"
    assert (model.state_dict()[fine] == begun[fine].float()).all()


def test_weights_of_a_box_network_begin_a_mask_network():
    model, *_ = a_network()
    before = copy.deepcopy(model.state_dict())
    box = registry.find("fasterrcnn_tiny_fpn").build(num_classes=3)
    builder.set_norm(box.backbone, "group", 1e-5)
    about = load_weights.load_into(model, load_weights.Weights(box.state_dict(), "detector", "a box network"), "file")
    assert about.startswith("46 of 46 tensors")  # group norms have no running statistics
    after = model.state_dict()
    assert all((after[k] == before[k]).all() for k in after if k.startswith(mask_branch.LEARNED))
    assert (after["rpn.head.conv.0.0.weight"] == box.state_dict()["rpn.head.conv.0.0.weight"]).all()


@pytest.mark.parametrize("name", [name for name, one in registry.REGISTRY.items() if one.masks])
def test_every_mask_network_is_rebuilt_from_its_architecture(name):
    if "resnet50" in name:
        with torch.device("meta"):
            assert registry.find(name).build(num_classes=3).roi_heads.mask_roi_pool is not None
        return
    model, architecture, _ = a_network(name)
    assert builder.rebuild(architecture).load_state_dict(model.state_dict())


# --- a run ----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def run(data) -> Path:
    runs = data.parent / "runs"
    code, text = frcnn(["train", data, "--runs", runs, *MASKED, "--augment", "strong"], data.parent / "run.txt")
    assert code == 0, text
    return runs / "train"


def test_a_run_has_five_losses_and_both_aps(run):
    epochs = records(run)
    assert all(forward_pass.MASK_LOSS in record["train_loss"] for record in epochs if record["kind"] == "epoch")
    last = [record for record in epochs if record["kind"] == "epoch"][-1]
    assert {"AP", "segm_AP", "segm_AP50", "segm_AP75"} <= set(last) and forward_pass.MASK_LOSS in last["val_loss"]
    head = (run / "results.csv").read_text().splitlines()[0]
    assert "segm_AP" in head and "train_loss_mask" in head


def test_a_run_that_was_cut_off_goes_on_to_the_last_bit(data, run, tmp_path):
    options = ["train", data, "--runs", tmp_path, *MASKED, "--augment", "strong"]
    code, text = frcnn([*options, "--max-time", "0.00001"], tmp_path / "cut.txt")
    assert code == 0 and "max-time" in text, text
    code, text = frcnn(["train", "--resume", tmp_path / "train", "--max-time", "0"], tmp_path / "on.txt")
    assert code == 0, text
    assert digest(tmp_path / "train", "last") == digest(run, "last")


def test_detections_of_a_run_have_masks_and_are_evaluated_by_both(data, run, tmp_path, capsys):
    assert main(["evaluate", str(run), "--split", "val"]) == 0
    assert "masks" in capsys.readouterr().out
    metrics = json.loads((run / "val" / "metrics.json").read_text())
    detections = json.loads((run / "val" / "detections.json").read_text())
    if not detections:
        pytest.skip("two steps of training found nothing at all")
    assert all(d["segmentation"]["size"] == [64, 64] for d in detections)
    again = coco_metrics(json.loads((data / "val.json").read_text()), detections)
    assert again["segm"]["AP"] == metrics["segm"]["AP"]


# --- bad input ------------------------------------------------------------------------------------------------------


def test_objects_without_an_outline_are_counted_and_refused(tmp_path, capsys):
    data = with_polygons(draw_data(tmp_path / "data"))
    document = json.loads((data / "train.json").read_text())
    for one in document["annotations"][:2]:
        one["segmentation"] = []
    (data / "train.json").write_text(json.dumps(document))
    total = len(document["annotations"])
    assert main(["train", str(data), "--runs", str(tmp_path / "runs"), *MASKED]) == 2
    error = capsys.readouterr().err
    assert f"2 of {total} objects have no outline, the first with id 1" in error and "--boxes-as-masks" in error
    assert not (tmp_path / "runs").exists()
    assert main(["train", str(data), "--runs", str(tmp_path / "runs"), *MASKED, "--boxes-as-masks", "--dry-run"]) == 0
    assert "masks" in capsys.readouterr().out


def test_an_image_with_too_many_masks_is_refused_by_name(data):
    document = json.loads((data / "train.json").read_text())
    index = index_of(document, data, "train.json")
    objects = int(np.diff(index.first).max())
    # 64 x 64 px at --image-size 32,000: objects x 32,000^2 x 4 bytes
    assert (
        out_of_memory.mask_memory(index, Model(STANDARD, image_size=32_000, max_size=32_000))[0]
        == objects * 32_000**2 * 4
    )
    with pytest.raises(InputError, match=rf"train\d\.png: the masks of its {objects} objects need"):
        out_of_memory.check_mask_memory(index, Model(STANDARD, image_size=32_000, max_size=32_000))
    out_of_memory.check_mask_memory(index, Model(STANDARD, image_size=64, max_size=64))


def test_a_box_network_learns_from_outlines_as_before(data, tmp_path):
    assert main(["train", str(data), "--runs", str(tmp_path), *TINY, "--dry-run"]) == 0
    assert len(NAMES) == 2


def test_an_object_of_which_a_line_of_pixels_is_left_is_not_kept():
    import albumentations as A

    masks = [np.zeros((20, 20), bool), np.zeros((20, 20), bool)]
    masks[0][2:12, 3], masks[1][2:12, 3:8] = True, True  # 1 and 5 pixels wide, in boxes of 10
    boxes = np.array([[0, 2, 10, 12]] * 2, np.float32)
    image = np.zeros((20, 20, 3), np.uint8)
    _, boxes, kept, packed = transforms.Augment([A.NoOp()]).with_masks(
        image, boxes, packed_masks.pack(masks, 20, 20), 0
    )
    assert kept.tolist() == [1] and boxes.tolist() == [[3, 2, 8, 12]]
    assert (packed_masks.unpack(packed, 0) == masks[1]).all()
