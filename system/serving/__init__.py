"""Predictions over HTTP. Read `app.py` first: it names every part and shows the life of a replica."""
