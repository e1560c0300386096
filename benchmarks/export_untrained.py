"""Does an untrained network export? Its heads are spread, so that it is as sure of its guesses as a trained one.

    python benchmarks/export_untrained.py MODEL VAL.json OUT [--image-size N] [--images N]

Weights as they are drawn give every place almost the same score, so that roundings decide which boxes NMS keeps. Here
each head's last layer is scaled, on the pictures themselves, to SPREAD: the command's own comparison says the rest.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from label_tools.document import coco_file
from label_tools.pictures.open_image import open_image
from toolkit import checkpoint, config
from toolkit.deployment import export
from toolkit.networks import builder

SPREAD = {"cls_logits": 1.0, "bbox_pred": 0.1, "cls_score": 0.5}  # standard deviation of what a layer gives
PICTURES = 4  # that the spread is measured on


def spread(model: torch.nn.Module, images: list[torch.Tensor]) -> None:
    """Scale the last layers of the heads until what they give for `images` has a mean of 0 and the SPREAD."""
    heads = [model.rpn.head, model.roi_heads.box_predictor]
    for name, layer in [one for head in heads for one in head.named_modules()]:  # the RPN first: others see its boxes
        wanted = SPREAD.get(name.split(".")[0])
        if wanted is None or not hasattr(layer, "weight"):
            continue
        seen: list[torch.Tensor] = []
        hook = layer.register_forward_hook(lambda _, __, out, seen=seen: seen.append(out.flatten()))
        with torch.inference_mode():
            for image in images:
                model([image])
        hook.remove()
        values = torch.cat(seen)
        layer.weight.data *= wanted / values.std()
        layer.bias.data.zero_()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("model")
    parser.add_argument("val", type=Path)
    parser.add_argument("out", type=Path, help="a new folder: the run and model.onnx")
    parser.add_argument("--image-size", type=int)
    parser.add_argument("--images", type=int, default=10**6, help="so many of the file")
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    document = json.loads(args.val.read_text())
    root = coco_file.image_root(document, args.val)
    document["images"] = document["images"][: args.images]
    ids = {image["id"] for image in document["images"]}
    document["annotations"] = [one for one in document["annotations"] if one["image_id"] in ids]
    document.setdefault("info", {})["image_root"] = os.path.relpath(root.resolve(), args.out.resolve())
    classes = [{"id": one["id"], "name": one["name"]} for one in document["categories"]]
    recipe = config.resolve(100, {"model": args.model}).model
    size = args.image_size or recipe.image_size
    sizes = {"min_size": size, "max_size": round(size * recipe.max_size / recipe.image_size)}
    sizes |= {"box_score_thresh": recipe.score_floor, "box_detections_per_img": recipe.max_detections}
    torch.manual_seed(args.seed)
    model, architecture, _ = builder.build(
        args.model, len(classes) + 1, weights="none", trainable_layers=3, norm="auto", batch_size=4, sizes=sizes
    )
    pictures = [np.asarray(open_image(root / one["file_name"])) for one in document["images"][:PICTURES]]
    spread(model.eval(), [torch.from_numpy(one.copy()).permute(2, 0, 1) / 255 for one in pictures])
    args.out.mkdir(parents=True)
    meta = {"classes": classes, "architecture": architecture, "score_thresholds": {}}
    checkpoint.save(args.out / "best", meta, model.state_dict(), None)
    (args.out / "val.json").write_text(json.dumps(document))
    result = export.export_onnx(args.out, args.out / "model.onnx")
    print("\n".join([*export.summary(args.out / "model.onnx", result), *result.undecided]))


if __name__ == "__main__":
    main()
