"""One file a command: `add(subparsers)` names its flags, `run(args)` does it, prints, and gives the exit code.

Only `run` imports torch and the other heavy libraries. What several commands share lies in `flags`.
"""
