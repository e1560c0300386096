"""Exercises that check themselves: a stub for each idea, files to find the bug in, and a checker for both.

task: the parts of an exercise. boxes, grids, matching, losses, suppression, head, pooling, masks, slips: the exercises,
with oracle, cases and known mistakes. catalogue: all of them in order. examine, compare: from answers to a verdict.
learner, child, messages: the learner's file in a subprocess. commands: the command line. stubs/, bugs/, solutions/: the
files that a learner reads.
"""
