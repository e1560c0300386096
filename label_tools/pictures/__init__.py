"""Pictures: find image files, open them, compare them, paint on them."""
