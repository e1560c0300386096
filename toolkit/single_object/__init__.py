"""Single-object baselines: the networks of the lecture documents, their data, losses, tables, and LoadHead."""
