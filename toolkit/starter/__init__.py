"""Starter weights of `fasterrcnn_tiny_fpn`: made by `python -m toolkit.starter.pretrain` on endless drawn scenes.

The scenes show sixteen generic shapes; none of them is a part of the sample data, so that what the demo reaches is
fine-tuning and not memory.
"""
