"""One file a command: `add_commands(subparsers)` names its flags, the rest parses, prints and gives the exit code."""
