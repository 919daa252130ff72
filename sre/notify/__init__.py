"""Telling people: in Slack, on the terminal."""
