"""Numbers of a trained detector: on one set, beside another run, over folds, against the number of labels."""
