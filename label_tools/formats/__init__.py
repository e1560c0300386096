"""One format a file, both directions: its text <-> objects in an image; the files of all exports."""
