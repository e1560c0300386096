"""Single-object baselines: the networks of the lecture documents, their data, losses, tables, and LoadHead.

data/            samples: images and objects in memory, the one form that every data set takes;
                 purdue_shapes5 digits drawn_scenes coco_objects: where they come from; `open_data` opens them
networks/        loadnet hw5net digit_networks backbones: one document a file
box_codes        pixels <-> the numbers that a network predicts
predictions      outputs -> class, box, presence in pixels
grid_cells       objects <-> the 2 x 3 cells of the grid detectors, and their losses
losses           IoU losses; the weighted sum of all; a baseline's targets
baselines        every baseline: data, budgets, reported results
evaluate_baseline    a network's answers, the right numbers and those as the documents computed them
recipe baseline_task start_and_resume     one run: what it is told; as a task of the training loop; from plan to result
contact_sheet tables compare_with_detector     what a run leaves to look at; baselines.md; LoadHead beside Faster R-CNN
"""
