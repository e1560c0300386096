"""Labels in, correct COCO out: LabelMe JSON, instance masks, VOC and YOLO to one `annotations.json`, and back.

Imports numpy, Pillow and pycocotools.mask; never torch.
"""
