"""Who watches a real target: a load through the ingress, Prometheus, Alertmanager. Nothing here can change the system."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sre.load import worker
from sre.probes import http, prometheus
from sre.readings import Alert, Endpoints, LoadPlan, ServerCounts
from sre.targets.base import Load


@dataclass(frozen=True, slots=True)
class World:
    """Observers of the system behind some endpoints.

    Attributes:
        endpoints: of the system.
        scrape_s: between two scrapes of a replica, s.
        resend_s: after which the ingress tries another replica, s.
        niceness: of the load generator; see decision 4.
    """

    endpoints: Endpoints
    scrape_s: float
    resend_s: float
    niceness: int = 0

    @property
    def settle_s(self) -> float:
        """Two scrapes: one that is missed still leaves one."""
        return 2 * self.scrape_s

    def start_load(self, plan: LoadPlan, folder: Path, key: str | None = None) -> Load:
        """Begin a Locust process."""
        return worker.start(self.endpoints, plan, folder, self.endpoints.bodies, key=key, niceness=self.niceness)

    def user_probe(self) -> tuple[int, str]:
        """Send the first of the images that users send."""
        status, body = http.predict(self.endpoints, http.first_image(self.endpoints))
        return status, str(body.get("label") or body.get("detail"))

    def server_counts(self, start: float, end: float) -> ServerCounts | None:
        """From the replicas' counters in Prometheus."""
        return prometheus.server_counts(self.endpoints.prometheus, start, end)

    def alerts(self) -> tuple[Alert, ...] | None:
        """From Alertmanager."""
        return prometheus.alerts(self.endpoints.alertmanager)
