"""Prometheus and Alertmanager configuration."""
