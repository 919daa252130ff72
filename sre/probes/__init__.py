"""One reading each, with its time and its error: what a user, Prometheus, Alertmanager and the database say."""
