"""TinyFasterRCNN: the whole detector, built of this package's operators.

    images -> backbone -> features [B,C,H/8,W/8]

    RPN:   anchors, objectness, deltas -> propose -> proposals
           in training: match_anchors, sample_labels, encode -> rpn_loss

    head:  roi_pool (or roi_align) of each proposal -> class logits, deltas
           in training: sample_rois -> detection_loss
           at test:     postprocess -> boxes, labels, scores

Limits: one feature map of stride 8 and 64 channels, three anchor sizes: made to be read, and for small pictures with
objects of some 16 to 100 pixels (larger pictures are shrunk to `max_side`). A GroupNorm after each convolution of the
backbone lets it train from random weights, in batches of any size.

Place: Faster R-CNN 3.2 (joint training). The four losses are added with weight 1.

Interface, which is torchvision's: `model(images, targets)` in training gives a dict of four losses, `model(images)` in
evaluation a list of {"boxes", "labels", "scores"}. `model.trace(images, targets)` gives the same and every step on the
way.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from anchors.arguments import check_boxes, check_count, check_labels, check_number
from anchors.boxes import box_iou, clip_boxes
from anchors.deltas import HEAD_WEIGHTS, RPN_WEIGHTS, encode
from anchors.fast.nms import nms
from anchors.fast.roi_align import roi_align
from anchors.fast.roi_pool import roi_pool
from anchors.grid import generate_cell_anchors, grid_anchors, inside_image
from anchors.heads import FastRCNNHead, RPNHead
from anchors.losses import beta_from_sigma, detection_loss, rpn_loss
from anchors.matching import match_anchors
from anchors.postprocess import postprocess
from anchors.proposals import candidates
from anchors.roi_pool import pool_bins
from anchors.sampling import RoISample, sample_labels, sample_rois

STRIDE = 8
POOL_SIZE = 7


def backbone(channels: Sequence[int]) -> nn.Sequential:
    """[B,3,H,W] -> [B,channels[-1],H/8,W/8]: three halvings, then one more convolution."""
    layers: list[nn.Module] = []
    before = 3
    for i, after in enumerate(channels):
        layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.GroupNorm(8, after), nn.ReLU()]
        if i < 3:
            layers.append(nn.MaxPool2d(2))
        before = after
    return nn.Sequential(*layers)


class TinyFasterRCNN(nn.Module):
    """A Faster R-CNN of half a million parameters. num_classes counts the background.

    sizes, aspect_ratios: the anchors', in pixels of the (shrunk) image. pooling: "pool" (Fast R-CNN) or
    "align" (Mask R-CNN). border: train the RPN only on anchors at most this many pixels outside the image
    (the paper: 0); None: on all, as torchvision does, which small pictures need, where half of the anchors
    cross the edge. max_side: a larger image is shrunk until its longer side is this long; boxes come back
    in its own pixels. The other numbers are those of the papers, made smaller with the picture.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        sizes: Sequence[float] = (16, 32, 64),
        aspect_ratios: Sequence[float] = (0.5, 1.0, 2.0),
        channels: Sequence[int] = (16, 32, 64, 64),
        hidden: int = 128,
        dropout: float = 0.0,
        pooling: str = "pool",
        max_side: int = 256,
        border: float | None = None,
        rpn_samples: int = 64,
        num_pre_nms: tuple[int, int] = (600, 300),
        num_post_nms: tuple[int, int] = (100, 50),
        rpn_nms_thresh: float = 0.7,
        min_size: float = 4.0,
        roi_samples: int = 32,
        score_thresh: float = 0.05,
        nms_thresh: float = 0.5,
        max_detections: int = 100,
    ) -> None:
        super().__init__()
        if pooling not in ("pool", "align"):
            raise ValueError(f"pooling: found {pooling!r}, needed 'pool' or 'align'")
        self.num_classes = check_count(num_classes, "num_classes", low=2)
        self.max_side = check_count(max_side, "max_side", low=STRIDE)
        self.pooling, self.border = pooling, border
        self.rpn_samples, self.roi_samples = rpn_samples, roi_samples
        self.num_pre_nms, self.num_post_nms = num_pre_nms, num_post_nms  # in training, at test
        self.rpn_nms_thresh = check_number(rpn_nms_thresh, "rpn_nms_thresh", 0, 1)
        self.min_size, self.score_thresh, self.nms_thresh = min_size, score_thresh, nms_thresh
        self.max_detections = max_detections
        self.cell_anchors: Tensor
        self.register_buffer("cell_anchors", generate_cell_anchors(sizes, aspect_ratios), persistent=False)
        self.backbone = backbone(channels)
        self.rpn_head = RPNHead(channels[-1], len(self.cell_anchors))
        self.box_head = FastRCNNHead(channels[-1] * POOL_SIZE**2, hidden, num_classes, dropout=dropout)

    def forward(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        """images: list of [3,H,W] float in 0..1, of any sizes. targets: {"boxes" [N,4] XYXY, "labels" [N]} each."""
        return self.trace(images, targets)[0]

    def trace(self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None):
        """(the result of forward, {"features", "images": [a dict with every intermediate, for each image]}).

        Boxes in it are in pixels of the network's input, which is the image unless it was shrunk ("scale").
        """
        _check_images(images)
        if self.training:
            _check_targets(targets, len(images), self.num_classes)
        elif not images:
            return [], {"images": []}
        batch, records = self._batch(images)
        features = self.backbone(batch).float()  # the operators compute in float32, also under autocast
        objectness, deltas = (output.float() for output in self.rpn_head(features))
        anchors = grid_anchors(self.cell_anchors, tuple(features.shape[-2:]), STRIDE)
        for i, record in enumerate(records):
            record.update(anchors=anchors, objectness=objectness[i], deltas=deltas[i])
            self._propose(record)
        trace = {"features": features, "images": records}
        if not self.training:
            return self._detect(features, records), trace
        assert targets is not None  # checked above
        for record, target in zip(records, targets):
            record["gt_boxes"] = target["boxes"].float() * record["scale"]
            record["gt_labels"] = target["labels"]
        losses = self._rpn_losses(records) | self._head_losses(features, records)
        trace["losses"] = losses
        return losses, trace

    def _batch(self, images: list[Tensor]) -> tuple[Tensor, list[dict]]:
        """Shrink what is too large, pad to one size (a multiple of the stride) with 0, the mean."""
        shrunk: list[Tensor] = []
        records: list[dict[str, Any]] = []
        for image in images:
            height, width = image.shape[-2:]
            factor = min(1.0, self.max_side / max(height, width))
            size = (max(1, round(height * factor)), max(1, round(width * factor)))
            if factor < 1:
                image = F.interpolate(image[None], size=size, mode="bilinear", antialias=True, align_corners=False)[0]
            shrunk.append((image - 0.5) / 0.25)
            scale = image.new_tensor([size[1] / width, size[0] / height] * 2)
            records.append({"image_size": size, "original_size": (height, width), "scale": scale})
        height, width = (-(-max(r["image_size"][i] for r in records) // STRIDE) * STRIDE for i in (0, 1))
        padded = [F.pad(image, (0, width - image.shape[2], 0, height - image.shape[1])) for image in shrunk]
        return torch.stack(padded), records

    def _propose(self, record: dict) -> None:
        at_test = int(not self.training)
        found = candidates(
            record["anchors"],
            record["deltas"].detach(),
            record["objectness"].detach(),
            record["image_size"],
            num_pre_nms=self.num_pre_nms[at_test],
            min_size=self.min_size,
        )
        keep = nms(found.boxes, found.scores, self.rpn_nms_thresh, max_keep=self.num_post_nms[at_test])
        record.update(candidates=found, nms_keep=keep, proposals=found.boxes[keep], proposal_scores=found.scores[keep])

    def _rpn_losses(self, records: list[dict]) -> dict[str, Tensor]:
        for record in records:
            anchors, gt_boxes = record["anchors"], record["gt_boxes"]
            iou = box_iou(gt_boxes, anchors)
            gt_idxs, labels = match_anchors(iou, high_thresh=0.7, low_thresh=0.3, low_quality=True)
            if self.border is not None:
                labels[~inside_image(anchors, record["image_size"], border=self.border)] = -1
            positive, negative = sample_labels(labels, num_samples=self.rpn_samples, positive_fraction=0.5)
            sampled = torch.full_like(labels, -1)
            sampled[positive], sampled[negative] = 1, 0
            targets = torch.zeros_like(anchors)
            targets[positive] = encode(gt_boxes[gt_idxs[positive]], anchors[positive], RPN_WEIGHTS)
            record.update(
                iou=iou,
                anchor_labels=labels,
                anchor_gt_idxs=gt_idxs,
                sampled_labels=sampled,
                target_deltas=targets,
            )
        objectness, box = rpn_loss(
            *(
                torch.cat([r[key] for r in records])
                for key in ("objectness", "deltas", "sampled_labels", "target_deltas")
            ),
            beta=beta_from_sigma(3),
        )
        return {"loss_objectness": objectness, "loss_rpn_box_reg": box}

    def _head_losses(self, features: Tensor, records: list[dict]) -> dict[str, Tensor]:
        samples: list[RoISample] = []
        for record in records:
            sample = sample_rois(
                record["proposals"],
                record["gt_boxes"],
                record["gt_labels"],
                num_samples=self.roi_samples,
                positive_fraction=0.25,
                fg_thresh=0.5,
                weights=HEAD_WEIGHTS,
            )
            record["roi_sample"] = sample
            samples.append(sample)
        class_logits, box_deltas = self._head(features, [sample.rois for sample in samples], records)
        classifier, box = detection_loss(
            class_logits,
            box_deltas,
            torch.cat([sample.labels for sample in samples]),
            torch.cat([sample.target_deltas for sample in samples]),
            beta=beta_from_sigma(1),
        )
        return {"loss_classifier": classifier, "loss_box_reg": box}

    def _head(self, features: Tensor, boxes: list[Tensor], records: list[dict]) -> tuple[Tensor, Tensor]:
        """Pool the boxes of all images from the features, run the head once, and split its output by image."""
        counts = [len(b) for b in boxes]
        rois = torch.cat([torch.cat((b.new_full((len(b), 1), i), b), dim=1) for i, b in enumerate(boxes)])
        if self.pooling == "pool":
            pooled = roi_pool(features, rois, POOL_SIZE, 1 / STRIDE)
        else:
            pooled = roi_align(features, rois, POOL_SIZE, 1 / STRIDE, sampling_ratio=2, aligned=True)
        class_logits, box_deltas = (output.float() for output in self.box_head(pooled))
        parts = zip(*(tensor.split(counts) for tensor in (rois, pooled, class_logits, box_deltas)))
        for record, (own_rois, own_pooled, logits, deltas) in zip(records, parts):
            record.update(rois=own_rois, pooled=own_pooled, class_logits=logits, box_deltas=deltas)
            record["bins"] = pool_bins(own_rois, features.shape[-2:], POOL_SIZE, 1 / STRIDE)
        return class_logits, box_deltas

    def _detect(self, features: Tensor, records: list[dict]) -> list[dict[str, Tensor]]:
        self._head(features, [record["proposals"] for record in records], records)
        results = []
        for record in records:
            found = postprocess(
                record["class_logits"],
                record["box_deltas"],
                record["proposals"],
                record["image_size"],
                score_thresh=self.score_thresh,
                nms_thresh=self.nms_thresh,
                max_detections=self.max_detections,
                weights=HEAD_WEIGHTS,
            )
            record["detections"] = found
            boxes = clip_boxes(found.boxes / record["scale"], record["original_size"])
            results.append({"boxes": boxes, "labels": found.labels, "scores": found.scores})
        return results


def _check_images(images: object) -> None:
    if not isinstance(images, list | tuple):
        raise ValueError(f"images: found {type(images).__name__}, needed a list of tensors [3, H, W]")
    for i, image in enumerate(images):
        if not isinstance(image, Tensor) or image.ndim != 3 or image.shape[0] != 3 or 0 in image.shape:
            found = list(image.shape) if isinstance(image, Tensor) else type(image).__name__
            raise ValueError(f"images[{i}]: found {found}, needed a tensor of shape [3, H, W]")
        if not image.is_floating_point():
            raise ValueError(f"images[{i}]: found dtype {image.dtype}, needed floating point in 0..1")


def _check_targets(targets: object, num_images: int, num_classes: int) -> None:
    if not isinstance(targets, list | tuple) or len(targets) != num_images or not num_images:
        found = len(targets) if isinstance(targets, list | tuple) else type(targets).__name__
        raise ValueError(f"targets: found {found}, needed a list of {max(num_images, 1)}, one for each image")
    for i, target in enumerate(targets):
        for key in ("boxes", "labels"):
            if key not in target:
                raise ValueError(f"targets[{i}]: found keys {sorted(target)}, needed 'boxes' and 'labels'")
        boxes = check_boxes(target["boxes"], f"targets[{i}]['boxes']", order="strict")
        within, name = (1, num_classes - 1), f"targets[{i}]['labels']"
        check_labels(target["labels"], name, len(boxes), "the boxes", within=within, why="0 is background")
