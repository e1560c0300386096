"""frcnn evaluate and frcnn report from the outside: what they print, write, refuse."""

from __future__ import annotations

import json
import re

import pytest

from tests.conftest import needs_real_data
from tests.toolkit.evaluation_fixtures import OFFICIAL, made_run, scene
from toolkit.__main__ import main


@pytest.fixture
def files(tmp_path):
    document, detections = scene(3)
    (tmp_path / "gt.json").write_text(json.dumps(document))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    (tmp_path / "half.json").write_text(json.dumps(detections[::2]))
    return tmp_path


def words(folder, *more: str) -> list[str]:
    return [
        "evaluate",
        "--annotations",
        str(folder / "gt.json"),
        "--detections",
        str(folder / "dt.json"),
        "--out",
        str(folder / "out"),
        "--resamples",
        "50",
        *more,
    ]


@needs_real_data("coco_official")
def test_official_numbers_are_printed(tmp_path, capsys):
    command = [
        "evaluate",
        "--annotations",
        str(OFFICIAL / "instances_val2014_100.json"),
        "--detections",
        str(OFFICIAL / "detections.json"),
        "--out",
        str(tmp_path),
    ]
    assert main(command) == 0
    printed = [line.split() for line in capsys.readouterr().out.splitlines()]
    numbers = {line[0]: line[1] for line in printed if len(line) > 1}
    published = {
        "AP": "0.505",
        "AP50": "0.697",
        "AP75": "0.573",
        "APs": "0.586",
        "APm": "0.519",
        "APl": "0.501",
        "AR1": "0.387",
        "AR10": "0.594",
        "AR100": "0.595",
        "ARs": "0.640",
        "ARm": "0.566",
        "ARl": "0.564",
    }
    assert {key: numbers[key] for key in published} == published
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["num_images"] == 100
    assert (tmp_path / "report.html").stat().st_size < 5_000_000


def test_files_are_whole_and_the_same_every_time(files, capsys):
    assert main(words(files)) == 0
    first = {p.relative_to(files): p.read_bytes() for p in sorted((files / "out").rglob("*")) if p.is_file()}
    assert main(words(files)) == 0
    assert {p.relative_to(files): p.read_bytes() for p in sorted((files / "out").rglob("*")) if p.is_file()} == first
    names = {str(p.relative_to("out")) for p in first}
    assert {"metrics.json", "report.html", "detections.json", "annotations.json", "suspects.json"} <= names
    assert not [name for name in names if name.endswith("-part")]
    captured = capsys.readouterr()
    assert "report: " in captured.out
    first = re.search(r'<ol class="steps">\s*<li><b>(.*?)</b>', (files / "out" / "report.html").read_text()).group(1)
    assert f"do this next: {first} (evidence and more in the report)" in captured.out


def test_json_is_metrics_json_and_nothing_else(files, capsys):
    assert main(words(files, "--json")) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == json.loads((files / "out" / "metrics.json").read_text())


def test_markdown_and_latex(files, capsys):
    assert main(words(files, "--markdown", "--no-report")) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| class | objects | AP | AP50")
    assert len({line.count("|") for line in lines if line.startswith("|")}) == 1
    assert "95 % interval" in lines[-1]
    assert not (files / "out" / "report.html").exists()
    assert main(["report", str(files / "out"), "--latex"]) == 0
    text = capsys.readouterr().out
    assert text.startswith("\\begin{table}")
    assert text.count("\\begin") == text.count("\\end")
    assert "95 \\% interval" in text
    rows = [line for line in text.splitlines() if line.endswith("\\\\")]
    assert {row.count("&") for row in rows} == {8}


def test_a_comparison_is_printed_as_a_table_with_names_and_intervals(files, capsys):
    assert main(words(files, "--compare", str(files / "dt.json"), "--markdown", "--no-report")) == 0
    table = capsys.readouterr().out.split("\n\n")[2].splitlines()
    assert table[0].startswith("| number | A = out | B = dt.json | B - A | 95 % interval | p |")
    assert len({line.count("|") for line in table}) == 1 and "+0.000 to +0.000" in table[2]
    assert main(["report", str(files / "out"), "--latex"]) == 0
    text = capsys.readouterr().out
    assert r"\label{tab:compared}" in text and "P(B $>$ A)" in text and "One trained network each" in text
    assert main(words(files, "--seeds", str(files / "dt.json"))) == 2
    assert "--seeds needs --compare" in capsys.readouterr().err


def test_a_class_name_cannot_break_a_table():
    from toolkit.report.latex_markdown import latex, markdown

    metrics = {"per_class": {"50%_a|b": {}}, "num_images": 1, "num_objects": 0, "split": "", "intervals": None}
    metrics["per_class"]["50%_a|b"] = {
        "num_objects": 0,
        **dict.fromkeys(("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100")),
    }
    metrics["AP"] = None
    assert "50\\%\\_a|b &" in latex(metrics)
    assert "50%\\_a\\|b |" in markdown(metrics)


def test_compare_says_which_is_better(files, capsys):
    assert main(words(files, "--compare", str(files / "half.json"))) == 0
    text = capsys.readouterr().out
    assert "compared with B = half.json" in text
    assert "B is worse" in text
    assert json.loads((files / "out" / "metrics.json").read_text())["compare"]["AP"]["difference"] < 0
    assert "Compared with half.json" in (files / "out" / "report.html").read_text()


def test_compare_with_another_evaluation_goes_by_names(files, capsys):
    # B's file has other ids for the same images and classes
    document = json.loads((files / "gt.json").read_text())
    detections = json.loads((files / "dt.json").read_text())
    for image in document["images"]:
        image["id"] += 500
    for category in document["categories"]:
        category["id"] = 9 - category["id"]
    for entry in [*document["annotations"], *detections]:
        entry["image_id"] += 500
        entry["category_id"] = 9 - entry["category_id"]
    (files / "gt_b.json").write_text(json.dumps(document))
    (files / "dt_b.json").write_text(json.dumps(detections))
    command = [
        "evaluate",
        "--annotations",
        str(files / "gt_b.json"),
        "--detections",
        str(files / "dt_b.json"),
        "--out",
        str(files / "b"),
        "--resamples",
        "0",
        "--no-report",
    ]
    assert main(command) == 0
    assert main(words(files, "--compare", str(files / "b"), "--no-report")) == 0
    metrics = json.loads((files / "out" / "metrics.json").read_text())
    assert metrics["compare"]["AP"]["difference"] == 0
    assert metrics["compare"]["AP"]["verdict"] == "no difference shown"
    capsys.readouterr()


def test_several_detectors_look_for_label_errors_together(files, capsys):
    half_first = [*words(files, "--no-report"), "--detections", str(files / "half.json")]
    assert main([*half_first, "--also", str(files / "dt.json")]) == 0
    both = json.loads((files / "out" / "metrics.json").read_text())
    assert main(half_first) == 0
    half = json.loads((files / "out" / "metrics.json").read_text())
    assert half["AP"] == both["AP"]  # only the first is judged
    assert half["suspects"] > both["suspects"]  # what one detector found is found
    capsys.readouterr()


@pytest.mark.parametrize(
    ("command", "said"),
    [
        (["evaluate"], "needs RUN"),
        (["evaluate", "--annotations", "gt.json"], "needs RUN"),
        (["evaluate", "absent"], "absent"),
        (["evaluate", "run", "--out", "x"], "exclude each other"),
        (["evaluate", "gt.json"], "error: gt.json: is a file, needs a run folder"),
        (["report", "absent"], "needs a run folder"),
        (["report", ".", "--markdown"], "is not a run folder"),
        (["evaluate", "--annotations", "gt.json", "--detections", "absent.json", "--out", "o"], "absent.json"),
        (["evaluate", "--annotations", "gt.json", "--detections", "gt.json", "--out", "o"], "annotations file"),
        (["evaluate", "--annotations", "dt.json", "--detections", "dt.json", "--out", "o"], "dt.json"),
        (["evaluate", "--annotations", "gt.json", "--detections", "dt.json", "--out", "o", "--iou", "3"], "--iou"),
        (
            ["evaluate", "--annotations", "gt.json", "--detections", "dt.json", "--out", "o", "--compare", "no"],
            "no: not found",
        ),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(files, monkeypatch, capsys, command, said):
    monkeypatch.chdir(files)
    assert main(command) == 2
    captured = capsys.readouterr()
    lines = [line for line in captured.err.splitlines() if not line.startswith("warning")]
    assert len(lines) == 1, captured.err
    assert lines[0].startswith("error: ")
    assert said in lines[0]


@pytest.mark.parametrize("content", [b"", b"[", b'{"images": 3}', b"[1, 2]", b"\xff\xfe\x00", b"null"])
def test_broken_files_are_refused_and_nothing_is_written(files, capsys, content):
    (files / "dt.json").write_bytes(content)
    assert main(words(files)) == 2
    assert capsys.readouterr().err.count("\n") == 1
    assert not (files / "out").exists()
    (files / "gt.json").write_bytes(content)
    assert main(words(files)) == 2
    assert not (files / "out").exists()


def test_warnings_go_to_stderr(files, capsys):
    detections = json.loads((files / "dt.json").read_text())
    (files / "dt.json").write_text(json.dumps(detections + detections[:2]))
    assert main(words(files, "--no-report")) == 0
    captured = capsys.readouterr()
    assert "warning: " in captured.err
    assert "2 exact copies" in captured.err
    assert "warning: SMALL SET: evaluated on 12 images" in captured.err
    assert "warning" not in captured.out


def test_report_again_from_the_run(tmp_path, capsys):
    run = made_run(tmp_path, images=4)
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    page = (run / "report.html").read_bytes()
    assert main(["report", str(run / "val")]) == 0  # a part of the run, not a page of its own
    assert capsys.readouterr().out == f"report: {run / 'report.html'}\n"
    assert (run / "report.html").read_bytes() == page and not (run / "val" / "report.html").exists()


def test_inputs_are_not_touched(files):
    before = {p.name: p.read_bytes() for p in files.glob("*.json")}
    assert main(words(files)) == 0
    assert {p.name: p.read_bytes() for p in files.glob("*.json")} == before


def test_detections_with_masks_give_both_sets_of_numbers(tmp_path, capsys):
    from tests.toolkit.evaluation_fixtures import with_outlines

    document, detections = with_outlines(*scene(3), 0)
    (tmp_path / "gt.json").write_text(json.dumps(document))
    (tmp_path / "dt.json").write_text(json.dumps(detections))
    (tmp_path / "bare.json").write_text(json.dumps(scene(3)[1]))
    assert main(words(tmp_path, "--compare", str(tmp_path / "dt.json"))) == 0
    printed = capsys.readouterr().out
    assert printed.index("by boxes:") < printed.index("by masks:")
    metrics = json.loads((tmp_path / "out" / "metrics.json").read_text())
    assert metrics["segm"]["AP"] != metrics["AP"]
    assert metrics["segm"]["per_class"].keys() == metrics["per_class"].keys()
    assert metrics["compare"]["segm"]["AP"]["a"] == pytest.approx(metrics["segm"]["AP"])
    assert f"AP     A {metrics['segm']['AP']:.3f}" in printed
    page = (tmp_path / "out" / "report.html").read_text()
    assert 'id="by-masks"' in page and f"{metrics['segm']['AP']:.3f}" in page
    assert (tmp_path / "out" / "classes_segm.csv").is_file()
    for flag, title in (("--markdown", "by masks."), ("--latex", r"by masks.}")):
        assert main(words(tmp_path, flag)) == 0
        assert title in capsys.readouterr().out

    # what an evaluation has written is evaluated to the same numbers, and compared with boxes alone
    again = [
        "--annotations",
        str(tmp_path / "out/annotations.json"),
        "--detections",
        str(tmp_path / "out/detections.json"),
    ]
    rest = ["--out", str(tmp_path / "again"), "--resamples", "50", "--compare", str(tmp_path / "bare.json")]
    assert main(["evaluate", *again, *rest]) == 0
    assert "n/a: B has no masks" in capsys.readouterr().out
    written = json.loads((tmp_path / "again" / "metrics.json").read_text())
    assert written["segm"] == metrics["segm"]
    assert written["compare"]["segm"] is None


def test_detections_without_masks_have_one_set_of_numbers(files, capsys):
    assert main(words(files)) == 0
    assert "by masks" not in capsys.readouterr().out
    assert "segm" not in json.loads((files / "out" / "metrics.json").read_text())
    assert "by-masks" not in (files / "out" / "report.html").read_text()
    assert not (files / "out" / "classes_segm.csv").exists()
