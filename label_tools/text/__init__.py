"""Messages, errors, findings; JSON in and whole files out. Knows no labels."""
