"""Is run B better than run A? Both on the same images, by a paired bootstrap."""

from __future__ import annotations

from pathlib import Path

from label_tools.document import coco_file
from label_tools.text.json_csv import write_json
from label_tools.text.own_folders import check_whole, together
from label_tools.text.strict_json import loads
from toolkit.evaluation.compute import DEFAULTS, Settings
from toolkit.evaluation.detections import TOGETHER, detections_of, read_detections
from toolkit.metrics.arrays import read_tables
from toolkit.metrics.intervals import compare
from toolkit.metrics.masks import tables_by_masks, with_runs
from toolkit.metrics.matching import match


def compare_with(
    folder: Path, other: Path, settings: Settings = DEFAULTS, *, device: str = "auto", batch_size: int = 4
) -> dict:
    """Compare the evaluation in `folder` (A) with `other` (B) and add "compare" to its metrics.json. -> its metrics.

    other: a COCO results file of the same images; or a run, or the --out folder of an evaluation. What B has
    detected on the same images before is used again; else its best checkpoint detects on A's images.
    """
    folder, other = Path(folder), Path(other)
    check_whole(folder, "evaluation", TOGETHER)
    document = coco_file.read_raw(folder / "annotations.json")
    ours = read_detections(folder / "detections.json")
    root = coco_file.image_root(document, folder / "annotations.json")
    theirs = detections_of(other, document, root, folder.name, device=device, batch_size=batch_size)
    both = (ours, str(folder / "detections.json")), (theirs, str(other))
    models = [(with_runs(document, detections, where)[0], where) for detections, where in both]
    tables = [read_tables(document, found, str(folder / "annotations.json"), where) for found, where in models]
    ours_by_masks, theirs_by_masks = [tables_by_masks(of, document, found)[0] for of, (found, _) in zip(tables, models)]
    metrics = loads((folder / "metrics.json").read_bytes(), str(folder / "metrics.json"))
    resamples = settings.resamples or Settings.resamples
    found = compare(match(tables[0]), match(tables[1]), resamples, settings.seed)
    if ours_by_masks:
        found["segm"] = None  # B has no masks
        if theirs_by_masks:
            found["segm"] = compare(match(ours_by_masks), match(theirs_by_masks), resamples, settings.seed)
    metrics["compare"] = {**found, "name": other.name or str(other), "split": metrics.get("split", "")}
    with together(folder, "evaluation", keep=True) as made:
        write_json(made / "metrics.json", metrics)
    return metrics
