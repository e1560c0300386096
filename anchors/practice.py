"""One picture through an untrained Faster R-CNN: every step printed, four losses at the end.

    picture, boxes -> features -> anchors -> labels -> 256 sampled -> RPN losses
                               -> proposals -> 128 RoIs -> 25,088 numbers each -> head losses

The network has the shapes of the paper's: VGG16's thirteen convolutions (512 channels at stride 16), a 3 x 3 RPN, two
layers of 4,096. Its weights are random, so the losses are those of guessing and can be checked by hand: ln 2 for object
or not, about ln(num_classes) for the class. Trained weights change the values and no shape.

Limits: no gradient is computed and nothing is trained; the walkthrough and `TinyFasterRCNN` do that.

Place: Faster R-CNN Eq. 1 and 3.3, Fast R-CNN Eq. 1.
"""

from __future__ import annotations

import json
import textwrap
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from anchors.boxes import box_iou
from anchors.deltas import HEAD_WEIGHTS
from anchors.fast.nms import nms
from anchors.fast.roi_pool import roi_pool
from anchors.heads import FastRCNNHead, RPNHead
from anchors.losses import beta_from_sigma, detection_loss, rpn_loss
from anchors.proposals import candidates
from anchors.sampling import sample_rois
from anchors.walkthrough.picture import Picture, read_picture
from anchors.walkthrough.worked_example import IMAGE_SIZE, NUM_CELL, STRIDE, anchoring

VGG16 = (64, 64, "M", 128, 128, "M", 256, 256, 256, "M", 512, 512, 512, "M", 512, 512, 512)
SMALL = (8, "M", 16, "M", 32, "M", 48, "M", 48)
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, which VGG16's weights expect
PRE_NMS, POST_NMS, NMS_THRESH, MIN_SIZE = 12_000, 2_000, 0.7, 16.0
NUM_ROIS, FG_FRACTION, FG_THRESH, BINS = 128, 0.25, 0.5, 7


@dataclass
class Record:
    """The steps, as printed lines and as data."""

    lines: list[str] = field(default_factory=list)
    data: dict = field(default_factory=dict)
    count: int = 0

    def step(self, title: str, text: str, **data) -> None:
        self.count += 1
        self.lines.append(f"{self.count:2}  {title:<14} {text}")
        self.data |= data

    def explain(self, text: str) -> None:
        """A remark on the step before, in lines below it."""
        self.lines += textwrap.wrap(text, 100, initial_indent=" " * 19, subsequent_indent=" " * 19)


def convolutions(plan: tuple[int | str, ...]) -> nn.Sequential:
    """[1,3,800,800] -> [1,C,50,50]. A number is a 3 x 3 convolution with ReLU, "M" halves the map."""
    layers: list[nn.Module] = []
    before = 3
    for entry in plan:
        if isinstance(entry, str):  # "M"
            layers.append(nn.MaxPool2d(2))
            continue
        layer = nn.Conv2d(before, entry, 3, padding=1)
        assert layer.bias is not None
        nn.init.kaiming_normal_(layer.weight, mode="fan_in", nonlinearity="relu")  # keeps the values' size
        nn.init.zeros_(layer.bias)
        layers += [layer, nn.ReLU()]
        before = entry
    return nn.Sequential(*layers)


def shape(tensor: Tensor) -> str:
    return "[" + ", ".join(f"{length:,}" for length in tensor.shape) + "]"


@torch.no_grad()
def four_losses(picture: Picture, *, seed: int, small: bool) -> Record:
    """Run every step to the four losses, and record it."""
    record = Record()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = look(record, picture, SMALL if small else VGG16)
        rpn = RPNHead(features.shape[1], NUM_CELL)
        objectness, deltas = (output[0] for output in rpn(features))
        record.step("RPN", f"logits {shape(objectness)}, deltas {shape(deltas)}: one logit and four deltas an anchor")
        found = train_rpn(record, picture, objectness, deltas, seed)
        proposals = propose(record, found.anchors, deltas, objectness)
        head_losses(record, picture, features, proposals, hidden=256 if small else 4096)
    total = sum(record.data["losses"].values())
    record.step("total", f"{total:.4f}, the sum of the four", total=round(total, 6))
    return record


def look(record: Record, picture: Picture, plan: tuple[int | str, ...]) -> Tensor:
    for name, box in zip(picture.names, picture.boxes.tolist()):
        corners = ", ".join(f"{value:g}" for value in box)
        label = picture.classes.index(name) + 1
        record.step("object", f"{name}, class {label}: [{corners}]")
    record.data["classes"] = list(picture.classes)
    record.step("picture", f"{shape(picture.pixels)}, {len(picture.classes) + 1} classes with background (class 0)")
    pixels = (picture.pixels - torch.tensor(MEAN)[:, None, None]) / torch.tensor(STD)[:, None, None]
    features = convolutions(plan)(pixels[None])
    depth = sum(entry != "M" for entry in plan)
    record.step("backbone", f"{depth} convolutions: features {shape(features)}", features=list(features.shape))
    return features


def train_rpn(record: Record, picture: Picture, objectness: Tensor, deltas: Tensor, seed: int):
    found = anchoring(picture.boxes, seed)
    inside = int(found.inside.sum())
    record.step("anchors", f"{shape(found.anchors)}, {inside:,} inside", anchors=len(found.anchors), inside=inside)
    best = ", ".join(f"{float(value):.3f}" for value in found.best)
    record.step("IoU", f"{shape(found.iou)} with the inside ones; the best of each object {best}")
    counts = {
        name: int((found.labels == value).sum()) for name, value in zip(("positive", "negative", "ignored"), (1, 0, -1))
    }
    words = ", ".join(f"{value:,} {name}" for name, value in counts.items())
    record.step("labels", words, labels=counts)
    sample = [len(found.positives), len(found.negatives)]
    record.step("sample", f"{sample[0]} positive + {sample[1]} negative", sample=sample)
    labels = torch.full((len(found.anchors),), -1, dtype=torch.int64)
    targets = torch.zeros_like(found.anchors)
    labels[found.inside_idxs[found.positives]] = 1
    labels[found.inside_idxs[found.negatives]] = 0
    targets[found.inside_idxs[found.positives]] = found.target_deltas
    cls_loss, box_loss = rpn_loss(objectness, deltas, labels, targets, beta=beta_from_sigma(3))
    record.data["losses"] = {"loss_objectness": float(cls_loss), "loss_rpn_box_reg": float(box_loss)}
    record.step("RPN losses", f"objectness {cls_loss:.4f} (ln 2 = 0.6931 is guessing), box {box_loss:.4f}")
    return found


def propose(record: Record, anchors: Tensor, deltas: Tensor, scores: Tensor) -> Tensor:
    """Do what proposals.propose does in training, and record a count after each step."""
    found = candidates(anchors, deltas, scores, IMAGE_SIZE, num_pre_nms=PRE_NMS, min_size=MIN_SIZE)
    keep = nms(found.boxes, found.scores, NMS_THRESH, max_keep=POST_NMS)
    counts = [len(anchors), len(found.boxes), len(keep)]
    words = f"{counts[0]:,} -> decoded, clipped, the best {counts[1]:,} -> NMS at {NMS_THRESH:g} -> {counts[2]:,}"
    record.step("proposals", words, proposals=counts)
    return found.boxes[keep]


def head_losses(record: Record, picture: Picture, features: Tensor, proposals: Tensor, *, hidden: int) -> None:
    num_classes = len(picture.classes) + 1
    sample = sample_rois(
        proposals,
        picture.boxes,
        picture.labels,
        num_samples=NUM_ROIS,
        positive_fraction=FG_FRACTION,
        fg_thresh=FG_THRESH,
        weights=HEAD_WEIGHTS,
    )
    foreground = int((sample.labels > 0).sum())
    rois = [foreground, len(sample.labels) - foreground]
    reach = float(box_iou(picture.boxes, proposals).amax()) if len(proposals) else 0.0
    words = f"{rois[0]} foreground + {rois[1]} background, of the proposals (best IoU {reach:.3f}) and the true boxes"
    record.step("RoIs", words, rois=rois)
    if reach < FG_THRESH:
        record.explain(why_zero(foreground, len(picture.boxes)))
    with_image = torch.cat((torch.zeros(len(sample.rois), 1), sample.rois), dim=1)
    pooled = roi_pool(features, with_image, BINS, 1 / STRIDE)
    flat = pooled.flatten(1)
    record.step("RoI pooling", f"{shape(pooled)}, flat {shape(flat)}", pooled=list(pooled.shape), flat=list(flat.shape))
    head = FastRCNNHead(flat.shape[1], hidden, num_classes, dropout=0.0)
    logits, box_deltas = head(pooled)
    record.step(
        "head",
        f"{flat.shape[1]:,} -> {hidden:,} -> {hidden:,}: class logits {shape(logits)}, deltas {shape(box_deltas)}",
        class_logits=list(logits.shape),
        box_deltas=list(box_deltas.shape),
    )
    cls_loss, box_loss = detection_loss(
        logits, box_deltas, sample.labels, sample.target_deltas, beta=beta_from_sigma(1)
    )
    record.data["losses"] |= {"loss_classifier": float(cls_loss), "loss_box_reg": float(box_loss)}
    guess = float(torch.tensor(float(num_classes)).log())
    record.step("head losses", f"class {cls_loss:.4f} (ln {num_classes} = {guess:.4f} is guessing), box {box_loss:.4f}")


def why_zero(foreground: int, num_objects: int) -> str:
    """Explain why the head's box loss is about 0 when no proposal overlaps an object enough."""
    objects = "the true box" if num_objects == 1 else "the true boxes"
    return (
        f"No proposal of this untrained RPN reaches IoU {FG_THRESH:g} with an object, so the {foreground} foreground "
        f"come from {objects} alone, which have the deltas 0 to learn. The head's first deltas are nearly 0 as well: "
        "its box loss below is about 0. That says nothing about how well it finds boxes."
    )


def practice(image: str | None, labels: str | None, *, seed: int, small: bool, as_json: bool) -> int:
    """Print the steps, then the four losses (or the same as JSON)."""
    record = four_losses(read_picture(image, labels), seed=seed, small=small)
    if as_json:
        print(json.dumps(record.data, sort_keys=True))
        return 0
    print("\n".join(record.lines))
    print()
    for name, value in record.data["losses"].items():
        print(f"{name:<18} {value:.4f}")
    return 0
