"""Faults, and the ledger that knows how to undo each before it happens."""
