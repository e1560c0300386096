"""Readers: a folder of label files -> a Reading -> a Conversion with its classes, every loss reported."""
