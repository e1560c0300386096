"""The rules of `check`: for a document, its images, its objects, and the parts of a data set."""
