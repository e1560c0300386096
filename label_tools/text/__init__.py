"""Messages, errors, findings, the options of a command line. Knows no labels."""
