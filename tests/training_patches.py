"""Faults that tests inject into a training process; each function is called in the child before the command."""

from __future__ import annotations
