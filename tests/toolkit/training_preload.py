"""What the fork server of training_fixtures.py imports once for all its children. Nothing is computed here: a
pool of threads would not survive the fork."""

import albumentations  # noqa: F401
import matplotlib.figure  # noqa: F401
import torch

torch.set_num_threads(1)
