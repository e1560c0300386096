"""The labelling loop: which picture next, drafts to correct, what changed, a new model on the same test pictures."""
