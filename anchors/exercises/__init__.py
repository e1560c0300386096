"""Exercises that check themselves: a stub for each idea, files to find the bug in, and a checker for both.

task: the parts of an exercise. on_anchors, ...: the exercises, with oracle, cases and known mistakes. find_the_bug: the
files with a bug. catalogue: all of them in order. sandbox, sandbox_child: the learner's file in a subprocess. verdict:
from answers to what is wrong. commands: the command line. solutions/: each exercise solved; a learner's file is a
solution without its body, or with the changes of a bug.
"""
