"""The networks of the lecture documents as they were written, and heads on torchvision's backbones."""
