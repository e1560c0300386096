"""Files with a common mistake in them, each as changes of a solution: what is right, and what stands there instead."""

from __future__ import annotations

from anchors.exercises.task import Bug

BUGS = (
    Bug(
        "bug_anchor_count",
        "anchor_count",
        "How many cells has the feature map?",
        "16 is the stride. 800 / 16 = 50 cells a side: 50 * 50 * 9 = 22,500; 16 * 16 * 9 is 2,304.",
        (
            ("    height, width = image_size\n", ""),
            ("math.ceil(height / stride) * math.ceil(width / stride)", "stride * stride"),
            ("import math\n\n\n", ""),
        ),
    ),
    Bug(
        "bug_grid_order",
        "grid",
        "In which order does the network's output run?",
        "Here x runs outside and y inside, so anchors and predictions are transposed against each other.",
        (('y, x = torch.meshgrid(y, x, indexing="ij")', 'x, y = torch.meshgrid(x, y, indexing="ij")'),),
    ),
    Bug(
        "bug_labels",
        "match",
        "Which anchor is positive when none reaches 0.7?",
        "Here only IoU > 0.7 is positive. The best anchor of each object is positive too, ties included.",
        (
            (
                "    best_of_gt = iou.max(dim=1, keepdim=True).values\n"
                "    forced = (iou == best_of_gt) & (best_of_gt > 0)\n"
                "    labels[forced.any(dim=0)] = 1\n",
                "",
            ),
        ),
    ),
    Bug(
        "bug_negatives_last",
        "match",
        "What happens to an object whose best anchor has IoU 0.2?",
        "The negatives are assigned last and take that anchor away: rule (i) must come after them.",
        (
            ("    labels[best < low_thresh] = 0\n", ""),
            (
                "    labels[forced.any(dim=0)] = 1\n",
                "    labels[forced.any(dim=0)] = 1\n    labels[best < low_thresh] = 0\n",
            ),
        ),
    ),
    Bug(
        "bug_halves",
        "sample",
        "What if there are only 18 positives?",
        "128 + 128 is the most, not the rule: negatives fill the sample to 256 (18 + 238).",
        (("num_samples - num_positive)", "num_samples - int(num_samples * positive_fraction))"),),
    ),
    Bug(
        "bug_product",
        "sample",
        "How many negatives are drawn?",
        "num_samples * num_positive should be num_samples - num_positive.",
        (("num_samples - num_positive)", "num_samples * num_positive)"),),
    ),
    Bug(
        "bug_smooth_l1",
        "smooth_l1",
        "Draw it: is it continuous?",
        "The parabola divides by sigma^2 and the line forgets it. Right: 0.5 sigma^2 x^2 and |x| - 0.5 / sigma^2.",
        (("0.5 * sigma**2 * x * x, distance - 0.5 / sigma**2", "0.5 * x**2 * 1 / sigma**2, distance - 0.5"),),
    ),
    Bug(
        "bug_ignored",
        "rpn_loss",
        "Who must not train?",
        "The cross-entropy takes all anchors; those labelled -1 must be left out.",
        (("objectness[sampled], positive[sampled].to", "objectness, positive.to"),),
    ),
    Bug(
        "bug_normalizer",
        "rpn_loss",
        "By what number is the box loss divided?",
        "It divides by the positives (18 in the worked example); divide by the sampled anchors (256).",
        (("terms / sampled.sum()", "terms / positive.sum().clamp(min=1)"),),
    ),
    Bug(
        "bug_nms",
        "nms",
        "Is this the IoU of the exercise before?",
        "The NMS adds 1 to widths and heights, the IoU does not: boxes are half-open, nothing needs a +1.",
        (
            (
                "area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])",
                "area = (boxes[:, 2] - boxes[:, 0] + 1) * (boxes[:, 3] - boxes[:, 1] + 1)",
            ),
            ("(high - low).clamp", "(high - low + 1).clamp"),
        ),
    ),
    Bug(
        "bug_roi_pool",
        "roi_pool",
        "Where do the corners go, and what happens at the edge of the map?",
        "The corners are truncated instead of rounded, and the RoI is clipped before it is divided into bins.",
        (
            (
                "def half_away(value):\n    return int(math.copysign(math.floor(abs(value) + 0.5), value))",
                "def cell(value, last):\n    return min(max(int(value), 0), last)",
            ),
            (
                "x1, y1, x2, y2 = (half_away(value * spatial_scale) for value in corners)",
                "last = (width - 1, height - 1) * 2\n"
                "        x1, y1, x2, y2 = (cell(value * spatial_scale, end) for value, end in zip(corners, last))",
            ),
        ),
    ),
    Bug(
        "bug_targets",
        "label_rois",
        "What does the head learn to predict?",
        "t = [x1, y1, x2, y2] here: the targets are deltas against the proposal, times (10, 10, 5, 5).",
        (
            ("encode(gt_boxes[gt_idxs], rois) * torch.tensor([10.0, 10.0, 5.0, 5.0])", "gt_boxes[gt_idxs]"),
            ("from anchors.deltas import encode\n", ""),
        ),
    ),
    Bug(
        "bug_no_gt",
        "label_rois",
        "What does the head see in the first minutes of training?",
        "The true boxes are not among the proposals, so an untrained RPN gives the head no object at all.",
        (
            (
                "rois = torch.cat((proposals, gt_boxes))\n    if len(gt_boxes) == 0:",
                "rois = proposals\n    if len(gt_boxes) == 0 or len(rois) == 0:",
            ),
        ),
    ),
    Bug(
        "bug_head",
        "head",
        "What are two Linears, one after the other?",
        "Without a ReLU after each, two Linears are one Linear.",
        (
            (
                "hidden = F.relu(F.linear(x, w1, b1))\n    return F.relu(F.linear(hidden, w2, b2))",
                "hidden = F.linear(x, w1, b1)\n    return F.linear(hidden, w2, b2)",
            ),
        ),
    ),
    Bug(
        "bug_recall",
        "recall",
        "Of what is recall a share?",
        "TP / (TP + FP) is precision; recall is TP / (TP + FN).",
        (("tp / (tp + fn) if tp + fn", "tp / (tp + fp) if tp + fp"),),
    ),
    Bug(
        "bug_split",
        "split",
        "50 images for training and 39 for the test?",
        "indices[:-50] leaves 39 to train on. Count from the start: indices[:50] and indices[50:].",
        (
            (
                "torch.tensor(indices[:num_train]), torch.tensor(indices[num_train:])",
                "torch.tensor(indices[:-num_train]), torch.tensor(indices[-num_train:])",
            ),
        ),
    ),
    Bug(
        "bug_freeze",
        "freeze",
        "Which weights still get a gradient?",
        "eval() freezes nothing; requires_grad_(False) does.",
        (("layers[:-1].requires_grad_(False)", "layers[:-1].eval()"),),
    ),
    Bug(
        "bug_mean_ap",
        "mean_ap",
        "What does -1 mean in COCO's table?",
        "-1 says that there is no such object; it must not go into the mean.",
        (
            (
                "    found = ap[ap >= 0]\n    return float(found.mean()) if len(found) else 0.0",
                "    return float(ap.mean())",
            ),
        ),
    ),
)
