"""Messages, errors, findings, the command line; the rules' limits and codes. Imports no other room."""
