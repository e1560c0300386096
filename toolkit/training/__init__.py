"""Training: the loop and its tasks, checkpoints and resume, logs, distributed runs."""
