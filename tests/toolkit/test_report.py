"""report.html by its HTML alone: every section, every figure with its numbers, nothing from elsewhere; hostile
names; interrupted runs. tests/toolkit/test_report_browser.py opens it in a browser where there is one."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
import sys
from html.parser import HTMLParser

import pytest

from label_tools.text.errors import InputError, MissingExtra
from tests.toolkit.evaluation_fixtures import (
    document_of,
    draw_images,
    made_run,
    perfect,
    scene,
    with_outlines,
    write_training_log,
)
from toolkit.evaluation.compute_metrics import Settings, compute_metrics
from toolkit.evaluation.evaluate_files import evaluate_files
from toolkit.evaluation.evaluation_folder import write_evaluation
from toolkit.report import figures
from toolkit.report.read_logs import Training, read_training, smooth
from toolkit.report.write_report import read_metrics, write_report
from toolkit.training.run_folder import Lock

SECTIONS = [
    "headline",
    "next",
    "classes",
    "errors",
    "galleries",
    "suspects",
    "threshold",
    "curves",
    "calibration",
    "objects",
    "anchors",
    "training",
    "made",
]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """What a reader of the page would see, by section; checks that tags close in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[tuple[str, dict]] = []
        self.section, self.sections, self.ids, self.links = "", {}, [], []
        self.tags: dict[str, dict[str, int]] = {}
        self.problems: list[str] = []
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attributes):
        found = dict(attributes)
        if tag == "section":
            self.section = found["id"]
            self.sections[self.section] = ""
        if "id" in found:
            self.ids.append(found["id"])
        for key in ("href", "src"):
            if key in found:
                self.links.append((tag, found[key], found.get("download")))
        here = self.tags.setdefault(self.section, {})
        name = tag + ("." + found["class"].split()[0] if found.get("class") else "")
        here[name] = here.get(name, 0) + 1
        if tag not in VOID:
            self.open.append((tag, found))

    def handle_startendtag(self, tag, attributes):
        self.handle_starttag(tag, attributes)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if not self.open or self.open[-1][0] != tag:
            self.problems.append(f"</{tag}> closes {self.open[-1][0] if self.open else 'nothing'}")
            return
        self.open.pop()
        if tag == "section":
            self.section = ""

    def handle_data(self, data):
        if self.section:
            self.sections[self.section] += data


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return made_run(tmp_path_factory.mktemp("report"), images=14)


@pytest.fixture(scope="module")
def page(run):
    return Page(write_report(run).read_text(encoding="utf-8"))


def test_every_section_is_there_in_order_and_has_a_link(page):
    assert list(page.sections) == SECTIONS
    anchors = [link for tag, link, _ in page.links if tag == "a" and link.startswith("#")]
    assert anchors[: 1 + len(SECTIONS)] == ["#headline", *("#" + name for name in SECTIONS)]  # the skip link first
    assert {link[1:] for link in anchors} <= set(page.ids)  # every step and note leads somewhere
    assert page.problems == []
    assert len(page.ids) == len(set(page.ids))
    assert "Nothing was evaluated" not in "".join(page.sections.values())


def test_nothing_comes_from_elsewhere(page, run):
    for tag, link, _ in page.links:
        pictures = ("./val/../../../images/",) if tag == "a" else ()  # where the images lie, to be opened
        assert link.startswith(("#", "data:", "val/", *pictures)), (tag, link[:80])
    html = (run / "report.html").read_text()
    assert "http://" not in html
    assert "https://" not in html


def test_every_figure_has_its_numbers(page):
    data = [(link, name) for _, link, name in page.links if name]
    names = {name for _, name in data}
    assert names == {
        "precision_recall_50.csv",
        "precision_recall_75.csv",
        "f1.csv",
        "precision.csv",
        "recall.csv",
        "ap_by_iou.csv",
        "ious.csv",
        "scores.csv",
        "calibration.csv",
        "confusion.csv",
        "counts.csv",
        "error_kinds.csv",
        "losses.csv",
        "epochs.csv",
        "learning_rate.csv",
        "objects.csv",
        "anchors.csv",
    }
    for link, name in data:
        content = base64.b64decode(link.split("base64,")[1]).decode()
        header, *rows = csv.reader(io.StringIO(content))
        assert rows, name
        assert all(len(row) == len(header) for row in rows), name
    charts = sum(tags.get("svg.chart", 0) for tags in page.tags.values())
    assert charts == len(data)


def test_means_and_losses_of_a_log_by_hand():
    assert smooth([1, 2, 3, 5, 8], 2) == [1, 1.5, 2.5, 4, 6.5]
    assert smooth([1, 2, 3], 9) == [1, 1.5, 2]  # of as many as there are
    kinds = [{"box": 1.0, "class": 2.0}, {"loss": 4.0, "box": 1.0}, {"box": float("nan")}, {}, None]
    epochs = [{"epoch": number, "val_loss": losses} for number, losses in enumerate(kinds, 1)]
    found = Training({}, [], epochs, "", []).losses("val_loss")
    assert [(record["epoch"], total) for record, total in found] == [(1, 3.0), (2, 4.0)]


def test_the_part_of_an_epoch_that_max_time_left_is_in_the_log(tmp_path):
    records = [{"kind": "epoch", "epoch": epoch, "AP": 0.1} for epoch in (1, 2, 2, 2.4, "x", None)]
    (tmp_path / "metrics.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert [record["epoch"] for record in read_training(tmp_path).epochs] == [1, 2, 2.4]


def test_the_best_epoch_is_the_one_that_the_run_kept():
    """By masks where the network has them: epoch 2, though epoch 3 has the higher AP by boxes."""
    epochs = [{"epoch": 2, "AP": 0.6, "segm_AP": 0.5}, {"epoch": 3, "AP": 0.7, "segm_AP": 0.4}]
    assert "Best by masks: epoch 2 with AP 0.500." in figures.ap_per_epoch(Training({}, [], epochs, "", [])).caption
    boxes = [{"epoch": one["epoch"], "AP": one["AP"]} for one in epochs]
    assert "Best: epoch 3 with AP 0.700." in figures.ap_per_epoch(Training({}, [], boxes, "", [])).caption


def test_figures_say_split_iou_and_threshold(page):
    for name in ("curves", "calibration", "errors", "threshold"):
        assert "val split" in page.sections[name], name
        assert "IoU 0.50" in page.sections[name], name
    assert "own score threshold" in page.sections["errors"]
    assert "all score thresholds" in page.sections["curves"]


def test_headline_is_metrics_json(page, run):
    metrics = read_metrics(run)
    low, high = metrics["intervals"]["AP"]
    assert f"{metrics['AP']:.3f}" in page.sections["headline"]
    assert f"interval {low:.3f} to {high:.3f}" in page.sections["headline"]
    for name, one in metrics["per_class"].items():
        assert name in page.sections["classes"]
        assert f"{one['AP']:.3f}" in page.sections["classes"]
    assert "n/a (0 objects)" in page.sections["headline"]  # large ones


def test_galleries_have_pictures_and_boxes(page):
    assert page.tags["galleries"]["svg.shot"] >= 8
    assert page.tags["galleries"]["image"] == page.tags["galleries"]["svg.shot"]
    assert page.tags["galleries"]["rect.box"] >= 20
    assert page.tags["suspects"]["svg.shot"] >= 3
    assert page.tags["galleries"]["figure.pic"] == 14  # every image
    for heading in ("Missed objects", "False detections"):
        assert heading in page.sections["galleries"]


def test_each_picture_says_what_it_holds_and_links_its_file(page, run):
    document = json.loads((run / "val" / "annotations.json").read_text())
    names = {category["id"]: category["name"] for category in document["categories"]}
    for image in document["images"]:
        held = [names[a["category_id"]] for a in document["annotations"] if a["image_id"] == image["id"]]
        wanted = ", ".join(f"{held.count(name)} {name}" for name in names.values() if name in held)
        assert f"holds {wanted or 'no object'}" in page.sections["galleries"]
        (link,) = {link for tag, link, _ in page.links if tag == "a" and link.endswith("/" + image["file_name"])}
        assert (run / link).is_file()


def test_galleries_show_the_worst_first_and_many_images(run):
    content = json.loads((run / "val" / "gallery.json").read_text())
    galleries, images = content["crops"], content["images"]
    scores = [float(item["title"].split()[-1]) for item in galleries["false"]]
    assert len(scores) >= 4
    first = [item["file_name"] for item in galleries["false"]][: len({i["file_name"] for i in galleries["false"]})]
    assert max(first.count(name) for name in first) <= 2
    assert "0 false, 0 missed" in images[-1]["title"]
    assert {box["kind"] for box in images[-1]["boxes"] if box["shown"]} <= {"true", "right"}
    errors = [sum(map(int, item["title"].split()[2::2])) for item in images]
    assert errors == sorted(errors, reverse=True)
    for item in galleries["missed"]:
        assert "missed" in {box["kind"] for box in item["boxes"]}


def test_how_it_was_made_is_complete(page):
    text = page.sections["made"]
    for wanted in (
        "frcnn train labels",
        "fasterrcnn_tiny_fpn",
        "0123456789abcdef",
        "torch 2.15.0",
        "epochs: 8",
        "1 min 36 s",
        "seed",
        "best, epoch 7",
    ):
        assert wanted in text, wanted


def test_a_small_set_is_said_in_the_head(page):
    assert "SMALL SET: evaluated on 14 images" in page.sections["headline"]
    assert "val also chose the epoch" in page.sections["headline"]
    assert "frcnn crossval" in page.sections["headline"]


def test_counts_that_differ_say_what_they_count(page):
    # the confusion's last row holds localisation errors and duplicates too; "missed" has two meanings
    assert "where nothing is)" not in page.sections["errors"]
    assert "lie on no object with IoU 0.50 or more (nothing there, or a box too far off)" in page.sections["errors"]
    assert "at any score" in page.sections["errors"]
    assert "go by the thresholds" in page.sections["errors"]
    assert "counts fewer: those without a detection at any score" in page.sections["galleries"]
    assert "Every number is in val/metrics.json, as seen from this page" in page.sections["made"]


def test_the_folder_alone_is_enough_and_gives_the_same_page(run, tmp_path):
    wanted = (run / "report.html").read_text()
    copy = tmp_path / "elsewhere" / run.name
    shutil.copytree(run, copy)  # without the images
    assert write_report(copy).read_text().replace(copy.as_posix(), "") == wanted.replace(run.as_posix(), "")


def test_crowded_pictures_take_room_from_the_others(tmp_path, monkeypatch):
    from toolkit.report import write_gallery

    def shown(name):
        run = made_run(tmp_path / name, images=8)
        content = json.loads((run / "val" / "gallery.json").read_text())
        assert content["num_images"] == 8
        return content["images"], Page(write_report(run).read_text()).sections["galleries"]

    everything, text = shown("all")
    assert len(everything) == 8 and "pictures with the most errors" not in text
    room = sum(write_gallery.BOX_BYTES * len(item["boxes"]) for item in everything[:5])
    monkeypatch.setattr(write_gallery, "BOX_BUDGET", room + 1)  # the boxes of five pictures, and no more
    some, text = shown("some")
    assert [item["file_name"] for item in some] == [item["file_name"] for item in everything[:5]]
    assert "The 5 pictures with the most errors, of 8." in text


def test_size_for_200_images(tmp_path):
    run = made_run(tmp_path, images=200)
    assert write_report(run).stat().st_size < 5_000_000


def test_an_interrupted_run_has_its_curves(tmp_path):
    write_training_log(tmp_path, epochs=3)
    log = tmp_path / "metrics.jsonl"
    log.write_bytes(log.read_bytes()[:-40])  # cut off while writing
    record = json.loads((tmp_path / "run.json").read_text())
    (tmp_path / "run.json").write_text(json.dumps({**record, "status": "running"}))
    page = Page(write_report(tmp_path).read_text())
    assert list(page.sections) == SECTIONS
    assert "This run was cut off before it ended, after 2 epochs." in page.sections["headline"]
    assert "1 line of metrics.jsonl cannot be read" in page.sections["headline"]
    with Lock(tmp_path):
        assert "This run is still training; so far 2 epochs." in write_report(tmp_path).read_text()
    assert page.tags["training"]["svg.chart"] == 3
    assert "Nothing was evaluated yet" in page.sections["curves"]


@pytest.mark.parametrize(
    "spoil",
    ["run.json", "config.yaml", "metrics.jsonl", "val/metrics.json", "val/gallery.json", "val/f1.csv", "val/pictures"],
)
def test_any_file_may_be_missing_or_broken(run, tmp_path, spoil):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    place = copy / spoil
    if place.is_dir():
        shutil.rmtree(place)
    else:
        place.unlink()
    assert list(Page(write_report(copy).read_text()).sections) == SECTIONS
    if not spoil.endswith(("pictures", "csv")):
        place.write_bytes(b'{"half": ')
        assert list(Page(write_report(copy).read_text()).sections) == SECTIONS


def test_an_empty_folder_and_no_folder(tmp_path):
    for made in (write_report, read_metrics):
        with pytest.raises(InputError, match="absent: not found; needs a run folder"):
            made(tmp_path / "absent")
        with pytest.raises(InputError, match="is not a run folder; needs runs/NAME"):
            made(tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "run.json").write_text("{}")  # a run of which nothing else is left
    assert list(Page(write_report(tmp_path).read_text()).sections) == SECTIONS
    with pytest.raises(InputError, match="holds no evaluation"):
        read_metrics(tmp_path)


def test_names_cannot_break_the_page(tmp_path):
    evil = "<script>alert(1)</script>\"'&<b>"
    document, detections = scene(1, images=4)
    document["categories"][0]["name"] = evil
    document["categories"][1]["name"] = "\u202e{{ 7*7 }}"
    document["images"][0]["file_name"] = "<img src=x onerror=alert(2)>.jpg"
    evaluation = compute_metrics(document, detections, Settings(resamples=20), split="val")
    write_evaluation(tmp_path / "val", evaluation, tmp_path)
    html = write_report(tmp_path).read_text()
    assert "<script>alert" not in html
    assert "<img" not in html
    assert "{{ 7*7 }}" in html
    assert Page(html).problems == []


def test_pictures_that_are_gone_are_said(tmp_path):
    document, detections = scene(2, images=4)
    write_evaluation(tmp_path, compute_metrics(document, detections, Settings(resamples=20)), tmp_path / "nowhere")
    page = Page(write_report(tmp_path).read_text())
    assert "could not be opened" in page.sections["galleries"]
    assert "svg.shot" not in page.tags["galleries"]


def test_a_file_name_cannot_lead_out_of_the_image_root(tmp_path):
    from PIL import Image

    Image.new("RGB", (200, 160)).save(tmp_path / "secret.jpg")
    document = document_of([[(1, 10, 10, 50, 50)]])
    document["images"][0]["file_name"] = "../secret.jpg"
    (tmp_path / "root").mkdir()
    evaluation = compute_metrics(document, perfect(document), Settings(resamples=0))
    write_evaluation(tmp_path / "out", evaluation, tmp_path / "root")
    assert list((tmp_path / "out").glob("pictures/*")) == []


@pytest.mark.parametrize("boxes", [[[], []], [[(1, 10, 10, 20, 20)], []]])
@pytest.mark.parametrize("detected", [False, True])
def test_nothing_labelled_or_nothing_detected(tmp_path, boxes, detected):
    document = document_of(boxes)
    found = [{"image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "score": 0.9}] if detected else []
    write_evaluation(tmp_path, compute_metrics(document, found), tmp_path)
    page = Page(write_report(tmp_path).read_text())
    assert list(page.sections) == SECTIONS
    assert "-1" not in page.sections["headline"]
    if boxes == [[], []]:
        assert "n/a" in page.sections["headline"]


def test_one_image_has_no_interval(tmp_path):
    document = document_of([[(1, 10, 10, 20, 20)]])
    write_evaluation(tmp_path, compute_metrics(document, perfect(document)), tmp_path)
    assert "needs two images or more" in Page(write_report(tmp_path).read_text()).sections["headline"]


def test_many_classes_stay_readable(tmp_path):
    names = tuple(f"class {i}" for i in range(40))
    document = document_of([[(i + 1, 10.0, 10.0, 50.0, 50.0)] for i in range(40)], names)
    write_evaluation(tmp_path, compute_metrics(document, perfect(document), Settings(resamples=20)), tmp_path)
    page = Page(write_report(tmp_path).read_text())
    assert "the table has 33 more" in page.sections["curves"]
    assert all(name in page.sections["classes"] for name in names)


def test_folds_say_which_number_to_quote(tmp_path):
    from toolkit.experiments.crossval import _spread
    from toolkit.report.evaluation_text import folds

    document, detections = scene(9, images=5)
    evaluation = compute_metrics(document, detections, Settings(resamples=20))
    rows = [
        {"fold": i, "AP": ap, "AP50": ap, "AP75": None, "num_images": 3, "num_objects": 9}
        for i, ap in enumerate((0.2, 0.4, 0.6), 1)
    ]
    evaluation.metrics["crossval"] = {"folds": rows, **_spread(rows)}
    write_evaluation(tmp_path, evaluation, tmp_path)
    text = folds(evaluation.metrics["crossval"])
    assert "AP     0.400 ± 0.200" in text and "AP75   n/a ± n/a" in text
    head = Page(write_report(tmp_path).read_text()).sections["headline"]
    for said in (text, head):
        assert "Quote the mean and sd of the folds" in said
        assert "mixes the scores of different networks" in said
    assert "SMALL SET" not in head


def test_two_splits_in_one_run(run, tmp_path):
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    document, detections = scene(9, images=5)
    evaluation = compute_metrics(document, detections, Settings(resamples=20), split="test")
    write_evaluation(copy / "test", evaluation, tmp_path)
    page = Page(write_report(copy).read_text())
    assert "evaluated on the test split" in page.sections["headline"]  # test comes first
    assert "Other evaluations" in page.sections["headline"]
    assert "train 40, val 12, test 5" in page.sections["made"]
    assert "in test/metrics.json and val/metrics.json, as seen from this page" in page.sections["made"]
    # the other split's page lies beside its numbers, and the run's own stays as it is
    before = (copy / "report.html").read_bytes()
    path = write_report(copy, split="val")
    assert path == copy / "val" / "report.html"
    page = Page(path.read_text())
    assert "evaluated on the val split" in page.sections["headline"]
    assert "Every number is in ../test/metrics.json and metrics.json, as seen from this page" in page.sections["made"]
    assert f"frcnn report {copy.as_posix()} --split val" in page.sections["made"]
    assert f"frcnn loop suspects {copy.as_posix()} --out suspects" in page.sections["suspects"]
    assert (copy / "report.html").read_bytes() == before
    assert write_report(copy, split="test") == copy / "report.html"


@pytest.mark.parametrize(
    ("splits", "last", "about"),
    [
        (["val"], "val", "val"),
        (["test", "val"], "val", "test"),
        (["test", "val", "holdout"], "holdout", "test"),
        (["val", "holdout"], "holdout", "val"),
        (["holdout"], "holdout", None),
    ],
)
def test_the_runs_report_never_depends_on_the_last_command(tmp_path, splits, last, about):
    document, detections = scene(9, images=5)
    for split in splits:
        evaluation = compute_metrics(document, detections, Settings(resamples=0), split=split)
        write_evaluation(tmp_path / split, evaluation, tmp_path)
        write_report(tmp_path, split)
    if about is None:
        assert not (tmp_path / "report.html").exists()
    else:
        assert f"evaluated on the {about} split" in (tmp_path / "report.html").read_text()
    if last != about:
        assert f"evaluated on the {last} split" in (tmp_path / last / "report.html").read_text()


def test_the_slider_stores_on_val_which_chooses_thresholds(run, tmp_path):
    folder = shutil.copytree(run, tmp_path / "copy", ignore=shutil.ignore_patterns("report.html"))
    shutil.copytree(folder / "val", folder / "test")
    page = write_report(folder).read_text()
    assert f'data-command="frcnn evaluate {folder.as_posix()} --split val --thresholds"' in page


def test_a_split_that_was_not_judged_is_refused(run):
    with pytest.raises(InputError, match=r"has no evaluation of tset; found val"):
        write_report(run, split="tset")


def test_evaluation_of_anybody_is_a_report_too(tmp_path):
    document, detections = scene(3)
    (tmp_path / "gt.json").write_text(json.dumps(document))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    evaluate_files(tmp_path / "gt.json", tmp_path / "dt.json", tmp_path / "out", settings=Settings(resamples=20))
    page = Page(write_report(tmp_path / "out").read_text())
    assert "dt.json on gt.json" in page.sections["headline"]
    assert "No training log" in page.sections["training"]


def test_without_jinja2_the_report_names_it(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "toolkit.report.page", raising=False)
    for name in ("jinja2", "markupsafe"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingExtra, match=r"needs jinja2: pip install jinja2; the numbers are written"):
        write_report(tmp_path)


def test_detections_with_masks_are_drawn_by_their_outlines_and_have_two_tables(tmp_path):
    document, detections = with_outlines(*scene(3, 4), 3)
    draw_images(document, tmp_path / "images")
    write_evaluation(
        tmp_path / "val", compute_metrics(document, detections, Settings(resamples=20)), tmp_path / "images"
    )
    gallery = json.loads((tmp_path / "val" / "gallery.json").read_text())
    boxes = [box for item in gallery["images"] for box in item["boxes"]]
    boxes += [box for items in gallery["crops"].values() for item in items for box in item["boxes"]]
    assert boxes and all(box.get("outline") for box in boxes)
    for box in boxes:
        x, y, w, h = box["bbox"]
        for ring in box["outline"]:  # a mask covers whole pixels
            assert min(ring[::2]) >= x - 1 and max(ring[::2]) <= x + w + 1
            assert min(ring[1::2]) >= y - 1 and max(ring[1::2]) <= y + h + 1
    html = write_report(tmp_path / "val").read_text()
    assert '<path class="box' in html and '<rect class="box' not in html
    assert 'id="by-masks"' in html
