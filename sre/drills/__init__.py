"""Drills: each proves or breaks promises on a running system. Read `base.py` first, then any of the siblings."""
