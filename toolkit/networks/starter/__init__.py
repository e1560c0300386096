"""Starter weights, trained on drawn scenes by `python -m toolkit.training.pretrain_starter`.

The scenes show sixteen generic shapes; none of them is a part of the sample data, so that what the demo reaches is
fine-tuning and not memory.
"""
