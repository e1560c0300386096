"""The labelling loop: which picture next, drafts to correct, what changed, a new model on the same test pictures.

loop_file        the state of a folder of pictures, loop.json, and who holds it
scan_folder      what is labelled, drafted, broken
choose_pictures  which pictures next, by chance or by their `ranking`
rounds           some pictures with drafts, for labelme; what became of them
corrections      a draft and what a person made of it: kept, moved, added, deleted, clicks
drafts           detections as LabelMe files; the thresholds with the fewest expected corrections
train_loop       a model on all that is labelled, with the test pictures of before
suspect_folder   labels that are probably wrong, for labelme, and the way back
"""
