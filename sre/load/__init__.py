"""A user's requests, sent when planned, whatever became of the ones before."""
