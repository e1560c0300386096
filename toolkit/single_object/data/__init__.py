"""Pictures with one object each, or none: drawn by seed, or read from the user's labelled folder."""
