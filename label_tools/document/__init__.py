"""The COCO document: read and checked, written, split."""
