"""The weighted sum of losses of a baseline, written as a person would: `25*ce + l1`, `bce + 4*mse + ce`.

    ce                      cross-entropy of the class
    bce                     binary cross-entropy of presence, over all images
    mse l1 smooth_l1        mean over the four numbers of the box in the network's own code (see `box_codes`)
    iou giou diou ciou      of the boxes in pixels

Class and box count only where there is an object; every term is divided by the number of images of the batch.
Since the sum of two losses has the sum of their gradients, one backward pass over it does what the documents do
with two and `retain_graph=True`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from torch import Tensor
from torch.nn import functional

from anchors.losses import smooth_l1
from label_tools.text.errors import InputError
from toolkit.single_object import box_codes, box_losses
from toolkit.single_object.data.samples import One
from toolkit.single_object.predictions import Answer

SMOOTH_L1_BETA = 1 / 9  # torchvision's, in both stages of its detectors
_ELEMENTS = {
    "mse": lambda a, b: (a - b).square(),
    "l1": lambda a, b: (a - b).abs(),
    "smooth_l1": lambda a, b: smooth_l1(a - b, beta=SMOOTH_L1_BETA),
}
TERMS = ("ce", "bce", *_ELEMENTS, *box_losses.KINDS)


@dataclass(frozen=True)
class WeightedSum:
    """Terms and their weights. `terms(...)` gives each loss already weighted; their sum is the loss."""

    weights: dict[str, float]

    @classmethod
    def parse(cls, text: str) -> WeightedSum:
        """From `25*ce + l1`. InputError names a term that is unknown, repeated or without a numeric weight."""
        weights: dict[str, float] = {}
        for part in text.split("+"):
            found = re.fullmatch(r"\s*(?:(\d+(?:\.\d*)?|\.\d+)\s*\*\s*)?([a-z0-9_]+)\s*", part)
            if not found or found[2] not in TERMS:
                raise InputError(
                    f"--loss {text!r}: found {part.strip()!r}, needs terms like 25*ce + l1 out of {', '.join(TERMS)}"
                )
            if found[2] in weights:
                raise InputError(f"--loss {text!r}: {found[2]} stands in it twice")
            weights[found[2]] = float(found[1] or 1)
        return cls(weights)

    def terms(self, answer: Answer, truth: One, code: str, size: tuple[int, int]) -> dict[str, Tensor]:
        """{term: weighted loss} of a batch. Asserts that the network has what the terms ask for."""
        share = truth.present.to(answer.logits.dtype)
        return {
            name: weight * self._one(name, answer, truth, code, size, share) for name, weight in self.weights.items()
        }

    def _one(self, name: str, answer: Answer, truth: One, code: str, size: tuple[int, int], share: Tensor) -> Tensor:
        if name == "bce":
            assert answer.presence is not None, "this network has no presence output; leave bce out of --loss"
            return functional.binary_cross_entropy_with_logits(answer.presence, share)
        if name == "ce":
            each = functional.cross_entropy(answer.logits, truth.labels, reduction="none")
        elif name in _ELEMENTS:
            each = _ELEMENTS[name](answer.values, box_codes.encode(truth.boxes, code, size)).mean(1)
        else:
            # an absent object's box has no area; any real box stands in, its loss is not counted
            boxes = truth.boxes.where(truth.present[:, None], truth.boxes.new_tensor([0, 0, 1, 1]))
            each = box_losses.box_loss(name, box_codes.decode(answer.values, code, size), boxes)
        return (each * share).mean()
