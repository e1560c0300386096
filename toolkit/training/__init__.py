"""A run: one step, the loop around it, what moves the weights, and everything that makes it safe to leave alone."""
