"""Numbers of a trained detector: on one set, and beside another run."""
