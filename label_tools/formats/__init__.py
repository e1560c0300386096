"""Label formats: read the files of labelling programs, and write them."""
