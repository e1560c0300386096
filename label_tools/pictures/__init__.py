"""Image files: found, opened, compared, painted on."""
