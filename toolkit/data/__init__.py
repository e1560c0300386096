"""A COCO file and its images -> augmented batches for torchvision's detectors."""
