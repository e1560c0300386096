"""One format a file, both directions: its text <-> objects in an image."""
