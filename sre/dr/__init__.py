"""Disaster recovery: backups, restores into a fresh place, and the comparison of what came back with what was there."""
