"""The walkthrough: the numbers of the worked example, the files it writes, a page that stands alone, bad input."""

from __future__ import annotations

import json
import math
import os
import re
from html.parser import HTMLParser

import cv2
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from anchors.__main__ import main
from anchors.boxes import box_iou
from anchors.fast.nms import nms
from anchors.grid import grid_anchors
from anchors.walkthrough import worked_example
from anchors.walkthrough.figures_head import free_corner, objects_found, running_mean
from anchors.walkthrough.figures_rpn import NMS_THRESH, suppressed_by, two_apart
from anchors.walkthrough.make import FILES, refuse_foreign_files
from anchors.walkthrough.page import breakable, learnt
from anchors.walkthrough.picture import DEFAULT_IMAGE, objects_of, read_picture
from anchors.walkthrough.train_on_picture import copies, small


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """The whole walkthrough once, with hardly any training and small pictures; TEXTS: where their words stand."""
    folder = tmp_path_factory.mktemp("walk")
    patch = pytest.MonkeyPatch()
    patch.setattr("anchors.walkthrough.style.DPI", 30)
    texts, save = {}, Figure.savefig

    def savefig(figure, path, **settings):
        save(figure, path, **settings)
        texts[path.name] = [spans_of(figure, text) for text in words_of(figure)]

    patch.setattr(Figure, "savefig", savefig)
    assert main(["walkthrough", "--out", str(folder), "--quick"]) == 0
    patch.undo()
    TEXTS.update(texts)
    return folder


TEXTS: dict[str, list] = {}


def words_of(figure):
    own = [child for axes in figure.axes for child in (*axes.get_children(), axes.xaxis.label)]
    return [text for text in (*figure.texts, *own) if isinstance(text, Text) and text.get_text()]


def spans_of(figure, text):
    """(words, x1, y1, x2, y2) in shares of the figure."""
    box = text.get_window_extent(figure.canvas.get_renderer())
    return text.get_text(), *box.transformed(figure.transFigure.inverted()).extents


@pytest.fixture(scope="module")
def numbers(made):
    return json.loads((made / "numbers.json").read_text())


def test_the_folder_holds_the_figures_their_parts_the_page_and_the_numbers(made):
    parts = [path.name for path in made.glob("??_*_?.png")]
    assert sorted(path.name for path in made.iterdir()) == sorted([*FILES, *parts, "index.html", "numbers.json"])
    assert {part[:2] for part in parts} == {name[:2] for name in FILES}  # each figure can be read on a phone
    assert [name[:2] for name in FILES] == [f"{i:02}" for i in range(1, len(FILES) + 1)]
    contents = [(made / name).read_bytes() for name in FILES]
    assert len(set(contents)) == len(FILES)
    for name in FILES:
        with Image.open(made / name) as image:
            assert image.size == (384, 216)  # 12.8 x 7.2 inches at 30 dots
            assert len(image.convert("L").getcolors()) > 20


def test_no_words_are_clipped(made):
    assert sorted(TEXTS) == sorted(FILES)
    for name, spans in TEXTS.items():
        assert len(spans) >= 3, name
        for words, x1, y1, x2, y2 in spans:
            assert x1 > 0.02 and x2 < 0.98 and y1 > 0.02 and y2 < 0.98, (name, words, x1, y1, x2, y2)


@pytest.mark.parametrize("part", ["example", "picture"])
def test_the_numbers_of_the_worked_example(numbers, part):
    # the default picture holds the example's two boxes, so both parts are the golden fixture
    anchors, labels = numbers[part]["anchors"], numbers[part]["labels"]
    assert anchors["map"] == [50, 50]
    assert anchors["all"] == 50 * 50 * 9 == 22_500
    assert anchors["stride_taken_for_cells_16_16_9"] == 2_304
    assert anchors["inside"] == 8_940
    assert anchors["inside_per_template"] == [1672, 1064, 112, 1764, 1156, 324, 1672, 1064, 112]
    assert (labels["positive"], labels["negative"], labels["ignored"]) == (18, 7_690, 1_232)
    assert labels["at_least_0.7"] == 0
    assert labels["best_iou"] == [0.681305, 0.610352]
    assert labels["best_index"] == [2262, 4096]
    assert labels["best_index_x_outer"] == [2262, 5620]  # what a widely copied notebook prints
    assert labels["positive_by_tie"] == [2, 16]
    assert numbers[part]["sample"] == {"positive": 18, "negative": 238, "wanted": 256}
    assert numbers[part]["head"]["inputs"] == 25_088
    assert numbers[part]["shapes"] == {
        "anchors": [22_500, 4],
        "iou": [2, 8_940],
        "labels": [8_940],
        "target_deltas": [18, 4],
    }


def test_why_9321_and_9132_are_right_too(numbers):
    anchors = numbers["example"]["anchors"]
    assert anchors["inside_torchvision"] == 9_321
    assert anchors["inside_paper_code"] == 9_132
    # torchvision: centres 0, 16, ..., 784 and half sides 45, 91, 64, 128, 181, 256, 362. A half side k fits at the
    # multiples of 16 from k to 800 - k: of 91 these are 96 ... 704, 39 of them, of 45 they are 48 ... 752, 45
    assert anchors["inside_torchvision_per_template"][0] == 39 * 45
    # half side 64: 64 ... 736 are 43; 256: 256 ... 544 are 19; 362: 368 ... 432 are 5, with 181: 192 ... 608, 27
    assert anchors["inside_torchvision_per_template"][3] == 43 * 43
    assert anchors["inside_torchvision_per_template"][5] == 19 * 19
    assert anchors["inside_torchvision_per_template"][2] == 5 * 27
    # the paper's code: its 1:2 anchor of 128 is 184 x 96, around 7.5 + 16 i, from x1 >= 0 to x2 < 800:
    # half width 91.5 from 103.5 to 695.5, 38 places; half height 47.5 from 55.5 to 743.5, 44
    assert anchors["inside_paper_code_per_template"][0] == 38 * 44


def test_inside_per_template_is_a_product_of_two_counts(numbers):
    fits = numbers["example"]["anchors"]["fits_along_a_side"]
    # side s fits at centre c = 8 + 16 i if s/2 <= c <= 800 - s/2. s = 128: 72 ... 728, 42 places
    assert fits == {"90.5": 44, "128": 42, "181": 38, "256": 34, "362": 28, "512": 18, "724.1": 4}
    products = [fits[w] * fits[h] for w, h in (("181", "90.5"), ("362", "181"), ("724.1", "362"))]
    assert products == [1672, 1064, 112]


def test_training_is_recorded(numbers):
    training = numbers["training"]
    assert training["steps"] == 6
    assert training["shapes"]["anchors"] == [25 * 25 * 9, 4]  # 200 pixels at stride 8
    assert training["shapes"]["pooled"][1:] == [64, 7, 7]
    assert training["shapes"]["class_logits"][1] == 3
    assert training["shapes"]["box_deltas"][1] == 12
    assert set(training["last_losses"]) == {"loss_objectness", "loss_rpn_box_reg", "loss_classifier", "loss_box_reg"}
    assert 0 < training["kept"] < training["candidates"]
    assert training["rois_foreground"] >= 1  # the true boxes are among the proposals
    assert training["rois_foreground"] <= 8  # a quarter of 32
    assert training["detections"][0]["step"] == 0


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.found += [value for name, value in attrs if name in ("src", "href")]


def test_the_page_tells_the_numbers_and_needs_nothing_from_elsewhere(made, numbers):
    text = (made / "index.html").read_text()
    links = Links()
    links.feed(text)
    assert links.tags.count("img") == len(FILES) + len(list(made.glob("??_*_?.png")))
    assert not {"script", "link", "iframe"} & set(links.tags)
    for link in links.found:
        if link.startswith("#"):
            assert f'id="{link[1:]}"' in text
        else:
            assert (made / link).is_file(), link
    assert not re.search(r"https?:|url\(|@import", text)
    for words in (
        "22,500",
        "8,940",
        "9,321",
        "9,132",
        "18 positives",
        "7,690 are negative",
        "1,232 ignored",
        "18 + 238",
    ):
        assert words in text, words
    assert "{" not in re.sub(r"<style>.*</style>", "", text, flags=re.S)


def test_the_same_seed_gives_the_same_numbers(made, numbers):
    found = worked_example.anchoring(worked_example.BOXES, 0)
    assert torch.equal(found.positives, worked_example.anchoring(worked_example.BOXES, 0).positives)
    assert not torch.equal(found.negatives, worked_example.anchoring(worked_example.BOXES, 1).negatives)
    assert not list(made.glob(".walkthrough-*"))


def test_a_walkthrough_is_written_again_and_nothing_else_is_overwritten(made, tmp_path):
    refuse_foreign_files(made)  # our own folder: no error
    (tmp_path / "01_grid_a.png").write_bytes(b"mine")
    with pytest.raises(ValueError, match=r"01_grid_a.png: was not written by a walkthrough"):
        refuse_foreign_files(tmp_path)
    (tmp_path / "01_grid_a.png").unlink()
    (tmp_path / "numbers.json").write_bytes((made / "numbers.json").read_bytes())
    refuse_foreign_files(tmp_path)
    (tmp_path / "index.html").symlink_to(made / "index.html")
    with pytest.raises(ValueError, match=r"index.html: was changed since a walkthrough"):
        refuse_foreign_files(tmp_path)
    (tmp_path / "index.html").unlink()
    (tmp_path / "index.html").write_bytes((made / "index.html").read_bytes())
    refuse_foreign_files(tmp_path)  # as it was written
    (tmp_path / "index.html").write_text("my notes")
    with pytest.raises(ValueError, match=r"index.html: was changed since a walkthrough"):
        refuse_foreign_files(tmp_path)
    (tmp_path / "index.html").unlink()
    (tmp_path / "numbers.json").write_text("[1, 2]")
    with pytest.raises(ValueError, match=r"numbers.json: was not written by a walkthrough"):
        refuse_foreign_files(tmp_path)


def test_a_walkthrough_of_an_older_version_is_ours_until_it_is_edited(made, numbers, tmp_path):
    older = {key: value for key, value in numbers.items() if key != "files"}  # older versions listed none
    (tmp_path / "numbers.json").write_text(json.dumps(older))
    for name in ("index.html", "06_labels.png"):
        (tmp_path / name).write_bytes((made / name).read_bytes())
    refuse_foreign_files(tmp_path)
    os.utime(tmp_path / "numbers.json", (0, 0))  # the others were saved later
    with pytest.raises(ValueError, match=r"06_labels.png: was not written by a walkthrough"):
        refuse_foreign_files(tmp_path)


def test_the_cells_centres_are_those_of_their_anchors():
    y, x = worked_example.cell_centres()
    anchors = grid_anchors(torch.tensor([[-1.0, -2.0, 1.0, 2.0]]), worked_example.GRID, worked_example.STRIDE)
    assert torch.equal(torch.stack((x, y), dim=2).reshape(-1, 2), (anchors[:, :2] + anchors[:, 2:]) / 2)


def test_one_box_of_its_own_picture(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("anchors.walkthrough.style.DPI", 20)
    Image.new("RGB", (400, 200), (90, 120, 30)).save(tmp_path / "a.png")
    (tmp_path / "a.json").write_text('[["cat", 100, 50, 228, 114]]')  # 256 x 256 in 800 x 800: an anchor's shape
    arguments = ["walkthrough", "--image", str(tmp_path / "a.png"), "--out", str(tmp_path / "out"), "--quick"]
    assert main(arguments) == 0
    assert "sample: " in capsys.readouterr().out
    numbers = json.loads((tmp_path / "out" / "numbers.json").read_text())
    assert numbers["picture"]["objects"] == {"cat": 1}
    assert numbers["picture"]["boxes"] == [[200.0, 200.0, 456.0, 456.0]]
    assert numbers["picture"]["labels"]["best_iou"] == [1.0]  # centre 328 = 20.5 * 16, on the grid
    assert numbers["example"]["labels"]["positive"] == 18


# The parts.


def test_the_default_picture_and_its_objects():
    picture = read_picture(None, None)
    assert picture.pixels.shape == (3, 800, 800)
    assert torch.equal(picture.boxes, worked_example.BOXES)
    assert picture.names == ("bolt", "washer")
    assert picture.labels.tolist() == [1, 2]
    pixels, target = small(picture)
    assert pixels.shape == (3, 200, 200)
    assert torch.equal(target["boxes"], worked_example.BOXES / 4)


def test_the_drawn_bolt_and_washer_fill_their_boxes():
    # metal is grey and wood is not, its shadow neither: the two large grey patches are the objects
    picture = read_picture(None, None)
    light, dark = picture.pixels.amax(dim=0), picture.pixels.amin(dim=0)
    grey = (light - dark < 0.25 * light).numpy().astype(np.uint8)
    grey = cv2.morphologyEx(grey, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8))
    patches = sorted(cv2.connectedComponentsWithStats(grey)[2][1:].tolist(), key=lambda row: -row[4])
    found = torch.tensor([[x, y, x + width, y + height] for x, y, width, height, _ in patches[:2]])
    assert (found - picture.boxes).abs().max() <= 2  # the bolt is the larger one


def test_copies_carry_their_boxes_along():
    # a white rectangle on black: in every copy the box is where the light is
    picture = read_picture(None, None)
    picture.pixels.zero_()
    picture.pixels[:, 300:500, 400:600] = 1.0
    picture.boxes[:] = picture.boxes[1:]
    for image, target in copies(picture, 20, seed=3):
        rows, columns = (image.amax(dim=0) > 0.3).nonzero().T
        x1, y1, x2, y2 = target["boxes"][0].tolist()
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x1, y1, x2, y2)


def test_boxes_of_labelme_shapes():
    shapes = [
        {"label": "a", "shape_type": "polygon", "points": [[10, 5], [30, 20], [12, 40]]},
        {"label": "b", "shape_type": "circle", "points": [[50, 50], [53, 54]]},  # radius 5
        {"label": "c", "shape_type": "rectangle", "points": [[90, 80], [60, -20]]},  # any two corners; cut at 0
        {"label": "d", "shape_type": "point", "points": [[1, 1]]},  # no box
    ]
    document = {"shapes": shapes, "imageWidth": 100, "imageHeight": 100}
    names, boxes, outlines = objects_of(document, "x.json", (100, 100))
    assert names == ["a", "b", "c"]
    torch.testing.assert_close(
        torch.tensor(boxes), torch.tensor([[10.0, 5, 30, 40], [45, 45, 55, 55], [60, 0, 90, 80]])
    )
    assert outlines[0] == [(10, 5), (30, 20), (12, 40)]
    assert len(outlines[1]) == 64
    assert outlines[2] == [(60, -20), (90, -20), (90, 80), (60, 80)]


BAD_LABELS = {
    "nonsense": ("{", "found no JSON"),
    "a number": ("3", "found int, needed a LabelMe file or a list of boxes"),
    "no shapes": ("{}", "found no list of shapes"),
    "no box": ("[]", "found 0 boxes inside the picture, needed 1 to 200"),
    "outside": ('[["a", 900, 900, 950, 950]]', "found 0 boxes"),
    "short": ('[["a", 1, 2, 3]]', "entry 0: found ['a', 1, 2, 3], needed [label, x1, y1, x2, y2]"),
    "NaN": ('[["a", 1, 2, 3, NaN]]', "needed 4 numbers"),
    "text": ('[["a", 1, 2, 3, "4"]]', "needed 4 numbers"),
    "no points": ('{"shapes": [{"label": "a"}]}', "shapes[0]: found"),
    "another size": ('{"shapes": [], "imageWidth": 5, "imageHeight": 7}', "labels of a 5x7 picture, needed 800x800"),
}


@pytest.mark.parametrize("kind", BAD_LABELS)
def test_bad_labels_are_one_line_and_nothing_is_written(kind, tmp_path, capsys):
    text, complaint = BAD_LABELS[kind]
    (tmp_path / "labels.json").write_text(text)
    arguments = ["--image", str(DEFAULT_IMAGE), "--labels", str(tmp_path / "labels.json"), "--out", str(tmp_path / "o")]
    assert main(["walkthrough", *arguments]) == 2
    err = capsys.readouterr().err
    assert complaint in err
    assert err.count("\n") == 1
    assert not (tmp_path / "o").exists()


def test_the_mask_of_an_outline():
    picture = read_picture(None, None)
    disc = picture.mask(1)  # the washer: radius 100 around (500, 400)
    assert disc.shape == (800, 800)
    assert int(disc.sum()) == pytest.approx(math.pi * 100**2, rel=0.01)
    assert picture.area(1) == pytest.approx(math.pi * 100**2, rel=0.01)
    y, x = disc.nonzero().T
    assert (x.min(), x.max(), y.min(), y.max()) == (400, 599, 300, 499)  # pixels inside [400, 300, 600, 500]


def test_bad_pictures_are_one_line(tmp_path, capsys):
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (tmp_path / "a.json").write_text('[["a", 1, 2, 30, 40]]')
    for image, complaint in (("a.png", "needed a picture"), ("b.png", "b.json: No such file")):
        assert main(["walkthrough", "--image", str(tmp_path / image), "--out", str(tmp_path / "o")]) == 2
        err = capsys.readouterr().err
        assert complaint in err
        assert err.count("\n") == 1
    assert main(["walkthrough", "--labels", str(tmp_path / "a.json"), "--out", str(tmp_path / "o")]) == 2
    assert "found no imagePath, needed --image as well" in capsys.readouterr().err
    assert main(["walkthrough", "--seed", "-1", "--out", str(tmp_path / "o")]) == 2
    assert "seed: found -1" in capsys.readouterr().err


def test_the_page_says_what_was_measured():
    def training(found):
        return {"objects": 2, "steps": 300, "detections": [{"found": 0}, {"found": found}]}

    assert learnt(training(2)).endswith("after 300 steps 2 of 2. It has learnt this one picture.")
    assert "after 300 steps 1 of 2. That is too little training" in learnt(training(1))
    picture = read_picture(None, None)
    right = {"boxes": picture.boxes, "labels": picture.labels, "scores": torch.tensor([0.9, 0.6])}
    assert objects_found(picture, right) == 2
    assert objects_found(picture, right | {"scores": torch.tensor([0.9, 0.4])}) == 1  # a guess does not count
    assert objects_found(picture, right | {"labels": picture.labels.flip(0)}) == 0


def test_formulas_break_only_between_their_pieces():
    assert breakable("a < b  if c") == "<span>a &lt; b</span> &nbsp; <span>if c</span>"


def test_who_suppressed_whom_against_the_definition():
    torch.manual_seed(0)
    corner = torch.rand(60, 2) * 20
    boxes = torch.cat((corner, corner + 20 + torch.rand(60, 2) * 5), dim=1)
    keep = nms(boxes, torch.linspace(1, 0, 60), NMS_THRESH)
    by = suppressed_by(boxes, keep)
    assert (by == torch.arange(60)).sum() == len(keep) < 60
    assert not (by == -1).any()
    iou = box_iou(boxes, boxes)
    for i, k in enumerate(by.tolist()):
        if k != i:
            first = next(j for j in keep.tolist() if iou[j, i] > NMS_THRESH)
            assert k == first
    assert (suppressed_by(boxes, keep[:1]) == -1).any()  # beyond a limit nobody was looked at


def test_scores_stand_in_corners_of_their_own():
    taken = []
    box = [0.0, 0.0, 400.0, 300.0]
    found = [free_corner(box, taken) for _ in range(5)]
    # upper left, lower left, upper right, lower right; a fifth score has no place
    assert found[:2] == [(0.0, 0.0, "left", "top"), (0.0, 300.0, "left", "bottom")]
    assert found[2:] == [(400.0, 0.0, "right", "top"), (400.0, 300.0, "right", "bottom"), None]
    assert free_corner([500.0, 0.0, 700.0, 50.0], taken) == (500.0, 0.0, "left", "top")


def test_the_second_box_shown_for_nms_is_of_another_object():
    boxes = torch.tensor([[0.0, 0, 10, 10], [0, 0, 9, 9], [20, 0, 30, 10]])
    assert two_apart(boxes, [0, 1, 2]) == [0, 2]
    assert two_apart(boxes, [0, 1]) == [0, 1]  # nothing apart: the next one
    assert two_apart(boxes, [2]) == [2]


def test_running_mean():
    assert running_mean(torch.tensor([1.0, 3.0, 5.0, 7.0]), reach=2).tolist() == [1.0, 2.0, 4.0, 6.0]
