"""Label formats, one file each: read files of labelling programs, and write them."""
