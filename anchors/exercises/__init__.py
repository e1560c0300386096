"""Exercises that check themselves: a stub for each idea, files to find the bug in, and a checker for both.

task: the parts of an exercise. boxes, grids, matching, losses, suppression, head, pooling, masks, slips: the exercises,
with oracle, cases and known mistakes. catalogue: all of them in order. examine, compare: from answers to a verdict.
learner, child, as_json: the learner's file in a subprocess. commands: the command line. solutions/: each exercise
solved; a learner's file is a solution without its body, or with the changes of a bug (bugs).
"""
