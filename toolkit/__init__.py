"""Fine-tune torchvision's Faster R-CNN on your own objects, and know how good it is."""

__version__ = "0.1.0"
