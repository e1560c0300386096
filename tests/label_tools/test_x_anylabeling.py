"""X-AnyLabeling's shapes beside LabelMe's own: turned boxes, cuboids, four corners, what it says beside the outline."""

from __future__ import annotations

import json

from label_tools.readers.convert import convert
from tests.label_tools.bad_input_makers import content, picture, shape

KIN = {"score": None, "description": "", "difficult": False, "attributes": {}, "kie_linking": []}


def read(tmp_path, *shapes: dict):
    picture(tmp_path / "a.jpg")
    (tmp_path / "a.json").write_text(json.dumps(content([{**KIN, **s} for s in shapes], version="3.3.1")))
    return convert(tmp_path, "labelme")


def test_its_shapes(tmp_path):
    corners = [[40, 36], [10, 36], [10, 8], [40, 8]]
    turned = [[35, 10], [60, 15], [55, 40], [30, 35]]  # x 30 to 60, y 10 to 40
    front, back = [[20, 20], [50, 20], [50, 45], [20, 45]], [[15, 15], [45, 15], [45, 40], [15, 40]]
    conversion = read(
        tmp_path,
        shape(corners, "rectangle"),
        shape(turned, "rotation", direction=0.197),
        shape(turned, "quadrilateral", label="dog"),
        shape(front + back, "cuboid"),
    )
    boxes = [one.bbox for one in conversion.records[0].instances]
    assert boxes == [(10, 8, 30, 28), (30, 10, 30, 30), (30, 10, 30, 30), (15, 15, 35, 30)]
    assert conversion.records[0].instances[1].area == 650  # 30 * 30 less four triangles: 2 * (25 * 5 / 2 + 25 * 5 / 2)
    assert conversion.tally.dropped == {} and [f.code for f in conversion.findings] == ["B14"]  # the cuboid's note


def test_what_it_says_beside_the_outline(tmp_path):
    conversion = read(
        tmp_path,
        shape([[1, 1], [20, 20]], difficult=True),
        shape([[2, 2], [30, 30]], score=0.75),
        shape([[3, 3], [40, 40]]),
    )
    annotations = conversion.document(tmp_path / "o.json")["annotations"]
    assert [(a.get("difficult"), a.get("score")) for a in annotations] == [(1, None), (None, 0.75), (None, None)]


def test_a_turned_box_needs_four_points(tmp_path):
    conversion = read(tmp_path, shape([[1, 1], [20, 20]]), shape([[1, 1], [20, 20]], "rotation"))
    assert conversion.tally.dropped == {"B14": 1}
