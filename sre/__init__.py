"""The toolkit that proves the system's promises. Start with `promises.py`, then `drills/base.py`."""
