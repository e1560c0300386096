"""Metrics behind the numbers of a report: numpy only, no file is read."""
