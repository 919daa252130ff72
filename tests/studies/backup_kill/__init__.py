"""The backup study: SIGKILL of `sre backup create` and of what writes the store, at random moments, on a real cluster."""
