"""Pages, tables and text of what was found: of a run, of several, of an evaluation alone."""
