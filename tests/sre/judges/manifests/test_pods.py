from __future__ import annotations

from collections.abc import Callable

import pytest

from sre.judges.manifests.pods import RULES
from tests.sre.judges.manifests.examples import System, broken, cases

BREAKS: dict[str, list[Callable[[System], object]]] = {
    "latest-tag": [
        lambda s: s.container.update(image="registry.example.com:5000/web"),
        lambda s: s.container.update(image="web:latest"),
    ],
    "image-pull-policy": [lambda s: s.container.update(imagePullPolicy="Always"), lambda s: s.container.pop("imagePullPolicy")],
    "privileged-container": [lambda s: s.container["securityContext"].update(privileged=True)],
    "privilege-escalation-container": [lambda s: s.container["securityContext"].pop("allowPrivilegeEscalation")],
    "no-read-only-root-fs": [lambda s: s.container["securityContext"].update(readOnlyRootFilesystem=False)],
    "drop-all-capabilities": [
        lambda s: s.container["securityContext"].pop("capabilities"),
        lambda s: s.container["securityContext"]["capabilities"].update(add=["NET_RAW"]),
    ],
    "unset-cpu-requirements": [lambda s: s.container["resources"]["limits"].pop("cpu")],
    "unset-memory-requirements": [lambda s: s.container["resources"].pop("requests"), lambda s: s.container.pop("resources")],
    "env-var-secret": [lambda s: s.container["env"].append({"name": "DB_PASSWORD", "value": "letmein"})],
    "duplicate-env-var": [lambda s: s.container["env"].append({"name": "PASSWORD_FILE", "value": "/tmp/other"})],  # noqa: S108 - a name
    "no-readiness-probe": [lambda s: s.container.pop("readinessProbe")],
    "no-liveness-probe": [lambda s: s.container.pop("livenessProbe")],
    "no-startup-probe": [lambda s: s.container.pop("startupProbe")],
    "probe-port": [lambda s: s.container["livenessProbe"]["httpGet"].update(port=5001)],
    "run-as-non-root": [
        lambda s: s.pod["securityContext"].pop("runAsNonRoot"),
        lambda s: s.pod["securityContext"].update(runAsUser=0),
        lambda s: s.container["securityContext"].update(runAsUser=0),
    ],
    "no-seccomp-profile": [lambda s: s.pod["securityContext"]["seccompProfile"].update(type="Unconfined")],
    "host-network": [lambda s: s.pod.update(hostNetwork=True)],
    "host-pid": [lambda s: s.pod.update(hostPID=True)],
    "host-ipc": [lambda s: s.pod.update(hostIPC=True)],
    "sensitive-host-mounts": [lambda s: s.pod.update(volumes=[{"name": "models", "hostPath": {"path": "/srv/models"}}])],
    "default-service-account": [lambda s: s.pod.pop("serviceAccountName"), lambda s: s.pod.update(serviceAccountName="default")],
    "no-node-loss-toleration": [
        lambda s: s.pod.pop("tolerations"),
        lambda s: s.pod["tolerations"].pop(),
        lambda s: s.pod["tolerations"][0].pop("tolerationSeconds"),
    ],
    "unneeded-token": [lambda s: s.remove("RoleBinding", "web")],
    "job-ttl-seconds-after-finished": [
        lambda s: s["Job", "fill"]["spec"].pop("ttlSecondsAfterFinished"),
        lambda s: s["Job", "fill"]["spec"].pop("activeDeadlineSeconds"),
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


def test_a_message_names_the_container_and_the_value() -> None:
    system = System()
    system.container.update(image="web:latest")
    assert list(RULES["latest-tag"](system.manifests)) == [
        ("Deployment ml-system/web, container web", "image web:latest names no version; give it a tag or a digest")
    ]


def test_a_token_that_is_not_mounted_is_no_token() -> None:
    system = System()
    system.remove("RoleBinding", "web")
    system.pod.update(automountServiceAccountToken=False)
    system["Job", "fill"]["spec"]["template"]["spec"].update(automountServiceAccountToken=False)
    assert not list(RULES["unneeded-token"](system.manifests))
