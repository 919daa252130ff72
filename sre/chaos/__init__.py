"""Chaos Toolkit on our terms: our actions in its experiments, its journal read by us, and an undo that always happens."""
