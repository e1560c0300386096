"""Faster R-CNN from scratch: one idea per file, pure torch, tested equal to torchvision's operators.

Read in this order: boxes, grid, deltas, matching, sampling, losses, nms, proposals, roi_pool, roi_align, postprocess,
heads, mask, detector. `anchors/README.md` says what each one teaches; `anchors/fast/` has faster versions of three.
"""
