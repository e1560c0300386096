"""Single-object baselines: the networks of the lecture documents, their data, losses, tables, and LoadHead.

data/            samples: images and objects in memory, the one form that every data set takes;
                 shapes5 purdue_file digits digit_grid coco_objects: where they come from; `sources` opens them
networks/        loadnet hw5net digit_networks grid_networks backbones: one document a file
box_codes        pixels <-> the numbers that a network predicts
predictions      outputs -> class, box, presence in pixels
grid             objects <-> the 2 x 3 cells of the grid detectors, and their losses
box_losses losses          IoU losses; the weighted sum of all
registry         every baseline: data, budgets, reported results
metrics document_metrics   the right numbers; the numbers as the documents computed them
recipe dry_run targets     one run: what it is told, what would stop it at once, its targets and losses;
training validation        as a task of the training loop; its numbers
runs answers tables compare     what a run leaves to look at; baselines.md; LoadHead beside Faster R-CNN
"""
