"""Where the system runs. `base.py` is the protocol; each sibling implements it."""
