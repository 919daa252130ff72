"""Kinds of corruption and loss, each done to a copy of real backups: is it found, and does a message name it?"""
