"""Fast versions of `nms`, `roi_pool` and `roi_align`: the same arguments, the same results, tested equal to the plain
ones in `anchors/` and to torchvision. The detector uses these; read the plain ones first.
"""
