"""What the numbers of a report are made of: numpy only, one idea a file.

coco_tables           the COCO document and the detections as arrays; refuses what would give a wrong number
masks                 detections with masks: read, checked, and tables by masks
overlap               IoU of many boxes, or masks: only the pairs that matter
matching              which detection found which object, once, for every IoU threshold and area range
coco                  COCO's twelve numbers and the same per class, from the matches
intervals             95 % intervals over images
paired_bootstrap      whether run B is better than run A
slices                AP of groups of images, each tested against the rest
score_curves          precision, recall and F1 against the score threshold; the threshold per class
at_threshold          the same at thresholds, with intervals
guaranteed_thresholds the threshold that keeps a recall or a precision on new pictures
calibration           does a score of 0.8 mean right 8 times in 10?
histograms            how scores and overlaps are spread
confusion             which class is taken for which, with background
error_kinds           six kinds of error and the AP that each would give back
suspects              objects whose label is probably wrong
count_agreement       objects of a picture, counted by the detector and by the labels
object_sizes          sizes and aspect ratios of the labelled objects
label_curve_fit       AP against the number of labelled images, with a fit
small_set_warning     when a set is too small for its numbers
"""
