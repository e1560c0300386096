"""Is run B better than run A? Both on the same images, by a paired bootstrap; each may stand for several seeds."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from label_tools.document import coco_file
from label_tools.text.json_csv import write_json
from label_tools.text.own_folders import check_whole, together
from label_tools.text.strict_json import loads
from toolkit.evaluation.compute import DEFAULTS, Settings
from toolkit.evaluation.detections import TOGETHER, detections_of, read_detections
from toolkit.metrics.arrays import read_tables
from toolkit.metrics.comparison import compare
from toolkit.metrics.masks import tables_by_masks, with_runs
from toolkit.metrics.matching import Matches, match
from toolkit.training import run_folder


def compare_with(
    folder: Path,
    others: Path | Sequence[Path],
    settings: Settings = DEFAULTS,
    *,
    seeds: Sequence[Path] = (),
    device: str = "auto",
    batch_size: int = 4,
) -> dict:
    """Compare the evaluation in `folder` (A) with `others` (B) and add "compare" to its metrics.json. -> its metrics.

    others: a COCO results file of the same images; or a run, or the --out folder of an evaluation; several are one
    recipe trained with several seeds. seeds: further runs of A's recipe. What they have detected on the same images
    before is used again; else their best checkpoints detect on A's images.
    """
    folder = Path(folder)
    others = [Path(others)] if isinstance(others, (str, Path)) else [Path(one) for one in others]
    check_whole(folder, "evaluation", TOGETHER)
    document = coco_file.read_raw(folder / "annotations.json")
    ours = read_detections(folder / "detections.json")
    root = coco_file.image_root(document, folder / "annotations.json")

    def of(place: Path) -> list:
        return detections_of(place, document, root, folder.name, device=device, batch_size=batch_size)

    sides = [
        [_matched(document, ours, folder / "detections.json"), *(_matched(document, of(one), one) for one in seeds)],
        [_matched(document, of(one), one) for one in others],
    ]
    metrics = loads((folder / "metrics.json").read_bytes(), str(folder / "metrics.json"))
    resamples = settings.resamples or Settings.resamples
    boxes_a, boxes_b = ([boxes for boxes, _ in side] for side in sides)
    found = compare(boxes_a, boxes_b, resamples, settings.seed)
    masks_a, masks_b = ([masks for _, masks in side if masks] for side in sides)
    if masks_a:
        found["segm"] = None  # B has no masks
        if len(masks_a) == len(boxes_a) and len(masks_b) == len(boxes_b):
            found["segm"] = compare(masks_a, masks_b, resamples, settings.seed)
    names = {"a": folder.parent.name if metrics.get("split") else folder.name, "name": _name(others)}
    notes = [f"{one} is still training, or was cut off" for one in (*others, *seeds) if _runs_on(one)]
    metrics["compare"] = {**found, **names, "notes": notes, "split": metrics.get("split", "")}
    with together(folder, "evaluation", keep=True) as made:
        write_json(made / "metrics.json", metrics)
    return metrics


def _matched(document: dict, detections: list, where: Path) -> tuple[Matches, Matches | None]:
    """Matches by boxes, and by masks where there are some."""
    detections = with_runs(document, detections, str(where))[0]
    tables = read_tables(document, detections, "annotations.json", str(where))
    masks = tables_by_masks(tables, document, detections)[0]
    return match(tables), match(masks) if masks else None


def _name(places: Sequence[Path]) -> str:
    return ", ".join(one.name or str(one) for one in places)


def _runs_on(place: Path) -> bool:
    return run_folder.is_run(place) and run_folder.read_run(place).get("status") == "running"
