from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.judges.manifests import arithmetic
from tests.sre.judges.manifests.examples import System


def found(system: System) -> set[str]:
    return {finding.rule for finding in arithmetic.check(system.manifests)}


def test_a_good_system_adds_up() -> None:
    assert found(System()) == set()


def test_recovery_is_the_sum_of_what_happens_one_after_the_other() -> None:
    # Liveness 3 x 3 + 2, its grace 1, a new container 2, start-up 12 x 1, readiness 2.
    assert arithmetic.recovery_s(System().container) == 3 * 3 + 2 + 1 + 2 + 12 + 2


def test_what_a_probe_leaves_out_has_the_default_of_the_api() -> None:
    assert arithmetic.recovery_s({"livenessProbe": {}, "startupProbe": {}}) == (10 * 3 + 1) + 30 + 2 + 10 * 3 + 10


def test_without_a_liveness_probe_a_frozen_replica_stays_so() -> None:
    system = System()
    del system.container["livenessProbe"]
    assert arithmetic.recovery_s(system.container) == float("inf")


def test_a_lost_node_costs_its_notice_the_toleration_and_a_start() -> None:
    system = System()
    web = system.manifests.workloads[0]
    assert arithmetic.node_loss_s(web, system.container) == 55 + 30 + 2 + 12 + 2
    system.pod["tolerations"].pop()
    assert arithmetic.node_loss_s(system.manifests.workloads[0], system.container) == 55 + 300 + 2 + 12 + 2


def _scaler(system: System) -> dict[str, object]:
    spec: dict[str, object] = system["HorizontalPodAutoscaler", "web"]["spec"]
    return spec


@pytest.mark.parametrize(
    ("rule", "change"),
    [
        ("pod-recovery", lambda s: s.container["startupProbe"].update(failureThreshold=60)),
        ("pod-recovery", lambda s: s.container["startupProbe"].update(initialDelaySeconds=10)),
        ("pod-recovery", lambda s: s.container["livenessProbe"].pop("terminationGracePeriodSeconds")),
        ("pod-recovery", lambda s: s.container["readinessProbe"].update(periodSeconds=10)),
        ("pod-recovery", lambda s: s.container.pop("livenessProbe")),
        ("node-recovery", lambda s: s.pod["tolerations"][0].update(tolerationSeconds=300)),
        ("node-recovery", lambda s: s.pod.pop("tolerations")),
        ("drain", lambda s: s.container.pop("lifecycle")),
        ("drain", lambda s: s.pod.update(terminationGracePeriodSeconds=10)),
        ("autoscaler-steps", lambda s: _scaler(s).pop("behavior")),
        (
            "autoscaler-steps",
            lambda s: s["HorizontalPodAutoscaler", "web"]["spec"]["behavior"]["scaleUp"]["policies"][0].update(value=4),
        ),
        ("autoscaler-bounds", lambda s: _scaler(s).update(maxReplicas=50)),
        ("autoscaler-bounds", lambda s: _scaler(s).update(minReplicas=1)),
        ("autoscaler-targets", lambda s: s["HorizontalPodAutoscaler", "web"]["spec"]["metrics"].pop()),
        ("backup-retention", lambda s: s["Schedule", "velero/ml-daily"]["spec"]["template"].update(ttl="24h")),
        ("backup-retention", lambda s: s["Schedule", "velero/ml-monthly"]["spec"]["template"].pop("ttl")),
        ("backup-retention", lambda s: s["Schedule", "velero/ml-weekly"]["spec"]["template"].update(ttl="8928h")),
        ("backup-retention", lambda s: s.remove("Schedule", "velero/ml-weekly")),
        ("backup-retention", lambda s: s["Schedule", "velero/ml-daily"]["metadata"].update(name="ml-hourly")),
    ],
)
def test_what_does_not_add_up_is_found(rule: str, change: Callable[[System], object]) -> None:
    system = System()
    change(system)
    assert rule in found(system)


def test_a_small_cluster_may_stop_earlier() -> None:
    system = System()
    _scaler(system).update(maxReplicas=6)
    assert found(system) == set()
