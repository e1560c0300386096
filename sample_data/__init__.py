"""Drawn photographs of small parts on a workbench, with exact labels. See README.md and make.py."""
