"""What the numbers of a report are made of: numpy only, one idea a file.

tables        the COCO document and the detections as arrays; refuses what would give a wrong number
overlap       IoU of many boxes, only the pairs that matter
matching      which detection found which object, once, for every IoU threshold and area range
coco          COCO's twelve numbers and the same per class, from the matches
intervals     95 % intervals over images, and whether run B is better than run A
curves        precision, recall and F1 against the score threshold; the threshold per class
calibration   does a score of 0.8 mean right 8 times in 10?
confusion     which class is taken for which, with background
error_kinds   six kinds of error and the AP that each would give back
suspects      objects whose label is probably wrong
statistics    sizes, aspect ratios and how well the anchors cover them
learning      AP against the number of labelled images, with a fit
"""
