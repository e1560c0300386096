"""How a run and its evaluation were made, as rows of a table."""

from __future__ import annotations

from toolkit.report.read_logs import Training


def made_rows(training: Training, metrics: dict | None, loaded: dict[str, dict]) -> list[tuple[str, str]]:
    """(what, value) of how the run and its evaluation were made, as far as it is known."""
    run = training.run
    classes, images, versions = (run.get(key) for key in ("classes", "num_images", "versions"))
    if isinstance(images, dict):
        images = {**images, "test": loaded["test"]["num_images"]} if "test" in loaded else images
        images = ", ".join(f"{part} {number}" for part, number in images.items())
    rows = [
        *((key, run.get(key)) for key in ("command", "model", "status", "started")),
        ("time", _duration(run.get("seconds"))),
        *((key, run.get(key)) for key in ("device", "seed")),
        ("classes", ", ".join(map(str, classes)) if isinstance(classes, list) else None),
        ("images", images),
        ("data fingerprint", run.get("data_fingerprint")),
        ("versions", ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else None),
        *(_evaluated(metrics) if metrics is not None else ()),
    ]
    return [(name, str(value)) for name, value in rows if value not in (None, "", [], {})]


def _evaluated(metrics: dict) -> list[tuple[str, str | None]]:
    found, source, settings = metrics.get("checkpoint"), metrics.get("source") or {}, metrics["settings"]
    numbers = (metrics[f"num_{what}"] for what in ("images", "objects", "detections"))
    floor = settings.get("score_floor", settings["lowest_score"])
    chosen = "chosen on these images, so precision and recall at them look a little too good"
    if settings["thresholds_from"] == "elsewhere":
        chosen = "chosen before, on other images"
    precision, halves = settings["precision"], metrics.get("intervals")
    aim = "middle of those with a high F1" if precision is None else f"precision {precision:.2f}"
    return [
        ("checkpoint", found and f"{found.get('folder')}, epoch {found.get('epoch')}, step {found.get('step')}"),
        ("labels", source.get("annotations")),
        ("detections", source.get("detections")),
        ("evaluated on", "{} images, {} objects, {} detections".format(*numbers)),
        (
            "score floor",
            None if floor is None else f"{floor:.3f}: detections under it were never made, so recall ends there",
        ),
        ("detections per class and image", f"at most {settings['max_detections']} (COCO's maxDets)"),
        (
            "areas",
            "small under 32 x 32, large over 96 x 96 pixels of the original image; the annotation's own "
            "area where it has one, else the box's",
        ),
        ("thresholds", f"{chosen}: {aim}"),
        (
            "intervals",
            halves and f"95 %, half samples of the images, {halves['resamples']} resamples, seed {halves['seed']}",
        ),
    ]


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
