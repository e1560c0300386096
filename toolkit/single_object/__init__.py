"""Single-object baselines: the networks of the lecture documents, their data, losses, tables, and LoadHead.

    samples          images and objects in memory, the one form that every data set takes
    shapes5 purdue_file digits digit_grid coco_objects      where samples come from; `sources` opens them by name
    loadnet hw5net digit_networks grid_networks backbones   the networks, one document a file
    box_codes        pixels <-> the numbers that a network is taught
    grid             objects <-> the 2 x 3 cells of the grid detectors
    box_losses losses     IoU losses; the weighted sum of all
    registry         every baseline: data, budget, reported result
    predictions      outputs -> class, box, presence in pixels;  metrics  the right numbers;  seed_metrics  the documents'
    augment training curves     the loop and its pictures
    table compare    baselines.md; LoadHead beside Faster R-CNN
"""
