"""Exercises that check themselves: a stub for each idea, files to find the bug in, and a checker for both.

task: what an exercise is. boxes, grids, matching, losses, suppression, head, pooling, slips: the exercises
themselves, with their oracle, cases and known mistakes. catalogue: all of them in order. compare, shrink, examine: from
answers to a verdict. learner, child: the learner's file in a process of its own. commands: the command line, the stubs.
The texts that a learner reads lie in stubs/, bugs/ and solutions/.
"""
