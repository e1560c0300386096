"""A whole data set: split, merged, counted, drawn."""
