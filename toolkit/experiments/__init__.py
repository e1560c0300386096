"""Several runs for one answer: cross-validation, and AP against the number of labelled images."""
