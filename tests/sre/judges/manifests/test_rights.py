from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.judges.manifests.rights import RULES
from tests.sre.judges.manifests.examples import System, broken, cases


def _rule(system: System) -> dict[str, list[str]]:
    found: dict[str, list[str]] = system["Role", "web"]["rules"][0]
    return found


def _takes(system: System, secret: str, *, name: str = "fill", place: str = "ml-system") -> None:
    """A Job of that name in a namespace mounts a Secret."""
    system["Job", "fill"]["metadata"]["namespace"] = place
    template = system["Job", "fill"]["spec"]["template"]
    template["metadata"]["labels"]["app.kubernetes.io/name"] = name
    template["spec"]["volumes"] = [{"name": "keys", "secret": {"secretName": secret}}]


def _reads(system: System, secret: str, key: str) -> None:
    taken = {"name": "KEY", "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}
    system.container["env"].append(taken)


BREAKS: dict[str, list[Callable[[System], object]]] = {
    "wildcard-in-rules": [
        lambda s: _rule(s).update(verbs=["*"]),
        lambda s: _rule(s).update(resources=["*"]),
        lambda s: _rule(s).update(apiGroups=["*"]),
        lambda s: _rule(s).update(verbs=["create"]),
        lambda s: _rule(s).update(resources=["secrets"], verbs=["get"]),
        lambda s: _rule(s).update(resources=["secrets"], verbs=["get", "list"], resourceNames=["web"]),
        # Its own pods carry a token, for its account may do something.
        lambda s: _rule(s).update(resources=["pods/exec"], verbs=["get"]),
        lambda s: _rule(s).update(resources=["roles"], verbs=["bind"]),
        lambda s: _rule(s).update(resources=["serviceaccounts/token"], verbs=["create"]),
    ],
    "cluster-admin-role-binding": [lambda s: s["RoleBinding", "web"]["roleRef"].update(kind="ClusterRole", name="cluster-admin")],
    "secret-of-another-role": [
        lambda s: _takes(s, "ml-objects"),
        lambda s: _takes(s, "ml-training-objects", name="ml-api"),
        lambda s: _takes(s, "minio", name="mlflow", place="data"),
        lambda s: _takes(s, "velero-objects", name="buckets", place="data"),
        lambda s: _takes(s, "postgres-passwords", name="postgres", place="data"),
        lambda s: _reads(s, "ml-database", "serving"),
        lambda s: s.container.update(envFrom=[{"secretRef": {"name": "ml-api-keys"}}]),
        lambda s: s.pod.update(volumes=[{"name": "k", "projected": {"sources": [{"secret": {"name": "ml-objects"}}]}}]),
    ],
}


def test_a_good_system_breaks_no_rule() -> None:
    assert broken(RULES, System()) == set()


def test_every_rule_is_broken_here() -> None:
    assert BREAKS.keys() == RULES.keys()


@pytest.mark.parametrize(("rule", "number"), cases(BREAKS))
def test_what_breaks_a_rule_is_found(rule: str, number: int) -> None:
    system = System()
    BREAKS[rule][number](system)
    assert rule in broken(RULES, system)


def test_secrets_that_are_named_may_be_got() -> None:
    system = System()
    _rule(system).update(resources=["secrets"], verbs=["get"], resourceNames=["web"])
    assert broken(RULES, system) == set()


def test_pods_without_a_token_may_be_entered() -> None:
    system = System()
    _rule(system).update(resources=["pods/exec"], verbs=["get", "create"])
    for spec in (system.pod, system["Job", "fill"]["spec"]["template"]["spec"]):
        spec["automountServiceAccountToken"] = False
    assert broken(RULES, system) == set()


def test_each_takes_its_own() -> None:
    system = System()
    _takes(system, "object-accounts", name="buckets", place="data")
    assert broken(RULES, system) == set()
    _takes(system, "postgres-passwords", name="postgres-roles", place="data")
    assert broken(RULES, system) == set()
