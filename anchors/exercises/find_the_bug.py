"""The bugs to find: files that run and are wrong, each a task's solution with one of its known mistakes."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Bug:
    """The file `name`: the solution of `task`, in which `changes` ({right code: wrong code}) make
    `mistake`, one of the task's. `hint` is a question to the learner."""

    name: str
    task: str
    mistake: str
    hint: str
    changes: dict[str, str]


BUGS = (
    Bug(
        "bug_anchor_count",
        "anchor_count",
        "the stride for the number of cells",
        "How many cells does the feature map have?",
        {
            "    height, width = image_size\n": "",
            "math.ceil(height / stride) * math.ceil(width / stride)": "stride * stride",
            "import math\n\n\n": "",
        },
    ),
    Bug(
        "bug_grid_order",
        "grid",
        "x-outer order",
        "In which order does the network's output run?",
        {'y, x = torch.meshgrid(y, x, indexing="ij")': 'x, y = torch.meshgrid(x, y, indexing="ij")'},
    ),
    Bug(
        "bug_labels",
        "match",
        "no rule (i)",
        "Which anchor is positive when none reaches 0.7?",
        {
            "    best_of_gt = iou.max(dim=1, keepdim=True).values\n": "",
            "    forced = (iou == best_of_gt) & (best_of_gt > 0)\n": "",
            "    labels[forced.any(dim=0)] = 1\n": "",
        },
    ),
    Bug(
        "bug_negatives_last",
        "match",
        "negatives assigned last",
        "What happens to an object whose best anchor has IoU 0.2?",
        {
            "    labels[best < low_thresh] = 0\n": "",
            "forced.any(dim=0)] = 1\n": "forced.any(dim=0)] = 1\n    labels[best < low_thresh] = 0\n",
        },
    ),
    Bug(
        "bug_halves",
        "sample",
        "not filled up",
        "What if there are only 18 positives?",
        {"num_samples - num_positive)": "num_samples - int(num_samples * positive_fraction))"},
    ),
    Bug(
        "bug_product",
        "sample",
        "times for minus",
        "How many negatives are drawn?",
        {"num_samples - num_positive)": "num_samples * num_positive)"},
    ),
    Bug(
        "bug_smooth_l1",
        "smooth_l1",
        "sigma inverted",
        "Draw it: is it continuous?",
        {"0.5 * sigma**2 * x * x, distance - 0.5 / sigma**2": "0.5 * x**2 * 1 / sigma**2, distance - 0.5"},
    ),
    Bug(
        "bug_ignored",
        "rpn_loss",
        "ignored anchors counted",
        "Who must not train?",
        {"objectness[sampled], positive[sampled].to": "objectness, positive.to"},
    ),
    Bug(
        "bug_normalizer",
        "rpn_loss",
        "divided by the positives",
        "By what number is the box loss divided?",
        {"terms / sampled.sum()": "terms / positive.sum().clamp(min=1)"},
    ),
    Bug(
        "bug_nms",
        "nms",
        "hidden +1",
        "Is this the IoU of the exercise before?",
        {
            "boxes[:, 2] - boxes[:, 0]": "boxes[:, 2] - boxes[:, 0] + 1",
            "boxes[:, 3] - boxes[:, 1]": "boxes[:, 3] - boxes[:, 1] + 1",
            "(high - low).clamp": "(high - low + 1).clamp",
        },
    ),
    Bug(
        "bug_roi_pool",
        "roi_pool",
        "truncated, and clipped before it is divided",
        "Where do the corners go, and what happens at the edge of the map?",
        {
            "def half_away(value):": "def cell(value, last):",
            "int(math.copysign(math.floor(abs(value) + 0.5), value))": "min(max(int(value), 0), last)",
            "        x1, y1, x2, y2 = (": "        last = (width - 1, height - 1) * 2\n        x1, y1, x2, y2 = (",
            "half_away(value * spatial_scale)": "cell(value * spatial_scale, end)",
            "for value in corners)": "for value, end in zip(corners, last))",
        },
    ),
    Bug(
        "bug_targets",
        "label_rois",
        "corners as targets",
        "What does the head learn to predict?",
        {
            "encode(gt_boxes[gt_idxs], rois) * torch.tensor([10.0, 10.0, 5.0, 5.0])": "gt_boxes[gt_idxs]",
            "from anchors.deltas import encode\n": "",
        },
    ),
    Bug(
        "bug_no_gt",
        "label_rois",
        "true boxes not added",
        "What does the head see in the first minutes of training?",
        {
            "torch.cat((proposals, gt_boxes))": "proposals",
            "if len(gt_boxes) == 0:": "if len(gt_boxes) == 0 or len(rois) == 0:",
        },
    ),
    Bug(
        "bug_head",
        "head",
        "no ReLU",
        "What are two Linears, one after the other?",
        {
            "F.relu(F.linear(x, w1, b1))": "F.linear(x, w1, b1)",
            "F.relu(F.linear(hidden, w2, b2))": "F.linear(hidden, w2, b2)",
        },
    ),
    Bug(
        "bug_recall",
        "recall",
        "precision",
        "Of what is recall a share?",
        {"tp / (tp + fn) if tp + fn": "tp / (tp + fp) if tp + fp"},
    ),
    Bug(
        "bug_split",
        "split",
        "counted from the end",
        "50 images for training and 39 for the test?",
        {"[:num_train]": "[:-num_train]", "[num_train:]": "[-num_train:]"},
    ),
    Bug(
        "bug_freeze",
        "freeze",
        "eval() for freezing",
        "Which weights still get a gradient?",
        {"layers[:-1].requires_grad_(False)": "layers[:-1].eval()"},
    ),
    Bug(
        "bug_mean_ap",
        "mean_ap",
        "-1 averaged",
        "What does -1 mean in COCO's table?",
        {"    found = ap[ap >= 0]\n": "", "float(found.mean()) if len(found) else 0.0": "float(ap.mean())"},
    ),
)
