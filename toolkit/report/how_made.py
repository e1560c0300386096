"""How a run and its evaluation were made, as rows of a table."""

from __future__ import annotations

from toolkit.report.read_logs import Training


def made_rows(training: Training, metrics: dict | None, loaded: dict[str, dict]) -> list[tuple[str, str]]:
    """(what, value) of how the run and its evaluation were made."""
    run, rows = training.run, []

    def add(name: str, value: object) -> None:
        if value not in (None, "", [], {}):
            rows.append((name, str(value)))

    add("command", run.get("command"))
    add("model", run.get("model"))
    add("status", run.get("status"))
    add("started", run.get("started"))
    add("time", _duration(run.get("seconds")))
    add("device", run.get("device"))
    add("seed", run.get("seed"))
    classes = run.get("classes")
    add("classes", ", ".join(map(str, classes)) if isinstance(classes, list) else None)
    images = run.get("num_images")
    if isinstance(images, dict):
        more = {"test": loaded["test"]["num_images"]} if "test" in loaded else {}
        images = ", ".join(f"{k} {v}" for k, v in {**images, **more}.items())
    add("images", images)
    add("data fingerprint", run.get("data_fingerprint"))
    versions = run.get("versions")
    add("versions", ", ".join(f"{k} {v}" for k, v in versions.items()) if isinstance(versions, dict) else None)
    if metrics is not None:
        add("checkpoint", _checkpoint(metrics.get("checkpoint")))
        source = metrics.get("source")
        if source:
            add("labels", source["annotations"])
            add("detections", source["detections"])
        settings = metrics["settings"]
        add(
            "evaluated on",
            f"{metrics['num_images']} images, {metrics['num_objects']} objects, {metrics['num_detections']} detections",
        )
        floor = settings.get("score_floor", settings["lowest_score"])
        add(
            "score floor",
            f"{floor:.3f}: detections under it were never made, so recall ends there" if floor is not None else None,
        )
        add("detections per class and image", f"at most {settings['max_detections']} (COCO's maxDets)")
        add(
            "areas",
            "small under 32 x 32, large over 96 x 96 pixels of the original image; the annotation's own "
            "area where it has one, else the box's",
        )
        add(
            "thresholds",
            "chosen "
            + (
                "before, on other images"
                if settings["thresholds_from"] == "elsewhere"
                else "on these images, so precision and recall at them look a little too good"
            )
            + (
                ": middle of those with a high F1"
                if settings["precision"] is None
                else f": precision {settings['precision']:.2f}"
            ),
        )
        intervals = metrics.get("intervals")
        if intervals:
            add(
                "intervals",
                f"95 %, half samples of the images, {intervals['resamples']} resamples, seed {intervals['seed']}",
            )
    return rows


def _checkpoint(found: dict | None) -> str | None:
    if not found:
        return None
    return f"{found.get('folder')}, epoch {found.get('epoch')}, step {found.get('step')}"


def _duration(seconds: object) -> str | None:
    if not isinstance(seconds, (int, float)) or isinstance(seconds, bool):
        return None
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"
