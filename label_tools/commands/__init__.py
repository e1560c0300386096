"""The label commands, one file each: `add_commands(subparsers)` declares the flags, the rest runs and prints."""
