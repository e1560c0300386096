"""Files on disk: written whole or not at all, read strictly, replaced only where a marker says that they are ours."""
