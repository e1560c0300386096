"""Messages, errors, findings, command-line parsing. Independent of labels."""
