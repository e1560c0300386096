"""What a detector says of each picture for the ranking: what it finds, also in the mirror image, and its features."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from toolkit.labelling import ranking
from toolkit.prediction.detect_pictures import detect_pictures
from toolkit.prediction.detector import Detector
from toolkit.prediction.picture_sources import Picture


def pool_signs(detector: Detector, paths: Sequence[Path], labelled: dict[int, int]) -> ranking.Signs:
    """The signs of pictures that can be read. labelled: {category id: labelled objects}."""
    found, mirrored, features = [], [], []
    for one in detect_pictures(detector, (Picture(str(path), path) for path in paths)):
        assert one.pixels is not None, one.error
        found.append(one.found)
        mirror = detector.detect([np.ascontiguousarray(one.pixels[:, ::-1])])[0]
        mirrored.append(ranking.mirrored_back(mirror, one.pixels.shape[1]))
        features.append(features_of(detector, one.pixels))
    return ranking.signs_of(found, mirrored, labelled, features)


def known_features(detector: Detector, paths: Sequence[Path]) -> np.ndarray:
    """[M,C] of pictures, for `ranking.choose`."""
    opening = getattr(detector, "opening", {})
    return np.array([features_of(detector, Picture(str(path), path).open(opening)) for path in paths])


def features_of(detector: Detector, image: np.ndarray) -> np.ndarray:
    """[C] of length 1 for an image [H,W,3] uint8: the backbone's maps, each averaged over the picture. [0] where the
    detector is no network of torch with a backbone."""
    import torch

    model: Any = getattr(detector, "model", None)
    if not hasattr(model, "backbone") or not hasattr(model, "transform"):
        return np.zeros(0)
    with torch.no_grad():
        model.eval()
        tensor = torch.from_numpy(np.array(image)).permute(2, 0, 1).float().div(255)
        batch, _ = model.transform([tensor.to(next(model.parameters()).device)])
        maps = model.backbone(batch.tensors)
        levels = list(maps.values()) if isinstance(maps, dict) else [maps]
        row = torch.cat([level.mean((2, 3))[0] for level in levels]).float().cpu().numpy()
    return row / max(float(np.linalg.norm(row)), 1e-12)
