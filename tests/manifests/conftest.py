"""What the tests of manifests share."""

from __future__ import annotations

from tests.cluster import cluster, kubectl

__all__ = ["cluster", "kubectl"]
