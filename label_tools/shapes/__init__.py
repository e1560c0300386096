"""Shapes of objects in an image: polygons, run lengths, boxes. Pure geometry, no files."""
