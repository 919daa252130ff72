"""Service level objectives: where the system stands, as Prometheus counts it."""
