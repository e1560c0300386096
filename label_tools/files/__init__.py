"""Files on disk: atomic writes, strict reading, and marked folders, in which only our own files are replaced."""
