"""Numbered SQL files, applied once each and in order by `system.storage.engine.migrate`. An applied file never changes."""
