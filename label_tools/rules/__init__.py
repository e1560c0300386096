"""What `check` finds: in a document, in its images, among its objects, between the parts of a set."""
