"""Shapes of objects in an image: polygons, run lengths, boxes, and the rules for a single one. Opens no file."""
