"""Metrics behind the numbers of a report: numpy only, one idea a file."""
