"""The COCO document: read, check, repair, write and split it."""
